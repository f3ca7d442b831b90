//! Why a call goes where it goes: the kernel's choice, step by step, from what can be read of it.
//! Which backends are drawn is random, and the kernel looks again when the call is made.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use sinew_api::{
    ExplainQuery, ExplainedEndpoint, Explanation, Fitness, KeptBackend, WorkloadState,
};
use sinew_datapath::{Affinity, BackendStats, Datapath, HUNG_AFTER, Listener};
use sinew_model::{Balance, Port, Protocol, ServiceName};

use crate::{
    core::{Core, Family, Instance, WEIGHT, backend_key},
    flows::{EXEC, OUTSIDE},
    refusal::Refusal,
    status,
};

/// A call, and what the agent knows of it.
pub(crate) struct Question {
    from: String,
    to: ServiceName,
    number: u32,
    port: Port,
    balance: Balance,
    callers: Vec<(String, Ipv4Addr)>,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    workload: String,
    address: IpAddr,
    /// Addresses that its listeners may be bound to.
    listens: Vec<IpAddr>,
    key: u64,
    state: WorkloadState,
    in_choice: bool,
    reason: Option<String>,
}

/// What the kernel knows of it.
pub(crate) struct Seen {
    backends: HashMap<u64, BackendStats>,
    listeners: Vec<Listener>,
    kept: Vec<(String, Affinity)>,
}

impl Question {
    /// # Errors
    /// When caller, service or port are not there.
    pub(crate) fn of(core: &Core, query: ExplainQuery) -> Result<Self, Refusal> {
        let ExplainQuery { from, to, port } = query;
        let callers = callers(core, &from)?;
        let no_service = || Refusal::NoService { service: to.clone() };
        let known = status::service(core, &to, &HashMap::new()).ok_or_else(no_service)?;
        let number = *core.intent().numbers.get(&to).ok_or_else(no_service)?;
        let port = choose_port(&to, &known.ports, port.as_deref())?;
        if from == OUTSIDE && !known.published.iter().any(|p| p.port == port.name) {
            return Err(not_published(&to, &port));
        }
        let endpoints = core.instances_of(&to).map(|instance| endpoint(instance, &port)).collect();
        let balance = core.balance(&to);
        Ok(Self { from, to, number, port, balance, callers, endpoints })
    }

    /// Asks the kernel.
    pub(crate) fn look(&self, datapath: &dyn Datapath) -> Result<Seen, sinew_datapath::Error> {
        let mut kept = Vec::new();
        if matches!(self.balance, Balance::Source { .. }) {
            for (name, address) in &self.callers {
                let port = (self.port.protocol, self.port.number);
                let found = datapath.affinity(*address, self.number, port)?;
                kept.extend(found.map(|affinity| (name.clone(), affinity)));
            }
        }
        Ok(Seen { backends: datapath.backends()?, listeners: datapath.listeners()?, kept })
    }

    /// What would become of the call.
    pub(crate) fn answer(self, seen: &Seen) -> Explanation {
        let endpoints: Vec<_> = self.endpoints.iter().map(|e| explained(e, &self, seen)).collect();
        let kept: Vec<_> = seen
            .kept
            .iter()
            .filter_map(|(caller, affinity)| {
                let backend = self.endpoints.iter().find(|e| e.key == affinity.backend)?;
                Some(KeptBackend {
                    caller: caller.clone(),
                    backend: backend.workload.clone(),
                    left_ms: affinity.left_ms,
                })
            })
            .collect();
        Explanation {
            policy: policy(self.balance),
            outcome: outcome(self.balance, &endpoints, &kept, self.callers.len()),
            from: self.from,
            to: self.to,
            port: self.port.number,
            protocol: self.port.protocol,
            kept,
            endpoints,
        }
    }
}

