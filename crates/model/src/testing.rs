//! Values that the tests of several modules begin from.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use proptest::{collection, option, prelude::*, sample, strategy::Union};

use crate::{
    Balance, Check, Command, Health, Limits, Outlier, Placement, Port, PortName, Privileges,
    Project, ProjectName, Protocol, Publish, Restart, Service, ServiceName, Stop,
};

pub(crate) fn service(command: &str) -> Service {
    Service::new(Command::Shell(command.to_owned()), "/srv/shop".into())
}

pub(crate) fn project_of<'a>(services: impl IntoIterator<Item = (&'a str, Service)>) -> Project {
    let services = services
        .into_iter()
        .map(|(name, service)| (ServiceName::new(name).unwrap(), service))
        .collect::<BTreeMap<_, _>>();
    Project { name: ProjectName::new("shop").unwrap(), services }
}

/// Any project that the types allow, valid or not, out of few names so that two of them meet.
pub(crate) fn any_project() -> impl Strategy<Value = Project> {
    let name = sample::select(&["api", "db", "web", "cache", "mail", "exec"][..]);
    let name = name.prop_map(|name| ServiceName::new(name).unwrap());
    collection::btree_map(name, any_service(), 0..6)
        .prop_map(|services| Project { name: ProjectName::new("shop").unwrap(), services })
}

pub(crate) fn any_service() -> impl Strategy<Value = Service> {
    let network = (
        collection::vec(any_port(), 0..3),
        any_health(),
        collection::vec(any_publish(), 0..3),
        any_balance(),
        any_outlier(),
    );
    let process = (
        any_command(),
        any_pairs(),
        any_word().prop_map(PathBuf::from),
        option::of(any_word()),
        option::of(any_word()),
        any_limits(),
        any_privileges(),
    );
    let rest = (
        any::<u16>(),
        sample::select(&[Restart::Always, Restart::OnFailure, Restart::Never][..]),
        (any_word(), any_duration()).prop_map(|(signal, grace)| Stop { signal, grace }),
        collection::vec(sample::select(&["api", "db", "nope"][..]), 0..3),
        option::of(any_word()),
        (any_pairs(), any_pairs().prop_map(|labels| Placement { labels })),
    );
    (network, process, rest).prop_map(|(network, process, rest)| {
        let (ports, health, publish, balance, outlier) = network;
        let (command, env, working_dir, user, group, limits, privileges) = process;
        let (replicas, restart, stop, depends_on, zone, (labels, placement)) = rest;
        let depends_on = depends_on.into_iter().map(|name| ServiceName::new(name).unwrap());
        Service {
            command,
            ports,
            replicas,
            env,
            working_dir,
            user,
            group,
            limits,
            health,
            restart,
            stop,
            depends_on: depends_on.collect(),
            balance,
            outlier,
            zone,
            labels,
            publish,
            privileges,
            placement,
        }
    })
}

fn any_word() -> impl Strategy<Value = String> {
    Union::new([Just("a".to_owned()).boxed(), "\\PC{0,6}".boxed(), Just("\0\n".to_owned()).boxed()])
}

fn any_pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
    collection::btree_map(any_word(), any_word(), 0..3)
}

fn any_duration() -> impl Strategy<Value = Duration> {
    (0_u64..1 << 40).prop_map(Duration::from_millis)
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        any_word().prop_map(Command::Shell),
        collection::vec(any_word(), 0..3).prop_map(Command::Argv),
    ]
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    sample::select(&[Protocol::Tcp, Protocol::Udp][..])
}

fn any_port() -> impl Strategy<Value = Port> {
    ("[a-z0-9]{1,2}", 0_u16..4, any_protocol()).prop_map(|(name, number, protocol)| Port {
        name: PortName::new(name).unwrap(),
        number,
        protocol,
    })
}

fn any_publish() -> impl Strategy<Value = Publish> {
    (any::<std::net::IpAddr>(), 0_u16..4, "[a-z0-9]{1,2}").prop_map(|(host_ip, host_port, port)| {
        Publish { host_ip, host_port, port: PortName::new(port).unwrap() }
    })
}

fn any_health() -> impl Strategy<Value = Health> {
    let check = prop_oneof![
        Just(Check::None),
        (0_u16..4).prop_map(|port| Check::Tcp { port }),
        (0_u16..4, any_word()).prop_map(|(port, path)| Check::Http { port, path }),
        any_command().prop_map(|command| Check::Exec { command }),
    ];
    let times = (any_duration(), any_duration(), any_duration());
    (check, times, any::<u32>(), any::<u32>()).prop_map(|(check, times, healthy, unhealthy)| {
        Health {
            check,
            interval: times.0,
            timeout: times.1,
            healthy_threshold: healthy,
            unhealthy_threshold: unhealthy,
            start_period: times.2,
        }
    })
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::LeastLoad),
        Just(Balance::RoundRobin),
        Just(Balance::Random),
        any_duration().prop_map(|timeout| Balance::Source { timeout }),
    ]
}

fn any_outlier() -> impl Strategy<Value = Outlier> {
    (any::<u32>(), any_duration(), any_duration(), any::<u8>()).prop_map(
        |(failures, base, max, percent)| Outlier {
            consecutive_failures: failures,
            base,
            max,
            max_ejected_percent: percent,
        },
    )
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (any::<Option<u64>>(), any::<Option<u32>>(), any::<Option<u32>>())
        .prop_map(|(memory_bytes, cpu_millis, pids)| Limits { memory_bytes, cpu_millis, pids })
}

fn any_privileges() -> impl Strategy<Value = Privileges> {
    (collection::vec(any_word(), 0..2), any::<bool>()).prop_map(
        |(keep_capabilities, no_new_privileges)| Privileges {
            keep_capabilities,
            no_new_privileges,
        },
    )
}
