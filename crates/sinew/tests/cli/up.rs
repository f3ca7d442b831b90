//! `up`: from the file to the end, through the end of agents.

use sinew_api::{EventKind, LogLine, LogPosition, WorkloadState};
use sinew_model::ServiceName;

use crate::{Host, fake::Fake, fake::World, lists::workload};

const FILE: &str = "\
name: shop
services:
  db:
    command: postgres
    port: 5432
  web:
    command: nginx
    port: 80
    replicas: 2
    depends_on: [db]
";

pub(crate) fn host() -> Host {
    let host = Host::new();
    std::fs::write(host.path().join("sinew.yaml"), FILE).unwrap();
    host
}

const PLAN: [&str; 3] = [
    "sinew | project shop: 2 to create",
    "sinew |   + db   start 1 instance",
    "sinew |   + web  start 2 instances",
];

#[tokio::test]
async fn up_shows_what_happens_and_stops_on_interrupt() {
    let host = host();
    let mut agent = host.agent(World::default());
    let mut up = host.follow(&["up"]);
    let (_, body) = agent.asked("PUT /v1/projects/shop").await;
    assert!(body.contains("\"depends_on\":[\"db\"]"), "{body}");
    up.says(&PLAN).await;
    agent.workload("web", 0, WorkloadState::Waiting, None);
    agent.workload("web", 1, WorkloadState::Waiting, None);
    agent.workload("db", 0, WorkloadState::Starting, None);
    agent.workload("db", 0, WorkloadState::Up, None);
    up.says(&["sinew | web waits for db", "sinew | db/0 starting", "sinew | db/0 up"]).await;
    agent.log("db", 0, "database is ready", 18);
    agent.log("another", 0, "not of this project", 20);
    agent.log("web", 1, "listening", 10);
    up.says(&["db/0  | database is ready", "web/1 | listening"]).await;
    agent.project("shop", "ready");
    up.says(&[
        "sinew | ready: db:5432, http://web/",
        "sinew | call it with `sinew exec -- curl http://web/`",
    ])
    .await;
    up.interrupt();
    agent.asked("DELETE /v1/projects/shop").await;
    up.says(&["sinew | stopping; Ctrl-C again leaves at once"]).await;
    agent.workload("web", 0, WorkloadState::Draining, None);
    agent.workload("web", 0, WorkloadState::Stopped, None);
    up.says(&["sinew | web/0 draining", "sinew | web/0 stopped"]).await;
    // Written before the end, but still on its way when that is told.
    let db = ServiceName::new("db").unwrap();
    agent.world.lock().unwrap().positions =
        vec![LogPosition { service: db, replica: 0, offset: 23 }];
    agent.asked("GET /v1/logs/positions").await;
    agent.project("shop", "removed");
    agent.asked("GET /v1/logs/positions").await;
    agent.log("db", 0, "bye", 23);
    up.says(&["db/0  | bye", "sinew | all stopped"]).await;
    assert_eq!(up.ends().await.status(), 0);
}

