//! Rates from two looks at counters that only grow.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde::Serialize;
use sinew_abi::histogram::{self, BUCKETS, COARSE};
use sinew_api::{EdgeStatus, EndpointStatus, ServiceStatus, WorkloadState};
use sinew_model::Protocol;

/// Everything that was counted at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// Since any fixed moment.
    pub(crate) at: Duration,
    pub(crate) edges: Vec<EdgeStatus>,
    pub(crate) services: Vec<ServiceStatus>,
}

/// What happened between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Frame {
    /// Time between them.
    pub(crate) seconds: f64,
    pub(crate) edges: Vec<EdgeRates>,
    pub(crate) endpoints: Vec<EndpointRates>,
}

/// Calls from one service to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EdgeRates {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) calls_per_s: f64,
    pub(crate) in_flight: u64,
    /// Connect time of those that ended in between; `None`: none did.
    pub(crate) connect_p50_us: Option<f64>,
    pub(crate) connect_p99_us: Option<f64>,
    pub(crate) errors_per_s: f64,
    /// Of backends, since the edge was first used.
    pub(crate) ejections: u64,
    /// Both ways.
    pub(crate) bytes_per_s: f64,
}

/// A port of an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct EndpointRates {
    pub(crate) service: String,
    pub(crate) workload: String,
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) state: WorkloadState,
    pub(crate) ejected: bool,
    pub(crate) suspect: bool,
    /// Whether callers passed it by, since it does not accept, and nothing shows that it does again.
    pub(crate) hung: bool,
    pub(crate) calls_per_s: f64,
    pub(crate) in_flight: u32,
    /// Connect time of those that ended in between; `None`: none did.
    pub(crate) connect_p50_us: Option<f64>,
    pub(crate) connect_p99_us: Option<f64>,
    pub(crate) errors_per_s: f64,
    /// Since the backend was made, as the next one.
    pub(crate) failures: u64,
    pub(crate) ejections: u64,
}

/// What came between `before` and `now`. What is new counts from nothing.
pub(crate) fn between(before: &Snapshot, now: &Snapshot) -> Frame {
    let seconds = now.at.saturating_sub(before.at).as_secs_f64().max(1e-3);
    let old: HashMap<_, _> =
        before.edges.iter().map(|edge| ((&edge.source, &edge.destination), edge)).collect();
    // An edge to nobody counts what name look-ups try too: it is in the metrics, not here.
    let edges = now.edges.iter().filter_map(|edge| {
        let to = edge.destination.as_ref()?.to_string();
        Some(edge_rates(old.get(&(&edge.source, &edge.destination)).copied(), edge, to, seconds))
    });
    let known: HashMap<_, _> = endpoints(before).map(|(_, e)| (name_of(e), e)).collect();
    let endpoints = endpoints(now).map(|(service, endpoint)| {
        endpoint_rates(known.get(&name_of(endpoint)).copied(), endpoint, service, seconds)
    });
    Frame { seconds, edges: edges.collect(), endpoints: endpoints.collect() }
}

fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &EndpointStatus)> {
    snapshot
        .services
        .iter()
        .flat_map(|service| service.endpoints.iter().map(|e| (service.name.as_str(), e)))
}

fn name_of(endpoint: &EndpointStatus) -> (&str, u16, bool) {
    (&endpoint.workload, endpoint.port, endpoint.protocol == Protocol::Udp)
}

impl Frame {
    /// What is known from the frame before: who was passed by hangs still, unless it got a call or
    /// ended all it had. Callers who draw a less busy one do not look at it.
    #[must_use]
    pub(crate) fn after(mut self, earlier: &Self) -> Self {
        let place = |e: &EndpointRates| (e.workload.clone(), e.port, e.protocol == Protocol::Udp);
        let hung: HashSet<_> = earlier.endpoints.iter().filter(|e| e.hung).map(place).collect();
        for endpoint in &mut self.endpoints {
            let idle = endpoint.calls_per_s == 0.0 && endpoint.in_flight > 0;
            endpoint.hung |= idle && hung.contains(&place(endpoint));
        }
        self
    }
}

/// By how much a counter grew. One that fell was made anew and counts from nothing.
#[expect(clippy::cast_precision_loss, reason = "rates are shown with three digits")]
fn grown(before: u64, now: u64) -> f64 {
    (if now < before { now } else { now - before }) as f64
}

/// What a histogram counted in between.
fn added<const N: usize>(before: &[u64], now: &[u64]) -> [u64; N] {
    let count = |buckets: &[u64], index| buckets.get(index).copied().unwrap_or(0);
    std::array::from_fn(|index| count(now, index).saturating_sub(count(before, index)))
}

fn edge_rates(
    before: Option<&EdgeStatus>,
    now: &EdgeStatus,
    to: String,
    seconds: f64,
) -> EdgeRates {
    let rate = |value: fn(&EdgeStatus) -> u64| grown(before.map_or(0, value), value(now)) / seconds;
    let connects: [_; BUCKETS] =
        added(before.map_or(&[], |edge| &edge.connect_us), &now.connect_us);
    EdgeRates {
        from: now.source.clone(),
        to,
        calls_per_s: rate(|edge| edge.connects),
        in_flight: now.active,
        connect_p50_us: histogram::quantile(&connects, 0.5),
        connect_p99_us: histogram::quantile(&connects, 0.99),
        errors_per_s: rate(|e| e.refused + e.reset + e.timed_out + e.no_backend),
        ejections: now.ejections,
        bytes_per_s: rate(|edge| edge.sent_bytes + edge.received_bytes),
    }
}

