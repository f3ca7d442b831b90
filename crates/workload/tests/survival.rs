//! Workloads outlive agents and shims.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
};

use common::{Place, end, kill_hard, started, wait_dead};
use sinew_model::Restart;
use sinew_workload::{Error, Event, Exit, LaunchSpec, cgroup, reconnect, start};

const LINES: usize = 100_000;

/// Starts the workload from another process, which is then killed.
fn start_and_kill_agent(place: &Place, spec: &LaunchSpec) {
    let shims = place.shims();
    let mut agent = Command::new(&shims.exe)
        .arg("agent")
        .args([place.dir(), shims.cgroup])
        .arg(serde_json::to_string(spec).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    agent.kill().unwrap();
    agent.wait().unwrap();
}

/// Half of the lines, a pause that the test ends, the other half.
fn writer(place: &Place) -> LaunchSpec {
    place.fifo("go");
    place.script(&format!(
        "i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; \
         [ $i -eq {} ] && read line <go; done; exit 5",
        LINES / 2
    ))
}

fn assert_all_lines(place: &Place) {
    let log = place.log();
    let expected: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
    assert!(log == expected, "{} of {} bytes", log.len(), expected.len());
}

#[tokio::test]
async fn a_killed_agent_costs_no_line_and_no_exit_status() {
    let place = Place::new();
    let spec = writer(&place);
    // It is killed while the first half is written.
    start_and_kill_agent(&place, &spec);
    // The end comes while no agent is there.
    std::fs::write(place.path("go"), "\n").unwrap();
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 5 });
    assert_eq!(supervised.status().runs, 1);
    assert_all_lines(&place);
    // Once more, from the file alone.
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 5 });
}

#[tokio::test]
async fn a_killed_shim_is_replaced_and_the_program_runs_on() {
    let place = Place::new();
    let mut supervised = place.start(&writer(&place)).await;
    let Event::Started { pid, .. } = supervised.next().await else { panic!("not started") };
    let shim = supervised.status().shim.pid;
    kill_hard(shim);
    assert_eq!(supervised.next().await, Event::Lost);
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    assert_ne!(supervised.status().shim.pid, shim);
    let Event::Started { pid: adopted, restarts: 0, .. } = supervised.next().await else {
        panic!("not adopted")
    };
    assert_eq!(adopted, pid);
    std::fs::write(place.path("go"), "\n").unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 5 });
    assert_all_lines(&place);
}

#[tokio::test]
async fn a_stopped_shim_is_replaced_and_the_program_runs_on() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("sleep 1000")).await;
    let pid = started(&mut supervised, 0).await;
    let shim = supervised.status().shim.pid;
    let stopped = rustix::process::Pid::from_raw(shim.cast_signed()).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    assert_ne!(supervised.status().shim.pid, shim);
    assert_eq!(started(&mut supervised, 0).await, pid);
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn an_adopted_program_is_stopped_and_started_again() {
    let place = Place::new();
    let mut spec = place.script("sleep 1000");
    spec.restart = Restart::Always;
    let mut supervised = place.start(&spec).await;
    let Event::Started { pid, .. } = supervised.next().await else { panic!("not started") };
    kill_hard(supervised.status().shim.pid);
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    supervised.next().await;
    kill_hard(pid);
    let Event::Exited { exit } = supervised.next().await else { panic!("no exit") };
    assert_eq!(exit.exit, Exit::Signal { number: 9, core: false });
    started(&mut supervised, 1).await;
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn an_end_that_nobody_saw_counts_as_a_failure() {
    let place = Place::new();
    let mut spec = place.script("sleep 1000");
    spec.restart = Restart::OnFailure;
    let mut supervised = place.start(&spec).await;
    let Event::Started { pid, .. } = supervised.next().await else { panic!("not started") };
    kill_hard(supervised.status().shim.pid);
    assert_eq!(supervised.next().await, Event::Lost);
    kill_hard(pid);
    wait_dead(pid);
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        // Its new parent waits for it in its own time.
        tokio::task::yield_now().await;
    }
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    started(&mut supervised, 1).await;
    assert_eq!(supervised.status().last_exit().unwrap().exit, Exit::Unknown);
}

