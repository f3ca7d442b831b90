//! Who the current process is.

use core::intrinsics::cold_path;

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use sinew_abi::{Instance, NearCaller, near};

use crate::{
    kernel,
    maps::{INSTANCES, NEAR_CALLERS},
};

/// Levels of the cgroup tree that are looked at when the process is not directly in its instance's
/// cgroup: a workload may make cgroups of its own, an adopted unit may lie deep. Deeper trees than
/// this are not made by any manager; the verifier wants a bound.
const LEVELS: i32 = 64;

/// What a call needs to know of the instance that makes it.
pub trait Caller: Copy {
    fn addr4(self) -> u32;
    fn addr6(self) -> [u32; 4];
    fn service(self) -> u32;
}

macro_rules! callers {
    ($($record:ty),*) => {$(
        impl Caller for $record {
            #[inline(always)]
            fn addr4(self) -> u32 {
                self.addr4
            }

            #[inline(always)]
            fn addr6(self) -> [u32; 4] {
                self.addr6
            }

            #[inline(always)]
            fn service(self) -> u32 {
                self.service
            }
        }
    )*};
}
callers!(&Instance, NearCaller);

/// As [`current`], by a copy found without a search: 32 bytes of stack, which not every hook has.
#[inline(always)]
pub fn caller() -> Option<NearCaller> {
    let cgroup = kernel::current_cgroup();
    copy(cgroup).or_else(|| {
        cold_path();
        let i = by_cgroup(cgroup)?;
        Some(NearCaller { cgroup, addr4: i.addr4, service: i.service, addr6: i.addr6 })
    })
}

#[inline(always)]
fn copy(id: u64) -> Option<NearCaller> {
    let place = NEAR_CALLERS.get_ptr(near::caller(id))?;
    // SAFETY: a map value that user space may be writing: it belongs to `id` if it did so before
    // and after it was read, since user space clears the id first and sets it last. Loads are not
    // reordered on x86-64.
    unsafe {
        let belongs = || (&raw const (*place).cgroup).read_volatile() == id;
        if !belongs() {
            return None;
        }
        let copy = place.read_volatile();
        belongs().then_some(copy)
    }
}

/// The instance that the current process belongs to.
#[inline(always)]
pub fn current() -> Option<&'static Instance> {
    // Every hook that calls this runs in process context.
    by_cgroup(kernel::current_cgroup())
}

#[inline(always)]
fn by_cgroup(id: u64) -> Option<&'static Instance> {
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    if let Some(instance) = unsafe { INSTANCES.get(&id) } {
        return Some(instance);
    }
    ancestor()
}

/// From the root down to the process, whose level ends the walk. No instance lies inside another, so
/// the first one found is the one. A global function: the verifier proves it once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn ancestor_id() -> u64 {
    let mut level = 1;
    while level < LEVELS {
        // SAFETY: answers 0 for a level that does not exist.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        if INSTANCES.get_ptr(&id).is_some() {
            return id;
        }
        level += 1;
    }
    0
}

#[inline(always)]
fn ancestor() -> Option<&'static Instance> {
    let id = ancestor_id();
    // SAFETY: as above.
    if id == 0 { None } else { unsafe { INSTANCES.get(&id) } }
}
