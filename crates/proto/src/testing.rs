//! Messages of every kind, as tests need them.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::*,
};
use sinew_model::{
    Balance, Outlier, Protocol, ServiceName,
    fleet::{
        Delta, Endpoint, EndpointKey, EndpointStatus, Generation, Host, Network, Removal,
        Resources, ServicePort, ServiceRecord, Snapshot, Tombstone,
    },
};

use crate::{
    Assigned, Assignment, Catalog, FromAgent, FromControl, Held, Hello, Hosts, Lineage, Placed,
    Report, Reported, ServiceReport, Welcome, Zones,
};

fn label<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T>
{
    "[a-z][a-z0-9-]{0,5}[a-z0-9]".prop_map(|text| text.parse().unwrap())
}

fn short_time() -> impl Strategy<Value = Duration> {
    (0..100_000u64).prop_map(Duration::from_millis)
}

fn generation() -> impl Strategy<Value = Generation> {
    any::<u64>().prop_map(Generation)
}

prop_compose! {
    fn endpoint()(
        last in 1..=254u8,
        six in option::of(1..u16::MAX),
        ports in btree_map(label(), 1..=u16::MAX, 0..3),
        zone in label(),
        weight in 0..=65_536u32,
        status in prop::sample::select(vec![
            EndpointStatus::Starting, EndpointStatus::Up, EndpointStatus::Unhealthy,
            EndpointStatus::Draining,
        ]),
    ) -> Endpoint {
        let address6 = six.map(|six| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, six));
        let address4 = Some([10, 0, 0, last].into());
        Endpoint { address4, address6, ports, zone, weight, status }
    }
}

fn key() -> impl Strategy<Value = EndpointKey> {
    (label(), any::<u32>()).prop_map(|(node, instance)| EndpointKey { node, instance })
}

fn tombstone() -> impl Strategy<Value = Tombstone> {
    let removals = vec![Removal::Reported, Removal::NodeDead, Removal::Withdrawn];
    (generation(), prop::sample::select(removals))
        .prop_map(|(generation, removal)| Tombstone { generation, removal })
}

prop_compose! {
    fn record()(
        ports in btree_map(1..=u16::MAX, any::<bool>(), 0..4),
        balance in prop_oneof![
            Just(Balance::LeastLoad), Just(Balance::RoundRobin), Just(Balance::Random),
            short_time().prop_map(|timeout| Balance::Source { timeout }),
        ],
        failures in any::<u32>(), base in short_time(), max in short_time(), percent in 0..=100u8,
    ) -> ServiceRecord {
        let port = |(number, udp): (u16, bool)| ServicePort {
            name: format!("port-{number}").parse().unwrap(),
            number,
            protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
        };
        let outlier =
            Outlier { consecutive_failures: failures, base, max, max_ejected_percent: percent };
        ServiceRecord { ports: ports.into_iter().map(port).collect(), balance, outlier }
    }
}

prop_compose! {
    fn service_report()(
        record in option::of(record()),
        endpoints in btree_map(0..100u32, endpoint(), 0..4),
        gone in btree_set(100..200u32, 0..3),
    ) -> ServiceReport {
        ServiceReport { record, endpoints, gone }
    }
}

fn names() -> impl Strategy<Value = Vec<ServiceName>> {
    vec(label(), 0..4)
}

pub(crate) fn from_agent() -> impl Strategy<Value = FromAgent> {
    let hello = (
        (label(), label(), btree_map("[a-z]{1,5}", ".{0,9}", 0..3)),
        (".{0,9}", any::<u32>(), ".{0,9}", any::<u64>(), btree_map(label(), generation(), 0..4)),
        (address4(), address6(), resources(), option::of("[a-z]{1,9}"), generation()),
    );
    let hello = hello.prop_map(|((node, zone, labels), rest, more)| {
        let (address4, address6, capacity, lineage, newest) = more;
        let (version, protocol, boot_id, ms, known) = rest;
        let wall_clock = Duration::from_millis(ms);
        Hello {
            node,
            zone,
            labels,
            version,
            protocol,
            boot_id,
            wall_clock,
            known,
            address4,
            address6,
            capacity,
            lineage,
            newest,
        }
    });
    let services = btree_map(label(), service_report(), 0..4);
    let report = (any::<u64>(), any::<bool>(), services)
        .prop_map(|(sequence, full, services)| Report { sequence, full, services });
    prop_oneof![
        hello.prop_map(FromAgent::Hello),
        report.prop_map(FromAgent::Report),
        names().prop_map(FromAgent::Subscribe),
        names().prop_map(FromAgent::Unsubscribe),
        (label(), generation())
            .prop_map(|(service, generation)| FromAgent::Ack { service, generation }),
        (label(), generation(), ".{0,20}").prop_map(|(service, generation, reason)| {
            FromAgent::Nack { service, generation, reason }
        }),
        (generation(), vec(held(), 0..3))
            .prop_map(|(generation, refused)| FromAgent::Placed(Placed { generation, refused })),
    ]
}