fn endpoint_rates(
    before: Option<&EndpointStatus>,
    now: &EndpointStatus,
    service: &str,
    seconds: f64,
) -> EndpointRates {
    let added_to = |value: fn(&EndpointStatus) -> u64| grown(before.map_or(0, value), value(now));
    let connects: [_; COARSE] =
        added(before.map_or(&[], |endpoint| &endpoint.connect_histogram), &now.connect_histogram);
    EndpointRates {
        service: service.to_owned(),
        workload: now.workload.clone(),
        port: now.port,
        protocol: now.protocol,
        state: now.state,
        ejected: now.ejected,
        suspect: now.suspect,
        hung: added_to(|endpoint| endpoint.hung.into()) > 0.0,
        calls_per_s: added_to(|endpoint| endpoint.connections) / seconds,
        in_flight: now.active,
        connect_p50_us: histogram::quantile(&connects, 0.5),
        connect_p99_us: histogram::quantile(&connects, 0.99),
        errors_per_s: added_to(|endpoint| endpoint.failures) / seconds,
        failures: now.failures,
        ejections: now.ejections,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use sinew_model::ServiceName;

    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    pub(crate) fn edge(source: &str, to: Option<&str>, connects: u64) -> EdgeStatus {
        EdgeStatus {
            source: source.to_owned(),
            destination: to.map(name),
            active: 2,
            connects,
            refused: connects / 100,
            reset: 0,
            timed_out: 0,
            cancelled: 5,
            no_backend: 0,
            ejections: connects / 1000,
            sent_bytes: connects * 10,
            received_bytes: connects * 30,
            connect_us: vec![0, 0, 0, connects],
            duration_us: Vec::new(),
        }
    }

    fn endpoint(connections: u64) -> EndpointStatus {
        EndpointStatus {
            node: None,
            zone: None,
            workload: "api/0".to_owned(),
            address: [127, 80, 0, 1].into(),
            port: 80,
            protocol: Protocol::Tcp,
            state: WorkloadState::Up,
            active: 2,
            connections,
            failures: connections / 500,
            refused: 2,
            reset: 1,
            timed_out: 0,
            hung: 0,
            ejected: false,
            suspect: false,
            ejections: 1,
            connect_us: 40,
            connect_histogram: vec![0, 0, 0, 0, connections],
            duration_histogram: Vec::new(),
            sent_bytes: 0,
            received_bytes: 0,
        }
    }

    pub(crate) fn snapshot(seconds: u64, connects: u64) -> Snapshot {
        let api = ServiceStatus {
            name: name("api"),
            project: None,
            address4: [127, 64, 0, 1].into(),
            address6: std::net::Ipv6Addr::LOCALHOST,
            ports: Vec::new(),
            published: Vec::new(),
            shadowed: Vec::new(),
            replicas: 1,
            up: 1,
            endpoints: vec![endpoint(connects)],
        };
        let edges = vec![edge("web", Some("api"), connects), edge("exec", None, 7)];
        Snapshot { at: Duration::from_secs(seconds), edges, services: vec![api] }
    }

    #[test]
    fn counters_become_rates() {
        let frame = between(&snapshot(10, 1000), &snapshot(12, 3000));
        assert_eq!(frame.edges.len(), 1, "calls to nobody are left out");
        let edge = &frame.edges[0];
        assert_eq!(
            (edge.calls_per_s, edge.errors_per_s, edge.bytes_per_s),
            (1000.0, 10.0, 40_000.0)
        );
        assert_eq!(edge.in_flight, 2);
        let p99 = edge.connect_p99_us.unwrap();
        assert!((3.0..=4.0).contains(&p99), "{p99}");
        assert_eq!(edge.ejections, 3);
        let endpoint = &frame.endpoints[0];
        assert_eq!((endpoint.calls_per_s, endpoint.errors_per_s), (1000.0, 2.0));
        assert_eq!((endpoint.failures, endpoint.ejections, endpoint.in_flight), (6, 1, 2));
        let p99 = endpoint.connect_p99_us.unwrap();
        assert!((8.0..=12.0).contains(&p99), "two buckets an octave: {p99}");
    }

    #[test]
    fn what_is_idle_new_or_made_anew() {
        let idle = between(&snapshot(1, 50), &snapshot(2, 50));
        assert_eq!((idle.edges[0].calls_per_s, idle.edges[0].connect_p50_us), (0.0, None));
        let empty = Snapshot { at: Duration::ZERO, edges: Vec::new(), services: Vec::new() };
        assert_eq!(between(&empty, &snapshot(1, 50)).edges[0].calls_per_s, 50.0);
        assert_eq!(between(&snapshot(0, 500), &snapshot(1, 50)).edges[0].calls_per_s, 50.0);
        assert_eq!(idle.endpoints[0].connect_p99_us, None);
    }

    #[test]
    fn who_is_passed_by_now_hangs() {
        let passed = |seconds, times| {
            let mut taken = snapshot(seconds, 50);
            taken.services[0].endpoints[0].hung = times;
            taken
        };
        assert!(between(&passed(1, 4), &passed(2, 5)).endpoints[0].hung);
        assert!(!between(&passed(1, 5), &passed(2, 5)).endpoints[0].hung, "it did once");
        let hung = between(&passed(1, 4), &passed(2, 5));
        let next = || between(&passed(2, 5), &passed(3, 5));
        assert!(next().after(&hung).endpoints[0].hung, "nobody looked at it since");
        let mut called = next();
        called.endpoints[0].calls_per_s = 1.0;
        assert!(!called.after(&hung).endpoints[0].hung, "a call found it well");
        let mut ended = next();
        ended.endpoints[0].in_flight = 0;
        assert!(!ended.after(&hung).endpoints[0].hung, "it ended what it had");
        assert!(!next().after(&next()).endpoints[0].hung);
    }
}
