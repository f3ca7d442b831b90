//! The heart of the agent: what is wanted and what was seen go in, what is to be done comes out.
//! No clock, no IO and no task in here, so every interleaving of events can be tested.
//!
//! An instance moves `Waiting → Preparing → Registering → Launching → Running → Draining →
//! Stopping → Cleaning`, and from there back to `Waiting` or away. Each step waits for the report of
//! the one before it; a step that fails is repeated later, with growing pauses. Nothing is launched
//! before the kernel holds its cgroup, so that not even its first bind goes unseen, and everything
//! leaves the choice before it is stopped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_api::EventKind;
use sinew_datapath::Wanted;
use sinew_model::{Health, Port, ProjectName, Protocol, ServiceName};

use crate::{
    adopt::Places,
    alloc::{self, Network6},
    fleet::{News, Run},
    intent::Intent,
    key::Key,
    launch::Launch,
};

mod adopted;
mod change;
mod converge;
mod inputs;
mod instance;
mod others;
mod projects;
mod room;
mod slots;
mod spread;
mod unused;
mod wanted;

#[cfg(test)]
mod tests;

pub(crate) use instance::{Attached, Family, Instance, Kind, Phase, Process};
use others::Others;
pub(crate) use spread::remote_keys;
pub(crate) use wanted::{WEIGHT, backend_key, backend_keys, instance_of};

/// What the core is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// The intent changed.
    Intent(Arc<Intent>),
    /// A process asks to be an instance.
    Attach {
        /// Which one.
        key: Key,
        /// What it is.
        attached: Attached,
    },
    /// What the agent found when it started, and what is wanted.
    Boot {
        /// What is wanted.
        intent: Arc<Intent>,
        /// What runs.
        found: Vec<Found>,
        /// What listens.
        listeners: Vec<(IpAddr, u16, Protocol)>,
        /// What is left of instances that do not run: it is cleared away first.
        rubble: Vec<Key>,
    },
    /// The cgroup is there.
    Prepared(Key, Result<(), String>),
    /// The data path holds what revision `0` of the wanted state says, or why not.
    Synced(u64, Result<(), String>),
    /// The supervisor runs (or the attached process is in its cgroup).
    Launched(Key, Result<(), String>),
    /// A process of it started.
    Started(Key, Process),
    /// Something about it did not work, in words; it goes on as it was.
    Trouble(Key, String),
    /// The kernel says that this process of it is gone; how it ended will be told.
    Gone(Key, u32),
    /// Its process ended.
    Exited(Key, Ended),
    /// Nothing of it runs any more, and nothing starts it again.
    Stopped(Key),
    /// Its cgroup and its directory are gone.
    Cleaned(Key, Result<(), String>),
    /// The kernel saw a listen().
    Listening {
        /// Number of the instance.
        instance: u64,
        /// On which address.
        address: IpAddr,
        /// On which port.
        port: u16,
    },
    /// The kernel saw a bind() of a declared port.
    Bound {
        /// Number of the instance.
        instance: u64,
        /// To which address.
        address: IpAddr,
        /// Which port.
        port: u16,
        /// Of which protocol.
        protocol: Protocol,
    },
    /// Notices were lost: look at what listens.
    NoticesLost,
    /// All that listens in the network namespace.
    Listeners(Vec<(IpAddr, u16, Protocol)>),
    /// Where an adopted one listens now.
    Places(Key, Places),
    /// The cgroup of an adopted one is gone, and there is another one of its name.
    Replaced(Key),
    /// A check ended.
    Checked {
        /// Of which instance.
        key: Key,
        /// The run of the checks, as [`Output::Probe`] gave it.
        run: u64,
        /// Well, or why not.
        result: Result<(), String>,
    },
    /// Open connections by backend, of [`Core::draining_backends`] at least.
    Active(HashMap<u64, u32>),
    /// What is known of other hosts.
    News(News),
    /// This host is about to leave the network: the others shall call nothing here any more. `None`:
    /// it stays.
    Withdraw(Option<Withdrawal>),
    /// It has left.
    Alone,
    /// Backends that the kernel passes over.
    Unwell(HashSet<u64>),
    /// Something that the data path is told beside the instances changed.
    Refresh,
    /// Stop everything without forgetting it.
    Halt,
    /// Time went on.
    Tick,
}

