//! Random operations: the store answers what the reference does.

use std::time::Duration;

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sinew_control::store::{
    Batch, Compare, Error, Event, Op, Operand, Order, Range, Revision, Span, Transaction,
};

use crate::etcd::Cluster;
use crate::{
    reference::{Act, Guard, Reference, Step, distinct, key, value},
    support::{Tested, next},
};

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12u8, 0..9u8).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..12u8, 0..9u8, 0..6usize).prop_map(|(key, value, n)| Step::PutUnder(key, value, n)),
        2 => (0..12u8).prop_map(Step::Delete),
        1 => (0..12u8).prop_map(Step::DeleteFrom),
    ];
    proptest::collection::vec(step, 0..5).prop_map(|steps| distinct(&steps))
}

fn act() -> impl Strategy<Value = Act> {
    let guard = prop_oneof![
        3 => Just(Guard::None),
        1 => (0..12u8).prop_map(Guard::Absent),
        1 => (0..12u8, 0..4u64).prop_map(|(key, than)| Guard::VersionAbove(key, than)),
        1 => (0..12u8, 0..9u8).prop_map(|(key, is)| Guard::Value(key, is)),
    ];
    prop_oneof![
        12 => (guard, steps(), steps()).prop_map(|(when, then, other)| Act::Commit(when, then, other)),
        2 => Just(Act::Grant),
        1 => (0..6usize).prop_map(Act::Revoke),
        1 => (0..20u64).prop_map(Act::Compact),
    ]
}

fn compare(guard: Guard) -> Option<Compare> {
    match guard {
        Guard::None => None,
        Guard::Absent(of) => Some(Compare::absent(key(of))),
        Guard::VersionAbove(of, than) => {
            Some(Compare::new(key(of), Order::Greater, Operand::Version(than)))
        }
        Guard::Value(of, is) => Some(Compare::value(key(of), value(is))),
    }
}

fn op(step: Step, reference: &Reference) -> Op {
    match step {
        Step::Put(of, is) => Op::put(key(of), value(is)),
        Step::PutUnder(of, is, lease) => {
            let ended = sinew_control::store::LeaseId(1);
            let lease = reference.leases.get(lease).copied().flatten().unwrap_or(ended);
            Op::put_under(lease, key(of), value(is))
        }
        Step::Delete(of) => Op::delete(key(of)),
        Step::DeleteFrom(of) => Op::Delete(Span::from(key(of))),
    }
}

async fn act_on(store: &Tested, reference: &mut Reference, act: &Act) {
    match act {
        Act::Commit(guard, then, otherwise) => {
            let mut transaction = Transaction::new();
            for step in then {
                transaction = transaction.then(op(*step, reference));
            }
            for step in otherwise {
                transaction = transaction.otherwise(op(*step, reference));
            }
            if let Some(compare) = compare(*guard) {
                transaction = transaction.when(compare);
            }
            let holds = reference.holds(*guard);
            let answer = store.store.commit(transaction).await;
            if reference.commit(if holds { then } else { otherwise }) {
                let committed = answer.unwrap();
                assert_eq!(
                    (committed.succeeded, committed.revision),
                    (holds, reference.revision())
                );
            } else {
                assert!(matches!(answer, Err(Error::LeaseNotFound { .. })), "{answer:?}");
            }
        }
        Act::Grant => {
            let lease = store.store.grant(Duration::from_secs(1_000)).await.unwrap();
            reference.leases.push(Some(lease.id));
        }
        Act::Revoke(number) => {
            if let Some(lease) = reference.revoke(*number) {
                assert_eq!(store.store.revoke(lease).await.unwrap(), reference.revision());
            }
        }
        Act::Compact(back) => {
            let at = reference.revision().0.saturating_sub(*back);
            if at > reference.compacted {
                store.store.compact(Revision(at)).await.unwrap();
                reference.compacted = at;
            }
        }
    }
}

/// Compares all that can be read and watched.
async fn compare_all(store: &Tested, reference: &Reference) {
    let all = Span::prefix("k/");
    let spans = [all.clone(), Span::key(key(3)), Span::range(key(2), key(7))];
    for revision in reference.compacted.max(1)..=reference.revision().0 {
        for span in &spans {
            let range = Range::of(span.clone()).at(Revision(revision));
            let ranged = store.store.range(range).await.unwrap();
            assert_eq!(ranged.entries, reference.at(Revision(revision), span), "{revision}");
            assert_eq!(ranged.revision, reference.revision());
        }
    }
    let from = Revision(reference.compacted + 1);
    for span in &spans {
        let expected = reference.since(from, span);
        let mut watch = store.watch(span.clone(), Some(from)).await;
        for batch in expected {
            assert_eq!(sorted(next(&mut watch).await), sorted(batch));
        }
    }
}

/// The order within a batch is nobody's promise.
fn sorted(mut batch: Batch) -> Batch {
    let key = |event: &Event| -> Bytes { event.key().clone() };
    batch.events.sort_by_key(key);
    batch
}

/// Random sequences against stores that `open` makes.
fn same_as_reference(cases: u32, length: usize, open: impl AsyncFn() -> Tested) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let acts = proptest::collection::vec(act(), 1..length);
    let run = TestRunner::new(config).run(&acts, |acts| {
        runtime.block_on(async {
            let (store, mut reference) = (open().await, Reference::new());
            for act in &acts {
                act_on(&store, &mut reference, act).await;
            }
            compare_all(&store, &reference).await;
        });
        Ok(())
    });
    run.unwrap();
}

#[test]
fn embedded_answers_as_the_reference() {
    same_as_reference(128, 80, crate::support::embedded);
}

#[test]
fn etcd_answers_as_the_reference() {
    same_as_reference(16, 120, async || crate::support::etcd(Cluster::single()).await);
}
