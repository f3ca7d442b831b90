//! Workloads run, end, are started again and are stopped.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use common::{Place, end, started};
use sinew_model::{Restart, Stop};
use sinew_workload::{Error, Event, Exit, LaunchError, cgroup, start};

async fn exit_of(script: &str) -> Exit {
    let place = Place::new();
    let mut supervised = place.start(&place.script(script)).await;
    end(&mut supervised).await
}

#[tokio::test]
async fn exits_are_recorded() {
    assert_eq!(exit_of("exit 0").await, Exit::Code { code: 0 });
    assert_eq!(exit_of("exit 42").await, Exit::Code { code: 42 });
    assert_eq!(exit_of("kill -9 $$").await, Exit::Signal { number: 9, core: false });
    assert_eq!(exit_of("kill -TERM $$").await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn events_come_in_order_and_output_keeps_its_order() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("echo a; echo b >&2; echo c; exit 3")).await;
    assert!(matches!(supervised.next().await, Event::Started { restarts: 0, .. }));
    let Event::Exited { exit } = supervised.next().await else { panic!("no exit") };
    assert_eq!(exit.exit, Exit::Code { code: 3 });
    assert!(matches!(supervised.next().await, Event::Ended { asked: false, .. }));
    assert_eq!(place.log(), "a\nb\nc\n");
}

#[tokio::test]
async fn a_failing_workload_is_started_until_it_does_not_fail() {
    let place = Place::new();
    let mut spec = place.script("echo run >>runs; [ $(wc -l <runs) -ge 4 ]");
    spec.restart = Restart::OnFailure;
    let mut supervised = place.start(&spec).await;
    let (mut started, mut backed_off) = (0, 0);
    loop {
        match supervised.next().await {
            Event::Started { restarts, .. } => {
                assert_eq!(restarts, started);
                started += 1;
            }
            Event::BackingOff { exit, .. } => {
                assert_eq!(exit.unwrap().exit, Exit::Code { code: 1 });
                backed_off += 1;
            }
            Event::Ended { exit, asked } => {
                assert_eq!((exit.unwrap().exit, asked), (Exit::Code { code: 0 }, false));
                break;
            }
            Event::Exited { .. } => {}
            Event::Lost => panic!("the shim died"),
        }
    }
    assert_eq!(started, 4);
    assert!(backed_off <= 3);
    assert_eq!(supervised.status().restarts(), 3);
}

#[tokio::test]
async fn always_starts_again_after_success_until_stopped() {
    let place = Place::new();
    let mut spec = place.script("true");
    spec.restart = Restart::Always;
    let mut supervised = place.start(&spec).await;
    started(&mut supervised, 3).await;
    supervised.stop().await.unwrap();
    end(&mut supervised).await;
    assert!(matches!(supervised.stop().await, Err(Error::Ended { .. })));
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_after_the_grace() {
    let place = Place::new();
    let mut spec = place.script("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 1; done");
    // dash runs its trap when the sleep ends; the signal goes to the rest when the shell is gone.
    let mut supervised = place.start(&spec).await;
    wait_for_log(&place, "up").await;
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 7 });
    assert!(place.log().contains("bye"));

    spec.argv[2] = "trap '' TERM; echo deaf; while :; do sleep 1; done".into();
    spec.stop.grace = Duration::from_millis(50);
    let mut supervised = place.start(&spec).await;
    wait_for_log(&place, "deaf").await;
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 9, core: false });
    assert_eq!(cgroup::processes(&place.member()).unwrap(), Vec::<u32>::new());
}

#[tokio::test]
async fn children_of_a_stopped_shell_have_the_rest_of_the_grace() {
    let place = Place::new();
    let inner = r#"sh -c "trap 'echo saved; exit' TERM; echo up; while :; do sleep 0.05; done""#;
    let mut supervised = place.start(&place.script(&format!("{inner} & wait"))).await;
    wait_for_log(&place, "up").await;
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
    assert!(place.log().contains("saved"), "{}", place.log());
}

#[tokio::test]
async fn a_stopped_process_still_ends() {
    let place = Place::new();
    let mut supervised = place.start(&place.script("kill -STOP $$")).await;
    supervised.stop().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 15, core: false });
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_told() {
    let place = Place::new();
    let script = "setsid sleep 1000 & exec 3<&-; exit 0";
    let mut supervised = place.start(&place.script(script)).await;
    end(&mut supervised).await;
    assert_eq!(supervised.status().last_exit().unwrap().left_behind, 1);
    assert_eq!(cgroup::processes(&place.member()).unwrap(), Vec::<u32>::new());
}

