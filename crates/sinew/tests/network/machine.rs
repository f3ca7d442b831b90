//! A machine of the test's own that can be booted and lose its power: systemd is its first process,
//! in namespaces and below a cgroup that are the machine's; the host's files are read-only to it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use crate::world::{cgroup2, eventually};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Run as the first process of the machine's namespaces; `$1` holds what outlives its power.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mount --bind "$1/lib" /var/lib
mount --bind "$1/bin" /usr/local/bin
mount --bind "$1/systemd" /etc/systemd
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
mount -o remount,bind,ro /
ip link set lo up
export container=sinew-test
exec /lib/systemd/systemd --unit=machine.target --log-target=null --show-status=0
"#;

/// Of every command on the machine.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const TARGET: &str = "[Unit]\nDescription=What a test needs\nAllowIsolate=yes\n";

/// A member of the group, and one who is none.
const USERS: &str = "alice:x:4711:4711::/tmp:/bin/sh\nmallory:x:4712:4712::/tmp:/bin/sh\n";
const GROUPS: &str = "alice:x:4711:\nmallory:x:4712:\nsinew:x:4713:alice\n";

pub(crate) struct Machine {
    directory: tempfile::TempDir,
    cgroup: PathBuf,
    /// `unshare`, whose child is the first process.
    power: Option<Child>,
}

impl Machine {
    /// With sinew installed as docs/operations.md says, and enabled.
    pub(crate) fn new() -> Self {
        let name = format!(
            "sinew-machine-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Self { directory, cgroup: cgroup2().join(name), power: None };
        for directory in ["lib", "bin", "systemd/system/machine.target.wants"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        for (file, more) in [("passwd", USERS), ("group", GROUPS)] {
            let there = fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            fs::write(machine.path(file), there + more).unwrap();
        }
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/sinew.service");
        fs::copy(unit, machine.path("systemd/system/sinew.service")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_sinew"), machine.path("bin/sinew")).unwrap();
        fs::write(machine.path("systemd/system/machine.target"), TARGET).unwrap();
        let wanted = machine.path("systemd/system/machine.target.wants/sinew.service");
        std::os::unix::fs::symlink("/etc/systemd/system/sinew.service", wanted).unwrap();
        machine
    }

    /// A path of what outlives the machine's power; `lib` is its `/var/lib`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn boot(&mut self) {
        fs::create_dir_all(&self.cgroup).unwrap();
        let join = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.cgroup.display());
        let power = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", &join, "sh"])
            .args(["unshare", "--cgroup", "--mount", "--pid", "--net", "--uts", "--ipc"])
            .args(["--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT, "sh"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .spawn();
        self.power = Some(power.unwrap());
        eventually("the machine is up", || {
            self.try_run(&["systemctl", "is-system-running"])
                .is_some_and(|output| output.stdout == b"running\n")
        });
    }

    /// Ends every process of the machine at once.
    pub(crate) fn cut_power(&mut self) {
        assert!(self.end(), "the machine's cgroups stay");
    }

    /// Tells whether nothing is left.
    fn end(&mut self) -> bool {
        if let Some(mut power) = self.power.take() {
            let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
            let _ = power.wait();
        }
        // Those that were killed are gone a moment later.
        let patience = Instant::now() + Duration::from_secs(10);
        while !remove_cgroups(&self.cgroup) {
            if Instant::now() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Runs a command on the machine, which must end well, and returns what it printed.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let output = self.try_run(command).expect("the machine runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let fault = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}\n{text}{fault}", output.status);
        text
    }

    /// Runs a command on the machine as this user, and returns whether it ended well and what it
    /// printed.
    pub(crate) fn run_as(&self, user: &str, command: &[&str]) -> (bool, String) {
        let become_user = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"];
        let output = self.try_run(&[&become_user, command].concat()).expect("the machine runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// `None`: it has no first process.
    pub(crate) fn try_run(&self, command: &[&str]) -> Option<Output> {
        let power = self.power.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{power}/task/{power}/children")).ok()?;
        let first = children.split_whitespace().next()?;
        let mut enter = Command::new("nsenter");
        enter.args(["--target", first, "--all", "--root", "--wd=/"]).args(command);
        enter.env_clear().env("PATH", PATH);
        Some(enter.stdin(Stdio::null()).output().unwrap())
    }
}

/// Deepest first; tells whether nothing is left.
pub(crate) fn remove_cgroups(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return true };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroups(&entry.path());
    }
    fs::remove_dir(path).is_ok()
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
