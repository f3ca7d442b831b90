//! What a caller wants adopted: whether it is there, whether it can be adopted, whether the caller
//! may, and where it listens.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sinew_api::AdoptTarget;
use sinew_model::Port;
use sinew_workload::{ProcessId, cgroup, tree};

use super::{Places, Target, places, unit};
use crate::{paths::Paths, refusal::Refusal, rights::Caller, runtime::SharedDatapath};

/// Where the agent is, and whom it asks about listeners.
pub(crate) struct Surroundings {
    pub(crate) paths: Arc<Paths>,
    pub(crate) datapath: SharedDatapath,
}

/// What would be adopted.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) target: Target,
    /// What it runs, in a line.
    pub(crate) command: String,
    /// Where it listens on the declared ports.
    pub(crate) places: Places,
}

/// Looks at what `target` names. Reads `/proc` and may ask systemd, so it may block.
///
/// # Errors
/// When it cannot be adopted, or not by this caller; nothing was changed.
pub(crate) fn inspect(
    target: &AdoptTarget,
    ports: &[Port],
    caller: &Caller,
    around: &Surroundings,
) -> Result<Subject, Refusal> {
    let (target, pids) = match target {
        AdoptTarget::Pid(pid) => process(*pid, &around.paths)?,
        AdoptTarget::Cgroup(path) => {
            let path = resolve(path)?;
            let pids = members(&path, &around.paths)?;
            (Target::Cgroup { path }, pids)
        }
        AdoptTarget::Unit(name) => {
            let name = unit::full_name(name);
            let cgroup = resolve(&unit::cgroup(&name)?)?;
            let pids = members(&cgroup, &around.paths)?;
            (Target::Unit { name, cgroup }, pids)
        }
    };
    if let Some(path) = target.cgroup() {
        check_owner(caller.uid, path)?;
    }
    check_self(caller, &pids)?;
    for pid in &pids {
        check_user(caller, *pid)?;
        check_network(*pid)?;
    }
    let listeners = around.datapath.lock().listeners();
    let listeners = listeners.map_err(|error| Refusal::Datapath { what: error.to_string() })?;
    let places = places::places_of(&listeners, &places::sockets_of(&pids), ports);
    let command = pids.iter().map(|pid| command(*pid)).find(|text| !text.is_empty());
    Ok(Subject { target, command: command.unwrap_or_default(), places })
}

fn process(pid: u32, paths: &Paths) -> Result<(Target, Vec<u32>), Refusal> {
    let gone = || {
        Refusal::target(
            format!("there is no process {pid}"),
            "see `ps -e`; a unit is named by its name, a cgroup by its path",
        )
    };
    let process = ProcessId::of(pid).map_err(|_| gone())?;
    if pid == 1 || command(pid).is_empty() {
        return Err(Refusal::target(
            format!("process {pid} is the init of this machine, a kernel thread or a zombie"),
            "name the main process of a service",
        ));
    }
    let is = cgroup::of(pid).map_err(|_| gone())?;
    // One that was adopted bears where it came from: it is recognised when it is adopted again.
    let from = match tree::origin(&is) {
        Some(origin) if is.starts_with(&paths.cgroup) => origin,
        None if is.starts_with(&paths.cgroup) => {
            return Err(Refusal::target(
                format!("process {pid} is in {} and so belongs to Sinew already", is.display()),
                "see `sinew ps`",
            ));
        }
        _ => is.clone(),
    };
    check_kind(&from)?;
    let all = tree::processes_of(pid).map_err(|_| gone())?;
    if all.contains(&std::process::id()) {
        return Err(Refusal::target(
            format!("the agent itself descends from process {pid}"),
            "name the main process of a service",
        ));
    }
    let here = |pid: &u32| cgroup::of(*pid).is_ok_and(|its| its.starts_with(&is));
    let pids = all.into_iter().filter(here).collect();
    Ok((Target::Process { process, from }, pids))
}

