//! What the agent refuses: more than the kernel's maps hold, and calls from within.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use sinew_agent::Members;
use sinew_api::{Adopt, AdoptTarget, ClientError, ErrorCode, Event as Change, EventKind};
use sinew_datapath::{Totals, Usage, usage};
use sinew_model::Project;

use crate::{
    host::Host,
    scenes::{named, project},
};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_full_map_warns_and_then_refuses", a_full_map_warns_and_then_refuses),
    ("tables_that_callers_fill_are_told_of", tables_that_callers_fill_are_told_of),
    ("connections_that_ended_unseen_are_told_of", connections_that_ended_unseen_are_told_of),
    ("what_was_adopted_may_not_call", what_was_adopted_may_not_call),
    ("programs_that_somebody_took_away_are_missed", programs_that_somebody_took_away_are_missed),
];

fn programs_that_somebody_took_away_are_missed() {
    let host = Host::started();
    let client = host.client();
    let agent = || host.block_on(client.agent()).unwrap();
    host.fake.state().lacks = vec!["connect4"];
    host.eventually("they are put back", || host.fake.state().lacks.is_empty());
    assert_eq!(agent().warnings, [""; 0]);

    host.fake.state().mends_fail = true;
    host.fake.state().lacks = vec!["bind6"];
    let told = |warnings: &[String]| warnings.iter().any(|w| w.contains("members lacks bind6: "));
    host.eventually("it is told", || told(&agent().warnings));
    assert_eq!(agent().missing, ["bind6"]);

    host.fake.state().mends_fail = false;
    host.eventually("it is over", || agent().warnings.is_empty());
    assert_eq!(agent().missing, [""; 0]);
}

/// One service that runs nothing and publishes so many ports of the host.
fn publishing(ports: u16) -> Project {
    let mut project = project(0, "x");
    project.services.remove(&named("web"));
    let base = project.services.get_mut(&named("base")).unwrap();
    let publish = |port: u16| {
        let at = serde_json::json!({"host_ip": "127.0.0.1", "host_port": port, "port": "http"});
        serde_json::from_value(at).unwrap()
    };
    base.publish = (0..ports).map(|n| publish(1024 + n)).collect();
    project
}

fn a_full_map_warns_and_then_refuses() {
    let host = Host::started();
    let client = host.client();
    let warnings = || host.block_on(client.agent()).unwrap().warnings;
    let told = |ports: u32| format!("{ports} of at most 8192 published ports are in use");
    let nearly = (sinew_abi::capacity::PUBLISHED * 4).div_ceil(5);
    let nearly = u16::try_from(nearly).unwrap();

    host.block_on(client.apply(&publishing(nearly - 1))).unwrap();
    assert!(!warnings().iter().any(|w| w.contains("in use")), "{:?}", warnings());
    host.block_on(client.apply(&publishing(nearly))).unwrap();
    assert!(warnings().contains(&told(nearly.into())), "{:?}", warnings());
    host.block_on(client.apply(&publishing(8192))).unwrap();
    assert!(warnings().contains(&told(8192)), "{:?}", warnings());

    // One too many, and a service that would fit.
    let mut more = publishing(8193);
    let web = project(0, "x").services.remove(&named("web")).unwrap();
    more.services.insert(named("web"), web);
    let before = State::of(&host);
    let ClientError::Api(body) = host.block_on(client.apply(&more)).unwrap_err() else {
        panic!("the agent did not answer");
    };
    assert_eq!(body.code, ErrorCode::Exhausted);
    assert_eq!(
        body.message,
        "8193 published ports are more than the 8192 that the kernel maps hold"
    );
    assert!(body.remedy.is_some());
    assert_eq!(State::of(&host), before, "nothing of it was done");
}

