//! Why a call goes where it goes: the kernel's choice, step by step, from what can be read of it.
//! Which backends are drawn is random, and the kernel looks again when the call is made.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sinew_api::{
    Decision, ExplainQuery, ExplainedEndpoint, Explanation, Finding, Fitness, KeptBackend,
    WorkloadState,
};
use sinew_datapath::{Affinity, BackendStats, Datapath, Listener};
use sinew_model::{Balance, NodeName, Port, ServiceName, ZoneName, fleet::EndpointKey};

mod judge;

use crate::{
    core::{Core, Family, Instance, WEIGHT, backend_key, remote_keys},
    fleet::RemoteEndpoint,
    flows::{EXEC, OUTSIDE},
    refusal::Refusal,
    status::{self, Counts},
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
    /// Its host, when it is another one: nobody here can look at its listener.
    elsewhere: Option<NodeName>,
    /// Where that is, when there are zones.
    zone: Option<ZoneName>,
    weight: u32,
    state: WorkloadState,
    /// Why it is not in the choice; `None`: it is.
    out: Option<Finding>,
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
        let no_service = || core.intent().no_service(&to);
        let known = status::service(core, &to, &Counts::default()).ok_or_else(no_service)?;
        let number = *core.intent().numbers.get(&to).ok_or_else(no_service)?;
        let port = choose_port(&to, &known.ports, port.as_deref())?;
        if from == OUTSIDE && !known.published.iter().any(|p| p.port == port.name) {
            return Err(not_published(&to, &port));
        }
        let own = core.instances_of(&to).map(|instance| endpoint(core, instance, &port));
        let endpoints = own.chain(elsewhere(core, &to, &port)).collect();
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
        let Outcome { decision, takes, words } =
            outcome(self.balance, &endpoints, &kept, self.callers.len());
        Explanation {
            policy: policy(self.balance),
            decision,
            takes,
            outcome: words,
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
            remedy: match core.intent().meant(name).filter(|meant| *meant != name) {
                Some(meant) => format!("did you mean {meant}? see `sinew ps`"),
                None => "name one of `sinew ps`, or exec or outside".to_owned(),
            },
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

fn endpoint(core: &Core, instance: &Instance, port: &Port) -> Endpoint {
    Endpoint {
        workload: instance.key.to_string(),
        address: instance.reached_at(port.protocol, port.number),
        listens: listens(instance, port),
        key: backend_key(instance.number, port.protocol, port.number),
        elsewhere: None,
        zone: core.zone(instance),
        weight: WEIGHT,
        state: instance.state(),
        out: (!instance.in_choice(port.protocol, port.number)).then(|| judge::out(instance)),
        reason: instance.reason(),
    }
}

fn elsewhere(core: &Core, name: &ServiceName, port: &Port) -> Vec<Endpoint> {
    let Some(remote) = core.remote(name) else { return Vec::new() };
    let of = |(endpoint, it, key): (&RemoteEndpoint, &Port, u64)| {
        let is_it = (it.number, it.protocol) == (port.number, port.protocol);
        let address = endpoint.address().filter(|_| is_it)?;
        let state = endpoint.state();
        let RemoteEndpoint { key: EndpointKey { node, .. }, zone, weight, .. } = endpoint;
        Some(Endpoint {
            workload: endpoint.workload(name),
            address,
            listens: Vec::new(),
            key,
            elsewhere: Some(node.clone()),
            zone: Some(zone.clone()),
            weight: *weight,
            state,
            out: (!endpoint.in_choice).then(|| judge::out_elsewhere(state)),
            reason: None,
        })
    };
    remote_keys(name, remote).filter_map(of).collect()
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
    let stats = seen.backends.get(&endpoint.key).copied().unwrap_or_default();
    let listens = |l: &&Listener| {
        (l.port, l.protocol) == (port.number, port.protocol)
            && endpoint.listens.contains(&l.address)
    };
    let listeners: Vec<_> = seen.listeners.iter().filter(listens).collect();
    let queue = listeners.iter().map(|l| l.queue).max();
    // Of what is elsewhere its host says whether it listens.
    let queue = if endpoint.elsewhere.is_some() { Some(0) } else { queue };
    let outside = question.from == OUTSIDE;
    let deaf = outside && !listeners.is_empty() && listeners.iter().all(|l| l.multipath);
    let code = match endpoint.out {
        Some(out) => out,
        None if deaf => Finding::MultipathListener,
        None => judge::examine(&stats, port.protocol, queue, outside),
    };
    ExplainedEndpoint {
        workload: endpoint.workload.clone(),
        address: endpoint.address,
        port: port.number,
        state: endpoint.state,
        fitness: code.fitness(),
        code,
        reason: judge::reason(code, endpoint, &stats, port, queue),
        node: endpoint.elsewhere.clone(),
        zone: endpoint.zone.clone(),
        active: stats.active,
        weight: endpoint.weight,
        connect_us: stats.connect_us,
        failures_in_a_row: stats.failures_in_a_row,
        queue: queue.filter(|_| endpoint.elsewhere.is_none()),
        ejected_for_ms: stats.ejected_now.then_some(stats.ejected_for_ms),
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

/// What would be done with a call.
struct Outcome {
    decision: Decision,
    takes: Vec<String>,
    words: String,
}

fn outcome(
    balance: Balance,
    endpoints: &[ExplainedEndpoint],
    kept: &[KeptBackend],
    callers: usize,
) -> Outcome {
    let of = |fitness| endpoints.iter().filter(move |e| e.fitness == fitness);
    let taken = |decision, of: &[&ExplainedEndpoint], say: &dyn Fn(&str) -> String| {
        let takes: Vec<_> = of.iter().map(|e| e.workload.clone()).collect();
        let words = say(&takes.join(", "));
        Outcome { decision, takes, words }
    };
    let fit: Vec<_> = of(Fitness::Fit).collect();
    if let ([only], 1) = (kept, callers)
        && let Some(has) = fit.iter().find(|e| e.workload == only.backend)
    {
        return taken(Decision::Kept, &[has], &|name| format!("{name}, which {} has", only.caller));
    }
    match fit.as_slice() {
        [] => {
            let sick: Vec<_> = of(Fitness::Sick).collect();
            if !sick.is_empty() {
                let say =
                    |names: &str| format!("{names}, although sick: no fit one is left (panic)");
                return taken(Decision::Panic, &sick, &say);
            }
            let none = match of(Fitness::Gone).next() {
                Some(_) => "refused at once: none listens (no-backend)",
                None => "refused at once: none is in the choice (no-backend)",
            };
            taken(Decision::NoBackend, &[], &|_| none.to_owned())
        }
        [only] => taken(Decision::Fit, &[*only], &|name| format!("{name}, the only fit one")),
        [a, b] if balance == Balance::LeastLoad && endpoints.len() == 2 && a.active != b.active => {
            let less = if a.active < b.active { a } else { b };
            taken(Decision::Fit, &[*less], &|name| {
                format!("{name}, which has fewer open connections")
            })
        }
        _ => taken(Decision::Fit, &fit, &|names| format!("one of {names}")),
    }
}

#[cfg(test)]
mod tests;
