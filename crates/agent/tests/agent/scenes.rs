//! What a user does, and what must come of it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use sinew_agent::{Error, LockError, serve};
use sinew_api::{Attached, ErrorCode, LogQuery, Shutdown, WorkloadState};
use sinew_model::{Project, ServiceName};

use crate::host::{GROUP, Host, is_project, is_state};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_projects_life", a_projects_life),
    ("a_crash_is_noticed_and_mended", a_crash_is_noticed_and_mended),
    ("a_changed_file_is_applied_as_a_difference", a_changed_file_is_applied_as_a_difference),
    ("what_needs_no_new_process_gets_none", what_needs_no_new_process_gets_none),
    ("an_agent_may_die_at_any_time", an_agent_may_die_at_any_time),
    ("an_agent_dies_amid_changes", an_agent_dies_amid_changes),
    ("a_lost_directory_is_no_second_instance", a_lost_directory_is_no_second_instance),
    ("a_host_boots_again", a_host_boots_again),
    ("a_corrupt_state_is_rebuilt", a_corrupt_state_is_rebuilt),
    ("processes_join_and_leave", processes_join_and_leave),
    ("there_is_one_agent", there_is_one_agent),
    ("strangers_are_refused", strangers_are_refused),
    ("a_policy_is_read_when_it_changes", a_policy_is_read_when_it_changes),
    ("scrapers_get_metrics_and_nothing_else", scrapers_get_metrics_and_nothing_else),
    ("bad_requests_change_nothing", bad_requests_change_nothing),
    ("a_purge_leaves_nothing", a_purge_leaves_nothing),
];

/// `web` waits for `base`, which answers HTTP on its own address.
pub(crate) fn project(replicas: u16, marker: &str) -> Project {
    let server =
        "exec python3 -u -m http.server 8080 --bind $SINEW_ADDRESS --directory /proc/self/fdinfo";
    let text = serde_json::json!({
        "name": "shop",
        "services": {
            "base": service(
                &["/bin/sh", "-c", server], replicas,
                &serde_json::json!([{"name": "http", "number": 8080, "protocol": "tcp"}]),
                &serde_json::json!({"kind": "http", "port": 8080, "path": "/"}), &[],
            ),
            "web": service(
                &["/bin/sh", "-c", &format!("echo {marker} $SINEW_SERVICE $LOCALDOMAIN; exec sleep 100000")],
                1, &serde_json::json!([]), &serde_json::json!({"kind": "none"}), &["base"],
            ),
        }
    });
    serde_json::from_value(text).unwrap()
}

fn service(
    command: &[&str],
    replicas: u16,
    ports: &serde_json::Value,
    check: &serde_json::Value,
    depends_on: &[&str],
) -> serde_json::Value {
    serde_json::json!({
        "command": command, "replicas": replicas, "working_dir": "/", "ports": ports,
        "depends_on": depends_on,
        "health": {
            "check": check, "interval_ms": 200, "timeout_ms": 5000, "healthy_threshold": 1,
            "unhealthy_threshold": 3, "start_period_ms": 30000,
        },
        "restart": "always", "stop": {"signal": "SIGTERM", "grace_ms": 5000},
        "balance": sinew_model::Balance::default(), "outlier": sinew_model::Outlier::default(),
    })
}