fn tables_that_callers_fill_are_told_of() {
    let usage = |name, used| Usage { name, used, capacity: 1000 };
    let mut host = Host::new();
    let edges = |used| vec![usage(usage::EDGES, used), usage(usage::SOCKETS, 0)];
    host.fake.state().filling = edges(799);
    host.fake.state().totals = Some(Totals { edges_lost: 5, ..Totals::ZERO });
    host.start();
    let client = host.client();
    let warnings = || host.block_on(client.agent()).unwrap().warnings;
    assert_eq!(warnings(), [""; 0], "what was lost before is not news");

    host.fake.state().filling = edges(800);
    let told = |warnings: &[String]| {
        let is = |w: &String| w.starts_with("800 of at most 1000 edges are in use: further ones");
        warnings.iter().any(is)
    };
    assert!(told(&warnings()), "{:?}", warnings());
    let page = host.block_on(client.metrics()).unwrap();
    assert!(page.contains("sinew_datapath_capacity_used{of=\"edges\"} 800\n"), "{page}");
    assert!(page.contains("sinew_datapath_capacity{of=\"edges\"} 1000\n"), "{page}");

    // A loss is told at once, and so is how full it is.
    let warns = |change: &Change, of: &str| matches!(&change.kind, EventKind::Warning { message } if message.contains(of));
    let lose = |edges_lost| {
        host.fake.state().totals = Some(Totals { edges_lost, ..Totals::ZERO });
    };
    host.until(async |_| lose(6), |change| warns(change, "edges was full 1 times"));
    assert!(warnings().iter().any(|w| w.contains("edges was full 1 times")), "{:?}", warnings());
    host.fake.state().filling = vec![usage(usage::EDGES, 10), usage(usage::SOCKETS, 900)];
    host.until(async |_| lose(7), |change| warns(change, "900 of at most 1000 overflowed"));
}

fn connections_that_ended_unseen_are_told_of() {
    let mut host = Host::new();
    host.fake.state().ended_unseen = 3;
    host.start();
    let client = host.client();
    let told = || {
        let page = host.block_on(client.metrics()).unwrap();
        page.contains("sinew_datapath_connections_reclaimed_total 3\n")
    };
    host.eventually("they are counted", told);
}

/// What a refused change must leave as it is.
#[derive(Debug, PartialEq)]
struct State {
    written: String,
    services: usize,
    published: usize,
    cgroups: Vec<PathBuf>,
}

impl State {
    fn of(host: &Host) -> Self {
        let state = host.fake.state();
        Self {
            written: fs::read_to_string(host.paths.state.join("state.json")).unwrap(),
            services: state.wanted.services.len(),
            published: state.wanted.services.values().map(|s| s.published.len()).sum(),
            cgroups: host.cgroups(),
        }
    }
}

/// A cgroup of somebody else's, and what runs in it.
struct Outside {
    cgroup: PathBuf,
    child: Child,
}

impl Outside {
    fn new(host: &Host) -> Self {
        let mut cgroup = host.paths.cgroup.clone().into_os_string();
        cgroup.push("-outside");
        let cgroup = PathBuf::from(cgroup);
        fs::create_dir(&cgroup).unwrap();
        let child = command_in(&cgroup, Path::new("sleep")).arg("100000").spawn().unwrap();
        Self { cgroup, child }
    }

    /// What the agent answers to a program of root's in a cgroup below.
    fn calls(&self, host: &Host) -> String {
        let below = self.cgroup.join("below");
        fs::create_dir_all(&below).unwrap();
        let said = command_in(&below, &std::env::current_exe().unwrap())
            .arg("apply")
            .arg(host.paths.socket())
            .arg("0")
            .arg(serde_json::to_string(&project(0, "x")).unwrap())
            .output()
            .unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir(self.cgroup.join("below"));
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn command_in(cgroup: &Path, program: &Path) -> Command {
    let procs = cgroup.join("cgroup.procs");
    let mut command = Command::new(program);
    // SAFETY: writes a file between fork and exec; the path was made before.
    unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
    command
}

fn what_was_adopted_may_not_call() {
    let mut host = Host::started();
    let outside = Outside::new(&host);
    assert_eq!(outside.calls(&host), "applied\n", "nobody of the network yet");

    let port = serde_json::json!({"name": "db", "number": 5432, "protocol": "tcp"});
    let adopt = Adopt {
        target: AdoptTarget::Cgroup(outside.cgroup.clone()),
        service: named("db"),
        ports: vec![serde_json::from_value(port).unwrap()],
    };
    let client = host.client();
    host.block_on(client.adopt(&adopt)).unwrap();
    let refused = |said: &str| said.contains("a member of Sinew's network may not call its API");
    let said = outside.calls(&host);
    assert!(refused(&said), "{said}");

    // An agent that takes over knows it from the start.
    host.kill_agent();
    host.start();
    let said = outside.calls(&host);
    assert!(refused(&said), "{said}");
    host.kill_agent();
    host.members = Members::Call;
    host.start();
    assert_eq!(outside.calls(&host), "applied\n", "members may call now");
    host.kill_agent();
    host.members = Members::Refused;
    host.start();

    let client = host.client();
    host.block_on(client.release(&named("db"), 0)).unwrap();
    assert_eq!(outside.calls(&host), "applied\n", "let go");
}
