//! A server that is told to die says when, itself: whoever kills another process cannot know when
//! that one's turn to die comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::process::Pid;

use crate::bench::load::now_ns;
use crate::bench::prompt::Prompt;

static FILE: AtomicI32 = AtomicI32::new(-1);

fn path(directory: &Path, process: i32) -> PathBuf {
    directory.join(format!("exit-{process}"))
}

/// From now on SIGUSR1 has this process write down the time and kill itself, with no word to
/// anybody else.
pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    let file = path(directory, std::process::id().cast_signed());
    let file = OpenOptions::new().write(true).create_new(true).open(file)?;
    FILE.store(file.into_raw_fd(), Ordering::Relaxed);
    let handler: extern "C" fn(libc::c_int) = die;
    // SAFETY: the handler makes system calls alone, which may be made in one.
    let former = unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    if former == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn die(_: libc::c_int) {
    // Its way out shall not wait for others.
    let _prompt = Prompt::become_so();
    let now = now_ns().to_ne_bytes();
    // SAFETY: the bytes outlive the call, and the file is open as long as the process lives.
    unsafe { libc::write(FILE.load(Ordering::Relaxed), now.as_ptr().cast(), now.len()) };
    // SAFETY: a system call that takes numbers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// When a process, which has died, said that it would.
pub(crate) fn heard(directory: &Path, process: Pid) -> io::Result<u64> {
    let mut time = [0; 8];
    File::open(path(directory, process.as_raw_nonzero().get()))?.read_exact(&mut time)?;
    Ok(u64::from_ne_bytes(time))
}