#[tokio::test]
async fn a_second_interrupt_leaves_and_says_what_runs() {
    let host = host();
    let mut agent = host.agent(World::default());
    let mut up = host.follow(&["up"]);
    agent.asked("PUT").await;
    up.says(&PLAN).await;
    agent.workload("db", 0, WorkloadState::Up, None);
    up.says(&["sinew | db/0 up"]).await;
    up.interrupt();
    agent.asked("DELETE").await;
    up.says(&["sinew | stopping; Ctrl-C again leaves at once"]).await;
    // The agent is gone, so what was seen last is told.
    drop(agent);
    up.says(&["sinew | the agent is gone; the services go on without it"]).await;
    up.interrupt();
    let ended = up.ends().await;
    assert_eq!(
        ended.stderr(),
        "error: project shop was not stopped to the end; still there: db/0\n\
         help: see `sinew ps`; stop them with `sinew down shop`\n"
    );
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn up_goes_on_behind_the_last_line_when_the_agent_is_back() {
    let host = host();
    let web = ServiceName::new("web").unwrap();
    let old = LogPosition { service: web, replica: 0, offset: 100 };
    let mut agent = host.agent(World { positions: vec![old], ..World::default() });
    let mut up = host.follow(&["up"]);
    // Lines of yesterday are not shown again.
    let (asked, _) = agent.asked("GET /v1/logs?").await;
    assert_eq!(asked, "GET /v1/logs?follow=true&from=web/0@100");
    agent.asked("PUT").await;
    up.says(&PLAN).await;
    agent.log("db", 0, "one", 4);
    agent.log("web", 0, "two", 104);
    up.says(&["db/0  | one", "web/0 | two"]).await;

    let world = agent.kill().await;
    up.says(&["sinew | the agent is gone; the services go on without it"]).await;
    let mut agent = Fake::start(host.socket(), world);
    up.says(&["sinew | the agent is back"]).await;
    let (asked, _) = agent.asked("GET /v1/logs?").await;
    assert_eq!(asked, "GET /v1/logs?follow=true&from=db/0@4,web/0@104");
    agent.log("db", 0, "three", 10);
    up.says(&["db/0  | three"]).await;
    // The agent knows the project: it is not applied over what `scale` may have changed.
    assert!(!agent.was_asked("PUT"));
    agent.project("shop", "removed");
    up.says(&["sinew | stopped by somebody else"]).await;
    assert_eq!(up.ends().await.status(), 0);
}

#[tokio::test]
async fn detached_up_leaves_when_all_are_up() {
    let host = host();
    let mut agent = host.agent(World::default());
    let mut up = host.follow(&["up", "-d"]);
    agent.asked("PUT").await;
    up.says(&PLAN).await;
    // Of the time before this change: the project is not ready when asked.
    agent.event("shop", EventKind::Project { change: "ready".to_owned() });
    agent.workload("db", 0, WorkloadState::Up, None);
    up.says(&["sinew | db/0 up"]).await;
    agent.project("shop", "ready");
    up.says(&["sinew | ready: db:5432, http://web/"]).await;
    assert_eq!(up.ends().await.status(), 0);
}

#[tokio::test]
async fn detached_up_names_what_stays_drained() {
    let host = host();
    let drained = workload(1, WorkloadState::Stopped, Some("drained by hand"));
    let mut agent = host.agent(World { workloads: vec![drained], ..World::default() });
    let mut up = host.follow(&["up", "-d"]);
    agent.asked("PUT").await;
    up.says(&PLAN).await;
    up.says(&["sinew | web/1 stopped: drained by hand"]).await;
    agent.project("shop", "ready");
    up.says(&[
        "sinew | ready: db:5432, http://web/",
        "sinew | call it with `sinew exec -- curl http://web/`",
        "sinew | web/1 stays drained until `sinew restart web`",
    ])
    .await;
    assert_eq!(up.ends().await.status(), 0);
}

#[tokio::test]
async fn detached_up_fails_with_reasons_when_it_takes_too_long() {
    let host = host();
    let wrote = |replica, text: &str| LogLine {
        service: ServiceName::new("db").unwrap(),
        replica,
        text: text.to_owned(),
        offset: 0,
    };
    let kept = vec![wrote(0, "no space left"), wrote(1, "of another")];
    let mut agent = host.agent(World { kept, ..World::default() });
    let mut up = host.follow(&["up", "-d", "--timeout", "1"]);
    agent.asked("PUT").await;
    agent.workload("db", 0, WorkloadState::BackingOff, Some("exited with 1"));
    up.says(&PLAN).await;
    up.says(&["sinew | db/0 backing off: exited with 1", "db/0  | no space left"]).await;
    // What it writes again and again is told once.
    agent.workload("db", 0, WorkloadState::Starting, None);
    agent.workload("db", 0, WorkloadState::BackingOff, Some("exited with 1"));
    agent.workload("db", 1, WorkloadState::Starting, None);
    up.says(&[
        "sinew | db/0 starting",
        "sinew | db/0 backing off: exited with 1",
        "sinew | db/1 starting",
    ])
    .await;
    let ended = up.ends().await;
    assert!(
        ended.stderr().starts_with(
            "  db/0 backing off: exited with 1\n    | no space left\n  web/0 was not started yet\n  \
             web/1 was not started yet\nerror: project shop is not up after 1 s\nhelp: "
        ),
        "{}",
        ended.stderr()
    );
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn up_speaks_json() {
    let host = host();
    let mut agent = host.agent(World::default());
    let mut up = host.follow(&["up", "--output", "json"]);
    agent.asked("PUT").await;
    agent.log("db", 0, "one", 4);
    agent.project("shop", "removed");
    let mut kinds = Vec::new();
    loop {
        let line = up.line().await;
        if line.is_empty() {
            break;
        }
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        kinds.push(value["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.first().map(String::as_str), Some("plan"));
    assert!(kinds.contains(&"event".to_owned()) && kinds.contains(&"message".to_owned()));
    assert_eq!(up.ends().await.status(), 0);
}

#[tokio::test]
async fn a_bad_file_is_told_by_line_and_column_before_anything_happens() {
    let host = host();
    let file = host.path().join("sinew.yaml");
    std::fs::write(&file, FILE.replace("replicas: 2", "replicas: two")).unwrap();
    let agent = host.agent(World::default());
    let ended = host.run(&["up"]).await;
    assert!(
        ended.stderr().starts_with("error: sinew.yaml:9:15: services.web.replicas: "),
        "{}",
        ended.stderr()
    );
    assert_eq!(ended.status(), 1);
    assert!(!agent.was_asked(""));
    let ended = host.run(&["up", "-f", "missing.yaml"]).await;
    assert!(ended.stderr().starts_with("error: cannot read missing.yaml: "));
}

#[tokio::test]
async fn an_agent_that_does_not_start_is_told_with_its_last_words() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root starts agents.
    }
    let host = host();
    let run = host.path().join("run");
    let mut command = host.command(&["up"]);
    // Of a file no directory can be made, so that the agent cannot start.
    std::fs::write(&run, "no directory").unwrap();
    command.env_remove("SINEW_SOCKET").env("SINEW_RUN", &run);
    let ended = crate::Ended(command.output().await.unwrap());
    assert!(ended.stderr().starts_with("  error: cannot use "), "{}", ended.stderr());
    assert!(ended.stderr().contains("\nerror: the agent did not start: "), "{}", ended.stderr());
    assert!(ended.stderr().contains("agent.log and `sinew doctor`"), "{}", ended.stderr());
    assert_eq!(ended.status(), 1);
}
