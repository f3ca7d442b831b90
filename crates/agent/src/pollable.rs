//! Lets the event loop wait for what only lends its descriptor.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use sinew_datapath::Events;
use sinew_workload::cgroup::Watch;
use tokio::io::{Interest, unix::AsyncFd};

/// Something whose descriptor can be waited for.
#[derive(Debug)]
pub(crate) struct Pollable<T>(pub(crate) T);

impl<T: AsFd> AsFd for Pollable<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Pollable<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Waits until there is something to read; a pidfd has when its process has ended.
pub(crate) fn readable(file: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor until it is dropped.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }.map_err(io::Error::from)
}

/// Readable while events wait.
pub(crate) fn events(events: Events) -> io::Result<AsyncFd<Pollable<Events>>> {
    // SAFETY: `Events` keeps the one descriptor of its ring open until it is dropped.
    unsafe { AsyncFd::register_with_interest(Pollable(events), Interest::READABLE) }
        .map_err(io::Error::from)
}

/// Has a priority event when the cgroup becomes empty.
pub(crate) fn watch(watch: Watch) -> io::Result<AsyncFd<Pollable<Watch>>> {
    // SAFETY: `Watch` keeps the one file that it lends open until it is dropped.
    unsafe { AsyncFd::register_with_interest(Pollable(watch), Interest::PRIORITY) }
        .map_err(io::Error::from)
}
