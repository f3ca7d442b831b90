use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    Balance, Command, Limits, PortName, Protocol,
    testing::{any_project, project_of, service},
};

/// The new service, made of the old one and the fields that a change lists: a field that differs
/// and is not listed shows.
fn patched(old: &Service, new: &Service, fields: &[FieldChange]) -> Service {
    let mut value = serde_json::to_value(old).unwrap();
    let new = serde_json::to_value(new).unwrap();
    for change in fields {
        let top = change.field.split('.').next().unwrap();
        value[top] = new[top].clone();
    }
    serde_json::from_value(value).unwrap()
}

fn applied(
    plan: &Plan,
    old: Option<&Project>,
    new: Option<&Project>,
) -> BTreeMap<ServiceName, Service> {
    let mut services = old.map(|project| project.services.clone()).unwrap_or_default();
    for Step { service, action } in &plan.steps {
        let wanted = || &new.unwrap().services[service];
        match action {
            Action::Create { replicas } => {
                assert_eq!(*replicas, wanted().replicas);
                assert_eq!(services.insert(service.clone(), wanted().clone()), None);
            }
            Action::Change { fields, .. } => {
                let service = services.get_mut(service).unwrap();
                *service = patched(service, wanted(), fields);
            }
            Action::Keep => assert!(services.contains_key(service)),
            Action::Remove { .. } => assert!(services.remove(service).is_some()),
        }
    }
    services
}

