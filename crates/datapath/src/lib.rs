//! The data path: kernel programs that choose backends at connect(), and what keeps their maps
//! true.
//!
//! The flow is one way: a [`Wanted`] state comes in, [`layout`] turns it into what the maps should
//! hold, and [`Kernel`] writes the difference. Programs and maps are pinned, so traffic goes on
//! when nobody runs, and every start begins by reading back what an earlier one left.

mod attach;
mod btf;
mod callees;
mod error;
mod events;
mod facts;
mod fake;
mod features;
mod heartbeat;
mod hosts;
mod kernel;
mod layout;
pub mod loopback;
mod maps;
mod members;
mod near;
mod netlink;
mod notice;
mod object;
pub mod occupancy;
mod reconcile;
mod routes;
mod sockets;
mod sys;
pub mod usage;
mod wanted;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use sinew_model::Protocol;

pub use callees::Callee;
pub use error::Error;
pub use events::{Event, Events, Flow, FlowBackend};
pub use fake::{Fake, FakeState};
pub use features::{Features, TYPES, features};
pub use heartbeat::Heartbeat;
pub use kernel::{HUNG_AFTER, Kernel, Options, Reach};
pub use layout::backend_key;
pub use notice::Notice;
pub use routes::beside;
pub use sockets::{Listener, closes_connections, listeners};
pub use usage::Usage;
pub use wanted::{
    Backend, Fleet, Instance, Peer, Published, Resolver, Service, ServicePort, Wanted, Wildcard,
};

pub use sinew_abi::BackendTimes;

/// What the kernel counts about itself, summed over its CPUs.
pub type Totals = sinew_abi::Counters;

/// Waits until every kernel program that began before has ended, as each change of the maps does.
///
/// # Errors
/// When the kernel offers no way to.
pub fn grace_period() -> Result<(), Error> {
    sys::grace_period().map_err(|e| Error::system("wait for a grace period", e))
}

/// What a backend counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Open connections.
    pub active: u32,
    /// Connections given to it.
    pub connections: u64,
    /// Connects it refused.
    pub refused: u64,
    /// Connections it reset.
    pub reset: u64,
    /// Connects it never answered.
    pub timed_out: u64,
    /// Whether it is ejected now, or waits for its probe.
    pub ejected_now: bool,
    /// How long it stays ejected, milliseconds; 0: it is not.
    pub ejected_for_ms: u64,
    /// Whether its ejection has ended and it has to prove itself.
    pub awaits_probe: bool,
    /// Whether a caller tries it now: the others wait for what comes of that.
    pub probed_now: bool,
    /// Whether its process was killed or exits, and its listener may be there still.
    pub dying: bool,
    /// Whether its host has left calls without an answer: callers pass over all that is there.
    pub suspect: bool,
    /// Failures since its last success.
    pub failures_in_a_row: u32,
    /// How long ago a caller found its accept queue empty, milliseconds; `None`: none looked.
    pub queue_empty_ago_ms: Option<u64>,
    /// Times it was ejected.
    pub ejections: u64,
    /// Times it was passed over as hung.
    pub hung: u32,
    /// Smoothed connect time, microseconds.
    pub connect_us: u32,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// The backend that a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Key of the backend.
    pub backend: u64,
    /// Until it is forgotten, milliseconds.
    pub left_ms: u64,
}

/// What an edge counted, summed over the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeStats {
    /// Number of the caller's service; 0: none.
    pub source: u32,
    /// Number of the service called.
    pub destination: u32,
    /// Counters and histograms.
    pub counters: sinew_abi::Edge,
}

/// What was missing, and whether it is there again.
#[derive(Debug)]
pub struct Mended {
    /// The cgroup that lacked hooks, the directory that lacked pins, or `lo`, which lacked addresses or
    /// routes.
    pub cgroup: PathBuf,
    /// Which.
    pub hooks: Vec<&'static str>,
    /// Why it still lacks them.
    pub error: Option<Error>,
}

