//! `ps`, `services`, `scale`, `drain`, `restart`, `down`, and errors of all of them.

use std::net::Ipv4Addr;

use sinew_api::{ProjectStatus, WorkloadState, WorkloadStatus};
use sinew_model::{ProjectName, ServiceName};

use crate::{Host, fake::World};

pub(crate) fn workload(replica: u32, state: WorkloadState, reason: Option<&str>) -> WorkloadStatus {
    WorkloadStatus {
        service: Some(ServiceName::new("web").unwrap()),
        replica,
        state,
        pid: (state == WorkloadState::Up).then_some(4711),
        address: Ipv4Addr::new(127, 80, 0, 1),
        started_at_ms: None,
        restarts: 0,
        reason: reason.map(str::to_owned),
        command: "nginx".to_owned(),
        adopted: None,
    }
}

pub(crate) fn project(name: &str) -> ProjectStatus {
    let name = ProjectName::new(name).unwrap();
    ProjectStatus { name, generation: 1, services: Vec::new(), ready: true }
}

#[tokio::test]
async fn ps_prints_a_table_or_json() {
    let host = Host::new();
    let workloads = vec![
        workload(1, WorkloadState::BackingOff, Some("exited with 1")),
        workload(0, WorkloadState::Up, None),
    ];
    let _agent = host.agent(World { workloads: workloads.clone(), ..World::default() });
    let ended = host.run(&["ps"]).await;
    assert_eq!(
        ended.stdout(),
        "\
WORKLOAD  STATE         PID  ADDRESS     STARTED  RESTARTS  COMMAND
web/0     up           4711  127.80.0.1  -               0  nginx
web/1     backing off     -  127.80.0.1  -               0  nginx (exited with 1)
"
    );
    let ended = host.run(&["ps", "--output", "json"]).await;
    let printed: Vec<WorkloadStatus> = serde_json::from_str(ended.stdout()).unwrap();
    assert_eq!(printed, [workloads[1].clone(), workloads[0].clone()]);
}

#[tokio::test]
async fn scale_asks_for_each_service() {
    let host = Host::new();
    let mut agent = host.agent(World::default());
    let ended = host.run(&["scale", "--no-wait", "web=3", "api=1"]).await;
    assert_eq!(ended.stdout(), "web: 3 instances wanted\napi: 1 instance wanted\n");
    let (_, body) = agent.asked("PATCH /v1/services/web").await;
    assert_eq!(body, "{\"replicas\":3}");
    agent.asked("PATCH /v1/services/api").await;
}

#[tokio::test]
async fn scale_tells_how_it_goes_until_it_is_done() {
    let host = Host::new();
    let workloads = vec![workload(0, WorkloadState::Up, None)];
    let mut agent = host.agent(World { workloads, ..World::default() });
    let mut scale = host.follow(&["scale", "web=2"]);
    agent.asked("GET /v1/workloads").await;
    agent.now(|world| world.workloads.push(workload(1, WorkloadState::Starting, None)));
    agent.workload("web", 1, WorkloadState::Starting, None);
    scale.says(&["sinew | web/1 starting"]).await;
    agent.asked("GET /v1/workloads").await;
    agent.now(|world| world.workloads[1].state = WorkloadState::Up);
    agent.workload("web", 1, WorkloadState::Up, None);
    scale.says(&["sinew | web/1 up", "web: 2 instances up"]).await;
    assert_eq!(scale.ends().await.status(), 0);
}

#[tokio::test]
async fn a_change_shows_what_a_crashing_instance_wrote() {
    let host = Host::new();
    let line = |replica, text: &str| sinew_api::LogLine {
        service: ServiceName::new("web").unwrap(),
        replica,
        text: text.to_owned(),
        offset: 0,
    };
    let kept = vec![line(0, "of another"), line(1, "no space left")];
    let workloads = vec![workload(0, WorkloadState::Up, None)];
    let mut agent = host.agent(World { workloads, kept, ..World::default() });
    let mut scale = host.follow(&["scale", "web=2"]);
    agent.asked("GET /v1/workloads").await;
    agent.workload("web", 1, WorkloadState::BackingOff, Some("exited with 1"));
    scale.says(&["sinew | web/1 backing off: exited with 1", "web/1 | no space left"]).await;
    scale.interrupt();
    scale.ends().await;
}

