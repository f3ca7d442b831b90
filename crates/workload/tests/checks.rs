//! `health.exec` runs as the workload, in its cgroup, and leaves nothing behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use common::{Place, end};
use sinew_workload::{
    Exit, LaunchError, cgroup,
    exec::{CheckOutcome, CheckSpec, run_check},
};

const LONG: Duration = Duration::from_secs(60);

fn check(place: &Place, script: &str) -> CheckSpec {
    let argv = ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec();
    let mut workload = place.script("");
    workload.user = Some("nobody".into());
    CheckSpec { argv, workload }
}

#[tokio::test]
async fn a_check_passes_or_tells_its_last_line() {
    let place = Place::new();
    assert_eq!(run_check(&check(&place, "exit 0"), LONG).await, CheckOutcome::Passed);
    let failed = run_check(&check(&place, "echo one; echo 'no route' >&2; exit 3"), LONG).await;
    assert_eq!(failed.to_string(), "exited with code 3: no route");
    let missing = CheckSpec { argv: vec!["pg_isreadyy".into()], ..check(&place, "") };
    let outcome = run_check(&missing, LONG).await;
    let CheckOutcome::NotRun { error: LaunchError::NoProgram { program, .. } } = outcome else {
        panic!("{outcome}")
    };
    assert_eq!(program, "pg_isreadyy");
}

#[tokio::test]
async fn a_check_runs_as_the_workload_in_its_cgroup() {
    let place = Place::new();
    let script = "echo $(id -u) $(grep -c svc-test/0/check- /proc/self/cgroup) \
                  $(grep NoNewPrivs /proc/self/status); exit 1";
    let outcome = run_check(&check(&place, script), LONG).await;
    assert_eq!(outcome.to_string(), "exited with code 1: 65534 1 NoNewPrivs: 1");
}

#[tokio::test]
async fn a_check_that_takes_too_long_is_killed_with_all_it_started() {
    let place = Place::new();
    let script = "setsid sleep 1000 & echo waiting; sleep 1000";
    let spec = check(&place, script);
    let outcome = run_check(&spec, Duration::from_millis(300)).await;
    assert!(outcome.to_string().starts_with("did not end within 300ms"), "{outcome}");
    wait_gone(&spec).await;
}

#[tokio::test]
async fn what_a_check_leaves_behind_does_not_hold_it_up() {
    let place = Place::new();
    let spec = check(&place, "sleep 1000 & exit 0");
    assert_eq!(run_check(&spec, LONG).await, CheckOutcome::Passed);
    wait_gone(&spec).await;
}

#[tokio::test]
async fn much_output_does_not_hold_it_up() {
    let place = Place::new();
    let spec = check(&place, "head -c 1000000 /dev/zero | tr '\\0' 'x'; echo; echo end; exit 1");
    let outcome = run_check(&spec, LONG).await;
    assert_eq!(outcome.to_string(), "exited with code 1: end");
}

#[tokio::test]
async fn a_dropped_check_is_cleaned_up() {
    let place = Place::new();
    let spec = check(&place, "sleep 1000");
    let dropped = tokio::time::timeout(Duration::from_millis(50), run_check(&spec, LONG)).await;
    assert!(dropped.is_err());
    wait_gone(&spec).await;
}

#[tokio::test]
async fn a_check_does_not_keep_a_workload_from_ending() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("sleep 1000")).await;
    let spec = check(&place, "sleep 1000");
    let runs = || {
        let below = std::fs::read_dir(&spec.workload.cgroup).unwrap().flatten();
        let mut below = below.map(|entry| entry.path()).filter(|path| path.is_dir());
        below.any(|cgroup| cgroup::processes(&cgroup).is_ok_and(|pids| !pids.is_empty()))
    };
    let stop = async {
        // One that begins later has its own end to wait for.
        while !runs() {
            tokio::task::yield_now().await;
        }
        supervised.stop().await.unwrap();
        end(&mut supervised).await
    };
    let (outcome, exit) = tokio::join!(run_check(&spec, LONG), stop);
    assert_eq!(exit, Exit::Signal { number: 15, core: false });
    assert_ne!(outcome, CheckOutcome::Passed);
}

async fn wait_gone(spec: &CheckSpec) {
    while !cgroup::processes(&spec.workload.cgroup).unwrap().is_empty()
        || std::fs::read_dir(&spec.workload.cgroup)
            .unwrap()
            .flatten()
            .any(|entry| entry.path().is_dir())
    {
        tokio::task::yield_now().await;
    }
}