/// How far what runs here is taken out of the choice of other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// No new connections come; those that are open may end.
    Drain,
    /// Nothing is there any more.
    Gone,
}

/// An instance that runs already.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which one.
    pub key: Key,
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Its process, when one runs.
    pub process: Option<Process>,
    /// How the last one ended, when none runs.
    pub ended: Option<Ended>,
    /// Where it listens, when it was adopted.
    pub places: Places,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// In words, as `exited with 1`.
    pub reason: String,
    /// It exited with 0.
    pub success: bool,
    /// It is started again after a pause.
    pub returns: bool,
}

/// What the core wants done, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    /// Make the cgroup, then tell [`Input::Prepared`].
    Prepare(Key),
    /// Bring the data path to [`Core::wanted`], then tell [`Input::Synced`] with this revision.
    Sync(u64),
    /// Look at what listens, then tell [`Input::Listeners`].
    Scan,
    /// Look where an adopted one listens, then tell [`Input::Places`].
    Look(Key),
    /// What was adopted is gone: it is not wanted any more.
    Forsake(Key),
    /// Start the supervisor, or let the attached process in, then tell [`Input::Launched`].
    Launch(Key),
    /// Tell its supervisor what changed of what it was launched with.
    Adjust(Key),
    /// Stop it; [`Input::Stopped`] follows.
    Stop(Key),
    /// Close what connections are left to these.
    Close(Vec<SocketAddr>),
    /// Remove cgroup and directory, then tell [`Input::Cleaned`].
    Clean(Key),
    /// Begin to check its health, each result as [`Input::Checked`] with this run.
    Probe {
        /// Which instance.
        key: Key,
        /// Of which run the results are.
        run: u64,
        /// What to ask, and how often.
        health: Health,
    },
    /// End the checks.
    EndProbe(Key),
    /// Nobody has used these names for a while: [`Input::Intent`] without their numbers may follow.
    Retire(Vec<ServiceName>),
    /// Tell the other hosts what runs of a service here.
    Report(ServiceName, Run),
    /// These are called by services of this host: hear of what other hosts run of them.
    Configured(BTreeSet<ServiceName>),
    /// Tell whoever listens.
    Publish(Option<ProjectName>, EventKind),
}

/// How long the first repetition of a failed action waits; doubled each time.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A look at open connections counts only so long after the choice was changed: a connect() that
/// began before is in the count by then.
const SETTLE: Duration = Duration::from_millis(20);

/// A process that only has its life to show counts as up after this time: one that ends at once, and
/// is started again and again, never does.
const STEADY: Duration = Duration::from_secs(1);

