//! The thread that must not wait its turn. When a program ends or listens, callers are better served
//! the sooner the kernel's maps say so; on a machine whose processors are busy, an ordinary thread is
//! woken milliseconds late, whatever its nice value. This one is scheduled in real time (SCHED_RR, the
//! lowest priority of that kind) while it waits and while it handles such news. All else it does as
//! an ordinary thread: see [`unhurried`]. What it starts is ordinary too.
//!
//! Where the machine does not allow it (no CAP_SYS_NICE, or a cgroup without a share of real time) it
//! stays ordinary.

use std::{
    io,
    marker::PhantomData,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{runtime, task::JoinHandle};

/// Whether the prompt thread is scheduled in real time at all; there is one an agent.
static IN_REAL_TIME: AtomicBool = AtomicBool::new(false);

/// Runs `work` on a thread of its own with an event loop of its own: tasks that it spawns stay there.
/// Between `prepare` and `work` the thread becomes prompt.
///
/// # Errors
/// When there is no event loop to be had.
pub(crate) fn run<P, W>(prepare: P) -> io::Result<JoinHandle<W::Output>>
where
    P: FnOnce() -> W + Send + 'static,
    W: Future,
    W::Output: Send + 'static,
{
    let events = runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::spawn_blocking(move || {
        let _ordinary_again = OrdinaryAgain;
        events.block_on(async {
            let work = prepare();
            hurry();
            work.await
        })
    }))
}

fn hurry() {
    match schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1) {
        Ok(()) => IN_REAL_TIME.store(true, Ordering::Relaxed),
        Err(error) => tracing::info!(
            "not scheduled in real time ({error}): ended programs are noticed later on a busy machine"
        ),
    }
}

/// While it lives, the prompt thread is an ordinary one: for work that takes long, or that nobody's
/// connection waits for.
pub(crate) struct Unhurried {
    /// Of the thread that made it.
    _here: PhantomData<*const ()>,
}

/// See [`Unhurried`].
pub(crate) fn unhurried() -> Unhurried {
    if IN_REAL_TIME.load(Ordering::Relaxed) {
        let _ = schedule(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
    }
    Unhurried { _here: PhantomData }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        if IN_REAL_TIME.load(Ordering::Relaxed) {
            let _ = schedule(libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1);
        }
    }
}

/// The thread goes back to a pool.
struct OrdinaryAgain;

impl Drop for OrdinaryAgain {
    fn drop(&mut self) {
        if IN_REAL_TIME.swap(false, Ordering::Relaxed) {
            let _ = schedule(libc::SCHED_OTHER, 0);
        }
    }
}

/// Of the calling thread.
fn schedule(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the structure outlives the call; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: takes an integer; 0 is the calling thread.
        unsafe { libc::sched_getscheduler(0) }
    }

    const PROMPT: libc::c_int = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    const ORDINARY: libc::c_int = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;

    #[tokio::test]
    async fn prompt_while_it_works_and_ordinary_when_it_need_not_hurry() {
        let work = run(|| {
            let prepared = policy();
            async move {
                let hurried = policy();
                if hurried != PROMPT {
                    // This machine does not let us.
                    return None;
                }
                let slow = unhurried();
                let slowly = policy();
                drop(slow);
                let child = std::thread::spawn(policy).join().unwrap();
                Some((prepared, slowly, policy(), child))
            }
        });
        if let Some(seen) = work.unwrap().await.unwrap() {
            assert_eq!(seen, (libc::SCHED_OTHER, ORDINARY, PROMPT, libc::SCHED_OTHER));
        }
    }
}
