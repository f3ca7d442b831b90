//! Wakes up when something changes in a directory.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::readable::readable;

/// Watches a directory.
pub(super) struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Watches the nearest directory above `path` that exists.
    pub(super) fn near(path: &Path) -> io::Result<Self> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let mut missing = io::Error::from(io::ErrorKind::NotFound);
        for directory in path.ancestors().skip(1) {
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            match inotify::add_watch(&inotify, directory, flags) {
                Ok(_) => return Ok(Self { inotify: readable(inotify)? }),
                Err(error) => missing = error.into(),
            }
        }
        Err(missing)
    }

    /// Returns when something changed since the watch was set up.
    pub(super) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            match rustix::io::read(self.inotify.get_ref(), &mut buffer) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
