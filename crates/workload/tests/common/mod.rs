//! A place of its own for each test: a directory and cgroups, gone when it ends.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test, too")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sinew_model::{Limits, Privileges, Restart, Stop};
use sinew_workload::{
    DEFAULT_LOG_LIMIT_BYTES, Event, Exit, LaunchSpec, Shims, Supervised, cgroup, restart::Backoff,
    start,
};
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) files: TempDir,
    pub(crate) cgroup: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sinew-test-{}-{number}", std::process::id());
        let cgroup = cgroup::find_root().unwrap().join(name);
        cgroup::create(&cgroup).unwrap();
        let files = TempDir::new().unwrap();
        // Workloads of other users must be able to pass through.
        fs::set_permissions(files.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        Self { files, cgroup }
    }

    pub(crate) fn shims(&self) -> Shims {
        let exe = env!("CARGO_BIN_EXE_workload-testbed").into();
        Shims { exe, cgroup: self.cgroup.join("shims") }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.files.path().join("workload")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(crate) fn member(&self) -> PathBuf {
        self.cgroup.join("members/svc-test/0")
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap()).into_owned()
    }

    /// A shell script, run once.
    pub(crate) fn script(&self, script: &str) -> LaunchSpec {
        self.program(&["/bin/sh", "-c", script])
    }

    pub(crate) fn program(&self, argv: &[&str]) -> LaunchSpec {
        let path = std::env::var("PATH").unwrap();
        LaunchSpec {
            name: "test/0".into(),
            argv: argv.iter().map(ToString::to_string).collect(),
            env: BTreeMap::from([("PATH".to_owned(), path)]),
            working_dir: self.files.path().to_owned(),
            user: None,
            group: None,
            uid_gid_of_caller: (0, 0),
            cgroup: self.member(),
            limits: Limits::default(),
            restart: Restart::Never,
            stop: Stop { signal: "SIGTERM".into(), grace: Duration::from_secs(60) },
            log: self.path("log"),
            log_limit_bytes: DEFAULT_LOG_LIMIT_BYTES,
            privileges: Privileges::default(),
            hidden: Vec::new(),
            backoff: Backoff {
                base: Duration::from_millis(1),
                cap: Duration::from_millis(10),
                healthy_after: Duration::from_secs(3600),
            },
        }
    }

    pub(crate) async fn start(&self, spec: &LaunchSpec) -> Supervised {
        start(&self.shims(), &self.dir(), spec).await.unwrap()
    }

    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        path
    }
}

/// Removes what tests that were killed left.
fn sweep() {
    let root = cgroup::find_root().unwrap();
    for entry in fs::read_dir(&root).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("sinew-test-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = cgroup::remove_all(&entry.path().join("shims"));
            let _ = cgroup::remove_all(&entry.path());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Shims first: a shim whose workload is killed starts it again.
        let _ = cgroup::remove_all(&self.cgroup.join("shims"));
        let _ = cgroup::remove_all(&self.cgroup);
    }
}

/// Waits for the end; answers how the program ended.
pub(crate) async fn end(supervised: &mut Supervised) -> Exit {
    loop {
        match supervised.next().await {
            Event::Ended { exit, .. } => return exit.unwrap().exit,
            Event::Lost => panic!("the shim died"),
            _ => {}
        }
    }
}

/// Waits until the program was started again so many times; answers its process.
pub(crate) async fn started(supervised: &mut Supervised, wanted: u32) -> u32 {
    loop {
        match supervised.next().await {
            Event::Started { pid, restarts, .. } if restarts >= wanted => return pid,
            event @ (Event::Ended { .. } | Event::Lost) => panic!("{event:?}"),
            _ => {}
        }
    }
}

pub(crate) fn kill_hard(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Waits until a process is gone or a zombie; it need not be ours.
pub(crate) fn wait_dead(pid: u32) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        process::{Pid, PidfdFlags, pidfd_open},
    };
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
    }
}

pub(crate) fn field(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