/// The instances that `from` means, with the addresses that the kernel knows them by.
fn callers(core: &Core, from: &str) -> Result<Vec<(String, Ipv4Addr)>, Refusal> {
    let (name, replica) = match from.split_once('/') {
        Some((name, replica)) => (name, Some(replica)),
        None => (from, None),
    };
    let service = ServiceName::new(name).ok();
    let meant = |instance: &&Instance| match &instance.key.service {
        Some(service) => service.as_str() == name,
        None => name == EXEC,
    };
    let wanted = |i: &&Instance| replica.is_none_or(|r| r == i.key.replica.to_string());
    let of_it: Vec<_> = core.instances().filter(meant).collect();
    let exists = name == EXEC
        || from == OUTSIDE
        || !of_it.is_empty()
        || service.is_some_and(|service| core.intent().service(&service).is_some());
    let found: Vec<_> =
        of_it.into_iter().filter(wanted).map(|i| (i.key.to_string(), i.address4)).collect();
    if !exists || (replica.is_some() && found.is_empty()) {
        return Err(Refusal::Invalid {
            field: "from".to_owned(),
            what: format!("{from:?} is neither a service nor a workload"),
            remedy: "name one of `sinew ps`, or exec or outside".to_owned(),
        });
    }
    Ok(found)
}

fn not_published(to: &ServiceName, port: &Port) -> Refusal {
    Refusal::Invalid {
        field: "from".to_owned(),
        what: format!(
            "no port of the host leads to port {port} of {to}: nobody outside reaches it"
        ),
        remedy: "add `publish` to it in sinew.yaml, or ask from a member".to_owned(),
    }
}

fn choose_port(to: &ServiceName, ports: &[Port], wanted: Option<&str>) -> Result<Port, Refusal> {
    let is = |port: &&Port| match wanted {
        Some(text) => port.name.as_str() == text || port.number.to_string() == text,
        None => ports.len() == 1,
    };
    ports.iter().find(is).cloned().ok_or_else(|| {
        let all: Vec<_> = ports.iter().map(ToString::to_string).collect();
        let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
        Refusal::Invalid {
            field: "to".to_owned(),
            what: match wanted {
                Some(port) => format!("{to} has no port {port}: a call there is refused at once"),
                None => format!("{to} does not have one port"),
            },
            remedy: format!("name one of its ports, as {to}:PORT; it has {all}"),
        }
    })
}

fn endpoint(instance: &Instance, port: &Port) -> Endpoint {
    Endpoint {
        workload: instance.key.to_string(),
        address: instance.reached_at(port.protocol, port.number),
        listens: listens(instance, port),
        key: backend_key(instance.number, port.protocol, port.number),
        state: instance.state(),
        in_choice: instance.in_choice(port.protocol, port.number),
        reason: instance.reason(),
    }
}

fn listens(instance: &Instance, port: &Port) -> Vec<IpAddr> {
    let places = [Family::V4, Family::V6]
        .into_iter()
        .filter_map(|family| instance.place(port.protocol, port.number, family));
    places
        .flat_map(|place| match place.wildcard {
            // A socket of both families is listed by its IPv6 address.
            true => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            false => vec![place.address],
        })
        .collect()
}

fn explained(endpoint: &Endpoint, question: &Question, seen: &Seen) -> ExplainedEndpoint {
    let port = &question.port;
    let mut stats = seen.backends.get(&endpoint.key).copied().unwrap_or_default();
    // Outside callers take no probes: they go by the time alone.
    let outside = question.from == OUTSIDE;
    stats.awaits_probe &= !outside;
    let listens = |l: &&Listener| {
        (l.port, l.protocol) == (port.number, port.protocol)
            && endpoint.listens.contains(&l.address)
    };
    let listeners: Vec<_> = seen.listeners.iter().filter(listens).collect();
    let queue = listeners.iter().map(|l| l.queue).max();
    let deaf = outside && endpoint.in_choice && queue.is_some();
    let (fitness, reason) = if deaf && listeners.iter().all(|l| l.multipath) {
        (Fitness::Gone, MULTIPATH.to_owned())
    } else {
        judge(endpoint, &stats, port, queue)
    };
    ExplainedEndpoint {
        workload: endpoint.workload.clone(),
        address: endpoint.address,
        port: port.number,
        state: endpoint.state,
        fitness,
        reason,
        active: stats.active,
        weight: WEIGHT,
        connect_us: stats.connect_us,
        failures_in_a_row: stats.failures_in_a_row,
        queue,
        ejected_for_ms: stats.ejected_now.then_some(stats.ejected_for_ms),
    }
}

/// What a published port cannot do.
const MULTIPATH: &str = "listens on an MPTCP socket, to which the kernel hands no packets of \
                         published ports; for Go programs set GODEBUG=multipathtcp=0 in env";

