//! Gives back the records of sockets that are gone although nobody saw their end.
//!
//! Two calls end a record, with a grace period between them. The first takes it out of sight: a
//! release or connect() that has found it before may be about to end it, and has when the grace
//! period is over; then the second finds that, and leaves it. So each is counted down once. In the
//! overflow one call does, since who takes a record out of the hash has ended it.

use sinew_abi::reclaim;

use crate::{count, maps::PORT_NAMES, record};

#[inline(always)]
pub fn give_back(cookie: u64, call: u64) -> u32 {
    let ended = if call == reclaim::FINISH {
        record::end_condemned(cookie)
    } else if record::condemn(cookie) {
        return reclaim::CONDEMNED;
    } else {
        record::end_overflowed(cookie)
    };
    let Some(was) = ended else { return reclaim::LEFT };
    // How it went nobody knows.
    let destination = PORT_NAMES.get(was.index.into()).map_or(0, |name| name.service);
    if let Some(edge) = count::edge(was.source, destination) {
        edge.closed += 1;
    }
    reclaim::DONE
}
