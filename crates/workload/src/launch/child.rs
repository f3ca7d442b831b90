//! The process between fork and exec.
//!
//! It shares nothing with its parent but copies of memory in whatever state other threads left
//! them: from here on there are system calls only, no allocation, no lock, no panic.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use super::Prepared;
use crate::{Errno, rights};

/// A step of the child that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    JoinCgroup,
    Output,
    CloseFiles,
    Rights(rights::Step),
    WorkingDir,
    Exec,
}

pub(super) const REPORT_BYTES: usize = 5;

impl Step {
    fn encode(self, errno: Errno) -> [u8; REPORT_BYTES] {
        let step = match self {
            Self::JoinCgroup => 0,
            Self::Output => 1,
            Self::CloseFiles => 2,
            Self::WorkingDir => 3,
            Self::Exec => 4,
            Self::Rights(step) => 5 + step as u8,
        };
        let [a, b, c, d] = errno.0.to_ne_bytes();
        [step, a, b, c, d]
    }

    pub(super) fn decode([step, errno @ ..]: [u8; REPORT_BYTES]) -> (Self, Errno) {
        let step = match step {
            0 => Self::JoinCgroup,
            1 => Self::Output,
            2 => Self::CloseFiles,
            3 => Self::WorkingDir,
            4 => Self::Exec,
            right => rights::Step::ALL
                .get(usize::from(right) - 5)
                .map_or(Self::Exec, |step| Self::Rights(*step)),
        };
        (step, Errno(i32::from_ne_bytes(errno)))
    }
}

/// The status of a child that did not become the program, as shells have it.
const NOT_LAUNCHED: i32 = 127;

/// `struct clone_args`, first version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Forks; answers the child's number and a handle to it.
///
/// The child moves itself into its cgroup before it waits at the gate. `CLONE_INTO_CGROUP` would spare
/// that, but Linux 6.18 kills every child so made in a cgroup on which `cgroup.kill` was ever used: it
/// compares the kill counter of that cgroup with the one of the parent's.
pub(super) fn fork(
    prepared: &Prepared,
    gate: &OwnedFd,
    childs: &OwnedFd,
) -> io::Result<(u32, OwnedFd)> {
    let argv = pointers(&prepared.argv);
    let env = pointers(&prepared.env);
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from(libc::CLONE_PIDFD.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        ..CloneArgs::default()
    };
    let blocked = block_signals();
    // SAFETY: without CLONE_VM this is a fork; the structure and the place of the pidfd outlive the
    // call, and the child calls nothing that needs the state of other threads.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let error = io::Error::last_os_error();
    if pid == 0 {
        run(prepared, gate.as_raw_fd(), childs.as_raw_fd(), &argv, &env);
    }
    // SAFETY: the set is the one that `block_signals` found.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const blocked, ptr::null_mut()) };
    let Ok(pid @ 1..) = u32::try_from(pid) else { return Err(error) };
    // SAFETY: the kernel has just made it, for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

fn pointers(strings: &[std::ffi::CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// A handler of the parent must not run in the child.
fn block_signals() -> libc::sigset_t {
    // SAFETY: a signal set is plain data, filled here.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        before
    }
}

fn run(
    prepared: &Prepared,
    gate: RawFd,
    childs: RawFd,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> ! {
    // SAFETY: closes our copy of the parent's end: the end of the parent must show.
    unsafe { libc::close(gate) };
    reset_signals();
    let failed = match join_cgroups(prepared) {
        Err(errno) => (childs, Step::JoinCgroup, errno),
        Ok(()) if !may_go_on(childs) => exit(),
        Ok(()) => match become_workload(prepared, childs, argv, env) {
            Ok(never) => match never {},
            Err(failed) => failed,
        },
    };
    let report = failed.1.encode(failed.2);
    // SAFETY: the buffer is that of the array. A parent that is gone must not end us by signal.
    unsafe {
        libc::send(failed.0, report.as_ptr().cast(), report.len(), libc::MSG_NOSIGNAL);
    }
    exit();
}

fn join_cgroups(prepared: &Prepared) -> Result<(), Errno> {
    prepared.cgroups.iter().try_for_each(|file| write(file.as_raw_fd(), b"0"))
}

fn exit() -> ! {
    // SAFETY: ends the process without running anything of its parent's.
    unsafe { libc::_exit(NOT_LAUNCHED) }
}

/// Ignored signals stay ignored across exec; the program gets the usual dispositions. By system call,
/// since the C library keeps two signals from being reset.
fn reset_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer and mask; all zero is the default.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure outlives the call; the last argument is the size of its mask.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
}

/// Waits for the parent's word. End of file: the parent died, and nobody has heard of us.
fn may_go_on(childs: RawFd) -> bool {
    loop {
        let mut word = 0_u8;
        // SAFETY: one byte is read into one byte.
        match unsafe { libc::recv(childs, (&raw mut word).cast(), 1, 0) } {
            1 => return true,
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => return false,
        }
    }
}

enum Never {}

/// Descriptor for the report, the step and its errno.
type Failed = (RawFd, Step, Errno);

const REPORT_FD: RawFd = 3;

fn become_workload(
    prepared: &Prepared,
    childs: RawFd,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> Result<Never, Failed> {
    // SAFETY: takes nothing. A session of its own: no terminal, no signals meant for others.
    unsafe { libc::setsid() };
    reset_oom_score();
    let report = arrange_files(prepared, childs)?;
    // SAFETY: takes an integer only.
    unsafe { libc::umask(0o022) };
    prepared.rights.take_on().map_err(|(step, errno)| (report, Step::Rights(step), errno))?;
    // After the change of user: the directory must be the user's to enter.
    // SAFETY: the path is a C string.
    check(unsafe { libc::chdir(prepared.working_dir.as_ptr()) })
        .map_err(|errno| (report, Step::WorkingDir, errno))?;
    unblock_signals();
    Err((report, Step::Exec, execute(prepared, argv, env)))
}

fn check(result: i32) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from(io::Error::last_os_error())) } else { Ok(()) }
}

