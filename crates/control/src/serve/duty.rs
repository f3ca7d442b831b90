//! The duty of this replica, when it has it: the lock `duty/lead`, under a lease of its own.
//!
//! All replicas try to take the lock; the revision that put it is the generation of the duty, and
//! every write of the duty compares it, so that a replica that was stopped for a while and does not
//! know yet that another has the duty changes nothing. It is free as long after its holder was heard
//! of last as a replica's lease lasts, and at once when the holder ends; who takes it gives all hosts
//! longer than that to show themselves, so a faster change would gain nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::shared::Shared;
use crate::{
    duty::{
        Act, Duty,
        capacity::{self, NearlyFull},
        history,
        liveness::Frozen,
    },
    records::{Key, config::StoredLead, write},
    session::milliseconds,
    store::{Compare, Error, Lease, Op, Range, Retry, Revision, Span, Transaction},
};

/// Between looks at whether the duty is free.
const TRIES: Duration = Duration::from_millis(250);
/// Between looks at what is to be done.
const LOOKS: Duration = Duration::from_millis(200);
/// Between looks at what is nearly full.
const CAPACITY: Duration = Duration::from_secs(10);
/// How far behind the store the registry may be: after that it is in doubt.
const STALE: Duration = Duration::from_secs(2);

/// The lock, while it is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    lease: Lease,
    generation: Revision,
}

/// Goes on until it is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        match take(&shared).await {
            Ok(Some(held)) => {
                tracing::info!(generation = %held.generation, "this replica has the duty: it declares hosts dead");
                let why = hold(&shared, held).await;
                tracing::info!(generation = %held.generation, why, "this replica has the duty no more");
                let _ = timeout(STALE, shared.store.revoke(held.lease.id)).await;
            }
            Ok(None) => (),
            Err(error) => tracing::debug!(%error, "the duty could not be taken"),
        }
        sleep(TRIES).await;
    }
}

/// Takes the lock when it is free.
async fn take(shared: &Shared) -> Result<Option<Held>, Error> {
    let known = {
        let registry = shared.registry();
        registry.revision() > Revision(0) && registry.config().lead().is_none()
    };
    if !known {
        return Ok(None);
    }
    let lease = shared.store.grant(shared.options.lease).await?;
    let since_ms = milliseconds(shared.clock.now().wall);
    let lead = write(&StoredLead { control: shared.id.clone(), since_ms });
    let key = Key::Lead.bytes();
    let put = Transaction::new()
        .when(Compare::absent(key.clone()))
        .then(Op::put_under(lease.id, key, lead));
    let committed = shared.store.commit(put).await;
    match committed {
        Ok(committed) if committed.succeeded => {
            shared.caught_up(committed.revision, STALE).await;
            Ok(Some(Held { lease, generation: committed.revision }))
        }
        other => {
            let _ = timeout(STALE, shared.store.revoke(lease.id)).await;
            other.map(|_| None)
        }
    }
}

/// Lets others have the duty at once: this replica ends.
pub(super) async fn release(shared: &Shared) {
    let lead = shared.registry().config().lead().cloned();
    let Some((revision, _)) = lead.filter(|(_, lead)| lead.control == shared.id) else { return };
    let key = Key::Lead.bytes();
    let delete =
        Transaction::new().when(Compare::unchanged(key.clone(), revision)).then(Op::delete(key));
    let _ = timeout(Duration::from_millis(500), shared.store.commit(delete)).await;
}

