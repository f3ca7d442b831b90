//! One agent with everything around it, gone without a trace afterwards.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use sinew_agent::{AgentOptions, DatapathSource, Error, Members, Paths, serve};
use sinew_api::{Client, Event as Change, EventKind, WorkloadState, WorkloadStatus};
use sinew_datapath::{Event, Fake};
use sinew_model::{Project, Protocol};
use sinew_workload::cgroup;
use tokio::sync::mpsc;

/// Longer than anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The number of the group `sinew` here.
pub(crate) const GROUP: &str = "4713";

/// A network of its own, and groups of its own: one is `sinew`.
pub(crate) fn enter_own_machine() {
    // SAFETY: no other thread exists yet that could share what is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
    let there = fs::read_to_string("/etc/group").unwrap();
    let others: String = there
        .lines()
        .filter(|line| !line.starts_with("sinew:"))
        .map(|line| format!("{line}\n"))
        .collect();
    let groups = tempfile::NamedTempFile::new().unwrap();
    fs::write(groups.path(), format!("{others}sinew:x:{GROUP}:\n")).unwrap();
    fs::set_permissions(groups.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let groups = groups.path().to_str().unwrap();
    for command in [
        &["ip", "link", "set", "lo", "up"][..],
        &["mount", "--make-rprivate", "/"],
        &["mount", "--bind", groups, "/etc/group"],
    ] {
        assert!(Command::new(command[0]).args(&command[1..]).status().unwrap().success());
    }
}

pub(crate) struct Host {
    pub(crate) paths: Paths,
    pub(crate) fake: Fake,
    /// Whether members may call the API of the next agent.
    pub(crate) members: Members,
    directory: tempfile::TempDir,
    agent: Option<Agent>,
}

struct Agent {
    runtime: tokio::runtime::Runtime,
    ended: tokio::task::JoinHandle<Result<(), Error>>,
    /// Stands in for the kernel, which tells who listens.
    kernel: Option<std::thread::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sinew-agent-test-{}-{number}", std::process::id());
        let at = directory.path();
        let paths = Paths {
            run: at.join("run"),
            state: at.join("state"),
            pins: at.join("pins"),
            cgroup: cgroup::find_root().unwrap().join(name),
        };
        fs::write(at.join("resolv.conf"), "nameserver 127.0.0.1\nsearch corp.example\n").unwrap();
        Self { paths, fake: Fake::default(), members: Members::default(), directory, agent: None }
    }

    /// With a running agent.
    pub(crate) fn started() -> Self {
        let mut host = Self::new();
        host.start();
        host
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn options(&self, events: mpsc::UnboundedReceiver<Event>) -> AgentOptions {
        AgentOptions {
            paths: self.paths.clone(),
            exe: std::env::current_exe().unwrap(),
            resolv_conf: self.file("resolv.conf"),
            datapath: DatapathSource::Given(Box::new(self.fake.clone()), events),
            policy: self.file("policy.yaml"),
            members: self.members,
            reach: Vec::new(),
            join: sinew_agent::JoinOptions::default(),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        }
    }

    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let ended = runtime.spawn(serve(self.options(events)));
        let stop = Arc::new(AtomicBool::new(false));
        let kernel = {
            let (fake, stop) = (self.fake.clone(), stop.clone());
            std::thread::spawn(move || watch_listeners(&fake, &sender, &stop))
        };
        self.agent = Some(Agent { runtime, ended, kernel: Some(kernel), stop });
        let begin = Instant::now();
        while self.block_on(Client::connect(self.paths.socket())).is_err() {
            let agent = self.agent.as_mut().unwrap();
            if agent.ended.is_finished() {
                let result = agent.runtime.block_on(&mut agent.ended);
                panic!("the agent ended: {result:?}");
            }
            assert!(begin.elapsed() < PATIENCE, "the agent does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// As kill -9 would: nothing is said to anybody.
    pub(crate) fn kill_agent(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        agent.stop.store(true, Ordering::Relaxed);
        // Threads that are amid a system call end it; all else stops where it is.
        agent.runtime.shutdown_timeout(PATIENCE);
        agent.kernel.take().unwrap().join().unwrap();
    }

    /// Waits for an agent that was told to end.
    pub(crate) fn wait_for_end(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.stop.store(true, Ordering::Relaxed);
        let ended = async { tokio::time::timeout(PATIENCE, &mut agent.ended).await };
        agent.runtime.block_on(ended).expect("the agent does not end").unwrap().unwrap();
        agent.kernel.take().unwrap().join().unwrap();
        agent.runtime.shutdown_background();
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.agent.as_ref().unwrap().runtime.block_on(future)
    }

    pub(crate) fn client(&self) -> Client {
        self.block_on(Client::connect(self.paths.socket())).unwrap()
    }

    /// Does something, and waits for a change that it leads to.
    pub(crate) fn until<T>(
        &self,
        act: impl AsyncFnOnce(&Client) -> T,
        done: impl Fn(&Change) -> bool,
    ) -> T {
        let client = self.client();
        self.block_on(async {
            let mut changes = client.events().await.unwrap();
            let result = act(&client).await;
            let wait = async {
                while let Some(change) = changes.next().await {
                    if done(&change.unwrap()) {
                        return;
                    }
                }
                panic!("the stream of events ended");
            };
            if tokio::time::timeout(PATIENCE, wait).await.is_err() {
                panic!("never came: {:#?}", client.workloads().await);
            }
            result
        })
    }

    /// Waits for what no single change tells.
    pub(crate) fn eventually(&self, what: &str, is: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is() {
            assert!(begin.elapsed() < PATIENCE, "{what}: never came: {:#?}", self.workloads());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn apply(&self, project: &Project) {
        self.until(
            async |client| client.apply(project).await.unwrap(),
            |change| is_project(change, "ready"),
        );
    }

    pub(crate) fn workloads(&self) -> Vec<WorkloadStatus> {
        let client = self.client();
        self.block_on(client.workloads()).unwrap()
    }

    pub(crate) fn workload(&self, name: &str) -> WorkloadStatus {
        let all = self.workloads();
        let found = all.iter().find(|w| self::name(w) == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {all:#?}"))
    }

    /// Instances that callers may be sent to.
    pub(crate) fn in_choice(&self) -> usize {
        let state = self.fake.state();
        let ports = state.wanted.services.values().flat_map(|s| &s.ports);
        ports.flat_map(|p| &p.backends).filter(|b| b.in_choice).count()
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut left = vec![self.paths.cgroup.join("members")];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    left.push(entry.path());
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill_agent();
        let _ = cgroup::remove_all(&self.paths.cgroup);
    }
}

/// Tells of what listens, as the kernel's programs would.
fn watch_listeners(fake: &Fake, events: &mpsc::UnboundedSender<Event>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let watched: Vec<_> =
            fake.state().wanted.instances.values().filter(|i| i.watch_listen).cloned().collect();
        for instance in watched {
            for (_, port) in instance.ports.iter().filter(|(p, _)| *p == Protocol::Tcp) {
                let address = instance.address4.into();
                if TcpStream::connect(SocketAddr::new(address, *port)).is_ok() {
                    let _ = events.send(Event::Listening {
                        instance: instance.id,
                        address,
                        port: *port,
                    });
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn name(workload: &WorkloadStatus) -> String {
    let service = workload.service.as_ref().map_or("exec".to_owned(), ToString::to_string);
    format!("{service}/{}", workload.replica)
}

pub(crate) fn is_project(change: &Change, what: &str) -> bool {
    matches!(&change.kind, EventKind::Project { change } if change == what)
}

pub(crate) fn is_state(change: &Change, who: &str, wanted: WorkloadState) -> bool {
    matches!(&change.kind, EventKind::Workload { service, replica, state, .. }
        if format!("{service}/{replica}") == who && *state == wanted)
}
