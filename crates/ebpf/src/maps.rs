//! The maps, shared with user space: see `sinew_abi` for keys, values and capacities.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{
        Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, SkStorage,
        SockMap,
    },
    macros::btf_map,
};
use sinew_abi::{
    Affinity, AffinityKey, Asked, BackendHot, BackendPlace, BackendTimes, Config, Counters,
    DatagramPeer, Edge, EdgeKey, Event, Fleet, FleetKey, FleetPort, HostAddress, Instance,
    KnownListener, ListenKey, ListenValue, ListeningProcess, NearCaller, NearService, Outlier,
    PeerKey, PortName, PublishedKey, Reach, Region, Service, ServiceHot, ServiceKey4, ServiceKey6,
    Socket, Suspicion, capacity as c,
};

const LAZY: usize = BPF_F_NO_PREALLOC as usize;
/// User space maps these arrays into its memory: it reads and writes without a system call each.
const SHARED: usize = BPF_F_MMAPABLE as usize;

#[btf_map]
pub static CONFIG: Array<Config, 1, SHARED> = Array::new();
/// Which callers are the host's own.
#[btf_map]
pub static REACH: Array<Reach, 1, SHARED> = Array::new();
#[btf_map]
pub static INSTANCES: HashMap<u64, Instance, { c::INSTANCES as usize }> = HashMap::new();
#[btf_map]
pub static SERVICES4: HashMap<ServiceKey4, Service, { c::SERVICES as usize }> = HashMap::new();
#[btf_map]
pub static SERVICES6: HashMap<ServiceKey6, Service, { c::SERVICES as usize }> = HashMap::new();
/// Copies for the calls that every connection makes.
#[btf_map]
pub static NEAR_SERVICES: Array<NearService, { c::NEAR_SERVICES as usize }, SHARED> = Array::new();
#[btf_map]
pub static NEAR_CALLERS: Array<NearCaller, { c::NEAR_CALLERS as usize }, SHARED> = Array::new();
/// Addresses of the host that lead to a service.
#[btf_map]
pub static PUBLISHED: HashMap<PublishedKey, ServiceKey4, { c::PUBLISHED as usize }, LAZY> =
    HashMap::new();
/// A bit for each port that `PUBLISHED` may hold: the other ports pay nothing more.
#[btf_map]
pub static PUBLISHED_PORTS: Array<u64, 1024, SHARED> = Array::new();
/// Where instances of any host have their addresses: what most packets and calls are told by.
#[btf_map]
pub static FLEET: Array<Fleet, 1, SHARED> = Array::new();
/// Whose an address is. The key is a `HostPrefix`.
#[btf_map]
pub static HOSTS: LpmTrie<[u32; 4], HostAddress, { c::HOSTS as usize }> = LpmTrie::new();
/// Number of another host -> what is held against it.
#[btf_map]
pub static NODES: HashMap<u32, Suspicion, { c::NODES as usize }, LAZY> = HashMap::new();
/// Where other hosts reach instances of this one.
#[btf_map]
pub static FLEET_PORTS: HashMap<FleetKey, FleetPort, { c::FLEET_PORTS as usize }, LAZY> =
    HashMap::new();
/// Ports without an address of their own that other hosts were sent datagrams from, and may answer.
#[btf_map]
pub static AWAITED_REPLIES: LruHashMap<FleetKey, u32, { c::AWAITED_REPLIES as usize }> =
    LruHashMap::new();
#[btf_map]
pub static SERVICE_HOT: Array<ServiceHot, { c::SERVICES as usize }, SHARED> = Array::new();
#[btf_map]
pub static OUTLIERS: Array<Outlier, { c::SERVICES as usize }, SHARED> = Array::new();
#[btf_map]
pub static REGIONS: Array<Region, { c::SERVICES as usize }, SHARED> = Array::new();
#[btf_map]
pub static PORT_NAMES: Array<PortName, { c::SERVICES as usize }, SHARED> = Array::new();
#[btf_map]
pub static SLOTS: Array<u32, { c::SLOTS as usize }, SHARED> = Array::new();
#[btf_map]
pub static BACKENDS: Array<BackendPlace, { c::BACKENDS as usize }, SHARED> = Array::new();
#[btf_map]
pub static BACKEND_HOT: Array<BackendHot, { c::BACKENDS as usize }, SHARED> = Array::new();
/// Backend index -> where the kernel keeps its IPv6 listener: read without a reference.
#[btf_map]
pub static KNOWN_LISTENERS6: Array<KnownListener, { c::BACKENDS as usize }, SHARED> = Array::new();
/// Process id -> the listeners that it made.
#[btf_map]
pub static LISTENING_PROCESSES: LruHashMap<
    u32,
    ListeningProcess,
    { c::LISTENING_PROCESSES as usize },
> = LruHashMap::new();
#[btf_map]
pub static BACKEND_TIMES: PerCpuArray<BackendTimes, { c::BACKEND_TIMES as usize }> =
    PerCpuArray::new();
/// Backend index -> its listener, so that one look tells whether it is there and keeps up.
#[btf_map]
pub static LISTENERS: SockMap<{ c::BACKENDS as usize }> = SockMap::new();
/// The same for IPv6-only listeners.
#[btf_map]
pub static LISTENERS6: SockMap<{ c::BACKENDS as usize }> = SockMap::new();
#[btf_map]
pub static LISTEN_KEYS: HashMap<ListenKey, ListenValue, { c::BACKENDS as usize }, LAZY> =
    HashMap::new();
/// Cookie of a listener that an adopted program had -> its service.
#[btf_map]
pub static ADOPTED_LISTENERS: HashMap<u64, u32, { c::ADOPTED_LISTENERS as usize }, LAZY> =
    HashMap::new();
#[btf_map]
pub static SOCKETS: Array<Socket, { c::SOCKETS as usize }, SHARED> = Array::new();
#[btf_map]
pub static SOCKETS_OVERFLOW: HashMap<u64, Socket, { c::SOCKET_OVERFLOW as usize }, LAZY> =
    HashMap::new();
/// How many records lie in the overflow, by the low bits of their cookies.
#[btf_map]
pub static OVERFLOW_HINTS: Array<u32, { c::OVERFLOW_HINTS as usize }> = Array::new();
#[btf_map]
pub static EDGES: PerCpuHashMap<EdgeKey, Edge, { c::EDGES as usize }, LAZY> = PerCpuHashMap::new();
/// A zero edge to insert: 2 KiB do not fit on the stack.
#[btf_map]
pub static EDGE_ZERO: Array<Edge, 1> = Array::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map]
pub static AFFINITIES: LruHashMap<AffinityKey, Affinity, { c::AFFINITY as usize }> =
    LruHashMap::new();
#[btf_map]
pub static NAME_SERVERS: HashMap<[u32; 4], u32, { c::NAME_SERVERS as usize }> = HashMap::new();
#[btf_map]
pub static DATAGRAM_PEERS: LruHashMap<PeerKey, DatagramPeer, { c::DATAGRAM_PEERS as usize }> =
    LruHashMap::new();
/// What the peer of a redirected socket is called, when no record of a service says it.
#[btf_map]
pub static PEER_NAMES: LruHashMap<PeerKey, Asked, { c::PEER_NAMES as usize }> = LruHashMap::new();
#[btf_map]
pub static BOUND: SkStorage<Asked> = SkStorage::new();
#[btf_map]
pub static EVENTS: RingBuf<Event, { c::EVENT_BYTES as usize }> = RingBuf::new();
