//! What user space and the kernel programs agree on, byte for byte.
//!
//! Every type here crosses the boundary as raw memory, so each is `repr(C)`, has no padding and no
//! invalid bit patterns; the layout tests below hold the sizes still. A change of any layout or
//! meaning raises [`ABI_VERSION`]: pins of another version are never reused.
//!
//! Addresses and ports are in network byte order, as the kernel's socket contexts carry them.
#![no_std]

pub mod address;
pub mod capacity;
pub mod facts;
pub mod histogram;
pub mod near;

/// Raised whenever a map's layout or the meaning of a field changes.
pub const ABI_VERSION: u32 = 9;

/// IP protocol numbers of [`ServiceKey4::protocol`] and [`ServiceKey6::protocol`].
pub mod protocol {
    /// TCP, MPTCP included.
    pub const TCP: u16 = 6;
    /// UDP.
    pub const UDP: u16 = 17;
}

/// [`EdgeKey::source`] of what comes by a published port: no member called.
pub const OUTSIDE: u32 = u32::MAX;

/// Bit of [`KnownListener::cookie`]: the process that made the listener dies. No cookie gets that
/// far, since they are counted from 1.
pub const DYING: u64 = 1 << 63;

/// How long a listener is passed over because the process that made it dies, nanoseconds. Others may
/// hold it too and go on with it; and one that dies for longer is found by its queue.
pub const DYING_FOR_NS: u64 = 1_000_000_000;

/// An index that stands for "none".
pub const NONE: u32 = u32::MAX;

macro_rules! plain {
    ($($(#[$meta:meta])* $name:ident = $size:literal { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
            pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

            impl $name {
                /// All fields zero, which is a valid value of every type of this crate.
                pub const ZERO: Self = Self { $($field: <$ty as Zero>::ZERO),* };
            }
            impl Zero for $name { const ZERO: Self = Self::ZERO; }
            // The sum of the fields equals the size: no padding, so no uninitialised byte crosses.
            const _: () = assert!(size_of::<$name>() == $size && 0 $(+ size_of::<$ty>())* == $size);
            // SAFETY: repr(C), integers and arrays of them only, no padding (asserted above).
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $name {}
        )*
        #[cfg(test)]
        const SIZES: &[(&str, usize, usize)] = &[$((stringify!($name), size_of::<$name>(), $size)),*];
    };
}

/// Integers and arrays of them have an all-zero value.
pub trait Zero {
    /// That value.
    const ZERO: Self;
}
macro_rules! zero { ($($ty:ty),*) => { $(impl Zero for $ty { const ZERO: Self = 0; })* } }
zero!(u8, u16, u32, u64);
impl<const N: usize, T: Zero + Copy> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}