/// Does the duty until it is lost, and says why it was.
async fn hold(shared: &Shared, held: Held) -> &'static str {
    let mut duty = Duty::new(shared.clock.now());
    let mut told = Told::default();
    let mut past = Past::new(shared);
    let ttl = held.lease.ttl;
    let mut renewed = Instant::now();
    loop {
        if renewed.elapsed() >= ttl / 4 {
            match timeout(ttl / 2, shared.store.keep_alive(held.lease.id)).await {
                Ok(Ok(_)) => renewed = Instant::now(),
                Ok(Err(Error::LeaseNotFound { .. })) => return "its lease has ended",
                Ok(Err(_)) | Err(_) => duty.doubt(shared.clock.now()),
            }
        }
        if !shared.has_duty(held.generation) {
            return "another has it";
        }
        match act(shared, &mut duty, held.generation).await {
            Ok(true) => {
                shared.health.works();
                continue;
            }
            Ok(false) => (),
            Err(error) => {
                shared.health.fails(&error);
                // What is known is as good as before, when only this cannot be done.
                if error.retry() != Retry::No {
                    duty.doubt(shared.clock.now());
                }
            }
        }
        past.compact(shared).await;
        told.tell(shared, &duty);
        sleep(LOOKS).await;
    }
}

/// Does the next thing; whether there was one.
async fn act(shared: &Shared, duty: &mut Duty, generation: Revision) -> Result<bool, Error> {
    let look = |duty: &mut Duty| duty.next(shared.clock.now(), &shared.registry());
    if look(duty).is_none() {
        return Ok(false);
    }
    // Nothing is done by what may be stale: what the store holds now has to be known here.
    let lead = Range::of(Span::key(Key::Lead.bytes()));
    let newest = shared.store.range(lead).await?.revision;
    if !shared.caught_up(newest, STALE).await {
        duty.doubt(shared.clock.now());
        return Ok(false);
    }
    let Some(act) = look(duty) else { return Ok(false) };
    let transaction = match &act {
        Act::Plan(plan) => {
            let now = shared.clock.now();
            history::recorded(plan, &format!("control {}", shared.id), now, Some(generation))
        }
        Act::Sweep(transaction) => history::fenced(transaction.clone(), Some(generation)),
    };
    let committed = shared.store.commit(transaction).await?;
    shared.caught_up(committed.revision, STALE).await;
    if let (Act::Plan(plan), true) = (act, committed.succeeded) {
        tracing::warn!(revision = %committed.revision, rule = ?plan.rule, "{}", plan.words);
    }
    Ok(committed.succeeded)
}

/// What the store was at, to forget what was before.
#[derive(Debug)]
struct Past {
    at: Instant,
    revision: Revision,
}

impl Past {
    fn new(shared: &Shared) -> Self {
        Self { at: Instant::now(), revision: shared.registry().revision() }
    }

    /// Every replica that has just taken the duty begins anew: what is kept may be more.
    async fn compact(&mut self, shared: &Shared) {
        if self.at.elapsed() < shared.options.past {
            return;
        }
        let before = std::mem::replace(self, Self::new(shared)).revision;
        if before < self.revision
            && let Err(error) = shared.store.compact(before).await
        {
            tracing::debug!(%error, "what is long past stays in the store for now");
        }
    }
}

/// What the log says already.
#[derive(Debug, Default)]
struct Told {
    frozen: Vec<Frozen>,
    full: Vec<NearlyFull>,
    looked: Option<Instant>,
}

impl Told {
    fn tell(&mut self, shared: &Shared, duty: &Duty) {
        // The numbers change from look to look.
        let zones = |all: &[Frozen]| all.iter().map(|it| it.zone.clone()).collect::<Vec<_>>();
        if zones(&self.frozen) != zones(duty.frozen()) {
            self.frozen = duty.frozen().to_vec();
            for frozen in &self.frozen {
                tracing::warn!("{frozen}");
            }
            if self.frozen.is_empty() {
                tracing::info!("hosts are declared dead again");
            }
        }
        if self.looked.is_some_and(|at| at.elapsed() < CAPACITY) {
            return;
        }
        self.looked = Some(Instant::now());
        let full = capacity::nearly_full(shared.clock.now(), &shared.registry());
        let known = |it: &NearlyFull| self.full.iter().any(|told| told.what == it.what);
        full.iter().filter(|it| !known(it)).for_each(|it| tracing::warn!("{it}"));
        self.full = full;
    }
}