fn write(fd: RawFd, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of one slice.
    let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
    if written < 0 { Err(Errno::from(io::Error::last_os_error())) } else { Ok(()) }
}

/// The agent may be protected from the killer of memory hogs; its workloads are not. Going below
/// what one was given needs a capability: a refusal leaves it as it is.
fn reset_oom_score() {
    // SAFETY: the path is a C string; the descriptor is closed again.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            let _ = write(fd, b"0");
            libc::close(fd);
        }
    }
}

/// Standard input from nowhere, both outputs to the log, the report on 3 until exec, and no other
/// descriptor. Copies above all those in use come first, as the targets may be among them.
fn arrange_files(prepared: &Prepared, childs: RawFd) -> Result<RawFd, Failed> {
    let output = |errno| (childs, Step::Output, errno);
    let sources = [prepared.null.as_raw_fd(), prepared.output.as_raw_fd(), childs];
    let mut copies = [-1; 3];
    for (copy, source) in copies.iter_mut().zip(sources) {
        // SAFETY: duplicates a descriptor of ours.
        *copy = unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, 16) };
        check(*copy).map_err(output)?;
    }
    let [null, log, report] = copies;
    for (from, to) in [(null, 0), (log, 1), (log, 2)] {
        // SAFETY: replaces a descriptor of this process.
        check(unsafe { libc::dup2(from, to) }).map_err(|errno| (report, Step::Output, errno))?;
    }
    // SAFETY: as above; this one closes at exec.
    check(unsafe { libc::dup3(report, REPORT_FD, libc::O_CLOEXEC) })
        .map_err(|errno| (report, Step::Output, errno))?;
    // SAFETY: nothing of this process uses the descriptors above any more.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, REPORT_FD + 1, u32::MAX, 0) };
    if closed < 0 {
        let errno = Errno::from(io::Error::last_os_error());
        return Err((REPORT_FD, Step::CloseFiles, errno));
    }
    Ok(REPORT_FD)
}

fn unblock_signals() {
    // SAFETY: a signal set is plain data, emptied here.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Tries one place after another. A file that may not be executed is passed over for a later one,
/// and told of when there is none.
fn execute(
    prepared: &Prepared,
    argv: &[*const libc::c_char],
    env: &[*const libc::c_char],
) -> Errno {
    let mut denied = None;
    for candidate in &prepared.candidates {
        // SAFETY: the path is a C string, both arrays end with a null pointer.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let errno = Errno::from(io::Error::last_os_error());
        match errno.0 {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => denied = Some(errno),
            _ => return errno,
        }
    }
    denied.unwrap_or(Errno(libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_way() {
        let rights = rights::Step::ALL.map(Step::Rights);
        let others =
            [Step::JoinCgroup, Step::Output, Step::CloseFiles, Step::WorkingDir, Step::Exec];
        for step in rights.into_iter().chain(others) {
            assert_eq!(Step::decode(step.encode(Errno(13))), (step, Errno(13)));
        }
    }
}
