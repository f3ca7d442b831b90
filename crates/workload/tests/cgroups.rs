//! What is asked of cgroups.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use sinew_workload::cgroup;

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
