//! `--output json`: one document, or one a line, with the fields that programs read.

use serde_json::{Value, json};
use sinew_api::{LogLine, LogPosition, WorkloadState};
use sinew_model::ServiceName;

use crate::{
    Host,
    fake::World,
    lists::{project, workload},
    up,
};

async fn document(host: &Host, arguments: &[&str]) -> Value {
    let ended = host.run(&[arguments, &["--output", "json"]].concat()).await;
    assert_eq!((ended.status(), ended.stderr()), (0, ""), "{arguments:?}");
    serde_json::from_str(ended.stdout()).unwrap()
}

#[tokio::test]
async fn plan_tells_what_happens_to_each_service() {
    let host = up::host();
    let _agent = host.agent(World::default());
    let step = |service, replicas| json!({"service": service, "action": {"kind": "create", "replicas": replicas}});
    assert_eq!(
        document(&host, &["plan"]).await,
        json!({"project": "shop", "steps": [step("db", 1), step("web", 2)]})
    );
}

#[tokio::test]
async fn changes_show_the_instances_they_are_about() {
    let host = Host::new();
    let other = sinew_api::WorkloadStatus {
        service: Some(ServiceName::new("other").unwrap()),
        ..workload(0, WorkloadState::Up, None)
    };
    let workloads = vec![
        workload(0, WorkloadState::Up, None),
        workload(1, WorkloadState::Stopped, Some("drained by hand")),
        other,
    ];
    let _agent = host.agent(World { workloads, ..World::default() });
    for change in [
        &["scale", "web=3", "--no-wait"][..],
        &["drain", "web/1"],
        &["drain", "web/0", "--no-wait"],
        &["restart", "web", "--no-wait"],
    ] {
        let shown = document(&host, change).await;
        let shown: Vec<_> = shown.as_array().unwrap().iter().collect();
        assert_eq!(shown.len(), 2, "{change:?}: {shown:?}");
        let fields = |shown: &Value| {
            ["service", "replica", "state", "pid", "address", "restarts", "reason", "command"]
                .map(|field| shown[field].clone())
        };
        let expected = json!([
            ["web", 0, "up", 4711, "127.80.0.1", 0, null, "nginx"],
            ["web", 1, "stopped", null, "127.80.0.1", 0, "drained by hand", "nginx"],
        ]);
        assert_eq!(json!([fields(shown[0]), fields(shown[1])]), expected, "{change:?}");
    }
}

#[tokio::test]
async fn down_names_the_projects() {
    let host = Host::new();
    let mut agent = host.agent(World { projects: vec![project("shop")], ..World::default() });
    let down = host.follow(&["down", "--output", "json"]);
    agent.asked("DELETE /v1/projects/shop").await;
    agent.workload("web", 0, WorkloadState::Draining, None);
    agent.project("shop", "removed");
    let super::Following { child, mut stdout } = down;
    let mut text = String::new();
    while let Some(line) = stdout.next_line().await.unwrap() {
        text += &line;
    }
    assert!(child.wait_with_output().await.unwrap().status.success());
    let printed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed, json!({"projects": ["shop"]}));
    assert_eq!(document(&host, &["down"]).await, json!({"projects": []}));
}

#[tokio::test]
async fn logs_are_a_document_a_line() {
    let host = Host::new();
    let name = || ServiceName::new("db").unwrap();
    let positions = vec![LogPosition { service: name(), replica: 0, offset: 12 }];
    let line =
        |text: &str, offset| LogLine { service: name(), replica: 0, text: text.into(), offset };
    let kept = vec![line("one", 4), line("\"two\"", 12)];
    let _agent = host.agent(World { positions, kept, ..World::default() });
    let ended = host.run(&["logs", "--output", "json"]).await;
    let printed: Vec<Value> =
        ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let log = |text, offset| json!({"type": "log", "service": "db", "replica": 0, "text": text, "offset": offset});
    assert_eq!(printed, [log("one", 4), log("\"two\"", 12)]);
}

#[tokio::test]
async fn completions_are_taken_by_the_shell() {
    let host = Host::new();
    let ended = host.run(&["completions", "bash"]).await;
    assert_eq!((ended.status(), ended.stderr()), (0, ""));
    std::fs::write(host.path().join("completions"), ended.stdout()).unwrap();
    let bash = |arguments: &[&str]| {
        let output = std::process::Command::new("bash")
            .args(arguments)
            .current_dir(host.path())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    bash(&["-n", "completions"]);
    // What it would offer behind `sinew re`.
    let complete = ". ./completions; COMP_WORDS=(sinew re); COMP_CWORD=1; _sinew sinew re sinew; \
                    echo ${COMPREPLY[@]}";
    assert_eq!(bash(&["-c", complete]), "release restart resume return\n");
}
