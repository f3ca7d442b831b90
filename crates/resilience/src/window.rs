//! Counts of the last seconds, or of the last calls: what breakers and budgets decide by.
//!
//! The window slides in buckets. Counts only ever grow; at the end of each bucket the sums so far
//! are kept as a mark, and a window's content is the sums minus the mark at its begin. So a call
//! costs one atomic addition whatever the number of buckets, reading a window costs one
//! subtraction, and no count is lost when a bucket ends while others count: a call that races with
//! the end of a bucket is counted on one side of it or the other.

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use std::time::Duration;

use crate::invalid::{self, Invalid};
use crate::sync::{AtomicU64, Mutex, Ordering, Padded, lock};
use crate::time::{Time, ns};

/// How far back a window reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The last `buckets` buckets of time, the one that has just begun among them.
    Time {
        /// Length of a bucket, at least 1 ns.
        bucket: Duration,
        /// How many, 1 to 3600.
        buckets: u32,
    },
    /// The last calls: at least (`buckets` - 1) × `bucket`, at most `buckets` × `bucket` of them.
    Calls {
        /// Calls in a bucket, 1 to a million.
        bucket: u32,
        /// How many buckets, 1 to 3600.
        buckets: u32,
    },
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that ended, well or not.
    pub calls: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, whether they failed or not.
    pub slow: u32,
}

/// A sliding window of calls. Holds up to 2^31 calls at a time.
#[derive(Debug)]
pub struct Window {
    span: Span,
    /// Where the current bucket ends: nanoseconds, or calls modulo 2^32.
    end: AtomicU64,
    /// The number of the current bucket.
    epoch: AtomicU64,
    sums: Padded<Sums>,
    /// Sums at the begin of the last buckets.
    marks: Box<[Sums]>,
    /// Sums at the begin of the window, or when it was cleared.
    begin: Sums,
    /// Held by who ends a bucket. Others count on meanwhile.
    ending: Mutex<()>,
}

/// One call in the upper half of the word; failures are in its lower half.
const CALL: u64 = 1 << 32;

/// Calls and failures are one word, so that they are counted at once. Differences of two such
/// words are right also when a half has overflown, since the words are numbers modulo 2^64.
#[derive(Debug)]
struct Sums {
    calls: AtomicU64,
    slow: AtomicU64,
}

#[derive(Clone, Copy)]
struct Read {
    calls: u64,
    slow: u64,
}

impl Sums {
    fn zero() -> Self {
        Self { calls: AtomicU64::new(0), slow: AtomicU64::new(0) }
    }

    fn read(&self) -> Read {
        Read { calls: self.calls.load(Ordering::Acquire), slow: self.slow.load(Ordering::Acquire) }
    }

    fn write(&self, read: Read) {
        self.calls.store(read.calls, Ordering::Release);
        self.slow.store(read.slow, Ordering::Release);
    }
}

impl Read {
    fn since(self, mark: Self) -> Counts {
        let both = self.calls.wrapping_sub(mark.calls);
        let calls = (both >> 32) as u32;
        // Slow calls are a word of their own: one may be seen before its call is.
        let slow = (self.slow.wrapping_sub(mark.slow) as u32).min(calls);
        Counts { calls, failures: both as u32, slow }
    }
}

