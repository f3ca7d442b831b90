//! Declared capacities of the maps: nearing one warns, reaching it refuses.

/// Member cgroups (instances, `exec` sessions, adopted units).
pub const INSTANCES: u32 = 16_384;
/// Service addresses of one family: service × port × protocol.
pub const SERVICES: u32 = 65_536;
/// Places of [`NearService`](crate::near::NearService); a power of two.
pub const NEAR_SERVICES: u32 = 32_768;
/// Places of [`NearCaller`](crate::near::NearCaller); a power of two.
pub const NEAR_CALLERS: u32 = 16_384;
/// Backends, one a listening port of an endpoint.
pub const BACKENDS: u32 = 131_072;
/// Backends with histograms of their own, the first so many of all.
pub const BACKEND_TIMES: u32 = 2048;
/// Entries of all slot regions together, the old and the new ones of a change included.
pub const SLOTS: u32 = 524_288;
/// Open sockets whose record has a place of its own; a power of two. Others use the overflow.
pub const SOCKETS: u32 = 65_536;
/// Open sockets whose place was taken already.
pub const SOCKET_OVERFLOW: u32 = 262_144;
/// Counters that tell whether the overflow may hold a cookie; a power of two.
pub const OVERFLOW_HINTS: u32 = 1024;
/// Caller-to-service pairs with statistics.
pub const EDGES: u32 = 16_384;
/// Source-affinity records; the least recently used one makes room.
pub const AFFINITY: u32 = 131_072;
/// Name servers of the host whose queries are taken over.
pub const NAME_SERVERS: u32 = 64;
/// Remembered peers of unconnected UDP sockets; the least recently used one makes room.
pub const DATAGRAM_PEERS: u32 = 65_536;
/// Names of redirected peers, per socket; the least recently used one makes room.
pub const PEER_NAMES: u32 = 65_536;
/// Bytes of the event ring; a power of two.
pub const EVENT_BYTES: u32 = 1 << 20;
/// Published ports of the host, by address: one for all addresses of both families takes two.
pub const PUBLISHED: u32 = 8192;
/// Listeners that adopted programs had: as a rule one a port, one a thread at most.
pub const ADOPTED_LISTENERS: u32 = 16_384;
/// Processes that listen for a backend; the one that began longest ago makes room.
pub const LISTENING_PROCESSES: u32 = 16_384;
/// Listeners of a process that are remembered, the latest so many.
pub const LISTENERS_OF_PROCESS: usize = 8;
/// Other hosts of the network, each of which may be under suspicion. The network has no more hosts.
pub const NODES: u32 = 4096;
/// Entries of each in [`HOSTS`]: an address of its own and a slice, of both families.
pub const ENTRIES_OF_HOST: u32 = 4;
/// Entries of none: the networks, this host's slices and loopback, of both families.
pub const ENTRIES_OF_NO_HOST: u32 = 6;
/// Networks, slices and addresses of hosts.
pub const HOSTS: u32 = NODES * ENTRIES_OF_HOST + ENTRIES_OF_NO_HOST;
/// Ports at which other hosts reach instances of this one, by address: each is listened for at as
/// many addresses of this host, of which there are no more than backends.
pub const FLEET_PORTS: u32 = BACKENDS;
/// Ports from which instances sent datagrams to other hosts without having bound them to an
/// address; the least recently used one makes room.
pub const AWAITED_REPLIES: u32 = 16_384;
/// Ports an instance may declare.
pub const DECLARED_PORTS: usize = 16;
