//! Processes named so that a reused number is not mistaken for them, and how they ended, also when
//! they are not our children.

use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde::{Deserialize, Serialize};

use crate::status::Exit;

/// A process: its number, and when it started, since numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, ticks since boot.
    pub start_ticks: u64,
}

impl ProcessId {
    /// The calling process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let start_ticks = Stat::read(pid)?.start_ticks;
        Ok(Self { pid, start_ticks })
    }

    /// A handle to the process, if it is still there (perhaps as a zombie).
    pub fn open(self) -> Option<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The handle exists, so the number cannot be reused while it is compared.
        (Self::of(self.pid).ok()? == self).then_some(pidfd)
    }
}

/// What `/proc/<pid>/stat` tells.
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    start_ticks: u64,
    exit_status: Option<i32>,
}

impl Stat {
    pub(crate) fn read(pid: u32) -> io::Result<Self> {
        let text = fs::read(format!("/proc/{pid}/stat"))?;
        Self::parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// Field 2, the name, may hold blanks and brackets: the rest starts after the last bracket.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let start_ticks = fields.nth(17)?.parse().ok()?;
        let exit_status = fields.nth(29).and_then(|field| field.parse().ok());
        Some(Self { state, parent, start_ticks, exit_status })
    }
}

/// How the process behind a readable pidfd ended, and whether that is final: `None` while nothing is
/// known yet, which a parent that is slow to wait for it may cause.
pub(crate) fn exit_of(pidfd: BorrowedFd<'_>, process: ProcessId) -> Option<Exit> {
    match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => {
            return Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code { code },
                (None, Some(number)) => Exit::Signal { number, core: status.dumped() },
                (None, None) => Exit::Unknown,
            });
        }
        Ok(None) => return None,
        // Not our child: another shim started it.
        Err(_) => {}
    }
    if let Some(status) = zombie_status(process) {
        return Some(Exit::from_wait_status(status));
    }
    match info_exit(pidfd) {
        Ok(Some(status)) => Some(Exit::from_wait_status(status)),
        // Its parent may be between our two looks.
        Ok(None) => zombie_status(process).map(Exit::from_wait_status),
        Err(_) => Some(Exit::Unknown),
    }
}

/// The exit status of a process that nobody has waited for yet.
fn zombie_status(process: ProcessId) -> Option<i32> {
    let stat = Stat::read(process.pid).ok()?;
    (stat.state == 'Z' && stat.start_ticks == process.start_ticks).then_some(stat.exit_status)?
}

/// `struct pidfd_info`, as far as exits need it.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ruid: u32,
    rgid: u32,
    euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: u64 = (3 << 30) | ((size_of::<PidfdInfo>() as u64) << 16) | (0xFF << 8) | 11;

/// The exit status that the kernel keeps in a pidfd, since 6.15, once the process was waited for.
fn info_exit(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request carries the size of the structure, which outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code))
}

/// Time since boot, sleep included.
pub(crate) fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn reads_a_name_full_of_brackets() {
        let mut fields = vec!["Z".to_owned()];
        fields.extend((4..=52).map(|number| number.to_string()));
        let stat = Stat::parse(&format!("17 (a) (b c) {}", fields.join(" "))).unwrap();
        assert_eq!((stat.state, stat.start_ticks, stat.exit_status), ('Z', 22, Some(52)));
        assert_eq!(stat.parent, 4);
    }

    fn kernel_is_at_least(major: u32, minor: u32) -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers =
            release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
    }

    /// On a kernel before 6.15 the status of such a process is not known.
    #[test]
    fn the_status_of_a_process_that_another_waited_for_is_known() {
        let command = |script| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        for (script, expected) in [
            ("read line; exit 7", Exit::Code { code: 7 }),
            ("read line; kill -9 $$", Exit::Signal { number: 9, core: false }),
        ] {
            let mut child = command(script);
            let process = ProcessId::of(child.id()).unwrap();
            let pidfd = process.open().unwrap();
            assert_eq!(exit_of(pidfd.as_fd(), process), None);
            drop(child.stdin.take());
            child.wait().unwrap();
            let expected = if kernel_is_at_least(6, 15) { expected } else { Exit::Unknown };
            assert_eq!(exit_of(pidfd.as_fd(), process), Some(expected));
        }
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(own.open().is_some());
        assert!(ProcessId { start_ticks: own.start_ticks + 1, ..own }.open().is_none());
    }
}
