//! How the scheduler treats the agent on a busy machine. It has little to do, but soon: a process
//! that ended stays in the choice until the agent had its turn.

/// The shortest slice that the kernel gives.
const SLICE_NS: u64 = 100_000;
/// What the thread starts, shims above all, gets the usual slice.
const RESET_ON_FORK: u64 = 1;

/// `struct sched_attr`, as far as every kernel knows it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Asks for short turns of this thread: it gets no more time than others, but need not wait until
/// the slice of whoever runs is over. A kernel before 6.12 changes nothing.
pub fn take_short_turns() {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        flags: RESET_ON_FORK,
        nice: rustix::process::getpriority_process(None).unwrap_or(0),
        runtime: SLICE_NS,
        ..Attributes::default()
    };
    // SAFETY: reads the structure, whose size is in it; affects the calling thread alone.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done != 0 {
        tracing::debug!("turns stay long: {}", std::io::Error::last_os_error());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present() -> Attributes {
        let mut now = Attributes::default();
        // SAFETY: writes the structure, whose size is given.
        let done = unsafe {
            libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size_of::<Attributes>(), 0)
        };
        assert_eq!(done, 0);
        now
    }

    #[test]
    fn turns_are_short_and_not_inherited() {
        std::thread::spawn(|| {
            take_short_turns();
            let now = present();
            assert_eq!((now.policy, now.flags), (0, RESET_ON_FORK));
            // An older kernel has nothing to say here.
            assert!([0, SLICE_NS].contains(&now.runtime), "{}", now.runtime);
            let inherited = std::thread::spawn(present).join().unwrap();
            assert_eq!(inherited.flags, 0);
            assert_ne!(inherited.runtime, SLICE_NS);
        })
        .join()
        .unwrap();
    }
}
