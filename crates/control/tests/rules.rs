//! The rules of the control plane, each a test that bears its name: over the embedded store, and over
//! a real etcd. Agents and replicas are cores, and time is the test's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "rules/cases.rs"]
mod cases;
#[path = "common/etcd.rs"]
mod etcd;
#[path = "rules/storm.rs"]
mod storm;
#[path = "rules/world.rs"]
mod world;

use std::sync::Arc;

use sinew_control::store::{Embedded, Etcd, ManualClock, Store, embedded::Options};

async fn embedded() -> Arc<dyn Store> {
    let clock = Arc::new(ManualClock::default());
    Arc::new(Embedded::in_memory(Options::default(), clock).await.unwrap())
}

/// Runs each rule over each store.
macro_rules! rules {
    ($($rule:ident),+) => {
        mod in_a_file {
            $(#[tokio::test]
            async fn $rule() {
                crate::cases::$rule(crate::embedded().await).await;
            })+
        }

        mod in_etcd {
            $(#[tokio::test]
            async fn $rule() {
                let cluster = crate::etcd::Cluster::single();
                let store = crate::Etcd::connect(cluster.options()).await.unwrap();
                crate::cases::$rule(std::sync::Arc::new(store)).await;
            })+
        }
    };
}

rules! {
    r02_empty_is_not_everything, r03_no_more_than_the_cap_is_removed,
    r05_a_zone_does_without_the_controllers_of_another, r07_an_old_duty_writes_nothing,
    r08_stale_signals_remove_nothing, r09_a_pause_is_durable, r10_mass_death_is_not_believed,
    r13_snapshots_are_given_out_by_a_rate, r15_what_is_done_is_told_and_undone,
    r16_no_more_is_taken_than_is_declared
}
