use proptest::prelude::*;

use super::*;
use crate::{
    PortName, Restart,
    testing::{any_project, project_of, service},
};

type Change = fn(&mut Service);

fn faults(change: impl FnOnce(&mut Service)) -> String {
    let mut api = service("./api");
    api.ports = vec!["http:8080".parse().unwrap(), "dns:53/udp".parse().unwrap()];
    change(&mut api);
    match project_of([("api", api)]).validate() {
        Ok(()) => String::new(),
        Err(error) => error.to_string(),
    }
}

fn publish(ip: [u8; 4], host_port: u16, port: &str) -> crate::Publish {
    crate::Publish { host_ip: ip.into(), host_port, port: PortName::new(port).unwrap() }
}

#[test]
fn a_plain_service_is_valid() {
    assert_eq!(faults(|_| ()), "");
    assert_eq!(faults(|s| s.restart = Restart::Never), "");
    assert_eq!(faults(|s| s.replicas = 0), "");
    assert_eq!(faults(|s| s.stop.grace = Duration::ZERO), "");
    let elsewhere = vec![publish([127, 0, 0, 1], 53, "http"), publish([127, 0, 0, 2], 53, "http")];
    assert_eq!(faults(|s| s.publish = elsewhere), "");
}

#[test]
fn every_rule_holds_for_what_comes_over_the_api() {
    let cases: &[(Change, &str)] = &[
        (|s| s.replicas = 1025, "replicas: 1025 is out of range; use 0 to 1024"),
        (
            |s| s.command = Command::Argv(vec![]),
            "command: the command is empty; say which program to run",
        ),
        (
            |s| s.command = Command::Shell("a\0b".into()),
            r#"command: "a\0b" has a NUL character; remove it: Linux ends text there"#,
        ),
        (
            |s| s.working_dir = "srv".into(),
            r#"working_dir: "srv" is not an absolute path; write it from / on"#,
        ),
        (
            |s| drop(s.env.insert("A B".into(), String::new())),
            r#"env."A B": "A B" cannot name a variable; use a name without = and without spaces"#,
        ),
        (
            |s| drop(s.env.insert("A".into(), "\0".into())),
            r#"env.A: "\0" has a NUL character; remove it: Linux ends text there"#,
        ),
        (
            |s| s.user = Some("a:b".into()),
            r#"user: "a:b" cannot be a user or group; use a name or number of /etc/passwd or /etc/group"#,
        ),
        (
            |s| s.group = Some(String::new()),
            r#"group: "" cannot be a user or group; use a name or number of /etc/passwd or /etc/group"#,
        ),
        (
            |s| s.zone = Some("Rack 1".into()),
            r#"zone: "Rack 1" cannot be a zone; use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends"#,
        ),
        (
            |s| drop(s.placement.labels.insert("a b".into(), String::new())),
            r#"placement.labels."a b": "a b" is not a short word; use 1 to 63 visible ASCII characters without spaces"#,
        ),
        (
            |s| drop(s.labels.insert(String::new(), String::new())),
            r#"labels."": "" is not a short word; use 1 to 63 visible ASCII characters without spaces"#,
        ),
        (
            |s| s.limits.memory_bytes = Some(1024),
            "limits.memory: 1KiB is out of range; use 1MiB to 1024TiB",
        ),
        (|s| s.limits.cpu_millis = Some(5), "limits.cpu: 5m is out of range; use 10m to 10000"),
        (|s| s.limits.pids = Some(0), "limits.pids: 0 is out of range; use 1 to 4194304"),
        (
            |s| s.health.interval = Duration::ZERO,
            "health.interval: 0s is out of range; use 1ms to 7d",
        ),
        (
            |s| s.health.timeout = Duration::ZERO,
            "health.timeout: 0s is out of range; use 1ms to 7d",
        ),
        (
            |s| s.health.start_period = MAX_DURATION * 2,
            "health.start_period: 14d is out of range; use 0s to 7d",
        ),
        (
            |s| s.health.healthy_threshold = 0,
            "health.healthy_threshold: 0 is out of range; use 1 to 1000",
        ),
        (
            |s| s.health.unhealthy_threshold = 0,
            "health.unhealthy_threshold: 0 is out of range; use 1 to 1000",
        ),
        (
            |s| s.health.check = Check::Tcp { port: 53 },
            r#"health.tcp: the service has no port "53"; use 8080, or declare it under ports"#,
        ),
        (
            |s| s.health.check = Check::Http { port: 8080, path: "x".into() },
            r#"health.http: "x" is not a path; begin it with / and leave out spaces"#,
        ),
        (
            |s| s.health.check = Check::Exec { command: Command::Shell(" ".into()) },
            "health.exec: the command is empty; say which program to run",
        ),
        (
            |s| s.stop.signal = "SIGTREM".into(),
            r#"stop.signal: "SIGTREM" is not a signal that stops a workload; did you mean SIGTERM?"#,
        ),
        (
            |s| s.stop.signal = "TERM".into(),
            r#"stop.signal: "TERM" is not a signal that stops a workload; did you mean SIGTERM?"#,
        ),
        (
            |s| s.balance = Balance::Source { timeout: Duration::ZERO },
            "balance.timeout: 0s is out of range; use 1ms to 7d",
        ),
        (
            |s| s.outlier.base = Duration::from_secs(120),
            "outlier.base: base 2m is longer than max 1m; raise max or lower base",
        ),
        (
            |s| s.outlier.max_ejected_percent = 101,
            "outlier.max_ejected_percent: 101 is out of range; use 0 to 100",
        ),
        (
            |s| s.outlier.consecutive_failures = 1001,
            "outlier.consecutive_failures: 1001 is out of range; use 0 to 1000",
        ),
        (
            |s| s.privileges.keep_capabilities = vec!["CAP_NET_ADMN".into()],
            r#"privileges.keep_capabilities[0]: "CAP_NET_ADMN" is not a capability of Linux; did you mean CAP_NET_ADMIN?"#,
        ),
        (
            |s| s.depends_on = vec![ServiceName::new("ap").unwrap()],
            "depends_on[0]: the project has no service ap; name a service of this project, or remove it",
        ),
        (
            |s| s.depends_on = vec![ServiceName::new("api").unwrap()],
            "depends_on[0]: dependency cycle: api -> api; remove one of these dependencies",
        ),
        (
            |s| s.publish = vec![publish([0; 4], 0, "http")],
            "publish[0]: 0 is out of range; use 1 to 65535",
        ),
        (
            |s| s.publish = vec![publish([0; 4], 80, "grpc")],
            r#"publish[0]: the service has no port "grpc"; use dns or http, or declare it under ports"#,
        ),
        (
            |s| s.publish = vec![publish([0; 4], 80, "http"), publish([127, 0, 0, 1], 80, "http")],
            "publish[1]: host port 127.0.0.1:80 is already published by services.api.publish[0]; choose another port of the host",
        ),
        (
            |s| s.publish = vec![publish([0; 4], 53, "dns")],
            "publish[0]: dns is a UDP port, whose answers would not come from the address that was asked; publish TCP ports only",
        ),
        (|s| s.ports[1].number = 0, "ports[1]: 0 is out of range; use 1 to 65535"),
        (
            |s| s.ports[1].name = PortName::new("53").unwrap(),
            r#"ports[1]: port name "53" has no letter; use a name with a letter, such as http"#,
        ),
        (
            |s| s.ports[1].name = s.ports[0].name.clone(),
            r#"ports[1]: port name "http" is already that of services.api.ports[0]; give each port its own name"#,
        ),
        (
            |s| s.ports.push("web:8080".parse().unwrap()),
            "ports[2]: port 8080/tcp is already that of services.api.ports[0]; remove one",
        ),
        (
            |s| s.ports = (1..=17).map(|n: u16| n.to_string().parse().unwrap()).collect(),
            "ports: 17 ports are more than a service may have; keep it to 16",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(faults(change), format!("services.api.{expected}"));
    }
}

#[test]
fn rules_between_services_hold_too() {
    let nothing = project_of([]).validate().unwrap_err().to_string();
    assert_eq!(
        nothing,
        "services: the project has no service; describe at least one under services"
    );
    let reserved = project_of([("exec", service("a"))]).validate().unwrap_err().to_string();
    assert_eq!(
        reserved,
        "services.exec: the name exec is reserved; choose another: exec, agent, localhost and outside have a \
         meaning already"
    );
    let needs =
        |name| Service { depends_on: vec![ServiceName::new(name).unwrap()], ..service("a") };
    let cycle = project_of([
        ("a", needs("b")),
        ("b", needs("c")),
        ("c", needs("a")),
        ("d", needs("dd")),
        ("dc", service("a")),
    ]);
    assert_eq!(
        cycle.validate().unwrap_err().to_string(),
        "services.d.depends_on[0]: the project has no service dd; did you mean dc?\n\
         services.a.depends_on[0]: dependency cycle: a -> b -> c -> a; remove one of these \
         dependencies"
    );
}

#[test]
fn reserved_names_are_told_in_full() {
    let remedy = Rule::Reserved(ServiceName::new("exec").unwrap()).remedy();
    assert!(RESERVED.iter().all(|name| remedy.contains(name)));
}

proptest! {
    #[test]
    fn no_project_makes_it_panic(project in any_project()) {
        if let Err(error) = project.validate() {
            prop_assert!(!error.fields.is_empty());
            prop_assert!(!error.to_string().contains('\0'));
        }
    }

    #[test]
    fn projects_survive_json(project in any_project()) {
        let text = serde_json::to_string(&project).unwrap();
        prop_assert_eq!(serde_json::from_str::<Project>(&text).unwrap(), project);
    }
}
