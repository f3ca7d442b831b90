//! A network namespace of the test's own, member cgroups, real programs in them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, Ipv6Addr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use aya::maps::{Array, HashMap, Map, MapData};
use sinew_datapath::{
    Backend, Datapath, Error, Event, Events, Instance, Kernel, Options, Reach, Resolver, Service,
    ServicePort, TYPES, Wanted, backend_key,
};
use sinew_model::{Balance, Outlier, Protocol};

use sinew_hosts::reaper;

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) const NETWORK6: [u8; 6] = [0xfd, 0x53, 0x69, 0x6e, 0x65, 0x77];

/// Addresses of replica `n` (from 0) of service `s` (from 1).
pub(crate) fn instance4(s: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 80, s as u8, n as u8 + 1)
}

pub(crate) fn instance6(s: u32, n: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd53, 0x696e, 0x6577, 1, 0, 0, s as u16, n as u16 + 1)
}

pub(crate) fn service4(s: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 64, 0, s as u8)
}

pub(crate) fn service6(s: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd53, 0x696e, 0x6577, 0, 0, 0, 0, s as u16)
}

pub(crate) struct World {
    pub(crate) kernel: Kernel,
    pub(crate) wanted: Wanted,
    events: Events,
    /// Events that came while another one was waited for.
    pending: Vec<Event>,
    options: Options,
    /// Where cgroups lie that are no members.
    outside: PathBuf,
    children: Vec<Child>,
}

pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|l| l.contains(" - cgroup2 ")).expect("cgroup2 is mounted");
    line.split(' ').nth(4).unwrap().into()
}

/// A data path that could not be loaded.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Where it would have been pinned.
    pub(crate) pins: PathBuf,
}

impl World {
    /// Moves the calling thread into a network namespace of its own and loads the data path there.
    pub(crate) fn new() -> Self {
        Self::on(Path::new(TYPES), || ()).unwrap()
    }

    /// The same with a kernel that describes its types otherwise, after something was done to the
    /// namespace; cgroups are removed when it fails.
    pub(crate) fn on(types: &Path, prepare: impl FnOnce()) -> Result<Self, Failed> {
        // SAFETY: affects the calling thread alone, which runs one test.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        run("ip", &["link", "set", "lo", "up"]);
        let prefix = format!("sinew-hooks-{}-", std::process::id());
        reaper::watch(&prefix).unwrap();
        let name = format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let base = cgroup2().join(&name);
        let (cgroup, outside) = (base.join("members"), base.join("outside"));
        fs::create_dir_all(&cgroup).unwrap();
        let pins = Path::new("/sys/fs/bpf").join(&name);
        let options = Options {
            pins,
            cgroup,
            network6: NETWORK6,
            reach: Reach::default(),
            types: types.into(),
        };
        prepare();
        let (kernel, events) = match Kernel::open(&options) {
            Ok(opened) => opened,
            Err(error) => {
                remove_below(&base);
                return Err(Failed { error, pins: options.pins });
            }
        };
        Ok(Self {
            kernel,
            wanted: Wanted::default(),
            events,
            pending: Vec::new(),
            options,
            outside,
            children: Vec::new(),
        })
    }

    /// From now on the kernel describes its types so.
    pub(crate) fn describe(&mut self, types: &Path) {
        self.options.types = types.into();
    }

    /// Opens the data path anew over what is pinned, as a restarted agent does.
    pub(crate) fn reopen(&mut self) {
        self.try_reopen().unwrap();
    }

    /// The same, where it may fail.
    pub(crate) fn try_reopen(&mut self) -> Result<(), Error> {
        (self.kernel, self.events) = Kernel::open(&self.options)?;
        self.kernel.apply(&self.wanted)
    }

    /// As `reopen`, with other callers than members.
    pub(crate) fn reopen_with(&mut self, reach: Reach) {
        self.options.reach = reach;
        self.reopen();
    }

    pub(crate) fn apply(&mut self) {
        self.kernel.apply(&self.wanted).unwrap();
    }

    /// Adopts a cgroup, without ports.
    pub(crate) fn adopt_nothing(&mut self, cgroup: &Path) {
        self.kernel.hook(cgroup).unwrap();
        self.wanted.set_instance(Instance {
            id: 77,
            cgroup: cgroup.to_owned(),
            service: 5,
            address4: instance4(5, 0),
            address6: instance6(5, 0),
            fleet4: None,
            fleet6: None,
            ports: Vec::new(),
            own_address: false,
            brought: Vec::new(),
            watch_listen: false,
        });
        self.apply();
    }