/// The cgroup that a path means: in the file system, or below the root of the hierarchy, as systemd
/// and `/proc` write it.
fn resolve(path: &Path) -> Result<PathBuf, Refusal> {
    let root = cgroup::find_root()
        .map_err(|error| Refusal::target(error.to_string(), "see `sinew doctor`"))?;
    let below = root.join(path.strip_prefix("/").unwrap_or(path));
    let full = if path.starts_with(&root) { path.to_owned() } else { below };
    match fs::canonicalize(&full) {
        Ok(full) if full.starts_with(&root) && full.join("cgroup.controllers").exists() => Ok(full),
        _ => Err(Refusal::target(
            format!("there is no cgroup {}", full.display()),
            "name one of version 2 by its path, as /system.slice/nginx.service: \
             `cat /proc/PID/cgroup` shows it behind `0::`",
        )),
    }
}

fn members(path: &Path, paths: &Paths) -> Result<Vec<u32>, Refusal> {
    let refuse = |what: String, remedy| Err(Refusal::target(what, remedy));
    let shown = path.display();
    let own = cgroup::of(std::process::id()).unwrap_or_default();
    let smaller = "name the cgroup of one service alone";
    if cgroup::find_root().is_ok_and(|root| root == path) {
        return refuse(format!("{shown} is the root of all cgroups"), smaller);
    }
    if paths.cgroup.starts_with(path) {
        return refuse(
            format!("{shown} holds Sinew's own cgroup {}", paths.cgroup.display()),
            smaller,
        );
    }
    if own.starts_with(path) {
        return refuse(format!("the agent itself runs in {shown}"), smaller);
    }
    if path.starts_with(&paths.cgroup) {
        return refuse(format!("{shown} belongs to Sinew already"), "see `sinew ps`");
    }
    check_kind(path)?;
    let pids = cgroup::processes(path).unwrap_or_default();
    if pids.is_empty() {
        return refuse(format!("there is no process in {shown}"), "start it first, then repeat");
    }
    Ok(pids)
}

/// # Errors
/// When the caller may not adopt this process.
pub(crate) fn check_user(caller: &Caller, pid: u32) -> Result<(), Refusal> {
    // One that ended meanwhile is nobody's.
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return Ok(()) };
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let users: Vec<u32> = users.split_whitespace().filter_map(|uid| uid.parse().ok()).collect();
    caller.may_adopt(pid, &users)
}

/// Nobody adopts the ground it stands on: a member may not call the API, so neither that shell nor
/// whatever it starts could release it again.
fn check_self(caller: &Caller, pids: &[u32]) -> Result<(), Refusal> {
    if !pids.contains(&caller.pid) {
        return Ok(());
    }
    Err(Refusal::target(
        format!(
            "you would adopt yourself: process {}, which asks for it, is among what you name, and \
             members may not call Sinew's API, not even to release themselves",
            caller.pid
        ),
        "name the main process of a service, or ask from another terminal or session; `sinew exec` \
         opens a shell in the network",
    ))
}

/// In a threaded cgroup the kernel tells of threads and not of processes, and lets none of them come
/// in from outside: what runs there could neither be seen nor be given back.
fn check_kind(cgroup: &Path) -> Result<(), Refusal> {
    let kind = fs::read_to_string(cgroup.join("cgroup.type")).unwrap_or_default();
    match kind.trim() {
        kind @ ("threaded" | "domain invalid") => Err(Refusal::target(
            format!("{} is a threaded cgroup (cgroup.type: {kind})", cgroup.display()),
            "name the cgroup above it whose cgroup.type is `domain threaded`: it holds the \
             processes of those threads",
        )),
        _ => Ok(()),
    }
}

/// The adoption lasts longer than the processes of the moment: whoever owns the cgroup says what
/// comes into it. Asked anew whenever there is another cgroup at its path.
///
/// # Errors
/// When the cgroup is not that user's own.
pub(crate) fn check_owner(uid: u32, path: &Path) -> Result<(), Refusal> {
    let owner = fs::metadata(path).ok().map(|directory| directory.uid());
    if uid == 0 || owner == Some(uid) {
        return Ok(());
    }
    Err(Refusal::target(
        format!("{} does not belong to user {uid}", path.display()),
        "adopt it as root, or adopt a process of your own by its number",
    ))
}

/// A process with a network of its own listens and calls where nobody else of this host does.
fn check_network(pid: u32) -> Result<(), Refusal> {
    let network = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/net")).map(|m| m.ino());
    let (Ok(theirs), Ok(ours)) = (network(&pid.to_string()), network("self")) else {
        return Ok(());
    };
    if theirs == ours {
        return Ok(());
    }
    Err(Refusal::target(
        format!("process {pid} has a network namespace of its own"),
        "adopt what runs in the network of the host; a container has a network of its own",
    ))
}

fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).split('\0').collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use sinew_datapath::Fake;

    use super::*;

    fn refused(target: &AdoptTarget, paths: &Paths) -> String {
        let caller = Caller::new(1, 0, 0, Vec::new());
        let around = Surroundings {
            paths: Arc::new(paths.clone()),
            datapath: SharedDatapath::new(Box::new(Fake::default())),
        };
        inspect(target, &[], &caller, &around).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_adopted_is_named() {
        let root = cgroup::find_root().unwrap();
        let name = format!("sinew-inspect-{}", std::process::id());
        let trial = root.join(&name);
        let paths = Paths {
            run: "/nonexistent".into(),
            state: "/nonexistent".into(),
            pins: "/nonexistent".into(),
            cgroup: trial.join("a/sinew"),
        };
        for path in [paths.cgroup.join("members/svc-x/0"), trial.join("b")] {
            cgroup::create(&path).unwrap();
        }
        cgroup::create(&trial.join("c/threads")).unwrap();
        fs::write(trial.join("c/threads/cgroup.type"), "threaded").unwrap();
        let group = |path: &str| refused(&AdoptTarget::Cgroup(path.into()), &paths);
        let said = [
            (group("/"), "is the root of all cgroups"),
            (group(&format!("/{name}/a")), "holds Sinew's own cgroup"),
            (group(trial.join("a").to_str().unwrap()), "holds Sinew's own cgroup"),
            (group(&format!("/{name}/a/sinew/members/svc-x/0")), "belongs to Sinew already"),
            (group(&format!("/{name}/b")), "there is no process in"),
            (group(&format!("/{name}/none")), "there is no cgroup"),
            (group("/../../tmp"), "there is no cgroup"),
            (group(&format!("/{name}/c/threads")), "is a threaded cgroup"),
            (refused(&AdoptTarget::Pid(u32::MAX), &paths), "there is no process"),
            (refused(&AdoptTarget::Pid(1), &paths), "is the init of this machine"),
            (refused(&AdoptTarget::Pid(2), &paths), "a kernel thread"),
            (refused(&AdoptTarget::Pid(std::process::id()), &paths), "the agent itself descends"),
        ];
        cgroup::remove_all(&trial).unwrap();
        for (said, expected) in said {
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }

    #[test]
    fn whoever_asks_is_not_adopted_itself() {
        let mut shell = std::process::Command::new("sh");
        let mut shell = shell.args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let below = loop {
            let all = tree::processes_of(shell.id()).unwrap();
            if let Some(child) = all.into_iter().find(|pid| *pid != shell.id()) {
                break child;
            }
            std::thread::yield_now();
        };
        let around = Surroundings {
            paths: Arc::new(Paths {
                run: "/nonexistent".into(),
                state: "/nonexistent".into(),
                pins: "/nonexistent".into(),
                cgroup: "/nonexistent".into(),
            }),
            datapath: SharedDatapath::new(Box::new(Fake::default())),
        };
        let ask = |pid| {
            let target = AdoptTarget::Pid(shell.id());
            inspect(&target, &[], &Caller::new(pid, 0, 0, Vec::new()), &around)
        };
        let said = [ask(shell.id()), ask(below)].map(|asked| asked.unwrap_err().to_string());
        let other = ask(std::process::id());
        let sleeper = rustix::process::Pid::from_raw(below as i32).unwrap();
        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
        shell.wait().unwrap();
        for said in said {
            assert!(said.contains("you would adopt yourself"), "{said}");
        }
        assert!(other.is_ok(), "{other:?}");
    }

    #[test]
    fn a_cgroup_of_somebody_else_is_refused() {
        use std::os::unix::fs::chown;
        let trial = tempfile::tempdir().unwrap();
        let may = |uid| check_owner(uid, trial.path());
        chown(trial.path(), Some(33), None).unwrap();
        assert!(may(0).is_ok() && may(33).is_ok());
        let said = may(34).unwrap_err().to_string();
        assert!(said.contains("does not belong to user 34"), "{said}");
    }

    #[test]
    fn another_network_is_refused() {
        let mut child =
            std::process::Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
        let said = loop {
            if let Err(refusal) = check_network(child.id()) {
                break refusal.to_string();
            }
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.contains("a network namespace of its own"), "{said}");
    }
}
