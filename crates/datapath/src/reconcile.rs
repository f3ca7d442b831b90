//! Connections that ended unseen: while somebody had taken the programs away, or when a cgroup was
//! let go. Their records would hold a backend busier than it is, for ever.
//!
//! A connection is open as long as somebody holds its socket. So those are asked who do: the file
//! descriptors of all processes, whichever network namespace a socket belongs to and in whatever
//! state it is. What was nowhere at two looks in a row is looked for in the kernel's list of sockets,
//! since a socket may be held by nobody's descriptor (one on its way from process to process, an
//! io_uring's). Only what is not there either is given back. When in doubt, a count stays.

use std::{
    collections::HashSet,
    fs,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use sinew_abi::reclaim;

use crate::{
    Error,
    maps::Records,
    object::{GIVE_BACK, OPEN_SOCKETS, Object},
    sockets,
    sys::{self, AttachType},
};

mod suspects;

use suspects::Suspects;

/// Number of the PID namespace that all others are below (`PROC_PID_INIT_INO` of
/// include/linux/proc_ns.h): only from there every process is seen.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// Compares the records of connections with the sockets that are there.
pub(crate) struct Reconciliation {
    records: Records,
    /// Tells the sockets that processes hold.
    open: OwnedFd,
    give_back: OwnedFd,
    suspects: Suspects,
}

impl Reconciliation {
    pub(crate) fn new(object: &Object, maps: &Path) -> Result<Self, Error> {
        let open = sys::link_create(object.program(OPEN_SOCKETS)?, None, AttachType::TraceIter);
        let give_back = object.program(GIVE_BACK)?.try_clone_to_owned();
        let fail = |e| Error::system("prepare to look at open sockets", e);
        Ok(Self {
            records: Records::open(maps)?,
            open: open.map_err(fail)?,
            give_back: give_back.map_err(fail)?,
            suspects: Suspects::default(),
        })
    }

    /// Gives back what is open by its record, and was nowhere at this look and the one before;
    /// answers how many. Looks are to be many seconds apart.
    pub(crate) fn look(&mut self) -> Result<u32, Error> {
        // Listed before the sockets: one that is made meanwhile is not missed.
        let recorded: Vec<u64> = self.records.list()?.map(|record| record.cookie).collect();
        if recorded.is_empty() || !sees_every_process() {
            self.suspects = Suspects::default();
            return Ok(0);
        }
        let mut gone = self.suspects.missed_twice(recorded, &self.held()?);
        if gone.is_empty() {
            return Ok(0);
        }
        let there = sockets::cookies()?;
        gone.retain(|cookie| !there.contains(cookie));
        self.end(gone)
    }

    /// Cookies of the sockets that processes hold.
    fn held(&self) -> Result<HashSet<u64>, Error> {
        let mut held = HashSet::new();
        let take = |cookies: &[u8]| {
            held.extend(cookies.as_chunks().0.iter().map(|cookie| u64::from_ne_bytes(*cookie)));
        };
        sys::read_iterator(self.open.as_fd(), take)
            .map_err(|e| Error::system("look at the open sockets of all processes", e))?;
        Ok(held)
    }

    fn end(&self, gone: Vec<u64>) -> Result<u32, Error> {
        let mut ended = 0;
        let mut condemned = Vec::new();
        for cookie in gone {
            let known = cookie & !reclaim::CONDEMNED_COOKIE;
            // A look that was killed in the middle has left it so.
            if known != cookie {
                condemned.push(known);
                continue;
            }
            match self.call(cookie, reclaim::CONDEMN)? {
                reclaim::DONE => ended += 1,
                reclaim::CONDEMNED => condemned.push(cookie),
                _ => {}
            }
        }
        if !condemned.is_empty() {
            crate::grace_period()?;
        }
        for cookie in condemned {
            ended += u32::from(self.call(cookie, reclaim::FINISH)? == reclaim::DONE);
        }
        Ok(ended)
    }

    fn call(&self, cookie: u64, call: u64) -> Result<u32, Error> {
        sys::run_program(self.give_back.as_fd(), [cookie, call])
            .map_err(|e| Error::system("give back the record of a connection", e))
    }
}

fn sees_every_process() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|own| own.ino() == FIRST_PID_NAMESPACE)
}
