//! Files that are right: what the reference shows, every spelling of every field, any text at all.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a fault of a helper fails its test")]

use std::{io, path::Path, time::Duration};

use proptest::prelude::*;
use sinew_model::{
    Balance, Check, Command, FileSource, Health, Limits, Outlier, ParseErrors, Placement, Port,
    Privileges, Project, Restart, Service, ServiceName, Stop, parse,
};

const REFERENCE: &str = include_str!("../../../docs/reference/file.md");

fn example() -> &'static str {
    REFERENCE.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap()
}

fn read(text: &str) -> Result<Project, ParseErrors> {
    let source = FileSource { path: Path::new("sinew.yaml"), directory: Path::new("/srv/My Shop") };
    let mut files = |path: &Path| match path.to_str() {
        Some("/srv/My Shop/api.env") => Ok("# secrets\nTOKEN=a$b\nLOG_LEVEL=trace\n".to_owned()),
        Some("/etc/more.env") => Ok("TOKEN='c d'\n\nexport MORE=1\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    let variables = |name: &str| match name {
        "HOME" => Some("/home/ada".to_owned()),
        "COUNT" => Some("4".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    parse(text, &source, &mut files, &variables)
}

fn service(lines: &str) -> Service {
    let indented = lines.replace('\n', "\n    ");
    let text = format!("services:\n  api:\n    {indented}");
    let mut project = read(&text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    project.services.remove(&ServiceName::new("api").unwrap()).unwrap()
}

/// A service with a port, and one more field.
fn with(line: &str) -> Service {
    service(&format!("command: ./api\nports: [http:8080, grpc:9090, dns:53/udp]\n{line}"))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_example_of_the_reference_is_read() {
    let project = read(example()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(project.name.as_str(), "shop");
    let names: Vec<_> = project.services.keys().map(ServiceName::as_str).collect();
    assert_eq!(names, ["api", "cache", "dns", "web"]);
    let api = &project.services[&ServiceName::new("api").unwrap()];
    assert_eq!(
        *api,
        Service {
            ports: vec!["http:8080".parse().unwrap(), "metrics:9100".parse().unwrap()],
            replicas: 3,
            env: [("LOG_LEVEL", "info"), ("TOKEN", "a$b")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            user: Some("www-data".to_owned()),
            limits: Limits {
                memory_bytes: Some(256 << 20),
                cpu_millis: Some(500),
                pids: Some(100),
            },
            health: Health {
                check: Check::Http { port: 8080, path: "/ready".to_owned() },
                interval: Duration::from_millis(500),
                timeout: seconds(2),
                healthy_threshold: 1,
                unhealthy_threshold: 5,
                start_period: seconds(90),
            },
            restart: Restart::OnFailure,
            stop: Stop { signal: "SIGINT".to_owned(), grace: seconds(20) },
            balance: Balance::Source { timeout: seconds(1800) },
            outlier: Outlier {
                consecutive_failures: 5,
                base: seconds(2),
                max: seconds(60),
                max_ejected_percent: 30,
            },
            depends_on: vec![ServiceName::new("cache").unwrap()],
            zone: Some("rack-1".to_owned()),
            placement: Placement { labels: [("disk".to_owned(), "ssd".to_owned())].into() },
            labels: [("team".to_owned(), "checkout".to_owned())].into(),
            ..Service::new(
                Command::Argv(["python3", "-m", "shop.api"].map(String::from).to_vec()),
                "/srv/My Shop".into(),
            )
        }
    );
    let web = &project.services[&ServiceName::new("web").unwrap()];
    assert_eq!(web.working_dir, Path::new("/srv/My Shop/web"));
    assert_eq!(web.publish[0].to_string(), "0.0.0.0:8000:http");
}

#[test]
fn what_is_left_out_has_its_default() {
    let expected = Service::new(Command::Shell("./api".to_owned()), "/srv/My Shop".into());
    assert_eq!(service("command: ./api"), expected);
    assert_eq!(expected.replicas, 1);
    assert_eq!(expected.health.check, Check::None);
    assert_eq!(expected.privileges, Privileges::default());
}

#[test]
fn a_project_without_a_name_has_its_directorys() {
    let project = read("services: {api: {command: ./api}}").unwrap();
    assert_eq!(project.name.as_str(), "my-shop");
}

#[test]
fn a_file_survives_json() {
    let project = read(example()).unwrap();
    let text = serde_json::to_string(&project).unwrap();
    assert_eq!(serde_json::from_str::<Project>(&text).unwrap(), project);
    assert_eq!(project.validate(), Ok(()));
}

#[test]
fn json_may_leave_out_what_a_file_may() {
    let text = r#"{"name": "a", "services": {"api": {"command": ["x"], "working_dir": "/"}}}"#;
    let project: Project = serde_json::from_str(text).unwrap();
    let expected = Service::new(Command::Argv(vec!["x".to_owned()]), "/".into());
    assert_eq!(project.services.values().collect::<Vec<_>>(), [&expected]);
}

#[test]
fn ports_have_many_spellings() {
    let ports = |line: &str| {
        let ports = service(&format!("command: ./api\n{line}")).ports;
        ports.iter().map(Port::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ports("port: 8080"), "tcp-8080:8080");
    assert_eq!(ports("port: '80'"), "http:80");
    assert_eq!(ports("ports: 53/udp"), "udp-53:53/udp");
    assert_eq!(ports("ports: [http:8080, 443]"), "http:8080 https:443");
    assert_eq!(ports("port: {number: 8080}"), "tcp-8080:8080");
    assert_eq!(
        ports("ports:\n- {name: dns, number: 53, protocol: udp}\n- name: dns-tcp\n  number: 53"),
        "dns:53/udp dns-tcp:53"
    );
    assert_eq!(ports("ports: ['${COUNT}000', 'a:${COUNT}']"), "tcp-4000:4000 a:4");
}

#[test]
fn environment_comes_from_many_places() {
    let env = |lines: &str| {
        let env = service(&format!("command: ./api\n{lines}")).env;
        env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env("env: {A: 1.10, B: yes, C: '', D: 0x10}"), "A=1.10 B=yes C= D=0x10");
    assert_eq!(env("env: [A=1, B=x=y, C=]"), "A=1 B=x=y C=");
    assert_eq!(env("env: {HOME: , NOWHERE: }"), "HOME=/home/ada");
    assert_eq!(env("env: [HOME, NOWHERE]"), "HOME=/home/ada");
    assert_eq!(env("env: {A: '$HOME/${B:-b} $$5'}"), "A=/home/ada/b $5");
    assert_eq!(env("env_file: api.env"), "LOG_LEVEL=trace TOKEN=a$b");
    assert_eq!(
        env("env_file: [./api.env, /etc/more.env]\nenv: {LOG_LEVEL: x}"),
        "LOG_LEVEL=x MORE=1 TOKEN=c d"
    );
}

#[test]
fn health_has_many_spellings() {
    let check = |line: &str| with(line).health.check;
    let http = |port, path: &str| Check::Http { port, path: path.to_owned() };
    assert_eq!(check("health: none"), Check::None);
    assert_eq!(check("health: tcp"), Check::Tcp { port: 8080 });
    assert_eq!(check("health: {tcp: true}"), Check::Tcp { port: 8080 });
    assert_eq!(check("health: {tcp: 9090}"), Check::Tcp { port: 9090 });
    assert_eq!(check("health: {tcp: grpc}"), Check::Tcp { port: 9090 });
    assert_eq!(check("health: {http: /x}"), http(8080, "/x"));
    assert_eq!(check("health: {http: {port: grpc}}"), http(9090, "/"));
    assert_eq!(check("health: {http: {path: /x}}"), http(8080, "/x"));
    assert_eq!(
        check("health: {exec: pg_isready}"),
        Check::Exec { command: Command::Shell("pg_isready".to_owned()) }
    );
    assert_eq!(
        check("health: {exec: [test, -e, '$HOME']}"),
        Check::Exec {
            command: Command::Argv(["test", "-e", "/home/ada"].map(String::from).to_vec())
        }
    );
}

#[test]
fn policies_have_many_spellings() {
    assert_eq!(with("balance: round-robin").balance, Balance::RoundRobin);
    assert_eq!(with("balance: {policy: random}").balance, Balance::Random);
    assert_eq!(with("balance: source").balance, Balance::Source { timeout: seconds(600) });
    assert_eq!(with("limits: {cpu: 500m}").limits.cpu_millis, Some(500));
    assert_eq!(with("limits: {memory: 1048576}").limits.memory_bytes, Some(1 << 20));
    assert_eq!(with("stop: {signal: int}").stop.signal, "SIGINT");
    assert_eq!(with("stop: {signal: 3, grace: 0s}").stop.signal, "SIGQUIT");
    assert_eq!(with("replicas: ${COUNT}").replicas, 4);
    assert_eq!(with("user: 1000").user.as_deref(), Some("1000"));
    assert_eq!(with("labels: [a=b, c]").labels["c"], "");
    assert_eq!(with("working_dir: ./a/../b").working_dir, Path::new("/srv/My Shop/a/../b"));
    assert_eq!(with("working_dir: $HOME").working_dir, Path::new("/home/ada"));
    assert_eq!(
        with("privileges: {keep_capabilities: net_admin}").privileges.keep_capabilities,
        ["CAP_NET_ADMIN"]
    );
}

#[test]
fn publish_names_a_port_by_name_or_number() {
    let publish = |line: &str| {
        let publish = with(&format!("publish: {line}")).publish;
        publish.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(publish("8000:http"), "127.0.0.1:8000:http");
    assert_eq!(publish("['0.0.0.0:80:9090', '[::1]:80:http']"), "0.0.0.0:80:grpc [::1]:80:http");
    assert_eq!(publish("['[::]:53:http', 54:8080]"), "[::]:53:http 127.0.0.1:54:http");
}

#[test]
fn aliases_and_merges_are_followed() {
    let text = "\
x-base: &base {restart: never, replicas: 2}
x-more: &more {replicas: 3, zone: a}
services:
  one: {<<: *base, command: ./one}
  two: {<<: [*base, *more], command: ./two, restart: on-failure}
  three: &three {command: ./three}
  four: *three
";
    let project = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    let get = |name: &str| &project.services[&ServiceName::new(name).unwrap()];
    assert_eq!((get("one").restart, get("one").replicas), (Restart::Never, 2));
    assert_eq!((get("two").restart, get("two").replicas), (Restart::OnFailure, 2));
    assert_eq!(get("two").zone.as_deref(), Some("a"));
    assert_eq!(get("three"), get("four"));
}

#[test]
fn ten_thousand_services_fit() {
    let one = |n| {
        format!(
            "  s{n}:\n    command: ./serve --shard {n}\n    port: http:8080\n    replicas: 10\n    publish: {}:http\n",
            n + 1
        )
    };
    let text = format!("services:\n{}", (0..10_000).map(one).collect::<String>());
    assert_eq!(read(&text).unwrap().services.len(), 10_000);
}

/// Whatever it is, it is read or refused; errors can be shown.
fn survives(text: &str) {
    if let Err(errors) = read(text) {
        assert!(!errors.errors.is_empty());
        let shown = format!("{errors}{}", errors.render(text, true));
        let garbles = |c: char| c.is_control() && c != '\n' && c != '\u{1b}';
        assert!(!shown.contains(garbles), "{shown:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}", control in "[\\x00-\\x7f]{0,60}") {
        survives(&text);
        survives(&control);
    }

    #[test]
    fn no_yaml_makes_it_panic(text in "([a-z&*<!|>'\"$%@?-]|: |- |\n {0,6}|[\\[\\]{},#~]){0,80}") {
        survives(&text);
    }

    #[test]
    fn no_slip_in_a_good_file_makes_it_panic(
        at in any::<prop::sample::Index>(),
        length in 0_usize..30,
        put in "([a-z0-9]|: |\n|\t|[\\[\\]{}&*$'\"-])*",
    ) {
        let text = example();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        prop_assume!(text.is_char_boundary(start) && text.is_char_boundary(end));
        survives(&format!("{}{put}{}", &text[..start], &text[end..]));
    }

    #[test]
    fn no_value_makes_it_panic(line in 0_usize..50, value in "\\PC{0,20}") {
        let lines = example().lines().enumerate().map(|(number, text)| {
            match text.split_once(": ") {
                Some((key, _)) if number == line => format!("{key}: {value}\n"),
                _ => format!("{text}\n"),
            }
        });
        survives(&lines.collect::<String>());
    }
}

#[test]
fn broken_files_are_told_about() {
    let more =
        "services: {web: {command: [a], ports: ['53/udp'], env: {A: $HOME}, limits: {memory: 1G}}}";
    sinew_fuzz::each_text(
        &[example(), more, "services:\n  web: {command: x}\n"],
        |text| match read(text) {
            Ok(project) => {
                let text = serde_json::to_string(&project).unwrap();
                assert_eq!(serde_json::from_str::<Project>(&text).unwrap(), project);
            }
            Err(errors) => assert!(!errors.to_string().is_empty()),
        },
    );
}
