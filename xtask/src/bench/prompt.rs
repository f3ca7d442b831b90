//! An observer that does not wait its turn. Under a load that keeps every processor busy an ordinary
//! thread wakes milliseconds late, and what it saw would be in the figure twice.

/// The calling thread is scheduled in real time as long as this lives, its children are not.
pub(crate) struct Prompt;

impl Prompt {
    pub(crate) fn become_so() -> Self {
        schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1);
        Self
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        schedule(libc::SCHED_OTHER, 0);
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the structure outlives the call; 0 is the calling thread. Where it is not allowed the
    // figures tell of the load too.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
}