#[tokio::test]
async fn a_restart_that_sticks_is_told_by_name() {
    let host = Host::new();
    let workloads = vec![workload(0, WorkloadState::Up, None)];
    let _agent = host.agent(World { workloads, ..World::default() });
    let ended = host.run(&["restart", "web", "--timeout", "0.2"]).await;
    assert_eq!(
        ended.stderr(),
        "error: not done after 0.2 s: web/0 up\nhelp: it goes on: see `sinew ps` and `sinew logs`, \
         or wait longer with --timeout\n"
    );
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn a_change_outlives_the_agent_and_the_command_says_so() {
    let host = Host::new();
    let workloads = vec![workload(0, WorkloadState::Up, None)];
    let mut agent = host.agent(World { workloads, ..World::default() });
    let drain = host.follow(&["drain", "web/0"]);
    agent.asked("POST /v1/workloads/web/0/drain").await;
    agent.asked("GET /v1/workloads").await;
    agent.kill().await;
    let ended = drain.ends().await;
    assert!(ended.stderr().contains("it goes on when the agent is back"), "{}", ended.stderr());
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn drain_and_restart_name_what_they_mean() {
    let host = Host::new();
    let mut agent = host.agent(World::default());
    let ended = host.run(&["drain", "web/2", "--no-wait"]).await;
    assert_eq!(ended.stdout(), "web/2 takes no new connections\n");
    agent.asked("POST /v1/workloads/web/2/drain").await;
    let ended = host.run(&["restart", "web", "--no-wait"]).await;
    assert_eq!(ended.stdout(), "web restarts, one instance at a time\n");
    agent.asked("POST /v1/services/web/restart").await;
}

#[tokio::test]
async fn a_refusal_is_told_with_its_remedy() {
    let host = Host::new();
    let _agent = host.agent(World::default());
    let ended = host.run(&["scale", "nobody=1"]).await;
    assert_eq!(ended.stderr(), "error: there is no service nobody\nhelp: see `sinew services`\n");
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn without_an_agent_the_remedy_is_to_start_one() {
    let host = Host::new();
    let ended = host.run(&["ps"]).await;
    assert!(ended.stderr().starts_with("error: no agent answers at "), "{}", ended.stderr());
    assert!(ended.stderr().contains("\nhelp: start a project with `sinew up`"));
    assert_eq!(ended.status(), 1);
}

#[tokio::test]
async fn wrong_usage_exits_with_2() {
    let host = Host::new();
    assert_eq!(host.run(&["scale", "web=many"]).await.status(), 2);
    assert_eq!(host.run(&["no-such-thing"]).await.status(), 2);
}

#[tokio::test]
async fn down_waits_until_the_project_is_gone() {
    let host = Host::new();
    let mut agent = host.agent(World { projects: vec![project("shop")], ..World::default() });
    let mut down = host.follow(&["down"]);
    agent.asked("DELETE /v1/projects/shop").await;
    agent.workload("web", 0, WorkloadState::Draining, None);
    agent.project("other", "removed");
    agent.project("shop", "removed");
    down.says(&["sinew | web/0 draining", "sinew | project shop is down", "all stopped"]).await;
    assert_eq!(down.ends().await.status(), 0);
}

#[tokio::test]
async fn down_asks_before_it_stops_several() {
    let host = Host::new();
    let projects = vec![project("shop"), project("blog")];
    let mut agent = host.agent(World { projects, ..World::default() });
    let ended = host.run(&["down"]).await;
    assert_eq!(ended.status(), 2);
    assert!(ended.stderr().contains("stop 2 projects (shop, blog)"), "{}", ended.stderr());
    assert!(!agent.was_asked("DELETE"));

    let down = host.follow(&["down", "--yes"]);
    agent.asked("DELETE /v1/projects/shop").await;
    agent.asked("DELETE /v1/projects/blog").await;
    agent.project("shop", "removed");
    agent.project("blog", "removed");
    assert_eq!(down.ends().await.status(), 0);
}

#[tokio::test]
async fn purge_asks_too() {
    let host = Host::new();
    let agent = host.agent(World::default());
    assert_eq!(host.run(&["down", "--purge"]).await.status(), 2);
    assert!(!agent.was_asked("POST /v1/shutdown"));
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_failure() {
    let host = Host::new();
    let workloads = (0..1000).map(|replica| workload(replica, WorkloadState::Up, None)).collect();
    let _agent = host.agent(World { workloads, ..World::default() });
    let mut ps = host.follow(&["ps"]);
    ps.line().await;
    let super::Following { child, stdout } = ps;
    drop(stdout);
    let ended = child.wait_with_output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stderr, b"");
}
