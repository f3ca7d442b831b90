//! Processes that die. A killed one first gives back its memory, and closes its listeners when that
//! is done: until then the kernel accepts connections for it that nobody will ever answer.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_ns};
use sinew_abi::{ListeningProcess, OwnListener, capacity::LISTENERS_OF_PROCESS};

use crate::{kernel, listeners, maps::LISTENING_PROCESSES};

/// `SIGKILL` of include/uapi/asm-generic/signal.h: the one that is always the end.
const SIGKILL: i32 = 9;
/// `TRACE_SIGNAL_DELIVERED` of include/trace/events/signal.h.
const DELIVERED: i32 = 0;

/// Notes that the current process has made a listener; on a kernel without context casts listeners are
/// not looked at in a way that would tell.
#[inline(always)]
pub fn listens(backend: u32, cookie: u64) {
    if !kernel::casts() {
        return;
    }
    let process = kernel::current_process();
    if LISTENING_PROCESSES.get_ptr(&process).is_none() {
        // Without room its death is noticed a little later.
        let _ = LISTENING_PROCESSES.insert(&process, &ListeningProcess::ZERO, 0);
    }
    let Some(own) = LISTENING_PROCESSES.get_ptr_mut(&process) else { return };
    // SAFETY: a map value; the remainder is below the length of the ring. Of two threads that listen
    // at once one may be lost.
    unsafe {
        let next = (&raw const (*own).next).read_volatile();
        let place = next as usize % LISTENERS_OF_PROCESS;
        let listener = OwnListener { cookie, backend, reserved: 0 };
        (&raw mut (*own).listeners).cast::<OwnListener>().add(place).write_volatile(listener);
        (&raw mut (*own).next).write_volatile(next.wrapping_add(1));
    }
}

/// `sched_process_exit`, before memory and files of the current thread are given back.
#[inline(always)]
pub fn exits() {
    let thread_and_process = bpf_get_current_pid_tgid();
    let process = (thread_and_process >> 32) as u32;
    // The first thread's end stands for all: the others go with it when the process was killed, and
    // when it ends in order they have ended before.
    if thread_and_process as u32 == process && dies(process) {
        let _ = LISTENING_PROCESSES.remove(&process);
    }
}

/// `signal_generate(signal, info, task, group, result)`: a killed process still has to be scheduled.
///
/// # Safety
/// `arguments` is the context of that raw tracepoint.
#[inline(always)]
pub unsafe fn signalled(arguments: *const u64) {
    // SAFETY: five words, of which the third is a task that lives as long as the call.
    unsafe {
        let [signal, result] = [*arguments as i32, *arguments.add(4) as i32];
        if signal == SIGKILL && result == DELIVERED {
            dies(kernel::process_of(*arguments.add(2)));
        }
    }
}

/// Marks the listeners that a process made; false: it made none.
#[inline(always)]
fn dies(process: u32) -> bool {
    // SAFETY: the entry is reused for another at the earliest after this program.
    let Some(own) = (unsafe { LISTENING_PROCESSES.get(&process) }) else { return false };
    // SAFETY: no arguments.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    for listener in &own.listeners {
        if listener.cookie != 0 {
            listeners::dies(listener.backend, listener.cookie, now_ns);
        }
    }
    true
}
