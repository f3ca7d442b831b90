//! `sinew control` as people run it: the program, its store, its socket, and agents that are wire
//! alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{
    net::Ipv4Addr,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sinew_control::testing::{self, Member, Talk};
use sinew_model::{
    Balance, Outlier, ServiceName,
    fleet::{Endpoint, EndpointStatus, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Report, ServiceReport};

/// A directory for all that a replica has.
struct Host {
    directory: tempfile::TempDir,
    /// Where it is told that the replica is ready.
    told: UnixDatagram,
    /// Where it listens: the port that it got at first.
    at: String,
}

/// A replica; killed when it is dropped.
struct Replica(Child);

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let told = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { directory, told, at: "127.0.0.1:0".to_owned() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn sinew(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("SINEW_RUN", self.path("run")).env_remove("SINEW_DATA");
        command
    }

    /// Starts a replica, and waits until it is ready.
    fn control(&mut self, arguments: &[&str]) -> Replica {
        let mut command = self.sinew();
        command.args(["control", "--name", "c1", "--listen", &self.at]).args(arguments);
        command.arg("--data").arg(self.path("data"));
        command.env("NOTIFY_SOCKET", self.path("notify")).stderr(Stdio::piped());
        let replica = Replica(command.spawn().unwrap());
        let mut word = [0; 32];
        let length = self.told.recv(&mut word).unwrap();
        assert_eq!(&word[..length], b"READY=1");
        let made = self.json(&["token", "create"]);
        self.at = made["addresses"][0].as_str().unwrap().to_owned();
        replica
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.sinew().args(arguments).output().unwrap()
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.said(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&said).unwrap()
    }

    fn token(&self, arguments: &[&str]) -> String {
        let made = self.json(&[&["token", "create"], arguments].concat());
        made["token"].as_str().unwrap().to_owned()
    }

    async fn member(&self, node: &str) -> Member {
        let at = self.at.parse().unwrap();
        testing::join(at, &self.token(&[]), &node.parse().unwrap()).await.unwrap()
    }

    async fn open(&self, member: &Member) -> Talk {
        let mut hello = member.hello("a".parse().unwrap());
        hello.address4 = Some(ADDRESS);
        member.open(self.at.parse().unwrap(), hello).await.unwrap().0
    }
}

/// The host's own, at which its endpoints are.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

/// One instance of `orders`, whose weight is the report's number.
fn report(sequence: u64, full: bool) -> FromAgent {
    let record = ServiceRecord {
        ports: Vec::new(),
        balance: Balance::default(),
        outlier: Outlier::default(),
    };
    let endpoint = Endpoint {
        address4: Some(ADDRESS),
        address6: None,
        ports: [].into(),
        zone: "a".parse().unwrap(),
        weight: sequence as u32,
        status: EndpointStatus::Up,
    };
    let service =
        ServiceReport { record: Some(record), endpoints: [(1, endpoint)].into(), gone: [].into() };
    FromAgent::Report(Report { sequence, full, services: [(orders(), service)].into() })
}

async fn reported(talk: &mut Talk, sequence: u64) -> Result<(), testing::Error> {
    talk.hear_until(|message| match message {
        FromControl::Reported(it) if it.sequence == sequence => Some(()),
        _ => None,
    })
    .await
}

async fn weight(talk: &mut Talk) -> u64 {
    talk.say(FromAgent::Subscribe(vec![orders()])).await.unwrap();
    let told = talk.hear_until(|message| match message {
        FromControl::Snapshot(it) => it.endpoints.values().next().map(|it| it.weight),
        FromControl::Delta(it) => it.put.values().next().map(|it| it.weight),
        _ => None,
    });
    told.await.unwrap().into()
}

#[tokio::test]
async fn a_host_joins_with_a_token_and_people_see_it() {
    let mut host = Host::new();
    let mut replica = host.control(&["--instances4", "10.99.0.0/16"]);
    let said = host.said(&["token", "create", "--zone", "a", "--ttl", "10m"]);
    let join = format!("sudo sinew agent --join {} --token sinew-join-v1.", host.at);
    assert!(said.contains(&join), "{said}");
    let member = host.member("web-1").await;
    let mut talk = host.open(&member).await;
    talk.say(report(1, true)).await.unwrap();
    reported(&mut talk, 1).await.unwrap();
    assert_eq!(weight(&mut talk).await, 1);

    let nodes = host.json(&["nodes"]);
    let node = &nodes[0];
    assert_eq!(node["name"], "web-1");
    assert_eq!(node["told"]["zone"], "a");
    assert_eq!(node["told"]["instances4"], "10.99.0.0/24");
    assert_eq!(node["session"]["epoch"], 1);
    assert_eq!(node["session"]["control_runs"], true);
    // It was told, and has not said that it applied it.
    assert_eq!(node["keeps_up"]["behind"]["orders"]["has"], Value::Null);
    let shown = host.said(&["nodes"]);
    assert!(shown.contains("web-1") && shown.contains("behind: orders nothing of"), "{shown}");
    let used = host.json(&["token", "list"]);
    let used: Vec<&Value> =
        used.as_array().unwrap().iter().filter(|it| it["good"] == false).collect();
    assert_eq!((used.len(), &used[0]["used"][0]["by"]), (1, &"node/web-1".into()));

    let export = host.path("export.jsonl");
    host.said(&["control", "export", export.to_str().unwrap()]);
    assert!(std::fs::read_to_string(&export).unwrap().contains("sinew/nodes/web-1"));

    host.said(&["nodes", "withdraw", "web-1"]);
    let goodbye = talk.hear_until(|message| match message {
        FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = goodbye.await.unwrap();
    assert!(reason.contains("withdrawn") || reason.contains("declared dead"), "{reason}");
    assert!(host.said(&["nodes"]).contains("withdrawn"));

    // It ends as asked, and takes its socket with it.
    let pid = Pid::from_child(&replica.0);
    kill_process(pid, Signal::TERM).unwrap();
    assert!(replica.0.wait().unwrap().success());
    let away = host.run(&["nodes"]);
    assert!(!away.status.success() && !host.path("run/control.sock").exists());
    let said = String::from_utf8_lossy(&away.stderr);
    assert!(said.contains("no replica of control answers at"), "{said}");
    moved(&host, &export);
}

/// What was exported is a store of its own.
fn moved(host: &Host, export: &Path) {
    let (export, data) = (export.to_str().unwrap(), host.path("moved"));
    let data = data.to_str().unwrap();
    host.said(&["control", "import", export, "--data", data]);
    let again = host.run(&["control", "import", export, "--data", data]);
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("the store is not empty"), "{said}");
    let exported = host.said(&["control", "export", "-", "--data", data]);
    assert!(exported.contains("sinew/ca/holders/node/web-1"), "{exported}");
}

#[test]
fn a_replica_that_cannot_start_says_why() {
    let mut host = Host::new();
    let _replica = host.control(&[]);
    let refused = |arguments: &[&str]| {
        let output = host.run(&[&["control", "--name", "c2"], arguments].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["--listen", "127.0.0.1:0"]);
    assert!(said.contains("another replica of control uses"), "{said}");
    let other = host.path("run2");
    let other = other.to_str().unwrap();
    let taken = host.path("data");
    let said =
        refused(&["--listen", "127.0.0.1:0", "--run", other, "--data", taken.to_str().unwrap()]);
    assert!(said.contains("is in use by another process: one store has one file"), "{said}");
    let data = host.path("data2");
    let data = ["--run", other, "--data", data.to_str().unwrap()];
    let said = refused(&[&data[..], &["--listen", &host.at]].concat());
    assert!(said.contains("cannot listen for agents at") && said.contains("--listen"), "{said}");
    let said = refused(&[&data[..], &["--instances4", "127.0.0.0/8"]].concat());
    assert!(said.contains("give one that nobody else uses"), "{said}");
    let said = refused(&[&data[..], &["--network", "other", "--listen", "127.0.0.1:0"]].concat());
    assert!(said.contains("give each network a store of its own"), "{said}");
}

/// What it said to be in the store is there, whenever it is killed.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_control_is_killed() {
    let mut host = Host::new();
    let mut replica = host.control(&[]);
    let member = host.member("web-1").await;
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut talk = host.open(&member).await;
        if round > 0 {
            assert!(weight(&mut talk).await >= acknowledged, "of {acknowledged}");
        }
        let pid = Pid::from_child(&replica.0);
        let victim = tokio::task::spawn_blocking(move || {
            std::thread::sleep(std::time::Duration::from_millis(150 + 70 * round));
            kill_process(pid, Signal::KILL).unwrap();
        });
        let mut sequence = acknowledged + 1;
        loop {
            let first = sequence == acknowledged + 1;
            if talk.say(report(sequence, first)).await.is_err()
                || reported(&mut talk, sequence).await.is_err()
            {
                break;
            }
            acknowledged = sequence;
            sequence += 1;
        }
        victim.await.unwrap();
        drop(replica);
        replica = host.control(&[]);
    }
    assert!(acknowledged > 10, "{acknowledged}");
    let mut talk = host.open(&member).await;
    assert!(weight(&mut talk).await >= acknowledged);
}