/// A program that says so when another of its kind runs. The lock is the program's own, and ends
/// with its process.
const ALONE: &str = "exec 9>alone; flock -n 9 || echo TWO >>two; echo run >>runs; exec sleep 1000";

#[tokio::test]
async fn shims_killed_at_any_point_of_the_start_never_lead_to_two_programs() {
    for round in 0..40_u32 {
        let place = Place::new();
        let mut spec = place.script(ALONE);
        spec.restart = Restart::Always;
        let shims = place.shims();
        for attempt in 0..3_u32 {
            // Kills whatever shim there is after a time that differs in each round.
            let cgroup = shims.cgroup.clone();
            let killer = std::thread::spawn(move || {
                while cgroup::processes(&cgroup).unwrap_or_default().is_empty() {
                    std::thread::yield_now();
                }
                let micros = u64::from(round * 613 + attempt * 4127) % 16_000;
                std::thread::sleep(std::time::Duration::from_micros(micros));
                cgroup::kill(&cgroup).unwrap();
            });
            match attempt {
                0 => drop(start(&shims, &place.dir(), &spec).await),
                _ => drop(reconnect(&shims, &place.dir()).await),
            }
            killer.join().unwrap();
        }
        let mut supervised = reconnect(&shims, &place.dir()).await.unwrap();
        started(&mut supervised, 0).await;
        let mut runs = String::new();
        while runs.is_empty() {
            runs = std::fs::read_to_string(place.path("runs")).unwrap_or_default();
            tokio::task::yield_now().await;
        }
        assert!(!place.path("two").exists(), "round {round}: two at once");
        supervised.kill().await.unwrap();
        end(&mut supervised).await;
        assert!(!place.path("two").exists(), "round {round}: two at once");
    }
}

#[tokio::test]
async fn two_shims_for_one_directory_are_one() {
    let place = Place::new();
    let mut supervised = place.start(&place.script(ALONE)).await;
    let shim = supervised.status().shim.pid;
    let shims = place.shims();
    let second = Command::new(&shims.exe).arg("shim").arg(place.dir()).output().unwrap();
    let said = String::from_utf8(second.stdout).unwrap();
    assert_eq!(said, format!("{{\"is\":\"busy\",\"pid\":{shim}}}\n"));
    supervised.kill().await.unwrap();
    end(&mut supervised).await;
}

#[tokio::test]
async fn clients_that_misbehave_hold_nobody_up() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("sleep 1000")).await;
    let socket = place.dir().join("ctl.sock");
    let mode = std::os::unix::fs::MetadataExt::mode(&socket.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
    // They ask without end and never read.
    let mut deaf: Vec<UnixStream> =
        (0..40).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).unwrap();
        for _ in 0..2000 {
            if stream.write_all(b"{\"do\":\"subscribe\"}\n").is_err() {
                break;
            }
        }
    }
    let mut garbage = UnixStream::connect(&socket).unwrap();
    garbage.write_all(b"\xff\x00{]\n{\"do\":\"dance\"}\n").unwrap();
    let mut answers = BufReader::new(garbage.try_clone().unwrap()).lines();
    for _ in 0..2 {
        assert!(answers.next().unwrap().unwrap().contains("not a request"));
    }
    // A line without end is not waited for.
    let _ = garbage.write_all(&vec![b'x'; 1 << 20]);
    assert!(answers.next().is_none_or(|line| line.is_err()));
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn a_shim_is_small_and_holds_nothing_of_its_parent() {
    let place = Place::new();
    // A file that this process lets its children inherit.
    let leaked = std::fs::File::create(place.path("leaked")).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut supervised = place.start(&place.script("sleep 1000")).await;
    let pid = started(&mut supervised, 0).await;
    let shim = supervised.status().shim.pid;
    for process in [shim, pid] {
        let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
        let files: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        assert!(!files.iter().any(|file| file.ends_with("leaked")), "{files:?}");
    }
    let status = std::fs::read_to_string(format!("/proc/{shim}/status")).unwrap();
    let rss_kib: u32 =
        common::field(&status, "VmRSS:").trim_end_matches(" kB").trim().parse().unwrap();
    println!("a shim takes {rss_kib} KiB");
    assert!(rss_kib < 8192, "{rss_kib} KiB");
    assert_eq!(common::field(&status, "Threads:"), "1");
    assert_eq!(common::field(&status, "Name:"), "sinew-shim");
    let own = cgroup::processes(&place.member()).unwrap();
    assert!(!own.contains(&shim));
    assert_eq!(cgroup::processes(&place.cgroup.join("shims")).unwrap(), [shim]);
    for standard in 0..3 {
        let file = std::fs::read_link(format!("/proc/{shim}/fd/{standard}")).unwrap();
        assert_eq!(file.to_str(), Some("/dev/null"));
    }
    let stat = std::fs::read_to_string(format!("/proc/{shim}/stat")).unwrap();
    let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
    assert_eq!(session, shim.to_string());
}