/// The kernel's examination, in its order.
fn judge(
    endpoint: &Endpoint,
    stats: &BackendStats,
    port: &Port,
    queue: Option<u32>,
) -> (Fitness, String) {
    if !endpoint.in_choice {
        return (Fitness::Out, out(endpoint));
    }
    if port.protocol == Protocol::Tcp {
        let Some(queue) = queue else {
            return (Fitness::Gone, format!("nothing listens on port {}", port.number));
        };
        let unseen = stats.queue_empty_ago_ms.map(Duration::from_millis);
        if let Some(unseen) = unseen.filter(|unseen| queue > 0 && *unseen > HUNG_AFTER) {
            let reason = format!(
                "hung: {queue} in its accept queue, last seen empty {:.1} s ago",
                unseen.as_secs_f64()
            );
            return (Fitness::Sick, reason);
        }
    }
    if stats.ejected_now {
        let left = Duration::from_millis(stats.ejected_for_ms).as_secs_f64();
        let failures = stats.failures_in_a_row;
        return (
            Fitness::Sick,
            format!("ejected for {left:.1} s more: {failures} failures in a row"),
        );
    }
    if stats.awaits_probe {
        let reason = "its ejection ended: one caller probes it, the others pass it by";
        return (Fitness::Sick, reason.to_owned());
    }
    (Fitness::Fit, "listens, keeps up, not ejected".to_owned())
}

fn out(endpoint: &Endpoint) -> String {
    let state = match endpoint.state {
        WorkloadState::Waiting => "it waits to be started",
        WorkloadState::Starting => "it is starting",
        // The kernel has told that its process is gone, and not yet how it ended.
        WorkloadState::Up => "its process is gone",
        WorkloadState::Unhealthy => "its health check fails",
        WorkloadState::Draining => "it is draining",
        WorkloadState::BackingOff => "it waits to be started again",
        WorkloadState::Exited => "it has exited",
        WorkloadState::Stopped => "it is stopped",
    };
    match &endpoint.reason {
        Some(reason) => format!("not in the choice: {state} ({reason})"),
        None => format!("not in the choice: {state}"),
    }
}

fn policy(balance: Balance) -> String {
    let least = "two are drawn, the one with fewer open connections for its weight wins; a tie \
                 goes to the one that connects clearly faster";
    match balance {
        Balance::LeastLoad => format!("least load: {least}"),
        Balance::RoundRobin => "round-robin: one after another".to_owned(),
        Balance::Random => "random: one is drawn".to_owned(),
        Balance::Source { timeout } => format!(
            "source: a caller keeps its backend while that is fit, until it made no call for {} s; \
             a new one by least load: {least}",
            timeout.as_secs_f64()
        ),
    }
}

fn outcome(
    balance: Balance,
    endpoints: &[ExplainedEndpoint],
    kept: &[KeptBackend],
    callers: usize,
) -> String {
    let of = |fitness| endpoints.iter().filter(move |e| e.fitness == fitness);
    let names = |of: Vec<&ExplainedEndpoint>| {
        of.into_iter().map(|e| e.workload.as_str()).collect::<Vec<_>>().join(", ")
    };
    let fit: Vec<_> = of(Fitness::Fit).collect();
    let keeps = |k: &KeptBackend| fit.iter().any(|e| e.workload == k.backend);
    if let ([only], 1) = (kept, callers)
        && keeps(only)
    {
        return format!("{}, which {} has", only.backend, only.caller);
    }
    match fit.as_slice() {
        [] => {
            let sick: Vec<_> = of(Fitness::Sick).collect();
            match (sick.is_empty(), of(Fitness::Gone).next().is_some()) {
                (false, _) => {
                    format!("{}, although sick: no fit one is left (panic)", names(sick))
                }
                (true, true) => "refused at once: none listens (no-backend)".to_owned(),
                (true, false) => "refused at once: none is in the choice (no-backend)".to_owned(),
            }
        }
        [only] => format!("{}, the only fit one", only.workload),
        [a, b] if balance == Balance::LeastLoad && endpoints.len() == 2 && a.active != b.active => {
            let less = if a.active < b.active { a } else { b };
            format!("{}, which has fewer open connections", less.workload)
        }
        _ => format!("one of {}", names(fit)),
    }
}

#[cfg(test)]
mod tests;