/// The state of a host.
#[derive(Debug)]
pub(crate) struct Core {
    now: Instant,
    intent: Arc<Intent>,
    /// What an instance of each service is launched with.
    launches: BTreeMap<ServiceName, Arc<Launch>>,
    /// Services that wait for the one named.
    dependents: BTreeMap<ServiceName, BTreeSet<ServiceName>>,
    /// Boxed: a tree keeps room for as many again.
    instances: BTreeMap<Key, Box<Instance>>,
    by_number: BTreeMap<u32, Key>,
    /// Services (`None`: the sessions) to look at again.
    touched: BTreeSet<Option<ServiceName>>,
    /// What the data path shall hold, but for what is stale.
    wanted: Wanted,
    /// Services (`None`: the sessions) that were touched since then.
    stale: BTreeSet<Option<ServiceName>>,
    /// Those that wait for the data path.
    registering: Vec<Key>,
    /// Raised when a service comes or goes, or has other ports.
    names: u64,
    /// Raised when a process that holds a name joins or is gone.
    attachments: u64,
    timers: BTreeSet<(Instant, Key)>,
    revision: u64,
    synced: u64,
    dirty: bool,
    sync_failures: u32,
    sync_retry: Option<Instant>,
    /// Look at the listeners once this revision is synced.
    scan_at: Option<u64>,
    halting: bool,
    ready: BTreeMap<ProjectName, bool>,
    touched_projects: BTreeSet<ProjectName>,
    /// What is missing until a project is ready.
    unready: BTreeMap<ProjectName, BTreeSet<ServiceName>>,
    draining: BTreeSet<Key>,
    /// Names that were of no use at the last look, and have not been used since.
    unused: BTreeSet<ServiceName>,
    /// When names are looked at again; `None`: every one is used.
    look_at_names: Option<Instant>,
    runs: u64,
    /// Boxed: most hosts are alone.
    others: Option<Box<Others>>,
    slots: slots::Slots,
    outputs: Vec<Output>,
}

impl Core {
    /// Wants nothing and has seen nothing.
    pub(crate) fn new(now: Instant, network6: Network6) -> Self {
        Self {
            now,
            intent: Arc::new(Intent::new(network6)),
            launches: BTreeMap::new(),
            dependents: BTreeMap::new(),
            instances: BTreeMap::new(),
            by_number: BTreeMap::new(),
            touched: BTreeSet::new(),
            wanted: Wanted::default(),
            stale: BTreeSet::new(),
            registering: Vec::new(),
            names: 0,
            attachments: 0,
            timers: BTreeSet::new(),
            revision: 0,
            synced: 0,
            dirty: false,
            sync_failures: 0,
            sync_retry: None,
            scan_at: None,
            halting: false,
            ready: BTreeMap::new(),
            touched_projects: BTreeSet::new(),
            unready: BTreeMap::new(),
            draining: BTreeSet::new(),
            unused: BTreeSet::new(),
            look_at_names: None,
            runs: 0,
            others: None,
            slots: slots::Slots::default(),
            outputs: Vec::new(),
        }
    }

    /// Takes `input` at `now` and says what is to be done about it.
    pub(crate) fn handle(&mut self, now: Instant, input: Input) -> Vec<Output> {
        self.now = now;
        let frees =
            matches!(input, Input::Intent(_) | Input::Cleaned(..) | Input::News(News::Services(_)));
        self.take(input);
        if frees {
            self.look_at_left_out();
        }
        self.fire_timers();
        self.settle();
        std::mem::take(&mut self.outputs)
    }