#[tokio::test]
async fn kill_and_restart_do_what_they_say() {
    let place = Place::new();
    let mut spec = place.script("sleep 1000 & wait");
    spec.restart = Restart::Always;
    let mut supervised = place.start(&spec).await;
    let Event::Started { pid: first, .. } = supervised.next().await else { panic!("not started") };
    supervised.restart().await.unwrap();
    let second = started(&mut supervised, 1).await;
    assert_ne!(first, second);
    supervised.kill().await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 9, core: false });
}

#[tokio::test]
async fn another_policy_holds_from_the_next_exit_on() {
    let place = Place::new();
    let fifo = place.fifo("go");
    let mut spec = place.script("read line <go; exit 1");
    spec.restart = Restart::Always;
    let mut supervised = place.start(&spec).await;
    let stop = Stop { signal: "SIGQUIT".into(), grace: Duration::from_secs(1) };
    supervised.update_policy(Restart::Never, stop.clone()).await.unwrap();
    let nonsense = Stop { signal: "SIGNAL".into(), ..stop };
    let refused = supervised.update_policy(Restart::Never, nonsense).await.unwrap_err();
    assert!(refused.to_string().contains("\"SIGNAL\""), "{refused}");
    tokio::fs::write(fifo, "\n").await.unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 1 });
}

async fn refusal(change: impl FnOnce(&mut sinew_workload::LaunchSpec)) -> String {
    let place = Place::new();
    let mut spec = place.script("true");
    spec.restart = Restart::Always;
    change(&mut spec);
    match start(&place.shims(), &place.dir(), &spec).await {
        Err(Error::NotLaunched { source, .. }) => source.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let says = refusal(|spec| spec.argv = vec!["nodee".into()]).await;
    assert!(says.starts_with("program not found: nodee (searched PATH "), "{says}");
    let says = refusal(|spec| spec.argv = vec!["/x/y".into()]).await;
    assert_eq!(says, "program not found: /x/y");
    let says = refusal(|spec| spec.argv = vec!["/etc/passwd".into()]).await;
    assert_eq!(says, "cannot execute /etc/passwd: permission denied");
    let says = refusal(|spec| spec.working_dir = "/x".into()).await;
    assert_eq!(says, "working directory /x: no such file or directory");
    let says = refusal(|spec| spec.user = Some("wwww".into())).await;
    assert!(says.starts_with("user \"wwww\" does not exist"), "{says}");
    let says = refusal(|spec| spec.stop.signal = "SIGFOO".into()).await;
    assert_eq!(says, "stop.signal: there is no signal \"SIGFOO\"");
    let says = refusal(|spec| spec.argv = vec![]).await;
    assert_eq!(says, LaunchError::Empty.to_string());
    let says = refusal(|spec| spec.log = "/dev/null".into()).await;
    assert_eq!(says, "log /dev/null: invalid argument");
}

#[tokio::test]
async fn a_script_without_its_interpreter_is_told_from_one_that_is_not_there() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let script = place.path("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let spec = place.program(&[script.to_str().unwrap()]);
    let error = start(&place.shims(), &place.dir(), &spec).await.unwrap_err();
    assert!(error.to_string().contains("interpreter in its first line"), "{error}");
}

#[tokio::test]
async fn a_workload_is_not_started_twice() {
    let place = Place::new();
    let spec = place.script("sleep 1000");
    let mut supervised = place.start(&spec).await;
    let again = start(&place.shims(), &place.dir(), &spec).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyRunning { .. }), "{again}");
    supervised.kill().await.unwrap();
    end(&mut supervised).await;
    let mut again = place.start(&spec).await;
    assert!(matches!(again.next().await, Event::Started { restarts: 0, .. }));
}

#[tokio::test]
async fn a_program_may_open_its_output_again() {
    let place = Place::new();
    let mut spec = place.script("echo first; echo second >>/dev/stdout; echo third >>/dev/stderr");
    spec.user = Some("nobody".into());
    let mut supervised = place.start(&spec).await;
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 0 });
    assert_eq!(place.log(), "first\nsecond\nthird\n");
    let metadata = std::fs::metadata(place.path("log")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777, 0o640);
}

async fn wait_for_log(place: &Place, line: &str) {
    let mut follow = sinew_workload::logs::Follow::open(&place.path("log"), 0).unwrap();
    let wanted = sinew_workload::logs::Record::Line(line.into());
    while follow.next().await.unwrap() != wanted {}
}
