//! How many entries of each table are wanted: counted, and refused when there are too many, before
//! anything is changed.

use std::sync::Arc;

use sinew_abi::capacity;

use super::{
    Delta,
    ledger::{self, Member},
    published,
};
use crate::{
    Error,
    wanted::{Instance, Service},
};

/// Entries of three tables.
type Counts = [u64; 3];

const OF_SERVICES: [(&str, u32); 3] = [
    ("the service table", capacity::SERVICES),
    ("the backend table", capacity::BACKENDS),
    ("the table of published ports", capacity::PUBLISHED),
];
const OF_MEMBERS: [(&str, u32); 3] = [
    ("the table of instances", capacity::INSTANCES),
    // It is as large as that of backends.
    ("the table of listening addresses", capacity::BACKENDS),
    ("the table of adopted listeners", capacity::ADOPTED_LISTENERS),
];

/// What is wanted of the tables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    services: Counts,
    members: Counts,
}

impl Demand {
    /// # Errors
    /// When a table cannot hold it.
    pub(super) fn after_services(self, delta: &Delta<Arc<Service>>) -> Result<Self, Error> {
        let services = after(self.services, delta, |service| of_service(service));
        check(services, OF_SERVICES)?;
        Ok(Self { services, ..self })
    }

    /// # Errors
    /// When a table cannot hold it.
    pub(super) fn after_members(self, delta: &Delta<Member>) -> Result<Self, Error> {
        let members = after(self.members, delta, |member| of_member(&member.instance));
        check(members, OF_MEMBERS)?;
        Ok(Self { members, ..self })
    }
}

fn of_service(service: &Service) -> Counts {
    let backends = service.ports.iter().map(|port| port.backends.len() as u64).sum();
    let published = published::addresses(service).count() as u64;
    [service.ports.len() as u64, backends, published]
}

fn of_member(instance: &Arc<Instance>) -> Counts {
    [1, ledger::listens(instance).count() as u64, instance.brought.len() as u64]
}

fn after<T>(before: Counts, delta: &Delta<T>, of: impl Fn(&T) -> Counts) -> Counts {
    let sum = |parts: &[T]| {
        parts
            .iter()
            .map(&of)
            .fold([0; 3], |sum: Counts, part| std::array::from_fn(|table| sum[table] + part[table]))
    };
    let (left, came) = (sum(&delta.left), sum(&delta.came));
    let before = if delta.whole { [0; 3] } else { before };
    std::array::from_fn(|table| (before[table] + came[table]).saturating_sub(left[table]))
}

fn check(wanted: Counts, tables: [(&'static str, u32); 3]) -> Result<(), Error> {
    let mut tables = tables.into_iter().zip(wanted);
    match tables.find(|((_, capacity), wanted)| *wanted > (*capacity).into()) {
        Some(((map, capacity), wanted)) => Err(Error::Full { map, capacity, wanted }),
        None => Ok(()),
    }
}
