//! The cgroup of a systemd unit, by systemd's own word.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::refusal::Refusal;

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
    ask(systemctl, name)
}

fn ask(systemctl: &Path, name: &str) -> Result<PathBuf, Refusal> {
    let broken = |what: String| Refusal::target(what, "see `systemctl status`");
    let answer = Command::new(systemctl)
        .args(["show", "--property=LoadState,ControlGroup", "--", name])
        .output()
        .map_err(|error| broken(format!("systemctl cannot be run: {error}")))?;
    if !answer.status.success() {
        let what = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(broken(format!("systemctl does not tell about {name}: {what}")));
    }
    read(&String::from_utf8_lossy(&answer.stdout), name)
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
  idle.service) echo LoadState=loaded; echo ControlGroup=;;
  *) echo LoadState=not-found; echo ControlGroup=;;
esac\n";
        std::fs::write(&systemctl, script).unwrap();
        std::fs::set_permissions(&systemctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let told = |name| ask(&systemctl, name).map_err(|refusal| refusal.to_string());
        assert_eq!(told("nginx.service"), Ok("/system.slice/nginx.service".into()));
        assert_eq!(told("idle.service"), Err("the unit idle.service does not run".into()));
        assert_eq!(told("x.service"), Err("there is no unit x.service".into()));
        let broken = ask(Path::new("/nonexistent"), "x").unwrap_err().to_string();
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
