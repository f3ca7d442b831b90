//! The cgroup of a systemd unit, by systemd's own word.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::refusal::Refusal;

/// systemd answers within milliseconds, unless it is stuck.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exists while systemd is the init of this machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// The full name of a unit, which is a service unless it says otherwise.
pub(super) fn full_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

/// The path of the cgroup of a unit below the root of the hierarchy.
pub(super) fn cgroup(name: &str) -> Result<PathBuf, Refusal> {
    cgroup_by(Path::new(BOOTED), Path::new("systemctl"), name)
}

fn cgroup_by(booted: &Path, systemctl: &Path, name: &str) -> Result<PathBuf, Refusal> {
    if name.contains(['*', '?', '[']) {
        return Err(Refusal::target(
            format!("{name} is a pattern of units"),
            "name one unit, as nginx.service",
        ));
    }
    if !booted.is_dir() {
        return Err(Refusal::target(
            format!("systemd does not run on this machine, so there is no unit {name}"),
            "name a process by its number, or a cgroup by its path",
        ));
    }
    ask(systemctl, PATIENCE, name)
}

fn ask(systemctl: &Path, patience: Duration, name: &str) -> Result<PathBuf, Refusal> {
    let broken = |what: String| Refusal::target(what, "see `systemctl status`");
    let mut asked = Command::new(systemctl);
    asked.args(["show", "--property=LoadState,ControlGroup", "--", name]);
    let answer = answer_within(patience, &mut asked)
        .map_err(|error| broken(format!("systemctl cannot be run: {error}")))?;
    let Some(answer) = answer else {
        return Err(broken(format!(
            "systemctl did not tell about {name} within {} s",
            patience.as_secs()
        )));
    };
    if !answer.status.success() {
        let what = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(broken(format!("systemctl does not tell about {name}: {what}")));
    }
    read(&String::from_utf8_lossy(&answer.stdout), name)
}

/// What a program says; `None`, and it is killed, when it does not end in time. Waited for by a thread
/// of its own, since whoever inherited its output may keep that open.
fn answer_within(patience: Duration, command: &mut Command) -> io::Result<Option<Output>> {
    let child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let process = Pid::from_child(&child);
    let process = pidfd_open(process, PidfdFlags::empty())?;
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits any more when it comes too late.
        let _ = sender.send(child.wait_with_output());
    });
    match answer.recv_timeout(patience) {
        Ok(output) => output.map(Some),
        Err(_) => {
            // It may just have ended.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            Ok(None)
        }
    }
}

fn read(answer: &str, name: &str) -> Result<PathBuf, Refusal> {
    let value = |key: &str| answer.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    if value("LoadState") == Some("not-found") {
        return Err(Refusal::target(
            format!("there is no unit {name}"),
            "see `systemctl list-units`; a process is named by its number, a cgroup by its path",
        ));
    }
    match value("ControlGroup").filter(|path| !path.is_empty()) {
        Some(path) => Ok(path.into()),
        None => Err(Refusal::target(
            format!("the unit {name} does not run"),
            "start it first: `systemctl start`, then repeat",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn names_are_services_unless_they_say_otherwise() {
        assert_eq!(full_name("nginx"), "nginx.service");
        assert_eq!(full_name("user.slice"), "user.slice");
    }

    #[test]
    fn systemd_tells_the_cgroup() {
        let directory = tempfile::tempdir().unwrap();
        let systemctl = directory.path().join("systemctl");
        let script = "#!/bin/sh
test \"$1 $2 $3\" = 'show --property=LoadState,ControlGroup --' || exit 1
case $4 in
  nginx.service) echo LoadState=loaded; echo ControlGroup=/system.slice/nginx.service;;
  stuck.service) exec sleep 1000;;
  idle.service) echo LoadState=loaded; echo ControlGroup=;;
  *) echo LoadState=not-found; echo ControlGroup=;;
esac\n";
        std::fs::write(&systemctl, script).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let told = |name| ask(&systemctl, PATIENCE, name).map_err(|refusal| refusal.to_string());
        assert_eq!(told("nginx.service"), Ok("/system.slice/nginx.service".into()));
        assert_eq!(told("idle.service"), Err("the unit idle.service does not run".into()));
        assert_eq!(told("x.service"), Err("there is no unit x.service".into()));
        let stuck = ask(&systemctl, Duration::from_millis(100), "stuck.service").unwrap_err();
        let stuck = stuck.to_string();
        assert!(stuck.starts_with("systemctl did not tell about stuck.service"), "{stuck}");
        let broken = ask(Path::new("/nonexistent"), PATIENCE, "x").unwrap_err().to_string();
        assert!(broken.starts_with("systemctl cannot be run"), "{broken}");
    }

    #[test]
    fn without_systemd_there_are_no_units() {
        let nowhere = Path::new("/nonexistent");
        let told = |name| cgroup_by(nowhere, nowhere, name).unwrap_err().to_string();
        let refusal = told("nginx.service");
        assert!(refusal.starts_with("systemd does not run on this machine"), "{refusal}");
        assert_eq!(told("ngin*.service"), "ngin*.service is a pattern of units");
    }
}
