//! Tests that are killed leave nothing either.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use sinew_model::Protocol;

use crate::{
    near::server,
    world::{World, cgroup2, eventually},
};

#[test]
#[ignore = "killed by the test below"]
fn one_that_is_killed() {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    world.python_server(1, 0, &server("hello", 8080));
    println!("is up");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_test_leaves_nothing() {
    let mut tests = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "reaping::one_that_is_killed", "--nocapture"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tests.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("is up")));
    let name = format!("sinew-hooks-{}-", tests.id());
    let left = || {
        [cgroup2().as_path(), Path::new("/sys/fs/bpf")].into_iter().any(|directory| {
            let mut entries = fs::read_dir(directory).unwrap().flatten();
            entries.any(|entry| entry.file_name().to_string_lossy().starts_with(&name))
        })
    };
    assert!(left(), "it has made something");
    tests.kill().unwrap();
    tests.wait().unwrap();
    eventually("nothing is left", || !left());
}
