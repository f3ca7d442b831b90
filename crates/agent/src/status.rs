//! The core's state in the API's words.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use sinew_api::{
    EdgeStatus, EndpointStatus, ProjectStatus, ServiceStatus, WorkloadState, WorkloadStatus,
};
use sinew_datapath::{BackendStats, EdgeStats};
use sinew_model::{Port, ProjectName, Protocol, ServiceName};

use crate::{
    alloc,
    core::{Core, Instance, Kind, backend_key, remote_keys},
    fleet::RemoteEndpoint,
    flows::{EXEC, Names, OUTSIDE},
    times::{Histograms, used},
};

/// Every project that is up.
pub(crate) fn projects(core: &Core) -> Vec<ProjectStatus> {
    let projects = core.intent().projects.iter();
    projects
        .map(|(name, owned)| ProjectStatus {
            name: name.clone(),
            generation: owned.generation,
            services: owned.project.services.keys().cloned().collect(),
            ready: core.is_ready(name),
        })
        .collect()
}

/// What is common to the instances of a service.
struct Known {
    project: Option<ProjectName>,
    ports: Vec<Port>,
    replicas: u16,
}

/// Services that are wanted or still have instances.
fn known(core: &Core) -> BTreeMap<ServiceName, Known> {
    let mut all = BTreeMap::new();
    for instance in core.instances() {
        let Some(name) = instance.key.service.clone() else { continue };
        let project = instance.launch().map(|launch| launch.project.clone());
        let joined = u16::from(matches!(instance.kind, Kind::Attached(_) | Kind::Adopted(_)));
        let ports = instance.ports().to_vec();
        let entry = all.entry(name).or_insert(Known { project, ports, replicas: 0 });
        entry.replicas = entry.replicas.saturating_add(joined);
    }
    for (name, remote) in core.remotes() {
        let ports = || remote.ports.clone();
        all.entry(name.clone()).or_insert_with(|| Known {
            project: None,
            ports: ports(),
            replicas: 0,
        });
    }
    for (project, _, name, service) in core.intent().services() {
        let (ports, replicas) = (service.ports.clone(), service.replicas);
        all.insert(name.clone(), Known { project: Some(project.clone()), ports, replicas });
    }
    all
}

/// What the kernel counted of backends, by key.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) stats: HashMap<u64, BackendStats>,
    pub(crate) times: HashMap<u64, Histograms>,
}

/// Every service.
pub(crate) fn services(core: &Core, counts: &Counts) -> Vec<ServiceStatus> {
    known(core)
        .into_iter()
        .filter_map(|(name, known)| describe(core, name, known, counts))
        .collect()
}

/// One service.
pub(crate) fn service(core: &Core, name: &ServiceName, counts: &Counts) -> Option<ServiceStatus> {
    let known = known(core).remove(name)?;
    describe(core, name.clone(), known, counts)
}

fn describe(
    core: &Core,
    name: ServiceName,
    known: Known,
    counts: &Counts,
) -> Option<ServiceStatus> {
    let intent = core.intent();
    let number = *intent.numbers.get(&name)?;
    let endpoints = core
        .instances_of(&name)
        .flat_map(|instance| {
            instance.ports().iter().map(|port| EndpointStatus {
                zone: core.zone(instance),
                ..endpoint(instance, port, counts)
            })
        })
        .chain(elsewhere(core, &name, counts))
        .collect();
    let up = core.instances_of(&name).filter(|i| i.state() == WorkloadState::Up).count();
    let published = intent.service(&name).map_or_else(Vec::new, |(_, _, s)| s.publish.clone());
    Some(ServiceStatus {
        address4: alloc::service4(number),
        address6: alloc::service6(intent.network6, number),
        name,
        published,
        shadowed: Vec::new(),
        project: known.project,
        ports: known.ports,
        replicas: known.replicas,
        up: u16::try_from(up).unwrap_or(u16::MAX),
        endpoints,
    })
}

fn endpoint(instance: &Instance, port: &Port, counts: &Counts) -> EndpointStatus {
    let key = backend_key(instance.number, port.protocol, port.number);
    let address = instance.reached_at(port.protocol, port.number);
    let (workload, state) = (instance.key.to_string(), instance.state());
    counted(counts, key, workload, state, address, port.number, port.protocol)
}

