mod random;
mod rules;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use sinew_model::{
    NodeName, Protocol, ServiceName,
    fleet::{
        Delta, Endpoint, EndpointKey, EndpointStatus, Generation, Removal, ServicePort,
        ServiceRecord, Snapshot, Tombstone,
    },
};

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn key(number: u32) -> EndpointKey {
    EndpointKey { node: node(&format!("n{number}")), instance: 0 }
}

fn endpoint(number: u32, status: EndpointStatus) -> Endpoint {
    Endpoint {
        address4: Some(Ipv4Addr::from(0x0a00_0000 + number)),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight: 256,
        status,
    }
}

fn up(number: u32) -> Endpoint {
    endpoint(number, EndpointStatus::Up)
}

fn record() -> ServiceRecord {
    let port = ServicePort { name: "http".parse().unwrap(), number: 80, protocol: Protocol::Tcp };
    ServiceRecord {
        ports: vec![port],
        balance: sinew_model::Balance::default(),
        outlier: sinew_model::Outlier::default(),
    }
}

fn snapshot(generation: u64, there: impl IntoIterator<Item = u32>) -> Snapshot {
    Snapshot {
        service: orders(),
        generation: Generation(generation),
        record: Some(record()),
        endpoints: there.into_iter().map(|n| (key(n), up(n))).collect(),
        tombstones: BTreeMap::new(),
    }
}

fn delta(from: u64, to: u64) -> Delta {
    Delta {
        service: orders(),
        from: Generation(from),
        to: Generation(to),
        record: None,
        put: BTreeMap::new(),
        removed: BTreeMap::new(),
    }
}

fn buried(
    generation: u64,
    removal: Removal,
    gone: impl IntoIterator<Item = u32>,
) -> BTreeMap<EndpointKey, Tombstone> {
    let tombstone = Tombstone { generation: Generation(generation), removal };
    gone.into_iter().map(|n| (key(n), tombstone.clone())).collect()
}

/// A mirror with a clock.
struct Host {
    mirror: Mirror,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let limits = Limits { interval: INTERVAL, ..Limits::default() };
        Self { mirror: Mirror::new(node("here"), limits), now: Instant::now() }
    }

    fn knowing(snapshot: Snapshot) -> Self {
        let mut host = Self::new();
        host.accept(snapshot);
        host.mirror.take_notices();
        host.mirror.take_changed();
        host
    }

    fn accept(&mut self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        assert_eq!(self.mirror.snapshot(self.now, snapshot), Answer::Ack { generation });
    }

    fn accept_delta(&mut self, delta: Delta) {
        let generation = delta.to;
        assert_eq!(self.mirror.delta(self.now, delta), Answer::Ack { generation });
    }

    fn wait(&mut self) {
        self.now += INTERVAL;
    }

    fn held(&self) -> BTreeMap<EndpointKey, Endpoint> {
        let remote = self.mirror.remote(&orders());
        let all = remote.into_iter().flat_map(Remote::backends);
        all.map(|backend| (backend.key.clone(), backend.endpoint.clone())).collect()
    }

    fn count(&self) -> usize {
        self.held().len()
    }

    fn chosen(&self) -> usize {
        self.chosen_keys().len()
    }

    fn chosen_keys(&self) -> Vec<EndpointKey> {
        let all = self.mirror.remote(&orders()).into_iter().flat_map(Remote::backends);
        all.filter(|b| b.in_choice).map(|b| b.key.clone()).collect()
    }

    fn generation(&self) -> u64 {
        self.mirror.known().find(|(name, _)| **name == orders()).map_or(0, |(_, g)| g.0)
    }

    fn doubted(&self) -> usize {
        self.mirror.doubts().count()
    }
}
