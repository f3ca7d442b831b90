//! Keeps a log at its limit without touching what is written to it: the head of the file becomes a
//! hole. Offsets stay, so writers and readers notice nothing.
//!
//! The size is looked at once a second while it grows, seldom while it does not. Nothing watches the
//! file: a user has 128 inotify instances by default, which a host of many workloads would use up
//! for everybody else.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::{FallocateFlags, SeekFrom, fallocate, fstat, seek},
    io::Errno,
};

/// From look to look while the file grows.
const USUAL: Duration = Duration::from_secs(1);
/// The same when the last such time filled a good part of the limit.
const HURRIED: Duration = Duration::from_millis(50);
/// The longest time between looks at a file that does not grow.
const QUIET: Duration = Duration::from_secs(8);

/// The log of a workload.
pub(super) struct Output {
    log: OwnedFd,
    limit_bytes: u64,
    size_bytes: u64,
    period: Duration,
    look_at: Duration,
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
    pub(super) fn new(log: OwnedFd, limit_bytes: u64, now: Duration) -> Self {
        Self { log, limit_bytes, size_bytes: 0, period: USUAL, look_at: now }
    }

    /// When [`Output::look`] is due.
    pub(super) fn deadline(&self) -> Duration {
        self.look_at
    }

    /// Looks at the size and drops what is too much.
    pub(super) fn look(&mut self, now: Duration) -> Result<Look, Errno> {
        let stat = fstat(&self.log)?;
        let size_bytes = stat.st_size.cast_unsigned();
        let grown = size_bytes.saturating_sub(self.size_bytes);
        self.size_bytes = size_bytes;
        self.period = match grown {
            0 => QUIET.min(self.period * 2),
            grown if grown > self.limit_bytes / 8 => HURRIED,
            _ => USUAL,
        };
        self.look_at = now + self.period;
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