impl Window {
    /// An empty window.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn new(span: Span) -> Result<Self, Invalid> {
        let (buckets, end) = match span {
            Span::Time { bucket, buckets } => {
                let within = !bucket.is_zero() && bucket <= Duration::from_secs(86_400);
                invalid::check(within, "bucket", &bucket, "a time up to a day")?;
                (buckets, ns(bucket))
            }
            Span::Calls { bucket, buckets } => {
                let within = (1..=1_000_000).contains(&bucket);
                invalid::check(within, "bucket", &bucket, "1 to 1000000 calls")?;
                (buckets, u64::from(bucket))
            }
        };
        invalid::check((1..=3600).contains(&buckets), "buckets", &buckets, "1 to 3600")?;
        Ok(Self {
            span,
            end: AtomicU64::new(end),
            epoch: AtomicU64::new(0),
            sums: Padded(Sums::zero()),
            marks: (0..buckets).map(|_| Sums::zero()).collect(),
            begin: Sums::zero(),
            ending: Mutex::new(()),
        })
    }

    /// Counts a call that has just ended, and answers what the window holds with it.
    pub fn record(&self, now: Time, failed: bool, slow: bool) -> Counts {
        self.advance(now, |_| false);
        self.add(failed, slow);
        self.current()
    }

    /// Counts without a look at the clock: for those who have just called [`Window::advance`].
    pub(crate) fn add(&self, failed: bool, slow: bool) {
        self.sums.calls.fetch_add(CALL + u64::from(failed), Ordering::AcqRel);
        if slow {
            self.sums.slow.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Adds a failure without a call if `may`, given the counts without it, says so. Of several
    /// threads each sees what the others added.
    pub(crate) fn add_failure_if(&self, now: Time, may: impl Fn(Counts) -> bool) -> bool {
        self.advance(now, |_| false);
        let word = &self.sums.calls;
        loop {
            // The begin first: what it says was counted is then in the sums too.
            let begin = self.begin.read();
            let sums = self.sums.read();
            if !may(sums.since(begin)) {
                return false;
            }
            let (seen, added) = (sums.calls, sums.calls.wrapping_add(1));
            if word.compare_exchange(seen, added, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// What the window holds.
    pub fn counts(&self, now: Time) -> Counts {
        self.advance(now, |_| false);
        self.current()
    }

    /// Forgets all calls so far.
    pub fn clear(&self) {
        let _ending = lock(&self.ending);
        self.begin.write(self.sums.read());
    }

    /// Ends the buckets that are over. Answers the first of their ends at which `exceeds` is true
    /// of the full buckets before it. One thread does it; meanwhile others go on with the bucket
    /// as it is.
    #[inline]
    pub(crate) fn advance(&self, now: Time, exceeds: impl Fn(Counts) -> bool) -> Option<Time> {
        if self.is_over(now) { self.end_buckets(now, exceeds) } else { None }
    }

    #[inline]
    fn is_over(&self, now: Time) -> bool {
        let end = self.end.load(Ordering::Acquire);
        match self.span {
            Span::Time { .. } => now.as_ns() >= end,
            Span::Calls { .. } => {
                let calls = (self.sums.calls.load(Ordering::Acquire) >> 32) as u32;
                calls.wrapping_sub(end as u32) as i32 >= 0
            }
        }
    }

    #[cold]
    fn end_buckets(&self, now: Time, exceeds: impl Fn(Counts) -> bool) -> Option<Time> {
        let _ending = self.ending.try_lock().ok()?;
        if !self.is_over(now) {
            return None;
        }
        let epoch = self.epoch.load(Ordering::Relaxed);
        let (next, end) = match self.span {
            Span::Time { bucket, .. } => {
                let next = now.as_ns() / ns(bucket);
                (next, (next + 1).saturating_mul(ns(bucket)))
            }
            Span::Calls { bucket, .. } => {
                let end = self.end.load(Ordering::Relaxed) as u32;
                (epoch + 1, u64::from(end.wrapping_add(bucket)))
            }
        };
        let mut found = None;
        // After as many ends as there are marks all of them say the same.
        for boundary in (epoch + 1..=next).take(self.marks.len()) {
            let (sums, mark) = (self.sums.read(), self.mark(boundary));
            if found.is_none() && exceeds(sums.since(self.later(sums, mark.read()))) {
                found = Some(self.time_of(boundary, now));
            }
            mark.write(sums);
        }
        self.begin.write(self.later(self.sums.read(), self.mark(next + 1).read()));
        self.epoch.store(next, Ordering::Release);
        self.end.store(end, Ordering::Release);
        found
    }

    /// Where the mark of a bucket's begin belongs, and that of the bucket as many earlier as there
    /// are marks is.
    fn mark(&self, bucket: u64) -> &Sums {
        &self.marks[(bucket % self.marks.len() as u64) as usize]
    }

    fn time_of(&self, boundary: u64, now: Time) -> Time {
        match self.span {
            Span::Time { bucket, .. } => Time::from_ns(boundary.saturating_mul(ns(bucket))),
            Span::Calls { .. } => now,
        }
    }

    pub(crate) fn current(&self) -> Counts {
        let begin = self.begin.read();
        self.sums.read().since(begin)
    }

    /// The later of a mark and the window's begin, given the sums now.
    fn later(&self, sums: Read, mark: Read) -> Read {
        let begin = self.begin.read();
        if sums.since(begin).calls < sums.since(mark).calls { begin } else { mark }
    }
}
