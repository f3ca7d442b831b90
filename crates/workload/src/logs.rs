//! Reads workloads' output: its end, and what is added to it.
//!
//! The file may lose its head to a hole while it is read, and may be emptied by a program that opens
//! `/dev/stdout` anew; readers go on with what there is.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{
    SeekFrom,
    inotify::{self, CreateFlags, WatchFlags},
    seek,
};
use tokio::io::unix::AsyncFd;

use crate::readable::readable;

mod lines;

use lines::Lines;
pub use lines::MAX_LINE_BYTES;

/// What is read at once.
const BLOCK_BYTES: u64 = 64 << 10;
/// From look to look where the user's inotify instances are used up.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read log {}: {source}", path.display())]
pub struct Error {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Its last whole lines.
    pub lines: Vec<String>,
    /// What follows them without a line end.
    pub partial: Option<String>,
    /// The offset behind `lines`, where [`Follow`] takes over.
    pub end: u64,
}

/// Something that is read from a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A line without its end. What is not UTF-8 is replaced; a longer line than
    /// [`MAX_LINE_BYTES`] comes as several.
    Line(String),
    /// So much was dropped from the log before it was read.
    Dropped {
        /// Bytes.
        bytes: u64,
    },
    /// The log was removed, and all of it has been read.
    Removed,
}

/// The last `count` lines of a log.
///
/// # Errors
/// When it cannot be read.
pub fn tail(path: &Path, count: usize) -> Result<Tail, Error> {
    tail_of(path, count).map_err(|source| Error { path: path.to_owned(), source })
}

/// The offset of the line that is `count` whole lines before the end of a log, or of what is left of
/// its head. The first line there may be without its begin, when that was dropped.
///
/// # Errors
/// When it cannot be read.
pub fn start_of_last(path: &Path, count: usize) -> Result<u64, Error> {
    let start = || {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        start_of_tail(&file, data_after(&file, 0)?, end, count)
    };
    start().map_err(|source| Error { path: path.to_owned(), source })
}

fn tail_of(path: &Path, count: usize) -> io::Result<Tail> {
    let file = File::open(path)?;
    let end = file.metadata()?.len();
    let head = data_after(&file, 0)?;
    let start = start_of_tail(&file, head, end, count)?;
    let mut lines = Lines::default();
    if start == head && head > 0 {
        // The hole ends within a line.
        lines.skip_line();
    }
    let mut kept = VecDeque::new();
    let mut at = start;
    while at < end {
        let block = read_block(&file, at, end)?;
        if block.is_empty() {
            break;
        }
        at += block.len() as u64;
        lines.push(&block);
        while let Some((line, _)) = lines.next() {
            kept.push_back(line);
            if kept.len() > count {
                kept.pop_front();
            }
        }
    }
    let partial = lines.partial();
    Ok(Tail { lines: kept.into(), partial, end: at - lines.held_bytes() })
}

/// The offset of the line that is `count` whole lines before the end, or `head`.
fn start_of_tail(file: &File, head: u64, end: u64, count: usize) -> io::Result<u64> {
    let mut left = count;
    let mut at = end;
    while at > head {
        let from = at.saturating_sub(BLOCK_BYTES).max(head);
        let block = read_block(file, from, at)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The end of the line before the first one wanted.
            if left == 0 {
                return Ok(from + index as u64 + 1);
            }
            left -= 1;
        }
        at = from;
    }
    Ok(head)
}

fn read_block(file: &File, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = (end - from).min(BLOCK_BYTES);
    let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = file.read_at(&mut block, from)?;
    block.truncate(read);
    Ok(block)
}

/// The first offset from `at` on that is not in a hole.
fn data_after(file: &File, at: u64) -> io::Result<u64> {
    match seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(data),
        // Nothing but a hole up to the end.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len().max(at)),
        Err(errno) => Err(errno.into()),
    }
}

/// Follows a log as it grows.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: File,
    at: u64,
    lines: Lines,
    /// Where `lines` began to take bytes.
    base: u64,
    /// Behind the last line that was told.
    position: u64,
    /// `None` where the user's inotify instances are used up.
    notice: Option<AsyncFd<OwnedFd>>,
}

impl Follow {
    /// Follows a log from an offset on: 0, or the end of a [`Tail`]. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path, from: u64) -> Result<Self, Error> {
        let file = File::open(path);
        let file = file.map_err(|source| Error { path: path.to_owned(), source })?;
        let (path, lines, notice) = (path.to_owned(), Lines::default(), watch(path));
        Ok(Self { path, file, at: from, lines, base: from, position: from, notice })
    }

    /// The offset behind what [`Follow::next`] told last: who opens the log there again misses
    /// nothing and gets nothing twice.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next line; waits until there is one. May be dropped at any time: no line is missed.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn next(&mut self) -> Result<Record, Error> {
        loop {
            if let Some((line, taken)) = self.lines.next() {
                self.position = self.base + taken;
                return Ok(Record::Line(line));
            }
            match self.read() {
                Ok(Read::Some) => {}
                Ok(Read::Dropped(bytes)) => return Ok(Record::Dropped { bytes }),
                Ok(Read::None) if self.is_removed() => return Ok(self.removed()),
                Ok(Read::None) => self.wait().await,
                Err(source) => return Err(Error { path: self.path.clone(), source }),
            }
        }
    }

    fn read(&mut self) -> io::Result<Read> {
        let end = self.file.metadata()?.len();
        if end < self.at {
            // Emptied: begin again.
            (self.at, self.base, self.position) = (0, 0, 0);
            self.lines = Lines::default();
        }
        if end == self.at {
            return Ok(Read::None);
        }
        let block = read_block(&self.file, self.at, end)?;
        // Looked at after reading: what was there then was not a hole while it was read.
        let data = data_after(&self.file, self.at)?;
        if data > self.at {
            let bytes = data - self.at + self.lines.held_bytes();
            (self.at, self.base, self.position) = (data, data, data);
            self.lines = Lines::default();
            self.lines.skip_line();
            return Ok(Read::Dropped(bytes));
        }
        self.at += block.len() as u64;
        self.lines.push(&block);
        Ok(if block.is_empty() { Read::None } else { Read::Some })
    }

    fn is_removed(&self) -> bool {
        let Ok(own) = self.file.metadata() else { return true };
        std::fs::metadata(&self.path)
            .map_or(true, |there| (there.dev(), there.ino()) != (own.dev(), own.ino()))
    }

    /// A last line without an end is told before the end is.
    fn removed(&mut self) -> Record {
        match self.lines.partial() {
            Some(line) => {
                (self.base, self.position) = (self.at, self.at);
                self.lines = Lines::default();
                Record::Line(line)
            }
            None => Record::Removed,
        }
    }

    async fn wait(&self) {
        let Some(notice) = &self.notice else { return tokio::time::sleep(LOOK_EVERY).await };
        let Ok(mut ready) = notice.readable().await else {
            return tokio::time::sleep(LOOK_EVERY).await;
        };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(notice.get_ref().as_fd(), &mut buffer);
        while events.next().is_ok() {}
        ready.clear_ready();
    }
}

/// What a read found.
enum Read {
    Some,
    None,
    Dropped(u64),
}

fn watch(path: &Path) -> Option<AsyncFd<OwnedFd>> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    // An unlinked file changes its attributes: the number of its names.
    let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF;
    inotify::add_watch(&inotify, path, flags).ok()?;
    readable(inotify).ok()
}

#[cfg(test)]
#[path = "logs/tests.rs"]
mod tests;