proptest! {
    #[test]
    fn the_same_project_is_kept(project in any_project()) {
        let plan = Plan::between(Some(&project), Some(&project));
        prop_assert!(plan.is_empty());
        prop_assert_eq!(plan.steps.len(), project.services.len());
    }

    #[test]
    fn a_plan_applied_to_the_old_gives_the_new(
        old in proptest::option::of(any_project()),
        new in proptest::option::of(any_project()),
    ) {
        let plan = Plan::between(old.as_ref(), new.as_ref());
        let wanted = new.as_ref().map(|project| project.services.clone()).unwrap_or_default();
        prop_assert_eq!(applied(&plan, old.as_ref(), new.as_ref()), wanted);
    }

    #[test]
    fn plans_survive_json(old in any_project(), new in any_project()) {
        let plan = Plan::between(Some(&old), Some(&new));
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn a_plan_never_garbles_the_terminal(old in any_project(), new in any_project()) {
        let text = Plan::between(Some(&old), Some(&new)).render(false);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{}", text);
    }
}

fn step(plan: &Plan, name: &str) -> Action {
    plan.steps.iter().find(|step| step.service.as_str() == name).unwrap().action.clone()
}

fn effect(change: impl FnOnce(&mut Service)) -> Effect {
    let mut new = service("./api");
    change(&mut new);
    let plan = Plan::between(
        Some(&project_of([("api", service("./api"))])),
        Some(&project_of([("api", new)])),
    );
    match step(&plan, "api") {
        Action::Change { effect, .. } => effect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_that_are_read_later_change_live() {
    let changes: [fn(&mut Service); 12] = [
        |s| s.health.timeout *= 2,
        |s| s.restart = crate::Restart::Never,
        |s| s.stop.grace *= 2,
        |s| s.depends_on.push(ServiceName::new("db").unwrap()),
        |s| s.balance = Balance::Random,
        |s| s.outlier.max *= 2,
        |s| s.zone = Some("a".into()),
        |s| drop(s.labels.insert("a".into(), "b".into())),
        |s| drop(s.placement.labels.insert("disk".into(), "ssd".into())),
        |s| s.limits = Limits { pids: Some(9), ..s.limits },
        |s| {
            let host_ip = [127, 0, 0, 1].into();
            let port = PortName::new("http").unwrap();
            s.publish = vec![crate::Publish { host_ip, host_port: 80, port }];
        },
        |s| s.limits.memory_bytes = Some(1 << 30),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(effect(change), Effect::LiveOnly, "{index}");
    }
}

#[test]
fn what_a_process_is_started_with_takes_a_restart() {
    let changes: [fn(&mut Service); 7] = [
        |s| s.command = Command::Argv(vec!["./api".into()]),
        |s| drop(s.env.insert("A".into(), "1".into())),
        |s| s.working_dir = "/".into(),
        |s| s.user = Some("www-data".into()),
        |s| s.group = Some("www-data".into()),
        |s| s.privileges.no_new_privileges = false,
        |s| s.ports.push("http:80".parse().unwrap()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert_eq!(effect(change), Effect::RollingRestart, "{index}");
    }
    let scaled_too = |s: &mut Service| {
        s.replicas = 2;
        s.zone = None;
        s.user = Some("nobody".into());
    };
    assert_eq!(effect(scaled_too), Effect::RollingRestart);
}

#[test]
fn a_number_of_instances_scales() {
    let scaled = |s: &mut Service| {
        s.replicas = 3;
        s.zone = Some("a".into());
    };
    assert_eq!(effect(scaled), Effect::Scale { from: 1, to: 3 });
}

fn needs(command: &str, names: &[&str]) -> Service {
    let depends_on = names.iter().map(|name| ServiceName::new(*name).unwrap()).collect();
    Service { depends_on, ..service(command) }
}

#[test]
fn dependencies_start_first_and_stop_last() {
    let old = project_of([
        ("db", service("db")),
        ("api", needs("api", &["db"])),
        ("web", needs("web", &["api"])),
    ]);
    let names = |plan: &Plan| {
        plan.steps.iter().map(|step| step.service.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&Plan::between(None, Some(&old))), "db api web");
    assert_eq!(names(&Plan::between(Some(&old), None)), "web api db");
    let new = project_of([("app", needs("app", &["store"])), ("store", service("store"))]);
    assert_eq!(names(&Plan::between(Some(&old), Some(&new))), "store app web api db");
    assert_eq!(Plan::between(None, None).to_string(), "nothing to do");
}

fn everything() -> Plan {
    let old = project_of([
        ("api", Service { env: [("MODE".into(), "slow".into())].into(), ..service("./api") }),
        ("cron", service("cron")),
        ("db", service("postgres")),
        ("web", service("nginx")),
    ]);
    let mut api = needs("./api --fast", &["cache", "db"]);
    api.env.insert("LEVEL".into(), "a\u{1b}[31mb".into());
    api.ports.push(crate::Port {
        name: PortName::new("http").unwrap(),
        number: 8080,
        protocol: Protocol::Tcp,
    });
    let web = Service { replicas: 3, balance: Balance::RoundRobin, ..service("nginx") };
    let new = project_of([
        ("api", api),
        ("cache", Service { replicas: 2, ..service("redis-server") }),
        ("db", service("postgres")),
        ("web", web),
    ]);
    Plan::between(Some(&old), Some(&new))
}

#[test]
fn a_plan_reads_well() {
    assert_eq!(
        everything().to_string(),
        "\
project shop: 1 to create, 2 to change, 1 to remove, 1 unchanged
  + cache  start 2 instances
  = db
  ~ web    scale 1 -> 3, no restart
      replicas: 1 -> 3
      balance: least-load -> round-robin
  ~ api    rolling restart
      command: ./api -> ./api --fast
      env.LEVEL: (none) -> a\\u{1b}[31mb
      env.MODE: slow -> (none)
      ports: (none) -> http:8080
      depends_on: (none) -> cache, db
  - cron   stop 1 instance"
    );
}

#[test]
fn colours_change_no_word() {
    let plan = everything();
    let mut coloured = plan.render(true);
    assert!(coloured.contains("\u{1b}[32m  + cache"));
    for code in ["[0m", "[1m", "[2m", "[31m", "[32m", "[33m"] {
        coloured = coloured.replace(&format!("\u{1b}{code}"), "");
    }
    assert_eq!(coloured, plan.render(false));
}

#[test]
fn json_is_as_the_api_documents_it() {
    let old = project_of([("web", service("nginx"))]);
    let new = project_of([("web", Service { replicas: 3, ..service("nginx") })]);
    let plan = serde_json::to_value(Plan::between(Some(&old), Some(&new))).unwrap();
    let expected: Value = serde_json::json!({
        "project": "shop",
        "steps": [{
            "service": "web",
            "action": {
                "kind": "change",
                "fields": [{ "field": "replicas", "from": "1", "to": "3" }],
                "effect": { "kind": "scale", "from": 1, "to": 3 },
            },
        }],
    });
    assert_eq!(plan, expected);
}
