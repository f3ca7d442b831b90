//! What is asked of cgroups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use sinew_workload::cgroup;

#[test]
fn a_process_leads_to_its_cgroup() {
    let place = common::Place::new();
    let cgroup = place.cgroup.join("a");
    cgroup::create(&cgroup).unwrap();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    cgroup::move_pid(&cgroup, child.id()).unwrap();
    assert_eq!(cgroup::of(child.id()).unwrap(), cgroup);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(cgroup::of(child.id()).is_err());
}

#[test]
fn a_number_leads_to_its_cgroup() {
    let place = common::Place::new();
    let deep = place.cgroup.join("a/b");
    cgroup::create(&deep).unwrap();
    let id = cgroup::id(&deep).unwrap();
    assert_eq!(cgroup::find(id), Some(deep.clone()));
    cgroup::remove_all(&deep).unwrap();
    assert_eq!(cgroup::find(id), None);
}

/// Instances of one service come and go at once: the cgroup that they share is removed with its last.
#[test]
fn a_cgroup_is_made_while_the_one_above_is_removed_as_empty() {
    let place = common::Place::new();
    let above = place.cgroup.join("service");
    std::thread::scope(|scope| {
        for name in ["0", "1"] {
            let (above, path) = (&above, above.join(name));
            scope.spawn(move || {
                for _ in 0..2000 {
                    cgroup::create(&path).unwrap();
                    assert!(path.is_dir());
                    cgroup::remove_all(&path).unwrap();
                    cgroup::remove_empty(above).unwrap();
                }
            });
        }
    });
    assert!(!above.exists());
}
