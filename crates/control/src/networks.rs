//! The instance networks of the fleet: made once, by whichever replica comes first, and given to hosts
//! in slices that they keep as long as they are known.

use std::net::Ipv4Addr;

use rustix::rand::{GetRandomFlags, getrandom};
use sinew_model::fleet::{Network, NetworkError};

use crate::{
    records::{Key, NetworksError, Poison, StoredNetworks, read, write},
    store::{self, Compare, Op, Range, Revision, Span, Store, Transaction},
};

/// Unless told otherwise.
const USUAL: Ipv4Addr = Ipv4Addr::new(10, 111, 0, 0);
const USUAL_LENGTH: u32 = 16;

/// How often a write is tried anew when another replica wrote in between.
const ATTEMPTS: u32 = 32;

/// Why there are no instance networks, or not those that were wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// It cannot be.
    #[error(transparent)]
    Networks(#[from] NetworksError),
    /// It is none.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What is there is of no use.
    #[error("sinew/config/networks in the store is damaged: {0}; restore the store")]
    Damaged(#[from] Poison),
    /// Hosts have slices of another.
    #[error(
        "the instance network is {is}, and hosts have slices of it: it cannot become {wanted} any \
         more; leave --instances4 away"
    )]
    Given {
        /// What it is.
        is: Network,
        /// What it was to be.
        wanted: Network,
    },
    /// Others wrote in between, again and again.
    #[error("sinew/config/networks changes all the time: nothing was written; try again")]
    Contended,
    /// The system gave none.
    #[error("the system gave no randomness")]
    NoRandomness,
}

/// The networks in force: those that are there, or `wanted` where no host has a slice yet.
///
/// # Errors
/// When they cannot be what is wanted, and as the store does.
pub async fn open(store: &dyn Store, wanted: Option<Network>) -> Result<StoredNetworks, Error> {
    let key = Key::Networks;
    for _ in 0..ATTEMPTS {
        let ranged = store.range(Range::of(Span::key(key.bytes()))).await?;
        let there = ranged.entries.first();
        let stored: Option<StoredNetworks> = there.map(|entry| read(&entry.value)).transpose()?;
        match (stored, wanted) {
            (Some(stored), None) => return Ok(stored),
            (Some(stored), Some(wanted)) if stored.instances4 == wanted => return Ok(stored),
            _ => {}
        }
        let networks = made(stored, wanted)?;
        let unchanged = match there.map_or(Revision(0), |entry| entry.mod_revision) {
            Revision(0) => Compare::absent(key.bytes()),
            revision => Compare::unchanged(key.bytes(), revision),
        };
        // The lowest is given first, and that it was stays there.
        let none_given = Compare::absent(Key::Slice(0).bytes());
        let put = Op::put(key.bytes(), write(&networks));
        let put = Transaction::new().when(unchanged).when(none_given).then(put);
        if store.commit(put).await?.succeeded {
            return Ok(networks);
        }
        let first = store.range(Range::of(Span::key(Key::Slice(0).bytes()))).await?;
        if let (Some(stored), Some(wanted), true) = (stored, wanted, !first.entries.is_empty()) {
            return Err(Error::Given { is: stored.instances4, wanted });
        }
    }
    Err(Error::Contended)
}

fn made(stored: Option<StoredNetworks>, wanted: Option<Network>) -> Result<StoredNetworks, Error> {
    let mut random = [0; 5];
    match getrandom(&mut random, GetRandomFlags::empty()) {
        Ok(5) => {}
        _ => return Err(Error::NoRandomness),
    }
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => Network::new(USUAL.into(), USUAL_LENGTH)?,
    };
    let mut networks = StoredNetworks::new(wanted, random)?;
    if let Some(stored) = stored {
        networks.instances6 = stored.instances6;
    }
    Ok(networks)
}
