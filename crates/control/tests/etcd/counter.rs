//! A number that is counted up, and a watch that has to see every step.

use futures_util::StreamExt as _;
use sinew_control::store::{
    Applied, Compare, Error, Etcd, Event, Op, Range, Revision, Span, Store, Transaction, Update,
    Watch,
};

pub(crate) const KEY: &str = "count";

pub(crate) struct Counter {
    pub(crate) store: Etcd,
    /// What it surely is.
    pub(crate) count: u64,
    /// Calls that left open whether they had an effect.
    pub(crate) unknown: usize,
}

impl Counter {
    pub(crate) fn new(store: &Etcd) -> Self {
        Self { store: store.clone(), count: 0, unknown: 0 }
    }

    /// Counts up once.
    pub(crate) async fn step(&mut self) -> Result<Revision, Error> {
        let mut compare = Compare::value(KEY, self.count.to_string());
        if self.count == 0 {
            compare = Compare::absent(KEY);
        }
        let next = (self.count + 1).to_string();
        let step = Transaction::new().when(compare).then(Op::put(KEY, next));
        let committed = self.store.commit(step).await?;
        assert!(committed.succeeded, "a call that was said to have had no effect had one");
        self.count += 1;
        Ok(committed.revision)
    }

    /// Counts up to `count`, whatever fails on the way.
    pub(crate) async fn up_to(&mut self, count: u64) {
        while self.count < count {
            if let Err(error) = self.step().await
                && error.applied() == Applied::Unknown
            {
                self.unknown += 1;
                self.look().await;
            }
        }
    }

    /// Reads the number until that succeeds.
    async fn look(&mut self) {
        loop {
            match self.store.range(Range::of(Span::key(KEY))).await {
                Ok(ranged) => {
                    let entry = ranged.entries.first();
                    let text =
                        entry.map_or("0", |entry| std::str::from_utf8(&entry.value).unwrap());
                    self.count = text.parse().unwrap();
                    return;
                }
                Err(error) => assert_eq!(error.applied(), Applied::No, "{error:?}"),
            }
        }
    }
}

/// Reads the watch until the number is `last`; every step has to be seen once and in order.
/// Answers how often the watch was interrupted.
pub(crate) async fn sees_every_step(watch: &mut Watch, from: u64, last: u64) -> usize {
    let (mut count, mut interrupted) = (from, 0);
    while count < last {
        match watch.next().await.unwrap().unwrap() {
            Update::Batch(batch) => {
                let [Event::Put(entry)] = &batch.events[..] else { panic!("{batch:?}") };
                count += 1;
                assert_eq!(entry.value, count.to_string());
            }
            Update::Progress(_) => {}
            Update::Interrupted(_) => interrupted += 1,
        }
    }
    interrupted
}