    /// Adds a service with replicas, none of which runs yet.
    pub(crate) fn service(&mut self, id: u32, port: u16, protocol: Protocol, replicas: u32) {
        let mut backends = Vec::new();
        for n in 0..replicas {
            self.instance(id, n, vec![(protocol, port)]);
            backends.push(Backend {
                key: backend_key(id, n, port, protocol, 0),
                address4: Some(instance4(id, n)),
                address6: Some(instance6(id, n)),
                port,
                weight: 256,
                local: true,
                node: 0,
                zone: 0,
                wildcard: Default::default(),
                in_choice: true,
                slots: 1,
            });
        }
        self.wanted.set_service(Service {
            id,
            address4: service4(id),
            address6: service6(id),
            ports: vec![ServicePort {
                number: port,
                protocol,
                balance: Balance::LeastLoad,
                outlier: Outlier {
                    consecutive_failures: 3,
                    base: Duration::from_millis(200),
                    max: Duration::from_secs(60),
                    max_ejected_percent: 50,
                },
                backends,
            }],
            published: Vec::new(),
        });
        self.apply();
    }

    /// Two replicas of service 1 that run a Python server on port 8080, and a caller of service 2.
    pub(crate) fn serve(&mut self, server: &str) {
        self.service(1, 8080, Protocol::Tcp, 2);
        self.client(2);
        for n in 0..2 {
            self.python_server(1, n, server);
            self.wait_listening(1, n);
        }
    }

    fn instance(&mut self, service: u32, n: u32, ports: Vec<(Protocol, u16)>) {
        let cgroup = self.cgroup(service, n);
        fs::create_dir(&cgroup).unwrap();
        self.wanted.set_instance(Instance {
            id: u64::from(service) << 32 | u64::from(n),
            cgroup,
            service,
            address4: instance4(service, n),
            address6: instance6(service, n),
            fleet4: None,
            fleet6: None,
            ports,
            own_address: true,
            brought: Vec::new(),
            watch_listen: true,
        });
    }

    fn cgroup(&self, service: u32, n: u32) -> PathBuf {
        self.options.cgroup.join(format!("{service}-{n}"))
    }

    /// A member that serves nothing.
    pub(crate) fn client(&mut self, service: u32) {
        self.instance(service, 0, Vec::new());
        self.apply();
    }

    pub(crate) fn resolver(&mut self, resolver: Resolver) {
        self.wanted.resolver = Some(resolver);
        self.apply();
        self.kernel.beat().unwrap();
    }