plain! {
    /// Key of a service's IPv4 address in `SERVICES4`.
    ServiceKey4 = 8 {
        /// Address.
        addr: u32,
        /// Network byte order.
        port: u16,
        /// One of [`protocol`].
        protocol: u16,
    }
    /// Key of a service's IPv6 address in `SERVICES6`.
    ServiceKey6 = 20 {
        /// Address.
        addr: [u32; 4],
        /// Network byte order.
        port: u16,
        /// One of [`protocol`].
        protocol: u16,
    }
    /// An address and port of the host in `PUBLISHED`; the value is the service port's own key, so
    /// that membership changes there alone.
    PublishedKey = 20 {
        /// Address; an IPv4 one in the last word, behind `::ffff:`. 0.0.0.0 and :: stand for every
        /// address of their family that is not of the plan.
        addr: [u32; 4],
        /// Network byte order.
        port: u16,
        /// One of [`protocol`].
        protocol: u16,
    }
    /// A service port: one value, so membership changes at once.
    Service = 40 {
        /// Number of the service, as in [`EdgeKey`].
        service: u32,
        /// Index of its [`ServiceHot`] and [`Outlier`] values.
        index: u32,
        /// First slot of the region.
        base: u32,
        /// Slots of the draw; 0: none. A backend may have several.
        len: u32,
        /// Stride of the walk; coprime to `len`, so that `len` steps visit every slot once.
        step: u32,
        /// One of [`balance`].
        balance: u32,
        /// How long a source keeps its backend; 0: no affinity.
        affinity_ns: u64,
        /// Changes with every new region: a record of an older set is recognised.
        generation: u32,
        /// Slots behind those of the draw: taken when none of the draw's is fit.
        reserve: u32,
    }
    /// Where the slots of a service port lie, by its index.
    Region = 8 {
        /// First slot.
        base: u32,
        /// Number of slots, the reserve included.
        len: u32,
    }
    /// A copy of an entry of `SERVICES4` at a place that its key tells ([`near::service4`]): it
    /// spares a search. A place holds one of the keys that lead to it, or none.
    NearService = 64 {
        /// Odd while the rest is being written; another one after.
        turn: u64,
        /// The key; its protocol is 0 in a place that is free.
        key: ServiceKey4,
        /// The value.
        service: Service,
        /// Fills the cache line.
        reserved: u64,
    }
    /// The same of an entry of `INSTANCES` ([`near::caller`]), as far as a caller needs it. When
    /// what stands beside a cgroup changes, the place is free for a grace period.
    NearCaller = 32 {
        /// The cgroup's id; 0 in a place that is free or being written.
        cgroup: u64,
        /// [`Instance::addr4`].
        addr4: u32,
        /// [`Instance::service`].
        service: u32,
        /// [`Instance::addr6`].
        addr6: [u32; 4],
    }
    /// Settings of the outlier ejection of one service port.
    Outlier = 32 {
        /// Failures in a row that eject; 0: never.
        consecutive_failures: u32,
        /// At most this share of the slots may be ejected.
        max_ejected_percent: u32,
        /// First ejection; doubles each time.
        base_ns: u64,
        /// No ejection lasts longer.
        max_ns: u64,
        /// How long a probe holds its lease.
        probe_ns: u64,
    }
    /// Counters of a service port that every caller writes.
    ServiceHot = 64 {
        /// Next turn of the round robin.
        turn: u64,
        /// Connects refused because no backend could be taken.
        no_backend: u64,
        /// Connects that went to a backend although it was held sick, for want of a better one.
        panic: u64,
        /// Fills the cache line.
        reserved: [u64; 5],
    }
    /// What does not change while a backend is in a set.
    Backend = 48 {
        /// User space's name of the endpoint port; 0: the place is free.
        key: u64,
        /// IPv4 address; 0: none.
        addr4: u32,
        /// Port in network byte order.
        port: u16,
        /// Of [`backend_flags`].
        flags: u16,
        /// IPv6 address; zeros: none.
        addr6: [u32; 4],
        /// Relative capacity, 1 to 65535; 256 is usual.
        weight: u32,
        /// Number of the host that it is on; 0: this one, or one that is never under suspicion.
        node: u32,
        /// Handle check: a record that bears another generation is stale.
        generation: u32,
        /// Index of the service port, for [`Outlier`].
        index: u32,
    }
    /// What every connection writes: the first cache line. Failures and probes are in the second.
    BackendHot = 128 {
        /// Open sockets connected to it.
        active: u32,
        /// Same as [`Backend::generation`], checked before `active` is lowered.
        generation: u32,
        /// Monotonic time until which it is ejected; 0: not.
        ejected_until_ns: u64,
        /// When its accept queue was last seen empty.
        queue_empty_ns: u64,
        /// Smoothed connect time, microseconds.
        connect_ewma_us: u32,
        /// Failures since the last success.
        failures: u32,
        /// Copy of [`Backend::weight`], so that who only loses a draw costs one line; 0: no backend.
        weight: u32,
        /// Choices that passed it over as hung.
        hung: u32,
        /// Connections given to it.
        connections: u64,
        /// Bytes sent to it and acknowledged.
        sent_bytes: u64,
        /// Bytes received from it.
        received_bytes: u64,
        /// Connects that were refused.
        refused: u64,
        /// Connections that were reset by the peer.
        reset: u64,
        /// Connects without an answer.
        timed_out: u64,
        /// Times it was ejected.
        ejected: u64,
        /// When the last probe was let through; 0: none under way.
        probe_ns: u64,
        /// Ejections since it was last well.
        ejections: u32,
        /// Fills the second line.
        reserved: [u32; 3],
        /// When a process that had made a listener of it began to die, nanoseconds of the monotonic
        /// clock: see [`DYING`].
        dying_ns: u64,
    }
    /// How long connections to a backend took, counted on one CPU: in words of all of them, each
    /// close would wait for two lines of memory to come from another CPU. They wrap: what counts is
    /// the difference of two readings.
    BackendTimes = 512 {
        /// Of each bucket, microseconds, the connect times and the lives of connections: see
        /// [`histogram::coarse`]. Those of a short connection lie in one line of memory.
        us: [[u32; 2]; histogram::COARSE],
    }
    /// Where the kernel keeps a listener. It is never followed unless the socket there bears the
    /// cookie and listens: what else may lie at the address by now does neither.
    KnownListener = 16 {
        /// Address of the kernel's `struct sock`.
        socket: u64,
        /// Cookie of the socket; 0: none is known.
        cookie: u64,
    }
    /// All that a connect() reads of the backend that it takes, but what changes with every call: one
    /// line of memory.
    BackendPlace = 64 {
        /// User space writes it.
        backend: Backend,
        /// Its listener at an IPv4 address, an IPv4-mapped one included: the programs write it.
        listener4: KnownListener,
    }
    /// A listener among those of a process.
    OwnListener = 16 {
        /// Cookie of the socket; 0: none.
        cookie: u64,
        /// Index of the backend that it serves.
        backend: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// What a process listens for, by its process id in `LISTENING_PROCESSES`.
    ListeningProcess = 136 {
        /// A ring.
        listeners: [OwnListener; capacity::LISTENERS_OF_PROCESS],
        /// Place of the next one.
        next: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// A member cgroup, by cgroup id in `INSTANCES`.
    Instance = 96 {
        /// Its own address.
        addr4: u32,
        /// Number of its service; 0: none (an `exec` session).
        service: u32,
        /// Its own IPv6 address; zeros: none.
        addr6: [u32; 4],
        /// Of [`instance_flags`].
        flags: u32,
        /// Bit `i`: `ports[i]` is of UDP, else of TCP.
        udp_ports: u32,
        /// Declared ports in network byte order: a loopback bind to one is reachable by others.
        ports: [u16; capacity::DECLARED_PORTS],
        /// The user-space number of the instance, echoed in events.
        id: u64,
        /// Its IPv6 address among those of all hosts; zeros: none.
        fleet6: [u32; 4],
        /// The same of IPv4; 0: none.
        fleet4: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// Addresses in which all those of instances of any host lie, and those of this host's own; one
    /// entry of `FLEET`. With masks of zeros there are none.
    Fleet = 80 {
        /// What the IPv6 networks have in common.
        network6: [u32; 4],
        /// Which bits of an address that are.
        mask6: [u32; 4],
        /// This host's IPv6 slice.
        slice6: [u32; 4],
        /// Which bits of an address tell it.
        slice_mask6: [u32; 4],
        /// What the IPv4 networks have in common.
        network4: u32,
        /// Which bits of an address that are.
        mask4: u32,
        /// This host's IPv4 slice.
        slice4: u32,
        /// Which bits of an address tell it.
        slice_mask4: u32,
    }
    /// A prefix of addresses in `HOSTS`, a trie.
    HostPrefix = 20 {
        /// Its length in bits, the 96 of an IPv4-mapped one included.
        bits: u32,
        /// Its first address; an IPv4 one in the last word, behind `::ffff:`.
        addr: [u32; 4],
    }
    /// What lies under a prefix.
    HostAddress = 8 {
        /// One of [`host`].
        kind: u32,
        /// Number of the host; 0: none or this one.
        node: u32,
    }
    /// What is held against another host, by its number in `NODES`.
    Suspicion = 32 {
        /// Connects that it left without an answer since its last answer.
        unanswered: u32,
        /// Times in a row that it was suspected.
        rounds: u32,
        /// Monotonic time until which it is passed over; 0: it is not under suspicion.
        until_ns: u64,
        /// When the last probe was let through; 0: none under way.
        probe_ns: u64,
        /// Times it came under suspicion.
        suspicions: u64,
    }
    /// A port at which other hosts reach an instance, in `FLEET_PORTS`; or one from which it sent
    /// datagrams to them, in `AWAITED_REPLIES`.
    FleetKey = 20 {
        /// Address among those of all hosts; an IPv4 one in the last word, behind `::ffff:`.
        addr: [u32; 4],
        /// Network byte order.
        port: u16,
        /// One of [`protocol`].
        protocol: u16,
    }
    /// Whose listener takes what comes there.
    FleetPort = 8 {
        /// Index of the backend.
        backend: u32,
        /// Its generation.
        generation: u32,
    }
    /// The address of a listener; an IPv4 one in the last word, behind `::ffff:`.
    ListenKey = 24 {
        /// Address.
        addr: [u32; 4],
        /// Network byte order.
        port: u16,
        /// Reserved, 0.
        reserved: u16,
        /// One of [`protocol`].
        protocol: u32,
    }
    /// Whose listener it is.
    ListenValue = 16 {
        /// [`Instance::id`].
        instance: u64,
        /// Index of the backend.
        backend: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// The record of a socket connected to a backend: two to a cache line, since every connection
    /// touches another one. What was asked for is found by the index of the service port.
    Socket = 32 {
        /// Cookie of the socket; 0: free.
        cookie: u64,
        /// Monotonic time of connect(), to a tick.
        start_ns: u64,
        /// Backend taken.
        backend: u32,
        /// Its generation.
        generation: u32,
        /// Number of the caller's service.
        source: u32,
        /// Index of the service port.
        index: u16,
        /// Of [`socket_flags`].
        flags: u16,
    }
    /// What a service port is called, by its index.
    PortName = 32 {
        /// IPv6 address of the service.
        addr6: [u32; 4],
        /// IPv4 address of the service.
        addr4: u32,
        /// Network byte order.
        port: u16,
        /// One of [`protocol`].
        protocol: u16,
        /// Number of the service.
        service: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// A pair of services.
    EdgeKey = 8 {
        /// Number of the caller's service; 0: none; or [`OUTSIDE`].
        source: u32,
        /// Number of the service called; 0: no such port.
        destination: u32,
    }
    /// What an edge counted on one CPU.
    Edge = 2128 {
        /// Open connections. The kernel leaves it 0: user space counts them in the records of
        /// sockets, so that connect() need not look the edge up.
        active: u64,
        /// Refused by the backend.
        refused: u64,
        /// Reset by the backend.
        reset: u64,
        /// Never answered.
        timed_out: u64,
        /// Given up by the caller before an answer.
        cancelled: u64,
        /// Refused because there was no backend or no such port.
        no_backend: u64,
        /// Failures after which a backend was ejected.
        ejected: u64,
        /// Sent by the caller and acknowledged.
        sent_bytes: u64,
        /// Received by the caller.
        received_bytes: u64,
        /// Connections that are over, first datagrams of unconnected sockets, and what came by
        /// published ports.
        closed: u64,
        /// Connect times, microseconds: see [`histogram`].
        connect_us: [u64; histogram::BUCKETS],
        /// Lives of connections, microseconds.
        duration_us: [u64; histogram::BUCKETS],
    }
    /// Which backend a source had.
    AffinityKey = 24 {
        /// Address of the caller's instance; zeros: no member.
        source: [u32; 4],
        /// Index of the service port.
        index: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// See [`AffinityKey`].
    Affinity = 16 {
        /// Forgotten after this monotonic time.
        until_ns: u64,
        /// The backend.
        backend: u32,
        /// Its generation.
        generation: u32,
    }
    /// A socket and an address: what it asked for (`DATAGRAM_PEERS`), or whom it really talks to
    /// (`PEER_NAMES`).
    PeerKey = 32 {
        /// Cookie of the socket.
        cookie: u64,
        /// Address.
        addr: [u32; 4],
        /// Network byte order.
        port: u32,
        /// Reserved, 0.
        reserved: u32,
    }
    /// The backend that an unconnected socket was given for an address.
    DatagramPeer = 40 {
        /// Address.
        addr: [u32; 4],
        /// Network byte order.
        port: u32,
        /// Backend, or [`NONE`].
        backend: u32,
        /// Its generation.
        generation: u32,
        /// Reserved, 0.
        reserved: u32,
        /// When the socket last sent there, monotonic.
        used_ns: u64,
    }
    /// What an address was before a bind (per socket) or a redirection (by [`PeerKey`]).
    Asked = 24 {
        /// Address; an IPv4 one in the last word, behind `::ffff:`.
        addr: [u32; 4],
        /// Network byte order.
        port: u32,
        /// Address family of the call.
        family: u32,
    }
    /// Settings that the programs read; one entry of `CONFIG`.
    Config = 72 {
        /// What is added to the time in ticks to make it monotonic; 0: not known yet. The programs
        /// find it themselves.
        clock_base_ns: u64,
        /// Last sign of life of the resolver, monotonic.
        heartbeat_ns: u64,
        /// A heartbeat older than this bypasses the resolver.
        heartbeat_max_age_ns: u64,
        /// A backend whose accept queue was not seen empty for so long is passed over.
        hung_after_ns: u64,
        /// One of so many connections is reported as a flow; 0: none.
        flow_sample: u32,
        /// [`ABI_VERSION`] of the writer.
        abi_version: u32,
        /// First 48 bits of the IPv6 network, in the order of memory.
        prefix6: [u32; 2],
        /// Address of the resolver; 0: none.
        resolver4: u32,
        /// Its port in network byte order.
        resolver_port: u32,
        /// Its IPv6 address.
        resolver6: [u32; 4],
    }
    /// Which callers that are no members may call services; one entry of `REACH`.
    Reach = 16 {
        /// Cookie of the agent's network namespace: addresses of the plan mean nothing elsewhere.
        network: u64,
        /// Cgroup of the resolver, whose queries are not led to itself.
        resolver: u64,
    }
    /// What the programs counted about themselves, per CPU.
    Counters = 104 {
        /// Flow samples that found the ring full.
        flows_lost: u64,
        /// Listen and bind events that found the ring full: user space must scan.
        notices_lost: u64,
        /// Sockets that found neither place nor overflow: not counted.
        sockets_lost: u64,
        /// Edges that found no room.
        edges_lost: u64,
        /// Queries sent to the resolver.
        queries: u64,
        /// Queries that bypassed it because its heartbeat was stale.
        queries_bypassed: u64,
        /// Binds to an address of somebody else.
        binds_denied: u64,
        /// Datagrams or connects whose own source could not be set.
        sources_unset: u64,
        /// Connections, and datagrams, of other hosts that an instance was handed.
        fleet_accepted: u64,
        /// Packets to instances that came from no host of the network: refused.
        fleet_strangers: u64,
        /// Packets of other hosts to what is no port of an instance, or to one on which nothing
        /// listens: refused.
        fleet_unheard: u64,
        /// Times another host came under suspicion.
        suspicions: u64,
        /// Choices that passed over an endpoint because its host was under suspicion.
        suspects_passed: u64,
    }
    /// An event of the ring, whatever its kind.
    Event = 88 {
        /// One of [`event`].
        kind: u32,
        /// One of [`verdict`].
        verdict: u32,
        /// Monotonic time.
        at_ns: u64,
        /// [`Instance::id`] of the one who acted; of the one who served a caller from [`OUTSIDE`].
        instance: u64,
        /// Number of its service.
        source: u32,
        /// Number of the service called.
        destination: u32,
        /// Backend taken, or [`NONE`].
        backend: u32,
        /// Its generation.
        generation: u32,
        /// The address: listened or bound on, or asked for.
        addr: [u32; 4],
        /// Port in network byte order.
        port: u16,
        /// [`protocol`].
        protocol: u16,
        /// Connect time, microseconds.
        connect_us: u32,
        /// Life of the connection, microseconds.
        duration_us: u64,
        /// Bytes sent and acknowledged.
        sent_bytes: u64,
        /// Bytes received.
        received_bytes: u64,
    }
}

impl BackendTimes {
    /// The sum of two copies.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        for (sum, more) in self.us.as_flattened_mut().iter_mut().zip(other.us.as_flattened()) {
            *sum = sum.wrapping_add(*more);
        }
        self
    }

    /// Connect times, microseconds: see [`histogram::coarse`].
    #[must_use]
    pub fn connect_us(&self) -> [u32; histogram::COARSE] {
        self.us.map(|[connect, _]| connect)
    }

    /// Lives of connections, microseconds.
    #[must_use]
    pub fn duration_us(&self) -> [u32; histogram::COARSE] {
        self.us.map(|[_, duration]| duration)
    }
}

impl Edge {
    /// Calls that got a backend.
    pub const fn connects(&self) -> u64 {
        self.active + self.closed
    }

    /// The sum of two copies: counters and histograms add up.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        self.active += other.active;
        self.refused += other.refused;
        self.reset += other.reset;
        self.timed_out += other.timed_out;
        self.cancelled += other.cancelled;
        self.no_backend += other.no_backend;
        self.ejected += other.ejected;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.closed += other.closed;
        for (sum, add) in self.connect_us.iter_mut().zip(&other.connect_us) {
            *sum += add;
        }
        for (sum, add) in self.duration_us.iter_mut().zip(&other.duration_us) {
            *sum += add;
        }
        self
    }
}

/// Values of [`Service::balance`].
pub mod balance {
    /// Fewest open connections for its weight, of two distinct ones drawn.
    pub const LEAST_LOAD: u32 = 0;
    /// One after another.
    pub const ROUND_ROBIN: u32 = 1;
    /// Any.
    pub const RANDOM: u32 = 2;
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// Listens on this host: its listener is looked at before it is taken.
    pub const LOCAL: u16 = 1;
    /// Reachable over IPv4 (and by IPv4-mapped addresses).
    pub const V4: u16 = 2;
    /// Reachable over IPv6.
    pub const V6: u16 = 4;
    /// In the choice: sources that had it keep it. A draining one is not.
    pub const CHOSEN: u16 = 8;
    /// Its IPv4 listener is bound to every address: an adopted program's, who knows no other.
    pub const WILDCARD4: u16 = 16;
    /// The same of its IPv6 listener.
    pub const WILDCARD6: u16 = 32;
}

/// Values of [`HostAddress::kind`].
pub mod host {
    /// Addresses of instances, of nobody known.
    pub const NETWORK: u32 = 0;
    /// This host's own instances.
    pub const OWN: u32 = 1;
    /// Instances of another host.
    pub const SLICE: u32 = 2;
    /// A host's own address: another one's, or a loopback one of this host.
    pub const ADDRESS: u32 = 3;
    /// Of the first address of a slice, which no instance gets: a connect() to it is refused by the
    /// kernel there, and heard by nobody. That of "discard" (RFC 863), which is meant for the like.
    pub const QUIET_PORT: u16 = 9;
}

/// Bits of [`Instance::flags`].
pub mod instance_flags {
    /// Binds are rewritten to the instance's own address. Off for an adopted cgroup.
    pub const OWN_ADDRESS: u32 = 1;
}

/// Bits of [`Socket::flags`].
pub mod socket_flags {
    /// Counted in [`BackendHot::active`](super::BackendHot::active).
    pub const COUNTED: u16 = 1;
    /// The service was called by its IPv6 address.
    pub const V6: u16 = 2;
    /// The record lies in the overflow map.
    pub const OVERFLOW: u16 = 8;
}

/// How the record of a socket is given back that is gone although nobody saw its end: what the program
/// for it is asked to do with a cookie, and what it answers.
pub mod reclaim {
    /// Ends a record in the overflow; one in its place is condemned.
    pub const CONDEMN: u64 = 0;
    /// A grace period later: ends one that is condemned.
    pub const FINISH: u64 = 1;

    /// There is no such record, or somebody else has ended it.
    pub const LEFT: u32 = 0;
    /// The record is gone and the in-flight count lower.
    pub const DONE: u32 = 1;
    /// The other call has to follow.
    pub const CONDEMNED: u32 = 2;

    /// In the cookie of a condemned record: no socket has such a number.
    pub const CONDEMNED_COOKIE: u64 = 1 << 63;
}

/// Values of [`Event::kind`].
pub mod event {
    /// A member called listen().
    pub const LISTEN: u32 = 1;
    /// A member bound a declared port: listen() may follow.
    pub const BIND: u32 = 2;
    /// A sampled or failed connection.
    pub const FLOW: u32 = 3;
}

/// Why a connection went as it went. Counters, `explain` and the flow log share these.
pub mod verdict {
    /// Closed after it was established.
    pub const CLOSED: u32 = 0;
    /// The backend refused it.
    pub const REFUSED: u32 = 1;
    /// The backend reset it.
    pub const RESET: u32 = 2;
    /// No answer.
    pub const TIMED_OUT: u32 = 3;
    /// The caller gave up first.
    pub const CANCELLED: u32 = 4;
    /// The service has no backend.
    pub const NO_BACKEND: u32 = 5;
    /// A service address without such a port.
    pub const NO_SUCH_PORT: u32 = 6;
    /// A bind to an address of somebody else.
    pub const BIND_DENIED: u32 = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_hold_still() {
        for (name, is, declared) in SIZES {
            assert_eq!(is, declared, "size of {name}");
        }
        assert_eq!(core::mem::offset_of!(BackendHot, refused), 64, "the choice reads one line");
        assert_eq!(core::mem::offset_of!(BackendHot, active), 0, "counted in one word");
        assert_eq!(core::mem::offset_of!(BackendHot, generation), 4, "with the generation");
        assert_eq!(core::mem::offset_of!(BackendPlace, listener4), 48, "beside the backend");
        assert_eq!(core::mem::offset_of!(Event, addr), 40);
        assert_eq!(core::mem::offset_of!(Socket, source), 24);
        assert_eq!(core::mem::offset_of!(Service, affinity_ns), 24);
        assert!(capacity::SOCKETS.is_power_of_two() && capacity::EVENT_BYTES.is_power_of_two());
    }
}
