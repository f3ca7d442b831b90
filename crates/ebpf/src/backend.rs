//! Backends as the kernel sees them: their load, their listeners, their ejections.

use core::{ffi::c_void, intrinsics::cold_path, ptr::read_volatile};

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::generated::{bpf_get_prandom_u32, bpf_loop},
};
use sinew_abi::{
    Affinity, AffinityKey, Backend, BackendHot, BackendPlace, NONE, Service, backend_flags,
};
use sinew_ebpf::{
    choice::{self, Candidates, Choice, FIT, GONE, Load, SICK, Walk},
    outlier,
};

use crate::{
    count::{add32, add64, next32, next64, swap64},
    listeners::{DYING_LISTENER, Ip, Listeners, NO_LISTENER},
    lookup,
    maps::{AFFINITIES, BACKEND_HOT, BACKENDS, CONFIG, OUTLIERS, SERVICE_HOT, SLOTS},
    suspect,
};

/// The candidates of one choice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Kernel {
    pub now_ns: u64,
    /// Looks at TCP listeners.
    pub stream: bool,
    /// Families that the caller's socket reaches.
    pub reach: Reach,
    /// Context of the hook, for look-ups in its network namespace.
    pub context: *mut c_void,
}

/// Families that a socket reaches.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reach {
    V4 = 0,
    V6 = 1,
    /// Both; IPv4 is preferred, since dual-stack listeners are bound there.
    Both = 2,
}

/// A caller for whom a backend is chosen.
pub trait Caller: Candidates + Copy {
    /// Coarse monotonic time of the call.
    fn now_ns(&self) -> u64;
}

impl Caller for Kernel {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl Candidates for Kernel {
    #[inline(always)]
    fn slot(&self, index: u32) -> u32 {
        slot(index)
    }

    #[inline(always)]
    fn load(&self, backend: u32) -> Load {
        load(backend, |config, hot, until| {
            outlier::ejected(until, self.now_ns) || !self.lease_free(config, hot)
        })
    }

    #[inline(always)]
    fn examine(&self, backend: u32) -> u32 {
        examine(self.context.cast(), backend, self.now_ns, self.how())
    }
}

/// The candidates for an unconnected datagram: nobody listens for those, so the examination looks at
/// less, and needs less of a stack that those hooks are short of.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Datagrams(pub Kernel);

impl Caller for Datagrams {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.0.now_ns
    }
}

impl Candidates for Datagrams {
    #[inline(always)]
    fn slot(&self, index: u32) -> u32 {
        slot(index)
    }

    #[inline(always)]
    fn load(&self, backend: u32) -> Load {
        self.0.load(backend)
    }

    #[inline(always)]
    fn examine(&self, backend: u32) -> u32 {
        examine_datagrams(backend, self.0.now_ns, self.0.how())
    }
}

/// What does not change while a backend is in a set.
#[inline(always)]
pub fn config(index: u32) -> Option<&'static Backend> {
    BACKENDS.get(index).map(|place| &place.backend)
}

#[inline(always)]
pub fn slot(index: u32) -> u32 {
    SLOTS.get(index).copied().unwrap_or(NONE)
}

/// The load of a backend; `out` says whether one with an ejection behind it is still out.
#[inline(always)]
pub fn load(backend: u32, out: impl FnOnce(&Backend, *const BackendHot, u64) -> bool) -> Load {
    const NOBODY: Load = Load { active: u32::MAX, weight: 1, connect_us: 0, ejected: true };
    let Some(hot) = BACKEND_HOT.get_ptr(backend) else { return NOBODY };
    // SAFETY: a map value; other CPUs write it, so each field is read once.
    unsafe {
        let until = read_volatile(&raw const (*hot).ejected_until_ns);
        let weight = read_volatile(&raw const (*hot).weight);
        if weight == 0 {
            return NOBODY;
        }
        Load {
            active: in_flight(read_volatile(&raw const (*hot).active)),
            weight,
            connect_us: read_volatile(&raw const (*hot).connect_ewma_us),
            ejected: until != 0 && config(backend).is_none_or(|config| out(config, hot, until)),
        }
    }
}

/// The examination is a global function: the verifier proves it once, by itself, instead of once
/// for every path that leads to a call of it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn examine(context: *mut bpf_sock_addr, backend: u32, now_ns: u64, how: u32) -> u32 {
    Kernel::new(context.cast(), now_ns, how).look_at(backend)
}

/// A global function, as [`examine`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn examine_datagrams(backend: u32, now_ns: u64, how: u32) -> u32 {
    Kernel::new(core::ptr::null_mut(), now_ns, how & !STREAM).look_at(backend)
}

