//! Tells the cookies of all sockets that somebody holds open, of every process and every network
//! namespace: what has a record and is not among them has ended unseen.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sock_from_file};

use crate::kernel;

/// Context of an `iter/task_file` program (`struct bpf_iter__task_file`): members sit in 8-byte
/// places.
#[repr(C)]
pub struct IterTaskFile {
    meta: *const Meta,
    task: *mut c_void,
    fd: u64,
    file: *mut c_void,
}

/// `struct bpf_iter_meta`, as far as it is needed.
#[repr(C)]
struct Meta {
    out: *mut c_void,
}

/// Go on with the next file.
const NEXT: i32 = 0;

#[inline(always)]
pub fn tell(context: *mut IterTaskFile) -> i32 {
    // SAFETY: a word of the context; the verifier knows it as a BTF pointer or null.
    let file = unsafe { (*context).file };
    if file.is_null() {
        return NEXT;
    }
    // SAFETY: a file, which the kernel holds while this runs; null when it is no socket.
    let socket = unsafe { bpf_sock_from_file(file.cast()) };
    if socket.is_null() {
        return NEXT;
    }
    // SAFETY: a BTF pointer to a `struct socket`.
    let cookie = unsafe { kernel::cookie_of(socket.cast()) };
    // Nobody has asked for that of a socket without one: it has no record.
    if cookie != 0 {
        // SAFETY: as above; the buffer is on the stack. What finds no room is told once more, since
        // the kernel then hands out a larger buffer and runs this for the same file again.
        unsafe {
            let out = read_volatile(&raw const (*(*context).meta).out);
            bpf_seq_write(out.cast(), (&raw const cookie).cast(), size_of::<u64>() as u32);
        }
    }
    NEXT
}