pub(crate) fn named(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn a_projects_life() {
    let host = Host::started();
    host.apply(&project(2, "hello"));
    let client = host.client();
    let base = host.block_on(client.service(&named("base"))).unwrap();
    assert_eq!(base.endpoints.len(), 2);
    assert!(base.endpoints.iter().all(|e| e.state == WorkloadState::Up), "{base:#?}");
    assert_eq!(host.in_choice(), 2);
    assert!(host.block_on(client.projects()).unwrap()[0].ready);

    let lines = host.block_on(async {
        use futures_util::StreamExt as _;
        let query = LogQuery { services: vec![named("web")], ..LogQuery::default() };
        client.logs(&query).await.unwrap().map(|line| line.unwrap().text).collect::<Vec<_>>().await
    });
    assert_eq!(lines, ["hello web sinew.internal corp.example"]);

    host.until(
        async |client| client.scale(&named("base"), 3).await.unwrap(),
        |change| is_state(change, "base/2", WorkloadState::Up),
    );
    assert_eq!(host.in_choice(), 3);
    let kept = host.workload("base/0").pid;
    host.until(
        async |client| client.scale(&named("base"), 1).await.unwrap(),
        |change| is_state(change, "base/2", WorkloadState::Draining),
    );
    host.until(
        async |client| client.restart(&named("base")).await.unwrap(),
        |change| is_state(change, "base/0", WorkloadState::Up),
    );
    assert_ne!(host.workload("base/0").pid, kept, "a restart makes a new process");

    host.until(
        async |client| client.remove(&"shop".parse().unwrap()).await.unwrap(),
        |change| is_project(change, "removed"),
    );
    assert_eq!(host.workloads(), []);
    assert!(host.fake.state().wanted.instances.is_empty());
    assert!(host.fake.state().wanted.services.is_empty());
    assert!(host.fake.state().beats > 0, "the resolver shows that it lives");
    let left = host.cgroups();
    assert!(left.iter().all(|cgroup| cgroup.ends_with("svc-base") || cgroup.ends_with("svc-web")));
    assert_eq!(fs::read_dir(host.paths.run.join("workloads")).unwrap().count(), 0);
    let shims = fs::read_dir(host.paths.cgroup.join("shims")).unwrap().flatten();
    assert_eq!(shims.filter(|entry| entry.path().is_dir()).count(), 0);
}

fn a_crash_is_noticed_and_mended() {
    let host = Host::started();
    host.apply(&project(1, "x"));
    let before = host.workload("base/0");
    host.until(
        async |_| kill(before.pid.unwrap()),
        |change| is_state(change, "base/0", WorkloadState::BackingOff),
    );
    host.until(async |_| {}, |change| is_state(change, "base/0", WorkloadState::Up));
    let after = host.workload("base/0");
    assert_eq!((after.restarts, after.address), (1, before.address));
    assert_ne!(after.pid, before.pid);
    assert_eq!(host.in_choice(), 1);
}

fn a_changed_file_is_applied_as_a_difference() {
    let host = Host::started();
    host.apply(&project(1, "one"));
    let (base, web) = (host.workload("base/0").pid, host.workload("web/0").pid);
    host.apply(&project(2, "two"));
    assert_eq!(host.workload("base/0").pid, base, "an untouched instance goes on");
    assert_ne!(host.workload("web/0").pid, web);
    let client = host.client();
    let plan = host.block_on(client.plan(&project(1, "three"))).unwrap();
    assert!(!plan.is_empty());
    assert_eq!(host.workload("base/1").state, WorkloadState::Up, "a plan changes nothing");
}

fn an_agent_may_die_at_any_time() {
    let mut host = Host::started();
    host.apply(&project(2, "x"));
    let before = host.workloads();
    let numbers = host.fake.state().wanted.clone();
    host.kill_agent();
    // Who listens is asked of the kernel.
    host.fake.state().listeners = before
        .iter()
        .filter(|w| w.service.as_ref().is_some_and(|s| s.as_str() == "base"))
        .map(|w| sinew_datapath::Listener {
            address: w.address.into(),
            port: 8080,
            protocol: sinew_model::Protocol::Tcp,
            queue: 0,
            cgroup: 0,
            ipv6_only: false,
            multipath: false,
            inode: 0,
            cookie: 0,
        })
        .collect();
    host.start();
    assert_eq!(host.workloads(), before, "what runs is not touched");
    let now = host.fake.state().wanted.clone();
    assert_eq!(now.instances, numbers.instances);
    assert_eq!(now.services, numbers.services, "nothing left the choice");

    // While nobody looks, one dies.
    host.kill_agent();
    kill(before.iter().find(|w| w.replica == 1).unwrap().pid.unwrap());
    host.fake.state().listeners.clear();
    host.start();
    host.until(async |_| {}, |change| is_state(change, "base/1", WorkloadState::Up));
    assert_eq!(host.workload("base/1").restarts, 1);
}

fn what_needs_no_new_process_gets_none() {
    let host = Host::started();
    host.apply(&project(1, "x"));
    let before = host.workload("base/0").pid;
    let mut changed = project(1, "x");
    let base = changed.services.get_mut(&named("base")).unwrap();
    base.limits.pids = Some(50);
    base.stop.grace *= 2;
    base.restart = sinew_model::Restart::Never;
    base.health.healthy_threshold = 2;
    let client = host.client();
    host.block_on(client.apply(&changed)).unwrap();
    // What is written about it says so once its supervisor knows.
    let record = host.paths.run.join("workloads/base.0/instance.json");
    host.eventually("the supervisor is told", || {
        fs::read_to_string(&record).unwrap().contains(r#""restart":"never""#)
    });
    host.until(
        async |_| kill(before.unwrap()),
        |change| is_state(change, "base/0", WorkloadState::Exited),
    );
    assert_eq!(host.workload("base/0").restarts, 0, "the new policy holds for the old process");

    let mut wrong = project(1, "x");
    wrong.services.get_mut(&named("base")).unwrap().limits.cpu_millis = Some(u32::MAX);
    let error = host.block_on(client.apply(&wrong)).unwrap_err();
    assert!(error.to_string().contains("services.base.limits"), "{error}");
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn an_agent_dies_amid_changes() {
    for seed in 1..=4u64 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut host = Host::started();
        host.apply(&project(1, "x"));
        for _ in 0..4 {
            let client = host.client();
            match dice.roll(4) {
                0 => drop(host.block_on(client.scale(&named("base"), 1 + dice.roll(3) as u16))),
                1 => drop(host.block_on(client.restart(&named("base")))),
                2 => drop(host.block_on(client.drain(&named("base"), 0))),
                _ => drop(host.block_on(client.apply(&project(2, &format!("v{}", dice.roll(9)))))),
            }
            // Somewhere within what that set going.
            std::thread::sleep(std::time::Duration::from_millis(dice.roll(250)));
            host.kill_agent();
            host.start();
        }
        let shop = host.block_on(host.client().project(&"shop".parse().unwrap())).unwrap();
        let wanted = shop.services[&named("base")].replicas;
        host.block_on(host.client().restart(&named("base"))).unwrap();
        // Changes that were under way may be ready before it.
        host.eventually(&format!("seed {seed}: all of {wanted}"), || {
            let all = host.workloads();
            host.in_choice() == usize::from(wanted)
                && all.len() == usize::from(wanted) + 1
                && all.iter().all(|workload| workload.state == WorkloadState::Up)
        });
        for workload in host.workloads() {
            let service = workload.service.as_ref().unwrap();
            let cgroup =
                host.paths.cgroup.join(format!("members/svc-{service}/{}", workload.replica));
            let processes = sinew_workload::cgroup::processes(&cgroup).unwrap();
            let lines =
                processes.iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")));
            let lines: Vec<_> = lines.collect();
            assert_eq!(processes, [workload.pid.unwrap()], "seed {seed}: {lines:?}");
        }
    }
}

fn a_lost_directory_is_no_second_instance() {
    let mut host = Host::started();
    host.apply(&project(1, "x"));
    host.kill_agent();
    // Its supervisor lives on, and nobody can talk to it any more.
    fs::remove_dir_all(host.paths.run.join("workloads/base.0")).unwrap();
    host.start();
    host.until(async |_| {}, |change| is_state(change, "base/0", WorkloadState::Up));
    let cgroup = host.paths.cgroup.join("members/svc-base/0");
    let processes = sinew_workload::cgroup::processes(&cgroup).unwrap();
    assert_eq!(processes, [host.workload("base/0").pid.unwrap()]);
    let shims = sinew_workload::cgroup::processes(&host.paths.cgroup.join("shims")).unwrap();
    assert_eq!(shims.len(), 2, "one supervisor a workload");
}

fn a_host_boots_again() {
    let mut host = Host::started();
    host.apply(&project(2, "x"));
    let addresses = |host: &Host| -> Vec<_> {
        host.workloads().into_iter().map(|w| (w.service, w.replica, w.address)).collect()
    };
    let before = addresses(&host);
    host.kill_agent();
    // What a reboot takes away.
    sinew_workload::cgroup::remove_all(&host.paths.cgroup).unwrap();
    fs::remove_dir_all(&host.paths.run).unwrap();
    host.fake = sinew_datapath::Fake::default();
    host.start();
    host.until(async |_| {}, |change| is_state(change, "web/0", WorkloadState::Up));
    assert_eq!(addresses(&host), before);
}

fn a_corrupt_state_is_rebuilt() {
    let mut host = Host::started();
    host.apply(&project(2, "x"));
    let before: Vec<_> = host.workloads().into_iter().map(|w| (w.pid, w.address)).collect();
    let project = host.block_on(host.client().project(&"shop".parse().unwrap())).unwrap();
    host.kill_agent();
    let state = host.paths.state.join("state.json");
    let mut text = fs::read(&state).unwrap();
    let middle = text.len() / 2;
    text[middle] ^= 0xff;
    fs::write(&state, text).unwrap();
    host.start();
    let after: Vec<_> = host.workloads().into_iter().map(|w| (w.pid, w.address)).collect();
    assert_eq!(before, after);
    let client = host.client();
    let rebuilt = host.block_on(client.project(&"shop".parse().unwrap())).unwrap();
    assert_eq!(rebuilt, project);
    let agent = host.block_on(client.agent()).unwrap();
    assert!(agent.warnings.iter().any(|w| w.contains("rebuilt")), "{:?}", agent.warnings);
    let aside = fs::read_dir(&host.paths.state).unwrap().flatten();
    assert!(aside.map(|e| e.file_name().into_string().unwrap()).any(|n| n.contains("corrupt-")));
}

/// A process that joined, with what it was told.
struct Member {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Member {
    fn join(host: &Host, service: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("member").arg(host.paths.socket()).args(service);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }
}

fn processes_join_and_leave() {
    let mut host = Host::started();
    host.apply(&project(1, "x"));
    let mut session = Member::join(&host, None);
    let attached: Attached = serde_json::from_str(&session.said()).unwrap();
    assert_eq!(attached.env["LOCALDOMAIN"], "sinew.internal corp.example");
    let own = fs::read_to_string(format!("/proc/{}/cgroup", session.child.id())).unwrap();
    assert!(own.contains("/members/exec-0"), "{own}");
    assert_eq!(host.workload("exec/0").state, WorkloadState::Up);
    assert_eq!(host.workload("exec/0").pid, Some(session.child.id()));

    let mut first = Member::join(&host, Some("tool"));
    let one: Attached = serde_json::from_str(&first.said()).unwrap();
    let mut second = Member::join(&host, Some("tool"));
    let two: Attached = serde_json::from_str(&second.said()).unwrap();
    assert_eq!((one.replica, two.replica), (0, 1));
    assert_ne!(one.address, two.address);
    let tool = host.block_on(host.client().service(&named("tool"))).unwrap();
    assert_eq!((tool.replicas, tool.project), (2, None));

    let refused = Member::join(&host, Some("base")).said();
    assert!(refused.contains("taken by the project shop"), "{refused}");

    // Members outlive the agent as well.
    host.kill_agent();
    host.start();
    assert_eq!(host.workload("exec/0").pid, Some(session.child.id()));

    drop(second.child.stdin.take());
    second.child.wait().unwrap();
    host.until(
        async |_| {
            session.child.kill().unwrap();
            session.child.wait().unwrap();
            first.child.kill().unwrap();
            first.child.wait().unwrap();
        },
        |change| is_state(change, "tool/0", WorkloadState::Draining),
    );
    // A session has no events of its own; both go the same way.
    while host.workloads().iter().any(|w| w.service.is_none() || w.service == Some(named("tool"))) {
        std::thread::yield_now();
    }
    assert!(!host.cgroups().iter().any(|cgroup| cgroup.ends_with("exec-0")));
}

fn there_is_one_agent() {
    let host = Host::started();
    let (_sender, events) = tokio::sync::mpsc::unbounded_channel();
    let error = host.block_on(serve(host.options(events))).unwrap_err();
    let Error::Lock(LockError::Held { pid, .. }) = &error else { panic!("{error}") };
    assert_eq!(*pid, std::process::id().to_string());
    assert_eq!(host.workloads(), [], "the first one still answers");
}

fn strangers_are_refused() {
    let host = Host::started();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert!(matches!(mode(&host.paths.socket()), 0o600 | 0o660));
    assert_eq!(mode(&host.paths.run), 0o750);
    // Even one who gets as far as the socket.
    let said = apply_as(&host, "65534", &project(1, "x"), &[]);
    assert!(said.contains("user 65534 is neither root nor in the group sinew"), "{said}");
    assert_eq!(host.workloads(), []);
}

/// Lets another user as far as the socket, and applies as that one, in these groups.
fn apply_as(host: &Host, uid: &str, project: &Project, groups: &[&str]) -> String {
    for directory in [host.paths.run.parent().unwrap(), &host.paths.run] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(host.paths.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    // The program has to be where anybody may run it.
    let program = host.file("caller");
    if !program.exists() {
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    }
    let said = Command::new(&program)
        .arg("apply")
        .arg(host.paths.socket())
        .arg(uid)
        .arg(serde_json::to_string(project).unwrap())
        .args(groups)
        .output()
        .unwrap();
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn a_policy_is_read_when_it_changes() {
    let host = Host::started();
    let mut project = project(0, "x");
    for service in project.services.values_mut() {
        service.user = Some("65534".to_owned());
        service.replicas = 0;
    }
    let apply = || apply_as(&host, "4711", &project, &[GROUP]);
    let policy = |text: &str| fs::write(host.file("policy.yaml"), text).unwrap();
    let warnings = || {
        let all = {
            let client = host.client();
            host.block_on(client.agent()).unwrap().warnings
        };
        all.into_iter().filter(|warning| warning.contains("policy")).collect::<Vec<_>>()
    };
    assert!(apply().contains("only root may run as 65534"), "{}", apply());
    assert_eq!(warnings(), Vec::<String>::new());
    policy("rules: [{user: 4711, run_as: [65534]}]");
    assert_eq!(apply(), "applied\n");
    policy("rules: [{user: 4711, run_as: [1}]");
    assert_eq!(apply(), "applied\n", "a bad one leaves the former in force");
    assert!(warnings()[0].contains("policy.yaml:1:"), "{:?}", warnings());
    policy("rules: [{user: 4711, run_as: [1]}]");
    assert!(apply().contains("only root may run as 65534"), "{}", apply());
    assert_eq!(warnings(), Vec::<String>::new());
}

fn scrapers_get_metrics_and_nothing_else() {
    let host = Host::started();
    let agent = host.block_on(host.client().agent()).unwrap();
    let at = agent.metrics.expect("the agent tells where");
    let ask = |request: &str| {
        let mut stream = TcpStream::connect(at).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n").unwrap();
        io::read_to_string(stream).unwrap()
    };
    let answer = ask("GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("# TYPE sinew_"), "{answer}");
    for request in ["GET /v1/agent", "GET /v1/workloads", "POST /v1/shutdown", "POST /metrics"] {
        let answer = ask(request);
        assert!(
            answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 405"),
            "{answer}"
        );
    }
    assert!(host.block_on(host.client().agent()).is_ok());
}

fn bad_requests_change_nothing() {
    let host = Host::started();
    let client = host.client();
    let refused = |project: &Project| match host.block_on(client.apply(project)).unwrap_err() {
        sinew_api::ClientError::Api(body) => *body,
        other => panic!("{other}"),
    };
    let mut wrong = project(1, "x");
    wrong.services.get_mut(&named("base")).unwrap().user = Some("no-such-user".to_owned());
    let body = refused(&wrong);
    assert_eq!(body.code, ErrorCode::Invalid);
    assert_eq!(body.field.as_deref(), Some("services.base.user"));
    let mut wrong = project(1, "x");
    wrong.services.get_mut(&named("web")).unwrap().depends_on = vec![named("nobody")];
    let body = refused(&wrong);
    assert!(body.field.unwrap().starts_with("services.web.depends_on"));
    let error = host.block_on(client.scale(&named("nobody"), 1)).unwrap_err();
    assert!(error.to_string().contains("nobody"), "{error}");

    // A full disk.
    std::os::unix::fs::symlink("/dev/full", host.paths.state.join("state.json.new")).unwrap();
    let body = refused(&project(1, "x"));
    assert_eq!(body.code, ErrorCode::Exhausted);
    assert!(body.remedy.unwrap().contains("free some space"));
    assert_eq!(host.workloads(), []);
    assert_eq!(host.block_on(client.projects()).unwrap(), []);
}

fn a_purge_leaves_nothing() {
    let mut host = Host::started();
    host.apply(&project(1, "x"));
    let mut session = Member::join(&host, None);
    session.said();
    let client = host.client();
    host.block_on(client.shutdown(Shutdown { stop_workloads: false, purge: true })).unwrap();
    host.wait_for_end();
    session.child.wait().unwrap();
    assert!(host.fake.state().detached);
    for path in [&host.paths.run, &host.paths.state, &host.paths.pins, &host.paths.cgroup] {
        assert!(!path.exists(), "{} is left", path.display());
    }
}