#[tokio::test]
async fn signals_by_accident_do_not_end_a_shim() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("sleep 1000")).await;
    let shim = rustix::process::Pid::from_raw(supervised.status().shim.pid.cast_signed()).unwrap();
    use rustix::process::{Signal, kill_process};
    for signal in [Signal::HUP, Signal::INT, Signal::TERM, Signal::PIPE, Signal::QUIT] {
        kill_process(shim, signal).unwrap();
    }
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn a_state_that_cannot_be_read_means_a_new_start_and_never_a_second_program() {
    let place = Place::new();
    let mut supervised = place.start(&place.script(ALONE)).await;
    kill_hard(supervised.status().shim.pid);
    assert!(matches!(supervised.next().await, Event::Started { .. }));
    assert_eq!(supervised.next().await, Event::Lost);
    std::fs::write(place.dir().join("state.json"), "{\"order\":").unwrap();
    let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
    assert!(matches!(supervised.next().await, Event::Started { .. }));
    supervised.kill().await.unwrap();
    end(&mut supervised).await;
    assert!(!place.path("two").exists());
}

#[tokio::test]
async fn there_is_nothing_to_reconnect_to_where_nothing_was_started() {
    let place = Place::new();
    let error = reconnect(&place.shims(), &place.dir()).await.unwrap_err();
    assert!(matches!(error, Error::NotThere { .. }), "{error}");
}

/// Moves every time of the wall clock in a value.
fn shift(value: &mut serde_json::Value, by_ms: i64) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, field) in fields {
                match (name.as_str(), field.as_i64()) {
                    ("started_at_ms" | "at_ms", Some(at)) => *field = (at + by_ms).into(),
                    _ => shift(field, by_ms),
                }
            }
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(|one| shift(one, by_ms)),
        _ => {}
    }
}

#[tokio::test]
async fn a_wall_clock_that_jumped_a_day_changes_nothing() {
    const DAY_MS: i64 = 86_400_000;
    for by_ms in [DAY_MS, -DAY_MS] {
        let place = Place::new();
        let mut spec = place.script("sleep 1000");
        spec.restart = Restart::Always;
        let mut supervised = place.start(&spec).await;
        let first = started(&mut supervised, 0).await;
        kill_hard(first);
        let pid = started(&mut supervised, 1).await;
        kill_hard(supervised.status().shim.pid);
        assert_eq!(supervised.next().await, Event::Lost);
        // What was written before the clock jumped, as it reads afterwards.
        let file = place.dir().join("state.json");
        let mut state = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        shift(&mut state, -by_ms);
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();
        let mut supervised = reconnect(&place.shims(), &place.dir()).await.unwrap();
        assert_eq!(started(&mut supervised, 1).await, pid, "it runs on");
        kill_hard(pid);
        started(&mut supervised, 2).await;
        supervised.stop().await.unwrap();
        end(&mut supervised).await;
    }
}