/// A cgroup that carries programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// The one that holds all members.
    Members,
    /// An adopted one.
    Adopted(&'a Path),
    /// One of [`Reach::cgroups`].
    Reach(&'a Path),
}

/// See [`Datapath::reconciliation`].
pub type Look = Box<dyn FnMut() -> Result<u32, Error> + Send>;

/// What the agent needs of a data path: the kernel's, or [`Fake`] in tests.
pub trait Datapath: Send {
    /// Makes the kernel hold exactly what is wanted, from whatever it holds. Parts that are the same
    /// allocation as at the last success are passed over.
    ///
    /// # Errors
    /// When a capacity is reached (nothing was changed) or the kernel refuses; the next call then
    /// looks at everything.
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Error>;

    /// Puts the programs on a cgroup outside the members', before it is wanted as an instance's; what
    /// is not wanted by the next [`apply`](Self::apply) is taken off again. An adopted cgroup that
    /// has them already keeps them.
    ///
    /// # Errors
    /// When the cgroup is not there or somebody holds one of its hooks alone; nothing was changed.
    fn hook(&mut self, cgroup: &Path) -> Result<(), Error>;

    /// The hooks that a cgroup should carry and does not.
    fn missing_hooks(&self, carrier: Carrier<'_>) -> Vec<&'static str>;

    /// Looks whether everything is there that was put in force, and puts back what somebody took away.
    /// Cheap when all is well. Answers what was missing.
    fn mend(&mut self) -> Vec<Mended>;

    /// Shows that the resolver is alive; call it every 200 ms, only while it is.
    ///
    /// # Errors
    /// None today; a data path elsewhere may have some.
    fn beat(&mut self) -> Result<(), Error>;

    /// Counters of every backend, by key.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn backends(&self) -> Result<HashMap<u64, BackendStats>, Error>;

    /// Open connections of these backends, by key; those that are not there are left out.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn active(&self, keys: &[u64]) -> Result<HashMap<u64, u32>, Error>;

    /// How long connections to these backends took, by key, as far as histograms are kept of them
    /// ([`sinew_abi::capacity::BACKEND_TIMES`]). The counts wrap: two readings tell what came
    /// between.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn times(&self, keys: &[u64]) -> Result<HashMap<u64, BackendTimes>, Error>;

    /// Counters of every edge.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn edges(&self) -> Result<Vec<EdgeStats>, Error>;

    /// Forgets what the edges from and to these services counted: others will have their numbers.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn forget_services(&mut self, numbers: &[u32]) -> Result<(), Error>;

    /// The programs' own counters.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn totals(&self) -> Result<Totals, Error>;

    /// How full the tables are that callers fill, and that nothing can be refused of: what finds no
    /// room there works and is not counted ([`Totals`] tell how often).
    ///
    /// # Errors
    /// When the kernel refuses.
    fn filling(&self) -> Result<Vec<Usage>, Error>;

    /// A look for connections that ended unseen, which is to be taken once a minute or so: those that
    /// nobody has at two looks in a row are given back, and their number is the answer. It takes long
    /// and needs nothing of the data path meanwhile.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn reconciliation(&self) -> Result<Look, Error>;

    /// All TCP listeners and bound UDP sockets of the network namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn listeners(&self) -> Result<Vec<Listener>, Error>;

    /// Closes the client ends of all TCP connections to an address; their owners get
    /// ECONNABORTED. Answers how many.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn close_connections(&self, to: SocketAddr) -> Result<u32, Error>;

    /// Closes this host's ends of all TCP connections to and from another host, and UDP sockets
    /// connected with it: those with its slices, and those of members with its
    /// [proven](Peer::proven) addresses. Their owners get ECONNABORTED. Answers how many.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn close_host(&self, peer: &Peer) -> Result<u32, Error>;

    /// The other hosts that have endpoints.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn callees(&self) -> Result<Vec<Callee>, Error>;

    /// What came of trying another host: an answer ends a suspicion, and without one callers pass it
    /// over while others are fit, for two seconds at least.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn tried(&self, node: u32, answered: bool) -> Result<(), Error>;

    /// What is in force only in part, and why.
    fn notices(&self) -> Vec<Notice>;

    /// The backend that a source keeps, of a service port that balances by source.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn affinity(
        &self,
        source: Ipv4Addr,
        service: u32,
        port: (Protocol, u16),
    ) -> Result<Option<Affinity>, Error>;

    /// Reports every failed connection and one of so many closed ones as a [`Flow`]; 0: only what
    /// connect() and bind() refuse.
    fn sample_flows(&mut self, one_of: u32);

    /// The key of the backend that a [`Flow`] names; `None` when it is no longer there.
    fn backend_key(&self, backend: FlowBackend) -> Option<u64>;

    /// Removes every program, map, pin, route and address.
    ///
    /// # Errors
    /// When the kernel refuses; what could be removed is gone.
    fn detach(&mut self) -> Result<(), Error>;
}
