//! One suite for all stores: what the documentation of `Store` says, each promise a test, run
//! against every store there is, and random operations compared with a plain model of etcd.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "conformance/compaction.rs"]
mod compaction;
#[path = "common/etcd.rs"]
mod etcd;
#[path = "conformance/leases.rs"]
mod leases;
#[path = "conformance/random.rs"]
mod random;
#[path = "conformance/ranges.rs"]
mod ranges;
#[path = "conformance/reference.rs"]
mod reference;
#[path = "conformance/support.rs"]
mod support;
#[path = "conformance/transactions.rs"]
mod transactions;
#[path = "conformance/watches.rs"]
mod watches;

/// Runs each case against each store.
macro_rules! conformance {
    ($($module:ident: $($case:ident),+;)+) => {
        mod in_a_file {
            $($(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::support::embedded().await).await;
            })+)+
        }

        mod in_etcd {
            use crate::etcd::Cluster;

            $($(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::support::etcd(Cluster::single()).await).await;
            })+)+
        }

        mod in_etcd_of_three {
            use crate::etcd::Cluster;

            $($(#[tokio::test]
            async fn $case() {
                crate::$module::$case(crate::support::etcd(Cluster::three()).await).await;
            })+)+
        }
    };
}

conformance! {
    ranges: an_empty_store_is_at_revision_one, entries_tell_their_history, spans_are_ordered,
        limits_say_that_there_is_more, the_past_can_be_read, the_future_cannot;
    transactions: comparisons_decide, missing_keys_compare_as_zero, all_changes_have_one_revision,
        nothing_changed_is_no_revision, operations_see_those_before, a_refused_one_changes_nothing,
        one_of_many_wins, bad_ones_are_refused;
    leases: keys_go_with_their_lease, a_lease_that_is_kept_alive_stays, the_last_put_decides,
        ended_leases_are_not_found, time_to_live_lists_keys;
    watches: changes_come_in_order, the_past_comes_first, one_revision_is_one_batch,
        other_keys_are_not_told, the_future_is_waited_for, a_slow_watcher_misses_nothing;
    compaction: the_past_is_gone, watchers_of_the_past_are_told, what_is_kept_stays_readable,
        it_cannot_be_done_twice;
}