/// Bits of the `how` of [`examine`], which takes scalars only.
const STREAM: u32 = 4;

/// A late release of the place's former holder may have lowered the count below zero.
#[inline(always)]
const fn in_flight(active: u32) -> u32 {
    if active > i32::MAX as u32 { 0 } else { active }
}

impl Kernel {
    #[inline(always)]
    fn how(&self) -> u32 {
        self.reach as u32 | if self.stream { STREAM } else { 0 }
    }

    #[inline(always)]
    fn new(context: *mut c_void, now_ns: u64, how: u32) -> Self {
        let reach = match how & 3 {
            0 => Reach::V4,
            1 => Reach::V6,
            _ => Reach::Both,
        };
        Self { now_ns, stream: how & STREAM != 0, reach, context }
    }

    #[inline(always)]
    fn look_at(&self, backend: u32) -> u32 {
        let (Some(place), Some(hot)) = (BACKENDS.get(backend), BACKEND_HOT.get_ptr_mut(backend))
        else {
            return GONE;
        };
        let config = &place.backend;
        let families = match self.reach {
            Reach::V4 => backend_flags::V4,
            Reach::V6 => backend_flags::V6,
            Reach::Both => backend_flags::V4 | backend_flags::V6,
        };
        if config.flags & families == 0 {
            return GONE;
        }
        let is_fit = || self.is_admitted(config, hot);
        if config.flags & backend_flags::LOCAL == 0 {
            let fit = suspect::may_call(&config.node, self.now_ns, self.stream, is_fit);
            return if fit { FIT } else { SICK };
        }
        if self.stream {
            let queue = self.queue(backend, place);
            if queue == NO_LISTENER {
                return GONE;
            }
            if queue == DYING_LISTENER || !keeps_up(hot, queue, self.now_ns) {
                return SICK;
            }
        }
        if is_fit() { FIT } else { SICK }
    }

    /// Whether it is not ejected, or this caller probes it.
    #[inline(always)]
    fn is_admitted(&self, config: &Backend, hot: *mut BackendHot) -> bool {
        // SAFETY: a map value, read once.
        let until = unsafe { read_volatile(&raw const (*hot).ejected_until_ns) };
        until == 0 || self.take_probe(config, hot, until)
    }

    /// Of the listener that this caller would reach, what [`Listeners::queue`] answers.
    #[inline(always)]
    fn queue(&self, backend: u32, place: &'static BackendPlace) -> u32 {
        let (config, listeners) = (&place.backend, Listeners::of(backend, place));
        if self.reach != Reach::V6 && config.flags & backend_flags::V4 != 0 {
            let queue = self.queue4(listeners, config);
            if queue != NO_LISTENER {
                return queue;
            }
        }
        if self.reach == Reach::V4 || config.flags & backend_flags::V6 == 0 {
            return NO_LISTENER;
        }
        let queue = listeners.queue(Ip::V6, self.now_ns);
        if queue == NO_LISTENER { lookup::queue6(self.context, config) } else { queue }
    }

    #[inline(always)]
    fn queue4(&self, listeners: Listeners, config: &Backend) -> u32 {
        let queue = listeners.queue(Ip::V4, self.now_ns);
        if queue != NO_LISTENER {
            return queue;
        }
        cold_path();
        // Not in the map: user space has not seen this listener yet, or one of several that share
        // the port has closed. The network namespace knows.
        lookup::queue4(self.context, config)
    }

    /// Whether this caller reaches a backend that it took by its IPv6 address.
    #[inline(always)]
    pub fn by_ipv6(&self, backend: u32, place: &'static BackendPlace) -> bool {
        let config = &place.backend;
        if self.reach != Reach::Both || config.flags & backend_flags::V4 == 0 {
            return self.reach != Reach::V4;
        }
        self.stream
            && config.flags & backend_flags::LOCAL != 0
            && self.queue4(Listeners::of(backend, place), config) == NO_LISTENER
    }

    #[inline(always)]
    fn lease_free(&self, config: &Backend, hot: *const BackendHot) -> bool {
        // SAFETY: a map value, read once.
        let probe = unsafe { read_volatile(&raw const (*hot).probe_ns) };
        OUTLIERS.get(config.index).is_some_and(|o| outlier::lease_free(o, probe, self.now_ns))
    }