fn network4() -> impl Strategy<Value = Network> {
    (any::<u32>(), 1..=32u32).prop_map(|(address, length)| {
        let address = Ipv4Addr::from(address & (u32::MAX << (32 - length)));
        Network::new(address.into(), length).unwrap()
    })
}

fn network6() -> impl Strategy<Value = Network> {
    (any::<u128>(), 1..=128u32).prop_map(|(address, length)| {
        let address = Ipv6Addr::from(address & (u128::MAX << (128 - length)));
        Network::new(address.into(), length).unwrap()
    })
}

fn address4() -> impl Strategy<Value = Option<Ipv4Addr>> {
    option::of(any::<u32>().prop_map(Ipv4Addr::from))
}

fn address6() -> impl Strategy<Value = Option<Ipv6Addr>> {
    option::of(any::<u128>().prop_map(Ipv6Addr::from))
}

fn resources() -> impl Strategy<Value = Resources> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(cpu_millis, memory_bytes)| Resources { cpu_millis, memory_bytes })
}

fn held() -> impl Strategy<Value = Held> {
    (label(), ".{0,20}").prop_map(|(service, reason)| Held { service, reason })
}

fn assigned() -> impl Strategy<Value = Assigned> {
    let assignment = (label(), 1..=u16::MAX, vec(any::<u8>(), 1..20)).prop_map(
        |(project, replicas, definition)| Assignment {
            project,
            replicas,
            definition: definition.into(),
        },
    );
    (generation(), btree_map(label(), assignment, 0..4))
        .prop_map(|(generation, services)| Assigned { generation, services })
}

fn hosts() -> impl Strategy<Value = Hosts> {
    let slices = (option::of(network4()), option::of(network6()));
    let proven = (any::<bool>(), any::<bool>());
    let host = (label(), address4(), address6(), slices, proven).prop_map(
        |(zone, address4, address6, (instances4, instances6), (proven4, proven6))| Host {
            zone,
            address4,
            address6,
            proven4,
            proven6,
            instances4,
            instances6,
        },
    );
    let hosts = (btree_map(label(), host, 0..4), btree_set(label(), 0..3));
    (option::of(generation()), generation(), hosts).prop_map(|(from, to, (put, mut removed))| {
        removed.retain(|node| !put.contains_key(node));
        Hosts { from, to, put, removed }
    })
}

fn zones() -> impl Strategy<Value = Zones> {
    (generation(), btree_map(label(), 0..=100u8, 0..4))
        .prop_map(|(generation, limited)| Zones { generation, limited })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (
        any::<u64>(),
        short_time(),
        ".{0,9}",
        any::<u64>(),
        option::of(network4()),
        option::of(network6()),
        option::of((".{0,9}", generation())),
    )
        .prop_map(|(epoch, session_timeout, control, ms, instances4, instances6, lineage)| {
            let wall_clock = Duration::from_millis(ms);
            let lineage = lineage.map(|(id, since)| Lineage { id, since });
            Welcome { epoch, session_timeout, control, wall_clock, instances4, instances6, lineage }
        })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let parts = (
        label(),
        generation(),
        option::of(record()),
        btree_map(key(), endpoint(), 0..6),
        btree_map(key(), tombstone(), 0..4),
    );
    parts.prop_map(|(service, generation, record, endpoints, tombstones)| Snapshot {
        service,
        generation,
        record,
        endpoints,
        tombstones,
    })
}

fn delta() -> impl Strategy<Value = Delta> {
    let parts = (
        label(),
        0..1_000u64,
        1..1_000u64,
        option::of(record()),
        btree_map(key(), endpoint(), 0..6),
        btree_map(key(), tombstone(), 0..4),
    );
    parts.prop_map(|(service, from, more, record, put, removed)| Delta {
        service,
        from: Generation(from),
        to: Generation(from + more),
        record,
        put,
        removed,
    })
}

pub(crate) fn from_control() -> impl Strategy<Value = FromControl> {
    let catalog = (option::of(generation()), generation(), names(), names())
        .prop_map(|(from, to, added, removed)| Catalog { from, to, added, removed });
    let reported = (any::<u64>(), generation(), vec(held(), 0..3))
        .prop_map(|(sequence, generation, held)| Reported { sequence, generation, held });
    prop_oneof![
        welcome().prop_map(FromControl::Welcome),
        catalog.prop_map(FromControl::Catalog),
        hosts().prop_map(FromControl::Hosts),
        zones().prop_map(FromControl::Zones),
        assigned().prop_map(FromControl::Assigned),
        snapshot().prop_map(FromControl::Snapshot),
        delta().prop_map(FromControl::Delta),
        reported.prop_map(FromControl::Reported),
        short_time().prop_map(|retry_after| FromControl::Busy { retry_after }),
        label().prop_map(|node| FromControl::Dead { node }),
        (".{0,20}", short_time())
            .prop_map(|(reason, reconnect_after)| FromControl::Goodbye { reason, reconnect_after }),
    ]
}
