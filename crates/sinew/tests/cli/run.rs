//! `run` and `exec` become the command.

use crate::{Host, fake::World};

#[tokio::test]
async fn exec_becomes_the_command() {
    let host = Host::new();
    let mut agent = host.agent(World::default());
    let ended = host.run(&["exec", "--", "sh", "-c", "echo $LOCALDOMAIN; exit 7"]).await;
    assert_eq!((ended.stdout(), ended.status()), ("sinew.internal\n", 7));
    let (_, body) = agent.asked("POST /v1/attachments").await;
    assert_eq!(body, r#"{"service":null,"ports":[],"command":"sh -c echo $LOCALDOMAIN; exit 7"}"#);
}

#[tokio::test]
async fn run_declares_its_ports() {
    let host = Host::new();
    let mut agent = host.agent(World::default());
    let ended = host.run(&["run", "-s", "dns", "-p", "53/udp:dns", "-p", "80", "--", "true"]).await;
    assert_eq!((ended.stdout(), ended.stderr(), ended.status()), ("", "", 0));
    let (_, body) = agent.asked("POST /v1/attachments").await;
    let attach: sinew_api::Attach = serde_json::from_str(&body).unwrap();
    assert_eq!(attach.service.unwrap().as_str(), "dns");
    let ports: Vec<String> = attach.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["dns:53/udp", "http:80"]);
}

#[tokio::test]
async fn the_command_has_no_more_rights_than_a_workload() {
    let host = Host::new();
    let _agent = host.agent(World::default());
    let status = "grep -E '^(NoNewPrivs|CapEff)' /proc/self/status";
    let ended = host.run(&["exec", "--", "sh", "-c", status]).await;
    assert!(ended.stdout().contains("NoNewPrivs:\t1"), "{}", ended.stdout());
    let capabilities = ended.stdout().lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let capabilities = u64::from_str_radix(capabilities.unwrap(), 16).unwrap();
    let (net_admin, sys_admin, bpf) = (12, 21, 39);
    assert_eq!(capabilities & (1 << net_admin | 1 << sys_admin | 1 << bpf), 0);

    let ended = host.run(&["exec", "--keep-privileges", "--", "sh", "-c", status]).await;
    assert!(ended.stdout().contains("NoNewPrivs:\t0"), "{}", ended.stdout());
}

#[tokio::test]
async fn the_dashes_may_be_left_out() {
    let host = Host::new();
    let _agent = host.agent(World::default());
    // What follows the command is its own.
    let ended = host.run(&["exec", "sh", "-c", "echo $0 $1", "--", "--output"]).await;
    assert_eq!((ended.stdout(), ended.status()), ("-- --output\n", 0));
    let ended = host.run(&["exec", "--no-such-option", "true"]).await;
    assert_eq!(ended.status(), 2);
}

#[tokio::test]
async fn failures_have_statuses_of_their_own() {
    let host = Host::new();
    let agent = host.agent(World::default());
    let ended = host.run(&["exec", "--", "no-such-command"]).await;
    assert_eq!(ended.status(), 127);
    assert!(ended.stderr().starts_with("error: cannot run \"no-such-command\""));
    assert_eq!(host.run(&["exec", "--", "/"]).await.status(), 126);
    agent.world.lock().unwrap().refuse_attachments = true;
    let ended = host.run(&["exec", "--", "true"]).await;
    assert_eq!(ended.status(), 125);
    assert!(ended.stderr().starts_with("error: somebody has that name\n"));
}

#[tokio::test]
async fn replicas_run_side_by_side() {
    let host = Host::new();
    let _agent = host.agent(World::default());
    let script = "echo out; echo err >&2; exit 3";
    let arguments = ["run", "-s", "web", "-p", "80", "--replicas", "2", "--", "sh", "-c", script];
    let ended = host.run(&arguments).await;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(ended.stdout()), ["web/0 | out", "web/1 | out"]);
    assert_eq!(sorted(ended.stderr()), ["web/0 | err", "web/1 | err"]);
    assert_eq!(ended.status(), 3);
}

#[tokio::test]
async fn replicas_get_the_signals() {
    let host = Host::new();
    let _agent = host.agent(World::default());
    let script = "trap 'echo bye; exit 0' INT; echo ready; while :; do sleep 0.01; done";
    let arguments = ["run", "-s", "web", "-p", "80", "--replicas", "2", "--", "sh", "-c", script];
    let mut run = host.follow(&arguments);
    run.line().await;
    run.line().await;
    run.interrupt();
    let mut byes = [run.line().await, run.line().await];
    byes.sort();
    assert_eq!(byes, ["web/0 | bye", "web/1 | bye"]);
    assert_eq!(run.ends().await.status(), 0);
}