    /// When [`Input::Tick`] is wanted.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let returning = self.others.as_ref().and_then(|others| others.look_at_return);
        [timer, self.sync_retry, self.look_at_names, returning].into_iter().flatten().min()
    }

    /// Whether [`Input::Active`] is wanted, now and then.
    pub(crate) fn drains(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Of these backends.
    pub(crate) fn draining_backends(&self) -> Vec<u64> {
        self.draining
            .iter()
            .filter_map(|key| self.instances.get(key))
            .flat_map(|instance| backend_keys(instance))
            .collect()
    }

    /// Whether everything stopped, after [`Input::Halt`].
    pub(crate) fn halted(&self) -> bool {
        self.halting && self.instances.is_empty()
    }

    /// Every instance.
    pub(crate) fn instances(&self) -> impl ExactSizeIterator<Item = &Instance> {
        self.instances.values().map(Box::as_ref)
    }

    /// One instance.
    pub(crate) fn instance(&self, key: &Key) -> Option<&Instance> {
        self.instances.get(key).map(Box::as_ref)
    }

    /// What is wanted.
    pub(crate) fn intent(&self) -> &Arc<Intent> {
        &self.intent
    }

    /// Differs when the names differ that are served.
    pub(crate) fn names_version(&self) -> (u64, u64) {
        (self.names, self.attachments)
    }

    /// Names held by attached processes and adopted ones, with their ports.
    pub(crate) fn attached_names(&self) -> BTreeMap<ServiceName, Vec<Port>> {
        self.instances
            .values()
            .filter_map(|instance| match (&instance.kind, &instance.key.service) {
                (Kind::Attached(attached), Some(name)) => {
                    Some((name.clone(), attached.ports.clone()))
                }
                (Kind::Adopted(adoption), Some(name)) => {
                    Some((name.clone(), adoption.ports.clone()))
                }
                _ => None,
            })
            .collect()
    }

    /// The smallest number that no instance of `service` (`None`: no session) has.
    pub(crate) fn free_replica(&self, service: Option<&ServiceName>) -> u32 {
        let used: BTreeSet<u32> = self.of(service).map(|i| i.key.replica).collect();
        (0..).find(|n| !used.contains(n)).unwrap_or(0)
    }

    /// The instances of one service.
    pub(crate) fn instances_of(&self, service: &ServiceName) -> impl Iterator<Item = &Instance> {
        self.of(Some(service))
    }

    fn of(&self, service: Option<&ServiceName>) -> impl Iterator<Item = &Instance> {
        let range = Key { service: service.cloned(), replica: 0 }..=Key {
            service: service.cloned(),
            replica: u32::MAX,
        };
        self.instances.range(range).map(|(_, instance)| instance.as_ref())
    }

    fn keys_of(&self, service: Option<&ServiceName>) -> Vec<Key> {
        self.of(service).map(|i| i.key.clone()).collect()
    }

    fn touch(&mut self, key: &Key) {
        self.touched.insert(key.service.clone());
    }

    /// Those who wait for `service`, and those it waits for, look again.
    fn touch_neighbours(&mut self, service: &ServiceName) {
        let dependents = self.dependents.get(service).into_iter().flatten();
        self.touched.extend(dependents.cloned().map(Some));
        let needed: Vec<_> =
            self.of(Some(service)).flat_map(|i| i.depends_on().iter().cloned()).collect();
        self.touched.extend(needed.into_iter().map(Some));
    }

    fn touch_all(&mut self) {
        let adopted = self.intent.adopted.iter().map(|adoption| adoption.key.service.clone());
        let services = self.launches.keys().cloned().map(Some).chain(adopted);
        let present = self.instances.keys().map(|k| k.service.clone());
        let all: BTreeSet<_> = services.chain(present).collect();
        self.touched.extend(all);
    }

    fn fire_timers(&mut self) {
        while let Some((at, key)) = self.timers.first().cloned()
            && at <= self.now
        {
            self.timers.remove(&(at, key.clone()));
            self.touch(&key);
        }
        if self.sync_retry.is_some_and(|at| at <= self.now) {
            self.sync_retry = None;
            self.dirty = true;
        }
    }

    /// Brings every touched service as far as it goes now.
    fn settle(&mut self) {
        while let Some(service) = self.touched.pop_first() {
            self.converge(service.as_ref());
            self.tell_others(service.as_ref());
            self.stale.insert(service);
        }
        self.settle_projects();
        self.settle_names();
        self.look_at_return();
        if self.dirty {
            self.dirty = false;
            self.revision += 1;
            // What is cleaned leaves the data path first.
            let at = self
                .outputs
                .iter()
                .position(|o| matches!(o, Output::Clean(_)))
                .unwrap_or(self.outputs.len());
            self.outputs.insert(at, Output::Sync(self.revision));
        }
        if self.scan_at.is_some_and(|at| at <= self.synced) {
            self.scan_at = None;
            self.outputs.push(Output::Scan);
        }
    }

    fn scan_after_sync(&mut self) {
        let next = self.revision + u64::from(self.dirty);
        self.scan_at = Some(next);
    }

    /// A number that an instance called `key` would have.
    pub(crate) fn number_for(&self, key: &Key) -> Option<u32> {
        alloc::instance_number(&key.to_string(), |n| self.by_number.contains_key(&n))
    }
}