    /// Takes the one probe of a backend whose ejection ended. The caller who gets it connects; its
    /// outcome decides, and when none comes the lease lapses and the next caller tries.
    #[inline(always)]
    fn take_probe(&self, config: &Backend, hot: *mut BackendHot, until: u64) -> bool {
        if !outlier::needs_probe(until, self.now_ns) || !self.lease_free(config, hot) {
            return false;
        }
        // SAFETY: map value; one CPU wins.
        unsafe {
            let probe = read_volatile(&raw const (*hot).probe_ns);
            swap64(&raw mut (*hot).probe_ns, probe, self.now_ns)
        }
    }
}

/// A queue that was not seen empty for too long belongs to a process that hangs: a head of
/// the queue saw it empty when it connected, and has waited since.
#[inline(always)]
pub fn keeps_up(hot: *mut BackendHot, queue: u32, now_ns: u64) -> bool {
    // SAFETY: a map value; the fields are hints that CPUs may overwrite for one another.
    unsafe {
        let empty = read_volatile(&raw const (*hot).queue_empty_ns);
        if queue == 0 {
            // Once a tick is enough, and leaves the cache line to those who count in it.
            if empty != now_ns {
                (&raw mut (*hot).queue_empty_ns).write_volatile(now_ns);
            }
            return true;
        }
        cold_path();
        let patience = CONFIG.get(0).map_or(u64::MAX, |c| c.hung_after_ns);
        // Another CPU may have written a later time than our `now`.
        if empty != 0 && now_ns > empty && now_ns - empty > patience {
            add32(&raw mut (*hot).hung, 1);
            return false;
        }
    }
    true
}

/// Whether a backend taken earlier may be taken again: the same one, still in the set, and nothing
/// held against it.
#[inline(always)]
pub fn still_fit(from: &impl Candidates, service: &Service, backend: u32, generation: u32) -> bool {
    let Some(config) = config(backend) else { return false };
    config.generation == generation
        && config.index == service.index
        && config.flags & backend_flags::CHOSEN != 0
        && from.examine(backend) == FIT
}

/// The backend of a call: the one the source had, else a chosen one. `NONE` when there is none.
/// What is not at hand is asked for late: the stack is short.
#[inline(always)]
pub fn take(
    from: &impl Caller,
    service: &Service,
    random: impl FnOnce() -> u32,
    source: impl FnOnce() -> [u32; 4],
) -> u32 {
    if service.affinity_ns == 0 {
        return choose(from, service, random).backend;
    }
    let key = AffinityKey { source: source(), index: service.index, reserved: 0 };
    let until_ns = from.now_ns() + service.affinity_ns;
    if let Some(had) = AFFINITIES.get_ptr_mut(&key) {
        // SAFETY: map value; concurrent writers write the same kind of value.
        let (until, backend) = unsafe { ((*had).until_ns, (*had).backend) };
        // SAFETY: as above.
        let generation = unsafe { (*had).generation };
        if until > from.now_ns() && still_fit(from, service, backend, generation) {
            // SAFETY: as above.
            unsafe { (*had).until_ns = until_ns };
            return backend;
        }
    }
    let taken = choose(from, service, random).backend;
    if let Some(config) = config(taken) {
        let value = Affinity { until_ns, backend: taken, generation: config.generation };
        let _ = AFFINITIES.insert(&key, &value, 0);
    }
    taken
}

/// A word that nobody can tell beforehand.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: no arguments.
    unsafe { bpf_get_prandom_u32() }
}

/// Chooses a backend of `service` and counts a refusal or a panic.
#[inline(always)]
fn choose(from: &impl Caller, service: &Service, random: impl FnOnce() -> u32) -> Choice {
    let hot = SERVICE_HOT.get_ptr_mut(service.index);
    let mut turn = 0;
    if service.balance == sinew_abi::balance::ROUND_ROBIN {
        if let Some(hot) = hot {
            // SAFETY: map value. The low half is enough for a turn.
            turn = unsafe { next64(&raw mut (*hot).turn) } as u32;
        }
    }
    let (mut choice, walk) = choice::draw(from, service, random(), turn);
    if choice.backend != NONE && !choice.panic {
        return choice;
    }
    cold_path();
    choice = walk_on(from, walk);
    if let Some(hot) = hot {
        // SAFETY: map value.
        unsafe {
            if choice.backend == NONE {
                add64(&raw mut (*hot).no_backend, 1);
            } else if choice.panic {
                add64(&raw mut (*hot).panic, 1);
            }
        }
    }
    choice
}

/// The walk, in the kernel's own loop: the verifier looks at one step instead of all.
#[inline(always)]
fn walk_on<C: Caller>(from: &C, walk: Walk) -> Choice {
    let steps = walk.steps();
    let mut progress = Progress { from: *from, walk };
    // SAFETY: the callback has the signature that the helper calls, and `progress` outlives it.
    unsafe {
        bpf_loop(steps, step::<C> as *mut c_void, (&raw mut progress).cast(), 0);
    }
    progress.walk.choice
}

