//! Wakes up when something changes in a directory.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::readable::readable;

/// From look to look where nothing can be watched.
const BLIND: Duration = Duration::from_millis(100);

/// Watches a directory.
pub(super) struct Watch {
    /// `None`: the user's inotify instances are used up (128 by default).
    inotify: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    /// Watches the nearest directory above `path` that exists.
    pub(super) fn near(path: &Path) -> io::Result<Self> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        let inotify = match inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC) {
            Err(rustix::io::Errno::MFILE) => return Ok(Self { inotify: None }),
            made => made?,
        };
        let mut missing = io::Error::from(io::ErrorKind::NotFound);
        for directory in path.ancestors().skip(1) {
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            match inotify::add_watch(&inotify, directory, flags) {
                Ok(_) => return Ok(Self { inotify: Some(readable(inotify)?) }),
                Err(error) => missing = error.into(),
            }
        }
        Err(missing)
    }

    /// Returns when something changed since the watch was set up.
    pub(super) async fn changed(&self) -> io::Result<()> {
        let Some(inotify) = &self.inotify else {
            tokio::time::sleep(BLIND).await;
            return Ok(());
        };
        loop {
            let mut ready = inotify.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            match rustix::io::read(inotify.get_ref(), &mut buffer) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
