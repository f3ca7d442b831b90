//! Processes that run already are moved with all that they start, and back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use common::Place;
use sinew_workload::{ProcessId, cgroup, tree};

/// A program outside of Sinew, in a cgroup of the test's own.
struct Program(Child);

impl Program {
    fn start(home: &Path, script: &str) -> Self {
        cgroup::create(home).unwrap();
        let script = format!("echo $$ > {}/cgroup.procs; echo ready; {script}", home.display());
        let mut shell = Command::new("/bin/bash");
        let mut child = shell
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// A shell and a child of its own.
    fn family(home: &Path) -> Self {
        let program = Self::start(home, "sleep 1000 & read line; wait");
        while tree::processes_of(program.0.id()).unwrap().len() < 2 {
            std::thread::yield_now();
        }
        program
    }

    fn id(&self) -> ProcessId {
        ProcessId::of(self.0.id()).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for pid in tree::processes_of(self.0.id()).unwrap_or_default() {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

const ANYBODY: &dyn Fn(u32) -> Result<(), String> = &|_| Ok(());

#[test]
fn no_child_is_left_behind_however_fast_they_are_made() {
    let place = Place::new();
    let (home, other, to) =
        (place.cgroup.join("home"), place.cgroup.join("other"), place.cgroup.join("to"));
    // A child that was put elsewhere, and many that come and go.
    cgroup::create(&other).unwrap();
    let script = format!(
        "(echo $BASHPID > {}/cgroup.procs; exec sleep 1000) &
         while :; do (sleep 0.02; sleep 0.02) & sleep 0.003; done",
        other.display()
    );
    let program = Program::start(&home, &script);
    let mut elsewhere = cgroup::processes(&other).unwrap();
    while elsewhere.is_empty() {
        std::thread::yield_now();
        elsewhere = cgroup::processes(&other).unwrap();
    }
    cgroup::create(&to).unwrap();
    for _ in 0..5 {
        let moved = tree::move_tree(program.id(), &home, &to, ANYBODY).unwrap();
        assert!(moved >= 1, "{moved}");
        let family = tree::processes_of(program.0.id()).unwrap();
        let at_home: Vec<u32> = cgroup::processes(&home).unwrap();
        assert!(family.iter().all(|pid| !at_home.contains(pid)), "{family:?} {at_home:?}");
        assert_eq!(cgroup::processes(&other).unwrap(), elsewhere, "it was put there on purpose");
        let back = tree::give_back(&to).unwrap().unwrap();
        assert_eq!((back.to.as_path(), &back.gone), (home.as_path(), &None));
        assert_eq!(cgroup::processes(&to).unwrap(), Vec::<u32>::new());
    }
}

#[test]
fn a_home_that_is_gone_is_told() {
    let place = Place::new();
    let (slice, to) = (place.cgroup.join("slice"), place.cgroup.join("to"));
    let home = slice.join("home");
    let program = Program::start(&home, "read line");
    cgroup::create(&to).unwrap();
    assert_eq!(tree::move_tree(program.id(), &home, &to, ANYBODY).unwrap(), 1);
    assert_eq!(tree::origin(&to), Some(home.clone()));
    fs::remove_dir(&home).unwrap();
    let back = tree::give_back(&to).unwrap().unwrap();
    assert_eq!((back.to, back.gone, back.processes), (slice.clone(), Some(home), 1));
    assert_eq!(cgroup::of(program.0.id()).unwrap(), slice);
    assert_eq!(tree::give_back(&slice).unwrap(), None, "nobody came from elsewhere");
}

#[test]
fn one_that_may_not_be_moved_keeps_all_where_they_were() {
    let place = Place::new();
    let (home, to) = (place.cgroup.join("home"), place.cgroup.join("to"));
    let program = Program::family(&home);
    let root = program.0.id();
    cgroup::create(&to).unwrap();
    let only_root = |pid| if pid == root { Ok(()) } else { Err(format!("{pid} is another's")) };
    let error = tree::move_tree(program.id(), &home, &to, &only_root).unwrap_err();
    assert!(error.to_string().ends_with("is another's"), "{error}");
    assert_eq!(cgroup::processes(&to).unwrap(), Vec::<u32>::new());
    assert_eq!(cgroup::processes(&home).unwrap().len(), 2);
}

#[test]
fn a_tree_that_always_has_somebody_outside_is_given_up_and_put_back() {
    let place = Place::new();
    let (home, to) = (place.cgroup.join("home"), place.cgroup.join("to"));
    let program = Program::family(&home);
    cgroup::create(&to).unwrap();
    // As one is let in, the others are outside again: a fork bomb that never tires.
    let looks = std::cell::Cell::new(0);
    let never_done = |_| {
        looks.set(looks.get() + 1);
        for pid in cgroup::processes(&to).unwrap() {
            cgroup::move_pid(&home, pid).unwrap();
        }
        Ok(())
    };
    let error = tree::move_tree(program.id(), &home, &to, &never_done).unwrap_err();
    assert!(matches!(error, tree::TreeError::Growing), "{error}");
    assert!(error.to_string().contains("faster than they can be moved"), "{error}");
    assert!(looks.get() >= 1000, "given up after {} looks", looks.get());
    assert_eq!(cgroup::processes(&to).unwrap(), Vec::<u32>::new(), "nobody is left there");
    assert_eq!(cgroup::processes(&home).unwrap().len(), 2);
}

#[test]
fn a_number_of_somebody_else_is_not_moved() {
    let place = Place::new();
    let (home, to) = (place.cgroup.join("home"), place.cgroup.join("to"));
    let mut gone = Program::start(&home, "read line");
    let (id, handle) = (gone.id(), gone.id().open().unwrap());
    gone.0.kill().unwrap();
    gone.0.wait().unwrap();
    cgroup::create(&to).unwrap();
    // Whoever has a number that a handle does not name any more: here one that was not reused yet,
    // so that a living process stands in for it.
    let stranger = Program::start(&home, "read line");
    assert!(!tree::move_process(&to, stranger.0.id(), handle.as_fd()).unwrap());
    assert_eq!(cgroup::of(stranger.0.id()).unwrap(), home);
    let error = tree::move_tree(id, &home, &to, ANYBODY).unwrap_err();
    assert_eq!(error.to_string(), "it has ended");
}