#[repr(C)]
struct Progress<C> {
    from: C,
    walk: Walk,
}

/// Callback of the loop: 1 ends it.
unsafe extern "C" fn step<C: Caller>(_index: u64, progress: *mut Progress<C>) -> i64 {
    // SAFETY: the pointer that `walk_on` gave to the loop.
    let progress = unsafe { &mut *progress };
    i64::from(progress.walk.step(&progress.from))
}

/// The backend failed once more: after enough failures in a row it is ejected, unless too many
/// of its service are already. Whether this one ejected it.
#[inline(always)]
pub fn failed(index: u32, now_ns: u64) -> bool {
    fail(index, now_ns) != 0
}

/// A global function, as [`examine`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fail(index: u32, now_ns: u64) -> u32 {
    u32::from(ejects(index, now_ns))
}

#[inline(always)]
fn ejects(index: u32, now_ns: u64) -> bool {
    let Some(hot) = BACKEND_HOT.get_ptr_mut(index) else { return false };
    let Some(config) = config(index) else { return false };
    let Some(rule) = OUTLIERS.get(config.index) else { return false };
    // SAFETY: map value.
    unsafe {
        let failures = next32(&raw mut (*hot).failures) + 1;
        let until = read_volatile(&raw const (*hot).ejected_until_ns);
        let probing = until != 0 && !outlier::ejected(until, now_ns);
        if rule.consecutive_failures == 0 || (failures < rule.consecutive_failures && !probing) {
            return false;
        }
        if outlier::ejected(until, now_ns) || (!probing && !room(config, rule)) {
            return false;
        }
        let ejections = read_volatile(&raw const (*hot).ejections);
        let end = now_ns + outlier::duration_ns(rule, ejections);
        if !swap64(&raw mut (*hot).ejected_until_ns, until, end) {
            return false;
        }
        (&raw mut (*hot).ejections).write_volatile(ejections + 1);
        (&raw mut (*hot).probe_ns).write_volatile(0);
        add64(&raw mut (*hot).ejected, 1);
    }
    true
}

/// Whether a refused connection says something about the backend. A local one's listener is looked
/// at before every choice: what is refused all the same was the caller's doing (it ran out of
/// ports, or disconnected), and must not eject the backend for everybody.
#[inline(always)]
pub fn refusal_counts(index: u32) -> bool {
    config(index).is_some_and(|config| config.flags & backend_flags::LOCAL == 0)
}

/// The backend answered a connection that began at `start_ns`: its failures are forgotten, and its
/// ejection too when this was the probe or came after it. An older connection proves nothing.
#[inline(always)]
pub fn succeeded(hot: *mut BackendHot, start_ns: u64) {
    // SAFETY: map value; the reads keep the line shared while all is well.
    unsafe {
        if read_volatile(&raw const (*hot).failures) != 0 {
            (&raw mut (*hot).failures).write_volatile(0);
        }
        // What is well has nothing in its second line to look at.
        if read_volatile(&raw const (*hot).ejected_until_ns) == 0 {
            return;
        }
        cold_path();
        let probe = read_volatile(&raw const (*hot).probe_ns);
        if probe != 0 && start_ns >= probe {
            (&raw mut (*hot).ejected_until_ns).write_volatile(0);
            (&raw mut (*hot).ejections).write_volatile(0);
            (&raw mut (*hot).probe_ns).write_volatile(0);
        }
    }
}

/// Slots looked at to learn how many of a service are out: it bounds the loop for the verifier,
/// and a sample this large tells a share well enough.
const SAMPLE: u32 = 64;

/// Whether one more of the service may be ejected.
#[inline(always)]
fn room(config: &Backend, rule: &sinew_abi::Outlier) -> bool {
    let Some(region) = crate::maps::REGIONS.get(config.index) else { return false };
    let (mut seen, mut out) = (0, 0);
    while seen < SAMPLE {
        if seen >= region.len {
            break;
        }
        let backend = SLOTS.get(region.base.wrapping_add(seen)).copied().unwrap_or(NONE);
        seen += 1;
        if let Some(hot) = BACKEND_HOT.get_ptr(backend) {
            // SAFETY: map value, read once.
            let until = unsafe { read_volatile(&raw const (*hot).ejected_until_ns) };
            // One whose time has ended is out until its probe succeeds.
            if until != 0 {
                out += 1;
            }
        }
    }
    outlier::may_eject(rule, out, seen, region.len)
}
