//! Who the current process is.

use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id};
use sinew_abi::Instance;

use crate::maps::INSTANCES;

/// Levels of the cgroup tree that are looked at when the process is not directly in its instance's
/// cgroup: a workload may make cgroups of its own, an adopted unit may lie deep. Deeper trees than
/// this are not made by any manager; the verifier wants a bound.
const LEVELS: i32 = 64;

/// The instance that the current process belongs to.
#[inline(always)]
pub fn current() -> Option<&'static Instance> {
    // SAFETY: no arguments; every hook that calls this runs in process context.
    let id = unsafe { bpf_get_current_cgroup_id() };
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
