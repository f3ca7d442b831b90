//! Keeps a log at its limit without touching what is written to it: the head of the file becomes a
//! hole. Offsets stay, so writers and readers notice nothing.
//!
//! A first write after a quiet time wakes the shim, which looks at the size a little later and at
//! each further moment of writing: nothing is polled while nothing is written. Where the user's
//! inotify instances are used up (128 by default), the size is looked at every few seconds instead.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{
        FallocateFlags, SeekFrom, fallocate, fstat,
        inotify::{self, CreateFlags, WatchFlags},
        seek,
    },
    io::Errno,
};

/// From a write to the look at the size.
const USUAL: Duration = Duration::from_secs(1);
/// The same when the last such time filled a good part of the limit.
const HURRIED: Duration = Duration::from_millis(50);
/// From look to look when writes cannot be noticed.
const UNNOTICED: Duration = Duration::from_secs(3);

/// The log of a workload.
pub(super) struct Output {
    path: PathBuf,
    log: OwnedFd,
    inotify: Option<OwnedFd>,
    limit_bytes: u64,
    size_bytes: u64,
    period: Duration,
    look_at: Option<Duration>,
}

/// What a look at the log found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is within its limit.
    Within,
    /// All before this offset was dropped.
    Dropped(u64),
    /// Its file system cannot drop a part of a file.
    Unbounded(Errno),
}

impl Output {
    /// `log` must be open for writing.
    pub(super) fn new(path: &Path, log: OwnedFd, limit_bytes: u64, now: Duration) -> Self {
        Self {
            path: path.to_owned(),
            log,
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
            limit_bytes,
            size_bytes: 0,
            period: USUAL,
            look_at: Some(now),
        }
    }

    /// When [`Output::look`] is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.look_at
    }

    /// Takes in that the log was written to.
    pub(super) fn written(&mut self, now: Duration) {
        if let Some(inotify) = &self.inotify {
            let mut buffer = [MaybeUninit::uninit(); 512];
            let mut events = inotify::Reader::new(inotify, &mut buffer);
            while events.next().is_ok() {}
        }
        self.look_at.get_or_insert(now + self.period);
    }

    /// Looks at the size, drops what is too much, and waits for the next write.
    pub(super) fn look(&mut self, now: Duration) -> Result<Look, Errno> {
        // First, so that no write goes unnoticed in between.
        self.look_at = if self.arm() { None } else { Some(now + UNNOTICED) };
        let stat = fstat(&self.log)?;
        let size_bytes = stat.st_size.cast_unsigned();
        let grown = size_bytes.saturating_sub(self.size_bytes);
        self.size_bytes = size_bytes;
        self.period = if grown > self.limit_bytes / 8 { HURRIED } else { USUAL };
        let held = stat.st_blocks.cast_unsigned() * 512;
        let block = stat.st_blksize.cast_unsigned().max(1);
        let Some(end) = drop_until(size_bytes, held, self.limit_bytes, block) else {
            return Ok(Look::Within);
        };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&self.log, flags, 0, end) {
            Ok(()) => Ok(Look::Dropped(seek(&self.log, SeekFrom::Data(0)).unwrap_or(end))),
            Err(errno) => Ok(Look::Unbounded(errno)),
        }
    }

    fn arm(&self) -> bool {
        let flags = WatchFlags::MODIFY | WatchFlags::ONESHOT;
        let inotify = self.inotify.as_ref();
        inotify.is_some_and(|inotify| inotify::add_watch(inotify, &self.path, flags).is_ok())
    }

    /// Readable once the log was written to.
    pub(super) fn notice(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }
}

/// The offset up to which a file of `size` bytes that holds `held` on the disk is to be dropped:
/// nothing until a quarter too much is there, so that dropping is rare; then all but the limit.
fn drop_until(size: u64, held: u64, limit: u64, block: u64) -> Option<u64> {
    if held <= limit.saturating_add(limit / 4) {
        return None;
    }
    let end = size.saturating_sub(limit) / block * block;
    (end > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_whole_blocks_and_keeps_the_limit() {
        assert_eq!(drop_until(100, 125, 100, 10), None);
        assert_eq!(drop_until(226, 226, 100, 10), Some(120));
        assert_eq!(drop_until(100_226, 126, 100, 10), Some(100_120));
        assert_eq!(drop_until(105, 126, 100, 10), None, "less than a block");
        assert_eq!(drop_until(9, u64::MAX, u64::MAX, 10), None);
    }
}
