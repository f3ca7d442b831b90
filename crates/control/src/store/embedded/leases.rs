//! When leases end. Their times lie in memory: whoever restarts starts them anew.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    super::{Clock, Error, Lease, LeaseId},
    Core,
    job::Job,
};

/// After a failure to end leases it is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Leases {
    clock: Arc<dyn Clock>,
    all: Mutex<HashMap<LeaseId, Time>>,
    granted: Notify,
}

#[derive(Clone, Copy)]
struct Time {
    ttl: Duration,
    ends: Duration,
}

impl Leases {
    pub(super) fn new(clock: Arc<dyn Clock>, found: Vec<(LeaseId, u64)>) -> Self {
        let leases = Self { clock, all: Mutex::default(), granted: Notify::new() };
        leases.found(found);
        leases
    }

    /// Takes in what is in the file, where it is new.
    pub(super) fn found(&self, found: Vec<(LeaseId, u64)>) {
        for (lease, ttl_s) in found {
            let known = self.lock().contains_key(&lease);
            if !known {
                self.add(lease, ttl_s);
            }
        }
    }

    pub(super) fn add(&self, lease: LeaseId, ttl_s: u64) {
        let ttl = Duration::from_secs(ttl_s);
        let ends = self.clock.now().saturating_add(ttl);
        self.lock().insert(lease, Time { ttl, ends });
        self.granted.notify_one();
    }

    pub(super) fn remove(&self, lease: LeaseId) {
        self.lock().remove(&lease);
    }

    pub(super) fn keep_alive(&self, lease: LeaseId) -> Result<Lease, Error> {
        let now = self.clock.now();
        let mut all = self.lock();
        let time = all.get_mut(&lease).filter(|time| time.ends > now);
        let time = time.ok_or(Error::LeaseNotFound { lease })?;
        time.ends = now.saturating_add(time.ttl);
        Ok(Lease { id: lease, ttl: time.ttl })
    }

    /// What was granted, and what is left of it.
    pub(super) fn remaining(&self, lease: LeaseId) -> Result<(Duration, Duration), Error> {
        let now = self.clock.now();
        let time = self.lock().get(&lease).copied().filter(|time| time.ends > now);
        let Time { ttl, ends } = time.ok_or(Error::LeaseNotFound { lease })?;
        Ok((ttl, ends.saturating_sub(now)))
    }

    /// Leases that have ended and are still there.
    pub(super) fn ended(&self) -> Vec<LeaseId> {
        let now = self.clock.now();
        let all = self.lock();
        let mut ended: Vec<LeaseId> =
            all.iter().filter(|(_, time)| time.ends <= now).map(|(&lease, _)| lease).collect();
        ended.sort_unstable();
        ended
    }

    fn earliest(&self) -> Option<Duration> {
        self.lock().values().map(|time| time.ends).min()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Time>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the writer end leases when their time has come, until the store is closed.
pub(super) async fn expire(core: Arc<Core>, jobs: mpsc::WeakSender<Job>) {
    let leases = &core.leases;
    loop {
        let sleep = match leases.earliest() {
            Some(time) => leases.clock.sleep_until(time),
            None => Box::pin(std::future::pending()),
        };
        tokio::select! {
            () = sleep => {}
            () = leases.granted.notified() => continue,
            () = core.closing.notified() => return,
        }
        let (reply, done) = oneshot::channel();
        let Some(jobs) = jobs.upgrade() else { return };
        if jobs.send(Job::Expire { reply }).await.is_err() {
            return;
        }
        drop(jobs);
        if !matches!(done.await, Ok(Ok(()))) {
            leases.clock.sleep_until(leases.clock.now() + RETRY).await;
        }
    }
}
