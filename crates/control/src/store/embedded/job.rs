//! Requests to the writer.

use std::time::Duration;

use super::{
    super::{Applied, Committed, Error, Lease, LeaseId, Op, Revision, Transaction},
    Core, Reply,
    apply::State,
    closed,
    read::Failure,
};

/// A request.
pub(super) enum Job {
    Commit { transaction: Transaction, reply: Reply<Committed> },
    Grant { ttl_s: u64, reply: Reply<Lease> },
    Revoke { lease: LeaseId, reply: Reply<Revision> },
    Expire { reply: Reply<()> },
    Compact { revision: Revision, reply: Reply<()> },
}

/// What is left to do for a request when its group is on disk, or failed to get there.
pub(super) type Finish = Box<dyn FnOnce(&Core, Result<(), Error>)>;

impl Job {
    /// Does it in the tables. A failure of the file is told beside, for the whole group.
    pub(super) fn perform(
        self,
        state: &mut State<'_>,
        core: &Core,
        full: Option<&Error>,
    ) -> (Finish, Option<redb::Error>) {
        match self {
            Self::Commit { transaction, reply } => {
                let full = full.filter(|_| puts(&transaction));
                let done = refuse(full).and_then(|()| state.commit(&transaction));
                finish(done, reply, |_, _| {})
            }
            Self::Grant { ttl_s, reply } => {
                let granted = refuse(full).and_then(|()| grant(state, ttl_s));
                finish(granted, reply, move |core, lease| core.leases.add(lease.id, ttl_s))
            }
            Self::Revoke { lease, reply } => {
                finish(state.revoke(lease), reply, move |core, _| core.leases.remove(lease))
            }
            Self::Expire { reply } => {
                let ended = core.leases.ended();
                finish(expire(state, &ended), reply, move |core, ()| {
                    ended.iter().for_each(|&lease| core.leases.remove(lease));
                })
            }
            Self::Compact { revision, reply } => finish(state.compact(revision), reply, |_, ()| {}),
        }
    }

    /// For a group that the file does not take.
    pub(super) fn fail(self) -> Finish {
        match self {
            Self::Commit { reply, .. } => failing(reply),
            Self::Grant { reply, .. } => failing(reply),
            Self::Revoke { reply, .. } => failing(reply),
            Self::Expire { reply } | Self::Compact { reply, .. } => failing(reply),
        }
    }
}

fn failing<T: 'static>(reply: Reply<T>) -> Finish {
    Box::new(|_, outcome| answer(reply, outcome.and(Err(closed(Applied::No)))))
}

fn finish<T: 'static>(
    done: Result<T, Failure>,
    reply: Reply<T>,
    then: impl FnOnce(&Core, &T) + 'static,
) -> (Finish, Option<redb::Error>) {
    match done {
        Ok(value) => {
            let finish = move |core: &Core, outcome: Result<(), Error>| {
                if outcome.is_ok() {
                    then(core, &value);
                }
                answer(reply, outcome.map(|()| value));
            };
            (Box::new(finish), None)
        }
        Err(Failure::Refused(error)) => {
            (Box::new(|_, outcome| answer(reply, outcome.and(Err(error)))), None)
        }
        Err(Failure::Storage(error)) => (failing(reply), Some(error)),
    }
}

/// Who does not wait any more has no need to know.
fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    let _unheard = reply.send(result);
}

fn refuse(full: Option<&Error>) -> Result<(), Failure> {
    full.map_or(Ok(()), |error| Err(Failure::Refused(error.clone())))
}

fn puts(transaction: &Transaction) -> bool {
    let mut ops = transaction.then.iter().chain(&transaction.otherwise);
    ops.any(|op| matches!(op, Op::Put { .. }))
}

/// Numbers are drawn: an agent that names a lease of another store must not meet a stranger's.
fn grant(state: &mut State<'_>, ttl_s: u64) -> Result<Lease, Failure> {
    loop {
        let id = LeaseId(random()? >> 1);
        if id.0 > 0 && !state.has_lease(id)? {
            state.grant(id, ttl_s)?;
            return Ok(Lease { id, ttl: Duration::from_secs(ttl_s) });
        }
    }
}

fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::Storage(redb::Error::Io(error.into())))?;
    Ok(u64::from_ne_bytes(bytes))
}

fn expire(state: &mut State<'_>, ended: &[LeaseId]) -> Result<(), Failure> {
    for &lease in ended {
        match state.revoke(lease) {
            // It may be gone from the file already.
            Ok(_) | Err(Failure::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
