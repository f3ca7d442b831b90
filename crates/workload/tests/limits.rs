//! Limits bite, through whichever controllers this machine has.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use std::path::Path;

use common::{Place, end, exists};
use sinew_model::Limits;
use sinew_workload::{Exit, cgroup};

#[tokio::test]
async fn memory_beyond_the_limit_ends_a_workload() {
    let place = Place::new();
    // A buffer of 200 MiB.
    let mut spec = place.script("exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    spec.limits = Limits { memory_bytes: Some(32 << 20), ..Limits::default() };
    let mut supervised = place.start(&spec).await;
    assert_eq!(end(&mut supervised).await, Exit::Signal { number: 9, core: false });
    assert!(supervised.status().last_exit().unwrap().out_of_memory);
    spec.limits.memory_bytes = Some(400 << 20);
    let mut supervised = place.start(&spec).await;
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 0 }, "raised");
}

#[tokio::test]
async fn processes_beyond_the_limit_are_refused() {
    let place = Place::new();
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all";
    let mut spec = place.script(script);
    spec.limits = Limits { pids: Some(4), ..Limits::default() };
    let mut supervised = place.start(&spec).await;
    assert_ne!(end(&mut supervised).await, Exit::Code { code: 0 });
    assert!(!place.log().contains("all"), "{}", place.log());
}

#[tokio::test]
async fn processor_time_is_limited() {
    let place = Place::new();
    let mut spec = place.script("sleep 1000");
    spec.limits = Limits { cpu_millis: Some(250), ..Limits::default() };
    let mut supervised = place.start(&spec).await;
    let mirror = cgroup::mirrors(&place.member()).into_iter().next();
    let (file, expected) = match &mirror {
        Some(mirror) => (mirror.join("cpu.cfs_quota_us"), "25000\n"),
        None => (place.member().join("cpu.max"), "25000 100000\n"),
    };
    assert_eq!(std::fs::read_to_string(file).unwrap(), expected);
    supervised.kill().await.unwrap();
    end(&mut supervised).await;
}

#[tokio::test]
async fn mirrors_go_with_the_cgroup() {
    let place = Place::new();
    cgroup::create(&place.member()).unwrap();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: None, pids: Some(9) };
    cgroup::apply_limits(&place.member(), &limits).unwrap();
    let mirrors = cgroup::mirrors(&place.member());
    assert!(mirrors.iter().all(|mirror| exists(mirror)));
    let parents: Vec<_> = mirrors.iter().map(|m| m.parent().unwrap().to_owned()).collect();
    cgroup::remove_all(&place.cgroup).unwrap();
    assert!(mirrors.iter().chain(&parents).all(|mirror| !exists(mirror)));
    assert!(!exists(&place.cgroup));
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_an_error_with_names() {
    let place = Place::new();
    cgroup::create(&place.member()).unwrap();
    // Less than a millisecond in 100 is not shared out.
    let limits = Limits { cpu_millis: Some(0), ..Limits::default() };
    let error = cgroup::apply_limits(&place.member(), &limits).unwrap_err().to_string();
    assert!(error.starts_with("limits.cpu cannot be enforced: writing 0"), "{error}");
}

#[test]
fn cgroups_are_found_made_killed_and_removed() {
    let place = Place::new();
    let path = place.cgroup.join("a/b");
    cgroup::create(&path).unwrap();
    assert_ne!(cgroup::id(&path).unwrap(), cgroup::id(&place.cgroup).unwrap());
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup::move_pid(&path, child.id()).unwrap();
    assert_eq!(cgroup::processes(&place.cgroup).unwrap(), [child.id()]);
    let mut watch = cgroup::Watch::new(&place.cgroup).unwrap();
    assert!(watch.is_populated());
    cgroup::remove_all(&place.cgroup.join("a")).unwrap();
    assert!(!watch.is_populated());
    assert!(!child.wait().unwrap().success());
    cgroup::remove_all(&path).unwrap();
    assert!(matches!(
        cgroup::create(std::path::Path::new("/tmp/x")),
        Err(cgroup::Error::Outside { .. })
    ));
}

#[test]
fn what_would_enforce_a_limit_does() {
    let place = Place::new();
    let made = place.member();
    let probe = made.join("probe");
    for (limit, by) in cgroup::enforcers(&probe) {
        cgroup::create(&probe).unwrap();
        let limits = match limit {
            "memory" => Limits { memory_bytes: Some(64 << 20), ..Limits::default() },
            "cpu" => Limits { cpu_millis: Some(500), ..Limits::default() },
            _ => Limits { pids: Some(9), ..Limits::default() },
        };
        let applied = cgroup::apply_limits(&probe, &limits);
        assert_eq!(applied.is_ok(), by.is_some(), "{limit}: {by:?}, {applied:?}");
        cgroup::remove_all(&probe).unwrap();
    }
}

#[test]
fn an_empty_cgroup_takes_its_mirrors_along() {
    let place = Place::new();
    let (instance, other) = (place.member(), place.member().with_file_name("1"));
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500), pids: Some(9) };
    let service = instance.parent().unwrap();
    let limited = |instance: &Path| {
        cgroup::create(instance).unwrap();
        cgroup::apply_limits(instance, &limits).unwrap();
    };
    limited(&instance);
    limited(&other);
    let mirrors: Vec<_> =
        cgroup::mirrors(&instance).iter().map(|m| m.parent().unwrap().to_owned()).collect();
    cgroup::remove_all(&instance).unwrap();
    cgroup::remove_empty(service).unwrap();
    assert!(other.exists() && mirrors.iter().all(|mirror| mirror.exists()), "one is left");
    cgroup::remove_all(&other).unwrap();
    cgroup::remove_empty(service).unwrap();
    assert!(!service.exists() && !mirrors.iter().any(|mirror| mirror.exists()), "{mirrors:?}");

    // One instance ends while another one begins.
    let both = [&instance, &other];
    std::thread::scope(|scope| {
        for instance in both {
            scope.spawn(|| {
                for _ in 0..100 {
                    limited(instance);
                    cgroup::remove_all(instance).unwrap();
                    cgroup::remove_empty(service).unwrap();
                }
            });
        }
    });
    assert!(!service.exists() && !mirrors.iter().any(|mirror| mirror.exists()), "{mirrors:?}");
}

#[test]
fn instances_that_start_at_once_leave_no_mirror_behind() {
    let place = Place::new();
    let service = place.member();
    let limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(500), pids: Some(9) };
    for _ in 0..200 {
        let together = std::sync::Barrier::new(4);
        let instances: Vec<_> = (0..4).map(|n| service.join(n.to_string())).collect();
        std::thread::scope(|scope| {
            for instance in &instances {
                scope.spawn(|| {
                    cgroup::create(instance).unwrap();
                    together.wait();
                    cgroup::apply_limits(instance, &limits).unwrap();
                });
            }
        });
        let of_instances = instances.iter().flat_map(|instance| cgroup::mirrors(instance));
        let of_service: Vec<_> =
            of_instances.map(|mirror| mirror.parent().unwrap().to_owned()).collect();
        cgroup::remove_all(&service).unwrap();
        for mirror in of_service {
            assert!(!mirror.exists(), "{} is left", mirror.display());
        }
    }
}