/// What other hosts run of a service.
fn elsewhere(core: &Core, name: &ServiceName, counts: &Counts) -> Vec<EndpointStatus> {
    let Some(remote) = core.remote(name) else { return Vec::new() };
    let of = |(endpoint, port, key): (&RemoteEndpoint, &Port, u64)| {
        let address = endpoint.address()?;
        let number = remote.position(port.number, port.protocol);
        let number = number.and_then(|at| endpoint.numbers.get(at)).copied();
        let number = number.unwrap_or(port.number);
        let (workload, state) = (endpoint.workload(name), endpoint.state());
        Some(EndpointStatus {
            node: Some(endpoint.key.node.clone()),
            zone: Some(endpoint.zone.clone()),
            ..counted(counts, key, workload, state, address, number, port.protocol)
        })
    };
    remote_keys(name, remote).filter_map(of).collect()
}

fn counted(
    counts: &Counts,
    key: u64,
    workload: String,
    state: WorkloadState,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
) -> EndpointStatus {
    let counted = counts.stats.get(&key).copied().unwrap_or_default();
    let times = counts.times.get(&key).cloned().unwrap_or_default();
    EndpointStatus {
        workload,
        node: None,
        zone: None,
        address,
        port,
        protocol,
        state,
        active: counted.active,
        connections: counted.connections,
        failures: counted.refused + counted.reset + counted.timed_out,
        refused: counted.refused,
        reset: counted.reset,
        timed_out: counted.timed_out,
        hung: counted.hung,
        ejected: counted.ejected_now,
        suspect: counted.suspect,
        ejections: counted.ejections,
        connect_us: counted.connect_us,
        connect_histogram: times.connect_us,
        duration_histogram: times.duration_us,
        sent_bytes: counted.sent_bytes,
        received_bytes: counted.received_bytes,
    }
}

/// Every instance.
pub(crate) fn workloads(core: &Core) -> Vec<WorkloadStatus> {
    core.instances().map(workload).collect()
}

fn workload(instance: &Instance) -> WorkloadStatus {
    let command = match &instance.kind {
        Kind::Launched(launch) => launch.service.command.to_string(),
        Kind::Attached(attached) => attached.command.clone(),
        Kind::Adopted(adoption) => adoption.command.clone(),
        Kind::Rubble => String::new(),
    };
    WorkloadStatus {
        service: instance.key.service.clone(),
        replica: instance.key.replica,
        state: instance.state(),
        pid: instance.process.map(|process| process.pid),
        address: instance.address4,
        started_at_ms: instance.process.map(|process| process.at_ms),
        restarts: instance.restarts,
        reason: instance.reason(),
        command,
        adopted: instance.adoption().map(|adoption| adoption.target.to_string()),
    }
}

/// The name of each service by its number, of those that were ever here.
pub(crate) fn names(core: &Core) -> HashMap<u32, String> {
    core.intent().numbers.iter().map(|(name, number)| (*number, name.to_string())).collect()
}

/// Who calls whom, by name.
pub(crate) fn edges(edges: &[EdgeStats], names: &HashMap<u32, String>) -> Vec<EdgeStatus> {
    let caller = |number: u32| match names.get(&number) {
        Some(name) => name.clone(),
        None if number == 0 => EXEC.to_owned(),
        None if number == sinew_abi::OUTSIDE => OUTSIDE.to_owned(),
        None => number.to_string(),
    };
    let mut named: Vec<_> = edges
        .iter()
        .map(|EdgeStats { source, destination, counters }| EdgeStatus {
            source: caller(*source),
            destination: names.get(destination).and_then(|name| ServiceName::new(name).ok()),
            active: counters.active,
            connects: counters.connects(),
            refused: counters.refused,
            reset: counters.reset,
            timed_out: counters.timed_out,
            cancelled: counters.cancelled,
            no_backend: counters.no_backend,
            ejections: counters.ejected,
            sent_bytes: counters.sent_bytes,
            received_bytes: counters.received_bytes,
            connect_us: used(&counters.connect_us),
            duration_us: used(&counters.duration_us),
        })
        .collect();
    named.sort_by(|a, b| (&a.source, &a.destination).cmp(&(&b.source, &b.destination)));
    named
}

/// What the kernel's numbers in flows are called.
pub(crate) fn flow_names(core: &Core) -> Names {
    let intent = core.intent();
    let mut names = Names::default();
    for (name, number) in &intent.numbers {
        names.services.insert(*number, name.clone());
        names.addresses.insert(alloc::service4(*number).into(), name.clone());
        names.addresses.insert(alloc::service6(intent.network6, *number).into(), name.clone());
    }
    let attached = core.attached_names();
    let launched = intent.services().map(|(_, _, name, service)| (name, &service.ports));
    for (name, ports) in launched.chain(&attached) {
        let streams = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        names.streams.extend(streams.map(|port| ((name.clone(), port.number), ())));
    }
    for instance in core.instances() {
        let name = (instance.key.to_string(), instance.key.service.clone());
        names.instances.insert(instance.number, name);
    }
    names
}
