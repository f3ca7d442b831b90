//! A host of the test's own: network namespace, directories, pins, cgroup; the real binary on it.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use sinew_hosts::reaper;

use crate::{bpf, machine::remove_cgroups};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    directory: tempfile::TempDir,
    name: String,
    cgroup: PathBuf,
    agents: RefCell<Vec<Child>>,
}

pub(crate) fn cgroup2() -> PathBuf {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = mounts.lines().find(|l| l.contains(" - cgroup2 ")).unwrap();
    line.split(' ').nth(4).unwrap().into()
}

impl World {
    /// Moves the calling thread into a network namespace of its own.
    pub(crate) fn new() -> Self {
        // SAFETY: affects the calling thread alone, which runs one test.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
        tool("ip", &["link", "set", "lo", "up"]);
        let prefix = format!("sinew-e2e-{}-", std::process::id());
        reaper::watch(&prefix).unwrap();
        let name = format!("{prefix}{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        // Workloads of other users have to reach what the test gives them.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        let cgroup = cgroup2().join(&name);
        Self { directory, name, cgroup, agents: RefCell::default() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    pub(crate) fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf").join(&self.name)
    }

    pub(crate) fn file(&self, text: &str) -> PathBuf {
        let path = self.path("sinew.yaml");
        fs::write(&path, text).unwrap();
        path
    }

    /// The command, set up for this host.
    pub(crate) fn sinew(&self, arguments: &[&str]) -> Command {
        self.sinew_of(Path::new(env!("CARGO_BIN_EXE_sinew")), arguments)
    }

    /// The same, of another build.
    pub(crate) fn sinew_of(&self, build: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(build);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("SINEW_RUN", self.path("run"))
            .env("SINEW_STATE", self.path("state"))
            .env("SINEW_PINS", self.pins())
            .env("SINEW_CGROUP", &self.cgroup)
            .env_remove("SINEW_SOCKET")
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end, well or badly.
    pub(crate) fn try_run(&self, arguments: &[&str]) -> Output {
        self.sinew(arguments).output().unwrap()
    }

    /// Runs the command, which must end well, and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        assert!(
            output.status.success(),
            "sinew {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            fs::read_to_string(self.path("state/agent.log")).unwrap_or_default(),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "json"]);
        serde_json::from_str(&self.run(&arguments)).unwrap()
    }

    /// Runs a Python program as a member and returns what it printed.
    pub(crate) fn member(&self, script: &str) -> String {
        let output = self.try_run(&["exec", "--", "python3", "-c", script]);
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        text.trim().to_owned()
    }

    pub(crate) fn workloads(&self, service: &str) -> Vec<Value> {
        let all = self.json(&["ps"]);
        all.as_array().unwrap().iter().filter(|w| w["service"] == service).cloned().collect()
    }

    pub(crate) fn pid(&self, service: &str, replica: u64) -> i32 {
        let all = self.workloads(service);
        let one = all.iter().find(|w| w["replica"] == replica).unwrap();
        i32::try_from(one["pid"].as_i64().unwrap()).unwrap()
    }

    /// What the API answers.
    pub(crate) fn api(&self, path: &str) -> Value {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    /// The same as it is.
    pub(crate) fn text(&self, path: &str) -> String {
        let output = Command::new("curl")
            .args(["-s", "--unix-socket"])
            .arg(self.path("run/api.sock"))
            .arg(format!("http://sinew{path}"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Process of the agent, by the lock or state that it keeps: it answers on its socket.
    pub(crate) fn agent(&self) -> i32 {
        let agent = self.api("/v1/agent");
        i32::try_from(agent["pid"].as_i64().unwrap()).unwrap()
    }

    /// Kills the agent, and waits until it is gone.
    pub(crate) fn kill_agent(&self, agent: i32) {
        let _ = kill(agent, rustix::process::Signal::KILL);
        eventually("the agent is gone", || !Path::new(&format!("/proc/{agent}/exe")).exists());
    }

    /// Starts the agent again, as a supervisor would; it goes when the world does.
    pub(crate) fn start_agent(&self) {
        self.start_agent_with(&[]);
    }

    /// The same, with options.
    pub(crate) fn start_agent_with(&self, options: &[&str]) {
        self.start_agent_of(Path::new(env!("CARGO_BIN_EXE_sinew")), options);
    }

    /// The same, of another build.
    pub(crate) fn start_agent_of(&self, build: &Path, options: &[&str]) {
        // Detached by `up -d` of nothing new would need a file: the plain command does.
        let log =
            fs::File::options().create(true).append(true).open(self.path("agent.log")).unwrap();
        let agent = self
            .sinew_of(build, &["agent"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agents.borrow_mut().push(agent);
        eventually_or(
            "the agent answers",
            || fs::read_to_string(self.path("agent.log")).unwrap_or_default(),
            || self.try_run(&["ps"]).status.success(),
        );
    }

    /// Numbers of the kernel's objects that are pinned: programs, maps, links.
    pub(crate) fn kernel_objects(&self) -> BTreeSet<(String, u32)> {
        let mut left = vec![Path::new("/sys/fs/bpf").join(&self.name)];
        let mut found = BTreeSet::new();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
            } else if let Some(object) = bpf::open(&path) {
                found.extend(bpf::number(&object));
            }
        }
        found
    }

    /// What of this host would outlive a purge.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        for path in [self.path("run"), self.path("state"), self.pins(), self.cgroup.clone()] {
            if path.exists() {
                left.insert(path.display().to_string());
            }
        }
        for arguments in [
            &["-o", "route", "show", "table", "all"][..],
            &["-6", "-o", "route", "show", "table", "all"],
            &["-o", "rule", "show"],
            &["-6", "-o", "rule", "show"],
            &["-o", "addr", "show", "lo"],
        ] {
            left.extend(tool("ip", arguments).lines().map(str::to_owned));
        }
        left
    }

    /// The same, with every cgroup of its name in any hierarchy, and files beside its own.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let mut left = self.left();
        for hierarchy in hierarchies() {
            left.extend(named(&hierarchy, &self.name).map(|cgroup| cgroup.display().to_string()));
        }
        let files = fs::read_dir(self.directory.path()).into_iter().flatten().flatten();
        left.extend(files.map(|file| file.path().display().to_string()));
        left
    }
}

/// Where cgroups of either version are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let cgroups = mounts.lines().filter(|l| l.contains(" - cgroup ") || l.contains(" - cgroup2 "));
    cgroups.map(|line| line.split(' ').nth(4).unwrap().into()).collect()
}

/// Cgroups whose name begins so, at any depth.
fn named(directory: &Path, name: &str) -> Box<dyn Iterator<Item = PathBuf>> {
    let name = name.to_owned();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
    Box::new(below.flat_map(move |path| {
        let is = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name));
        if is { Box::new(std::iter::once(path)) } else { named(&path, &name) }
    }))
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.try_run(&["down", "--purge", "--yes"]);
        if self.cgroup.exists() {
            let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
            // Where an agent could not start, nobody has purged what it had begun with.
            remove_cgroups(&self.cgroup);
        }
        for agent in self.agents.get_mut() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

pub(crate) fn kill(pid: i32, signal: rustix::process::Signal) -> rustix::io::Result<()> {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal)
}

/// Waits for something that other processes bring about; a minute is for loaded machines.
pub(crate) fn eventually(what: &str, is: impl FnMut() -> bool) {
    eventually_or(what, String::new, is);
}

/// The same, with what can be said when it does not come about.
pub(crate) fn eventually_or(what: &str, say: impl Fn() -> String, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < end, "{what}: not within a minute\n{}", say());
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
