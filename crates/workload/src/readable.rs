//! Waiting in tokio for files that it has no types for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Registers a file with the runtime, to wait until it is readable.
pub(crate) fn readable(file: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the wrapper owns the file, names one descriptor all the time, and closes it only when
    // it is dropped.
    unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }
        .map_err(|refused| refused.into_parts().1)
}