    /// A cgroup beside the members'; it goes with all below it when the world does.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let cgroup = self.outside.join(name);
        fs::create_dir_all(&cgroup).unwrap();
        cgroup
    }

    pub(crate) fn command(
        &self,
        service: u32,
        n: u32,
        program: &str,
        arguments: &[&str],
    ) -> Command {
        self.command_in(&self.cgroup(service, n), program, arguments)
    }

    fn command_in(&self, cgroup: &Path, program: &str, arguments: &[&str]) -> Command {
        let procs = cgroup.join("cgroup.procs");
        let mut command = Command::new(program);
        command.args(arguments);
        // SAFETY: writes a file between fork and exec; the path was made before.
        unsafe {
            command.pre_exec(move || {
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                fs::OpenOptions::new().write(true).open(&procs)?.write_all(b"0")
            });
        }
        command
    }

    /// Starts a program in a replica's cgroup; it goes when the world does.
    pub(crate) fn start(&mut self, service: u32, n: u32, program: &str, arguments: &[&str]) -> u32 {
        let child = self
            .command(service, n, program, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start {program}: {e}"));
        let pid = child.id();
        self.children.push(child);
        pid
    }

    /// Starts a Python server and waits for the line that says it is ready.
    pub(crate) fn python_server(&mut self, service: u32, n: u32, script: &str) -> u32 {
        self.python_server_in(&self.cgroup(service, n), script)
    }

    /// The same in a cgroup that is no member's.
    pub(crate) fn python_server_in(&mut self, cgroup: &Path, script: &str) -> u32 {
        let (line, pid) = self.python_begun(cgroup, script);
        assert_eq!(line, "ready", "the server did not start");
        pid
    }

    /// Starts a Python program as a member and answers the first line that it prints.
    pub(crate) fn python_caller(&mut self, service: u32, script: &str) -> String {
        self.python_begun(&self.cgroup(service, 0), script).0
    }

    /// A Python program's first line and its process.
    fn python_begun(&mut self, cgroup: &Path, script: &str) -> (String, u32) {
        let mut child = self
            .command_in(cgroup, "python3", &["-u", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = child.id();
        self.children.push(child);
        (line.trim().to_owned(), pid)
    }

    /// Runs a Python program as a member and returns what it printed.
    pub(crate) fn python(&self, service: u32, n: u32, script: &str) -> String {
        self.run(service, n, "python3", &["-c", script])
    }

    /// Runs a Python program in a cgroup that is no member's and returns what it printed.
    pub(crate) fn python_in(&self, cgroup: &Path, script: &str) -> String {
        text(&self.command_in(cgroup, "python3", &["-c", script]).output().unwrap())
    }

    /// Runs a program as a member and returns what it printed, error output included.
    pub(crate) fn run(&self, service: u32, n: u32, program: &str, arguments: &[&str]) -> String {
        text(&self.command(service, n, program, arguments).output().unwrap())
    }

    /// Waits until a replica listens, as the kernel says.
    pub(crate) fn wait_listening(&mut self, service: u32, n: u32) {
        let wanted = u64::from(service) << 32 | u64::from(n);
        self.wait(
            |event| matches!(event, Event::Listening { instance, .. } if *instance == wanted),
        );
    }

    /// Waits for an event; fails after 20 s without it.
    pub(crate) fn wait(&mut self, accept: impl Fn(&Event) -> bool) -> Event {
        for _ in 0..200 {
            self.events.drain(|event| self.pending.push(event));
            if let Some(at) = self.pending.iter().position(&accept) {
                return self.pending.remove(at);
            }
            let mut poll = [rustix::event::PollFd::new(&self.events, rustix::event::PollFlags::IN)];
            let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            rustix::event::poll(&mut poll, Some(&timeout)).unwrap();
        }
        panic!("the event did not come");
    }

    pub(crate) fn active(&self, service: u32, replicas: u32, port: u16) -> u32 {
        let stats = self.kernel.backends().unwrap();
        (0..replicas).map(|n| stats[&backend_key(service, n, port, Protocol::Tcp, 0)].active).sum()
    }

    pub(crate) fn stats(&self, service: u32, n: u32, port: u16) -> sinew_datapath::BackendStats {
        self.kernel.backends().unwrap()[&backend_key(service, n, port, Protocol::Tcp, 0)]
    }

    pub(crate) fn kernel_edges(&self, source: u32, destination: u32) -> sinew_abi::Edge {
        let edges = self.kernel.edges().unwrap();
        let edge = edges.iter().find(|e| (e.source, e.destination) == (source, destination));
        edge.expect("the edge was counted").counters
    }

    /// An array map of the kernel programs, to read and to write.
    pub(crate) fn map<T: aya::Pod>(&self, name: &str) -> Array<MapData, T> {
        let pin = self.pins().join(format!("v{}", sinew_abi::ABI_VERSION)).join(name);
        Map::Array(MapData::from_pin(pin).unwrap()).try_into().unwrap()
    }

    /// A hash map of the kernel programs.
    pub(crate) fn hash<K: aya::Pod, V: aya::Pod>(&self, name: &str) -> HashMap<MapData, K, V> {
        let pin = self.pins().join(format!("v{}", sinew_abi::ABI_VERSION)).join(name);
        Map::HashMap(MapData::from_pin(pin).unwrap()).try_into().unwrap()
    }

    pub(crate) fn kill(&mut self, pid: u32) {
        let child = self.children.iter_mut().find(|c| c.id() == pid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Processes that were started.
    pub(crate) fn children(&self) -> impl Iterator<Item = u32> {
        self.children.iter().map(std::process::Child::id)
    }

    /// The cgroup above the members' and all others of this world.
    pub(crate) fn base(&self) -> &Path {
        self.options.cgroup.parent().unwrap()
    }

    pub(crate) fn pins(&self) -> &Path {
        &self.options.pins
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Their own children, which hold the cgroups and what the test prints to.
        let base = self.base();
        let _ = fs::write(base.join("cgroup.kill"), "1");
        let events = || fs::read_to_string(base.join("cgroup.events")).unwrap_or_default();
        for _ in 0..1000 {
            if !events().contains("populated 1") {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.kernel.detach();
        // Also those of instances that the test took back.
        remove_below(self.base());
    }
}

fn text(output: &std::process::Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

fn remove_below(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for something that no event tells of; 20 s are for loaded machines.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < end, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}
