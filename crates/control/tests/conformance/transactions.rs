//! Writing.

use bytes::Bytes;
use futures_util::future::join_all;
use sinew_control::store::{
    Applied, Compare, Error, LeaseId, Op, Operand, Order, Range, Response, Retry, Revision, Span,
    Transaction,
};

use crate::support::{Tested, pairs};

pub(crate) async fn comparisons_decide(store: Tested) {
    let made = store.put("a", "m").await;
    let changed = store.put("a", "m").await;
    let value = |value: &'static str| Operand::Value(Bytes::from_static(value.as_bytes()));
    let (less, greater) = (Revision(made.0 - 1), Revision(changed.0 + 1));
    let operands = [
        (value("l"), value("m"), value("n")),
        (Operand::Version(1), Operand::Version(2), Operand::Version(3)),
        (Operand::Create(less), Operand::Create(made), Operand::Create(greater)),
        (Operand::Mod(less), Operand::Mod(changed), Operand::Mod(greater)),
    ];
    let holds = async |order, operand| {
        store.commit(Transaction::new().when(Compare::new("a", order, operand))).await.succeeded
    };
    for (less, same, greater) in operands {
        for (order, expected) in [
            (Order::Equal, [false, true, false]),
            (Order::NotEqual, [true, false, true]),
            (Order::Greater, [true, false, false]),
            (Order::Less, [false, false, true]),
        ] {
            let held = [
                holds(order, less.clone()).await,
                holds(order, same.clone()).await,
                holds(order, greater.clone()).await,
            ];
            assert_eq!(held, expected, "{order:?} {same:?}");
        }
    }
}

pub(crate) async fn missing_keys_compare_as_zero(store: Tested) {
    let holds = async |order, operand| {
        store.commit(Transaction::new().when(Compare::new("a", order, operand))).await.succeeded
    };
    assert!(holds(Order::Equal, Operand::Version(0)).await);
    assert!(holds(Order::Less, Operand::Mod(Revision(1))).await);
    assert!(holds(Order::Equal, Operand::Create(Revision(0))).await);
    for order in [Order::Equal, Order::NotEqual, Order::Less, Order::Greater] {
        assert!(!holds(order, Operand::Value(Bytes::new())).await, "{order:?}");
    }
}

pub(crate) async fn all_changes_have_one_revision(store: Tested) {
    store.put("gone", "").await;
    let both = Transaction::put("a", "1").then(Op::put("b", "1")).then(Op::delete("gone"));
    let committed = store.commit(both).await;
    assert_eq!(committed.responses, [Response::Put, Response::Put, Response::Deleted(1)]);
    assert_eq!(committed.revision, Revision(3));
    let entries = store.entries(Range::of(Span::all())).await;
    assert_eq!(pairs(&entries), ["a=1", "b=1"]);
    assert!(entries.iter().all(|entry| entry.mod_revision == committed.revision));
}

pub(crate) async fn nothing_changed_is_no_revision(store: Tested) {
    let revision = store.put("a", "1").await;
    let nothing = Transaction::new().then(Op::delete("b")).then(Op::Range(Range::of(Span::all())));
    let committed = store.commit(nothing).await;
    assert_eq!(committed.revision, revision);
    assert_eq!(committed.responses[0], Response::Deleted(0));
    assert_eq!(store.commit(Transaction::new()).await.revision, revision);
    assert_eq!(store.revision().await, revision);
}

pub(crate) async fn operations_see_those_before(store: Tested) {
    store.put("a", "1").await;
    let all = || Op::Range(Range::of(Span::all()));
    let before = Op::Range(Range::of(Span::all()).at(Revision(2)));
    let committed = store
        .commit(
            Transaction::new()
                .then(all())
                .then(Op::put("b", "2"))
                .then(Op::delete("a"))
                .then(all())
                .then(before),
        )
        .await;
    let seen: Vec<Vec<String>> = committed
        .responses
        .iter()
        .filter_map(|response| match response {
            Response::Range(ranged) => {
                assert_eq!(ranged.revision, committed.revision);
                Some(pairs(&ranged.entries))
            }
            Response::Put | Response::Deleted(_) => None,
        })
        .collect();
    assert_eq!(seen, [vec!["a=1"], vec!["b=2"], vec!["a=1"]]);
}

pub(crate) async fn a_refused_one_changes_nothing(store: Tested) {
    let lease = LeaseId(4711);
    let revision = store.put("a", "1").await;
    let under = Transaction::put("a", "2").then(Op::put_under(lease, "b", "2"));
    let refused = store.store.commit(under).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound { lease: of }) if of == lease));
    let ahead = Op::Range(Range::of(Span::all()).at(Revision(100)));
    let refused = store.store.commit(Transaction::put("a", "2").then(ahead)).await.unwrap_err();
    assert!(matches!(refused, Error::FutureRevision { .. }), "{refused:?}");
    assert_eq!((refused.applied(), refused.retry()), (Applied::No, Retry::No));
    assert_eq!(pairs(&store.entries(Range::of(Span::all())).await), ["a=1"]);
    assert_eq!(store.revision().await, revision);
    // The list that is not done is not looked at.
    let otherwise = Transaction::put("a", "2").otherwise(Op::put_under(lease, "b", "2"));
    assert!(store.commit(otherwise).await.succeeded);
}

pub(crate) async fn one_of_many_wins(store: Tested) {
    for round in 1..=10 {
        let attempts = (0..16).map(|n| {
            let next = Transaction::new()
                .when(Compare::new("leader", Order::Equal, Operand::Version(round - 1)))
                .then(Op::put("leader", n.to_string()))
                .otherwise(Op::Range(Range::of(Span::key("leader"))));
            store.store.commit(next)
        });
        let won = join_all(attempts).await;
        assert_eq!(won.into_iter().filter(|won| won.as_ref().unwrap().succeeded).count(), 1);
    }
    assert_eq!(store.get("leader").await.unwrap().version, 10);
}

pub(crate) async fn bad_ones_are_refused(store: Tested) {
    let bad = [
        Transaction::put("", "1"),
        Transaction::put("a", "1").then(Op::put("a", "1")),
        Transaction::put("a", "1").then(Op::Delete(Span::all())),
        Transaction::new().then(Op::Delete(Span::range("b", "b"))),
        (0..129).fold(Transaction::new(), |all, n| all.when(Compare::absent(n.to_string()))),
    ];
    for bad in bad {
        let refused = store.store.commit(bad).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let large = vec![b'a'; Transaction::MAX_BYTES];
    let refused = store.store.commit(Transaction::put("a", large.clone())).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    store.commit(Transaction::put("a", large[1..].to_vec())).await;
    let many = (0..128).fold(Transaction::new(), |all, n| all.then(Op::put(n.to_string(), "")));
    store.commit(many).await;
}
