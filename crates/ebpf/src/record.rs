//! The record of a connected socket, found by its cookie.
//!
//! An array slot by cookie costs a fraction of socket storage: cookies are handed out in order, so
//! slots hardly collide; when one does, a hash holds the newcomer.

use core::intrinsics::cold_path;

use aya_ebpf::{EbpfContext, helpers::generated::bpf_get_socket_cookie};
use sinew_abi::{BackendHot, Socket, capacity, reclaim::CONDEMNED_COOKIE, socket_flags};

use crate::{
    count::{add32, add64, fetch_add64, own, swap64},
    maps::{BACKEND_HOT, OVERFLOW_HINTS, SOCKETS, SOCKETS_OVERFLOW},
};

/// The cookie of the socket that the hook runs for.
#[inline(always)]
pub fn cookie(context: &impl EbpfContext) -> u64 {
    // SAFETY: every context that has records is one this helper takes.
    unsafe { bpf_get_socket_cookie(context.as_ptr()) }
}

/// Where the record of `cookie` lies when nobody else's does.
#[inline(always)]
fn place(cookie: u64) -> Option<*mut Socket> {
    SOCKETS.get_ptr_mut(cookie as u32 & (capacity::SOCKETS - 1))
}

/// The record of `cookie`, wherever it lies.
#[inline(always)]
pub fn find(cookie: u64) -> Option<*mut Socket> {
    let place = place(cookie)?;
    // SAFETY: map value; only the socket's own hooks write its record.
    if unsafe { (*place).cookie } == cookie {
        return Some(place);
    }
    cold_path();
    // Most sockets have no record (servers' ends), so the hash is asked only when it may know.
    // SAFETY: map value, read once.
    match hint(cookie) {
        Some(hint) if unsafe { hint.read_volatile() } != 0 => SOCKETS_OVERFLOW.get_ptr_mut(cookie),
        _ => None,
    }
}

#[inline(always)]
fn hint(cookie: u64) -> Option<*mut u32> {
    OVERFLOW_HINTS.get_ptr_mut(cookie as u32 & (capacity::OVERFLOW_HINTS - 1))
}

/// Stores a record; false when there was no room and the socket goes uncounted.
#[inline(always)]
pub fn store(record: &Socket) -> bool {
    let Some(place) = place(record.cookie) else { return false };
    // SAFETY: map value; the swap makes this socket the only writer of the place.
    unsafe {
        if (*place).cookie == record.cookie || swap64(&raw mut (*place).cookie, 0, record.cookie) {
            *place = *record;
            return true;
        }
    }
    cold_path();
    let Some(hint) = hint(record.cookie) else { return false };
    let mut record = *record;
    record.flags |= socket_flags::OVERFLOW;
    let flag = aya_ebpf::bindings::BPF_NOEXIST.into();
    // SAFETY: map value. Raised first: a reader that finds it raised too early only looks in vain.
    unsafe { add32(hint, 1) };
    if SOCKETS_OVERFLOW.insert(record.cookie, &record, flag).is_ok() {
        return true;
    }
    // SAFETY: map value.
    unsafe { add32(hint, u32::MAX) };
    own(|c| c.sockets_lost += 1);
    false
}

/// Ends a record: its place is free. What it said, for the one who then has to [`uncount`] it; `None`
/// when somebody else has just ended it.
///
/// # Safety
/// `record` came from [`find`] in this run.
#[inline(always)]
pub unsafe fn end(record: *mut Socket, cookie: u64) -> Option<Socket> {
    // SAFETY: see above; the cookie is the last thing written, it is what frees the place.
    unsafe {
        let was = *record;
        if was.flags & socket_flags::OVERFLOW == 0 {
            (&raw mut (*record).cookie).write_volatile(0);
        } else {
            cold_path();
            // Who takes it out of the hash has ended it.
            if SOCKETS_OVERFLOW.remove(cookie).is_err() {
                return None;
            }
            if let Some(hint) = hint(cookie) {
                add32(hint, u32::MAX);
            }
        }
        Some(was)
    }
}

/// Lowers the in-flight count of the backend of a record that has ended: where what is counted of that
/// backend lies, unless it is another one by now.
#[inline(always)]
pub fn uncount(record: &Socket) -> Option<*mut BackendHot> {
    let hot = BACKEND_HOT.get_ptr_mut(record.backend)?;
    // Count and generation are one word, taken in the same step: the line comes from another CPU
    // once, not twice. A backend of another generation gets back what it never had lost, a borrow
    // included.
    // SAFETY: map value.
    unsafe {
        let word = (&raw mut (*hot).active).cast::<u64>();
        let was = fetch_add64(word, u64::MAX);
        if (was >> 32) as u32 != record.generation {
            cold_path();
            add64(word, 1);
            return None;
        }
    }
    Some(hot)
}

/// Has the line of memory fetched in which the record of `cookie` will be stored.
#[inline(always)]
pub fn expect(cookie: u64) {
    if let Some(place) = place(cookie) {
        // SAFETY: map value.
        unsafe { (&raw const (*place).cookie).read_volatile() };
    }
}

/// Puts a cookie into the record's place that no socket has, so that nobody finds it from now on;
/// false when it has no place of its own.
#[inline(always)]
pub fn condemn(cookie: u64) -> bool {
    let Some(place) = place(cookie) else { return false };
    // SAFETY: map value.
    unsafe { swap64(&raw mut (*place).cookie, cookie, cookie | CONDEMNED_COOKIE) }
}

/// Ends a record that was condemned, unless who had found it before has ended it.
#[inline(always)]
pub fn end_condemned(cookie: u64) -> Option<Socket> {
    let place = place(cookie)?;
    // SAFETY: map value; who swaps the cookie is the only one who ends what was copied before.
    unsafe {
        let was = *place;
        if !swap64(&raw mut (*place).cookie, cookie | CONDEMNED_COOKIE, 0) {
            return None;
        }
        uncount(&was);
        Some(was)
    }
}

/// Ends a record that lies in the overflow.
#[inline(always)]
pub fn end_overflowed(cookie: u64) -> Option<Socket> {
    // SAFETY: found in this run.
    let was = unsafe { end(SOCKETS_OVERFLOW.get_ptr_mut(cookie)?, cookie) }?;
    uncount(&was);
    Some(was)
}
