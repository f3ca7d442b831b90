//! The programs that are told when processes die: on tracepoints, which belong to no cgroup and see
//! the whole host. A kernel built without them has deaths noticed when listeners close.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
};

use super::remove_pin;
use crate::{object::Object, sys};

/// Names of programs, which their links bear too, and their tracepoints.
const TRACEPOINTS: &[(&str, &str)] =
    &[("process_exits", "sched_process_exit"), ("process_killed", "signal_generate")];

/// Names of the programs.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TRACEPOINTS.iter().map(|(name, _)| *name)
}

/// Puts them in force, with their links pinned in `pins`.
pub(super) fn attach(object: &Object, pins: &Path) {
    for (name, tracepoint) in TRACEPOINTS {
        // The kernel has not taken it.
        let Ok(program) = object.program(name) else { continue };
        if let Err(error) = attach_one(name, tracepoint, program, pins) {
            tracing::warn!(
                "{name} is not attached to {tracepoint} ({error}): killed processes get \
                 connections until their listeners close"
            );
        }
    }
}

/// A link of this kind cannot be given another program. A new one takes its place instead; while
/// both are there, each death is noted twice, which says the same.
fn attach_one(
    name: &str,
    tracepoint: &str,
    program: BorrowedFd<'_>,
    pins: &Path,
) -> io::Result<()> {
    let pin = pins.join(name);
    if runs(&pin) == Some(sys::object_id(program)?) {
        return Ok(());
    }
    let fresh = pins.join(format!("{name}-new"));
    remove_pin(&fresh).map_err(io::Error::other)?;
    let link = sys::raw_tracepoint(tracepoint, program)?;
    sys::pin(link.as_fd(), &fresh)?;
    fs::rename(&fresh, &pin)
}

/// Id of the program of the link that is pinned there.
fn runs(pin: &Path) -> Option<u32> {
    let link = sys::open_pin(pin).ok()?;
    sys::link_info(link.as_fd()).ok().map(|info| info.program_id)
}

/// Those that are not in force although the kernel takes them.
pub(super) fn missing(pins: &Path, taken: &[&'static str]) -> Vec<&'static str> {
    taken.iter().copied().filter(|name| runs(&pins.join(name)).is_none()).collect()
}

/// Those that the kernel has taken.
pub(super) fn taken(object: &Object) -> Vec<&'static str> {
    names().filter(|name| object.program(name).is_ok()).collect()
}

/// Takes them off.
pub(super) fn remove(pins: &Path) -> Result<(), crate::Error> {
    names().try_for_each(|name| {
        remove_pin(&pins.join(name))?;
        remove_pin(&pins.join(format!("{name}-new")))
    })
}
