//! The thin shell around the core: one task owns it, hands it what happened, and has done what it
//! wants done. Nothing in here decides anything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sinew_api::EventKind;
use sinew_datapath::{self as datapath, Datapath, Totals};
use sinew_model::{Health, ProjectName, ServiceName};
use sinew_workload::{Shims, exec::CheckSpec};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::{
    adopt::Above,
    alloc::Network6,
    attach::Joiner,
    bus::Bus,
    core::{Core, Input, Kind, Output},
    dns::Names,
    environment,
    fleet::{Fleet, Tell},
    flows::Flows,
    health,
    intent::Intent,
    key::Key,
    paths::Paths,
    policy::PolicyFile,
    pollable,
    prompt::unhurried,
    record::Record,
    refusal::Refusal,
    serve::loopback_down,
    store::Store,
    times::Times,
};

mod adoptions;
mod boot;
mod carriers;
mod events;
mod fullness;
mod life;
mod listeners;
mod others;
mod requests;
mod sync;
mod unseen;
mod worker;

pub(crate) use boot::{Discovered, discover};
pub(crate) use events::EventSource;
pub(crate) use fullness::filling;
use listeners::Members;
pub(crate) use others::Parted;
use sync::guarded;
use worker::{Order, Place};
pub(crate) use worker::{Resumed, nobody_there};

/// From look to look at the connections of what drains.
const LOOK_AT_DRAINING: Duration = Duration::from_millis(50);
/// From look to look at adopted programs: another may listen where one of them did.
const LOOK_AT_ADOPTED: Duration = Duration::from_secs(1);
/// From look to look whether the kernel lost notices, and whether somebody took programs away.
const LOOK_AT_LOSSES: Duration = Duration::from_secs(2);
/// From look to look at backends and callers of services that other hosts run too.
const LOOK_AT_OTHERS: Duration = Duration::from_secs(1);
/// From look to look how full the tables are that callers fill.
const LOOK_AT_FILLING: Duration = Duration::from_secs(30);

/// From look to look for connections that ended unseen: they were, for a moment at least.
const LOOK_FOR_UNSEEN: Duration = Duration::from_secs(60);

/// Inputs that are taken before the data path is told of them.
const BATCH: usize = 1024;

/// The data path, which several tasks use.
#[derive(Clone)]
pub(crate) struct SharedDatapath(Arc<Mutex<Box<dyn Datapath>>>);

impl SharedDatapath {
    pub(crate) fn new(datapath: Box<dyn Datapath>) -> Self {
        Self(Arc::new(Mutex::new(datapath)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Box<dyn Datapath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of work that needs the runtime.
type Call = Box<dyn FnOnce(&mut Runtime) + Send>;

/// How others reach the runtime.
#[derive(Clone)]
pub(crate) struct Handle {
    calls: mpsc::UnboundedSender<Call>,
    /// Tells everybody what changes.
    pub(crate) bus: Arc<Bus>,
    /// Connections one by one.
    pub(crate) flows: Arc<Flows>,
    /// The data path.
    pub(crate) datapath: SharedDatapath,
    /// How long connections took, for those who ask.
    pub(crate) times: Arc<Mutex<Times>>,
    /// Where things lie.
    pub(crate) paths: Arc<Paths>,
    /// Who may do more than others.
    pub(crate) policy: Arc<PolicyFile>,
    /// Held by who takes this host out of its network.
    pub(crate) leaving: Arc<tokio::sync::Mutex<()>>,
    /// What is wanted; nothing before what runs has been taken over.
    intent: watch::Receiver<Option<Arc<Intent>>>,
    /// Turns true when the agent ends.
    ending: watch::Receiver<bool>,
}

impl Handle {
    /// Cgroups of somebody else's that were adopted where they are.
    pub(crate) async fn adopted(&self) -> Result<Vec<PathBuf>, Refusal> {
        let mut intent = self.intent.clone();
        let known = intent.wait_for(Option::is_some).await.map_err(|_| Refusal::Stopping)?;
        let adopted = known.iter().flat_map(|intent| &intent.adopted);
        Ok(adopted.filter_map(|a| a.target.cgroup()).map(Path::to_owned).collect())
    }

    /// Turns true when the agent ends.
    pub(crate) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.clone()
    }

    /// Has `work` done by the task that owns everything.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Runtime) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (sender, receiver) = oneshot::channel();
        let call: Call = Box::new(move |runtime| {
            // Who asked may have gone.
            let _ = sender.send(work(runtime));
        });
        self.calls.send(call).map_err(|_| Refusal::Stopping)?;
        receiver.await.map_err(|_| Refusal::Stopping)
    }
}

/// What a runtime is built from.
pub(crate) struct Parts {
    pub(crate) paths: Arc<Paths>,
    pub(crate) policy: Arc<PolicyFile>,
    pub(crate) store: Store,
    pub(crate) network6: Network6,
    pub(crate) datapath: SharedDatapath,
    pub(crate) names: Names,
    pub(crate) bus: Arc<Bus>,
    pub(crate) flows: Arc<Flows>,
    /// What is started as supervisor.
    pub(crate) exe: PathBuf,
    pub(crate) warnings: Vec<String>,
    pub(crate) started_at_ms: u64,
    pub(crate) metrics_at: Option<SocketAddr>,
    /// Cgroups whose processes call services without being members.
    pub(crate) reach: Vec<PathBuf>,
    /// Other hosts; `None`: this one is alone.
    pub(crate) fleet: Option<Fleet>,
}

/// Owns everything that changes.
pub(crate) struct Runtime {
    pub(crate) core: Core,
    store: Store,
    paths: Arc<Paths>,
    policy: Arc<PolicyFile>,
    datapath: SharedDatapath,
    names: Names,
    reached: others::Reached,
    pub(crate) bus: Arc<Bus>,
    flows: Arc<Flows>,
    exe: PathBuf,
    intent: watch::Sender<Option<Arc<Intent>>>,
    inputs: mpsc::UnboundedSender<Input>,
    incoming: mpsc::UnboundedReceiver<Input>,
    calls: mpsc::UnboundedReceiver<Call>,
    /// Where work is done that the runtime's own thread has no time for.
    background: tokio::runtime::Handle,
    workers: BTreeMap<Key, mpsc::UnboundedSender<Order>>,
    /// Those who wait for the ends of processes.
    sentinels: BTreeMap<Key, AbortHandle>,
    probes: BTreeMap<Key, AbortHandle>,
    joiners: BTreeMap<Key, Joiner>,
    adoptions: adoptions::Adoptions,
    hooks: carriers::Hooks,
    unseen: unseen::Unseen,
    above: Arc<Above>,
    /// What an operator should know and has no event for.
    warnings: Vec<String>,
    /// Why the data path is not what it should be.
    unsynced: Option<String>,
    /// What found no room: when the agent started, and now.
    totals: Option<(Totals, Totals)>,
    /// What of it was told already.
    told: Arc<Mutex<BTreeSet<String>>>,
    /// The data path shall be brought to this revision.
    due: Option<u64>,
    /// Which names are served.
    zone_of: Option<(u64, u64)>,
    pub(crate) started_at_ms: u64,
    pub(crate) metrics_at: Option<SocketAddr>,
    reach: Vec<PathBuf>,
    ties: others::Ties,
    ending: Option<Ending>,
}

/// How the agent ends when it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Workloads and data path go on.
    Leave,
    /// Every workload has stopped.
    Stopped,
    /// And nothing of Sinew is to be left.
    Purge,
}

impl Runtime {
    pub(crate) fn new(parts: Parts, ending: watch::Receiver<bool>) -> (Self, Handle) {
        let (inputs, incoming) = mpsc::unbounded_channel();
        let (call_sender, calls) = mpsc::unbounded_channel();
        let (intent, intent_seen) = watch::channel(None);
        let unseen = unseen::Unseen::new(&parts.datapath);
        let handle = Handle {
            calls: call_sender,
            bus: parts.bus.clone(),
            flows: parts.flows.clone(),
            datapath: parts.datapath.clone(),
            times: Arc::default(),
            paths: parts.paths.clone(),
            policy: parts.policy.clone(),
            leaving: Arc::default(),
            intent: intent_seen,
            ending,
        };
        let mut runtime = Self {
            core: Core::new(Instant::now(), parts.network6),
            store: parts.store,
            paths: parts.paths,
            policy: parts.policy,
            datapath: parts.datapath,
            names: parts.names,
            reached: others::Reached::default(),
            bus: parts.bus,
            flows: parts.flows,
            exe: parts.exe,
            intent,
            inputs,
            incoming,
            calls,
            background: tokio::runtime::Handle::current(),
            workers: BTreeMap::new(),
            sentinels: BTreeMap::new(),
            probes: BTreeMap::new(),
            joiners: BTreeMap::new(),
            adoptions: adoptions::Adoptions::default(),
            hooks: carriers::Hooks::default(),
            unseen,
            above: Arc::default(),
            warnings: parts.warnings,
            unsynced: None,
            totals: None,
            told: Arc::default(),
            due: None,
            zone_of: None,
            started_at_ms: parts.started_at_ms,
            metrics_at: parts.metrics_at,
            reach: parts.reach,
            ties: others::Ties::default(),
            ending: None,
        };
        runtime.enter(parts.fleet);
        (runtime, handle)
    }

    /// Works until it is told to end, or nobody is left who could tell. Of its thread: see
    /// [`prompt`].
    ///
    /// # Errors
    /// When the kernel's events cannot be waited for.
    pub(crate) async fn run(
        mut self,
        events: EventSource,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<(Ending, Self)> {
        let mut events = events.open(&self.flows)?;
        let mut draining = tokio::time::interval(LOOK_AT_DRAINING);
        let mut losses = tokio::time::interval(LOOK_AT_LOSSES);
        let mut adopted = tokio::time::interval(LOOK_AT_ADOPTED);
        let mut filling = tokio::time::interval(LOOK_AT_FILLING);
        let mut unseen = tokio::time::interval(LOOK_FOR_UNSEEN);
        let mut others = tokio::time::interval(LOOK_AT_OTHERS);
        others.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let one_of_many = self.ties.is_one_of_many();
        adopted.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        draining.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        losses.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        filling.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        unseen.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let tick = self.core.next_tick();
            let drains = self.core.drains();
            // What the kernel and the ends of programs tell is hurried; all else is not.
            let mut slow = None;
            tokio::select! {
                biased;
                _ = stop.changed() => return Ok((Ending::Leave, self)),
                Some(event) = events.recv() => self.take_event(event),
                Some(input) = self.incoming.recv() => self.feed(input),
                Some(call) = self.calls.recv() => {
                    slow = Some(unhurried());
                    call(&mut self);
                }
                () = sleep_until(tick) => {
                    slow = Some(unhurried());
                    self.feed(Input::Tick);
                }
                _ = draining.tick(), if drains => {
                    slow = Some(unhurried());
                    self.look_at_draining();
                }
                _ = losses.tick() => {
                    slow = Some(unhurried());
                    self.look_at_losses();
                    self.look_at_hooks();
                }
                _ = adopted.tick() => {
                    slow = Some(unhurried());
                    self.look_at_adopted();
                }
                _ = filling.tick() => {
                    slow = Some(unhurried());
                    self.look_at_filling();
                }
                _ = unseen.tick() => {
                    slow = Some(unhurried());
                    self.unseen.look(&self.background);
                }
                heard = self.ties.heard() => {
                    slow = Some(unhurried());
                    match heard {
                        others::Heard::News(news) => self.take_news(news),
                        others::Heard::Lookup(service) => self.looked_up(service),
                    }
                }
                _ = others.tick(), if one_of_many => {
                    slow = Some(unhurried());
                    self.look_at_others();
                }
                () = self.names.changed() => {
                    slow = Some(unhurried());
                    self.feed(Input::Refresh);
                }
            }
            self.take_what_waits(&mut events);
            self.settle();
            drop(slow);
            match self.ending {
                Some(Ending::Leave) => return Ok((Ending::Leave, self)),
                Some(ending) if self.core.halted() => return Ok((ending, self)),
                _ => {}
            }
        }
    }

    /// Tells the core, and does what it wants.
    pub(crate) fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if let Input::Started(key, process) = &input {
                self.watch_end(key, process.pid);
            }
            for output in self.core.handle(Instant::now(), input) {
                inputs.extend(self.execute(output));
            }
        }
        self.tell_intent();
        if self.workers.len() > self.core.instances().len() {
            self.workers.retain(|key, _| self.core.instance(key).is_some());
            self.sentinels.retain(|key, sentinel| {
                let is_there = self.core.instance(key).is_some();
                if !is_there {
                    sentinel.abort();
                }
                is_there
            });
        }
    }

    fn tell_intent(&self) {
        let now = self.core.intent();
        self.intent.send_if_modified(|told| {
            let changed = !told.as_ref().is_some_and(|told| Arc::ptr_eq(told, now));
            if changed {
                *told = Some(now.clone());
            }
            changed
        });
    }

    /// Hears of the end of a process on this very thread. How it ended is told later by who
    /// supervises it, and so is the end itself when the process cannot be watched here.
    fn watch_end(&mut self, key: &Key, pid: u32) {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let watched = raw.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        let Some(process) = watched.and_then(|pidfd| pollable::readable(pidfd).ok()) else {
            return;
        };
        let (inputs, ended) = (self.inputs.clone(), key.clone());
        let sentinel = tokio::spawn(async move {
            if process.readable().await.is_ok() {
                let _ = inputs.send(Input::Gone(ended, pid));
            }
        });
        if let Some(before) = self.sentinels.insert(key.clone(), sentinel.abort_handle()) {
            before.abort();
        }
    }

    /// What came together is told to the data path together: a change of a thousand instances is
    /// then not a thousand changes.
    fn take_what_waits(&mut self, events: &mut mpsc::UnboundedReceiver<datapath::Event>) {
        for _ in 0..BATCH {
            if let Ok(event) = events.try_recv() {
                self.take_event(event);
            } else if let Ok(input) = self.incoming.try_recv() {
                self.feed(input);
            } else {
                return;
            }
        }
    }

    /// Has `output` done; what is known at once about it is returned.
    fn execute(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Prepare(key) => {
                let result = self.prepare(&key);
                Some(Input::Prepared(key, result))
            }
            Output::Sync(revision) => {
                self.due = Some(revision);
                None
            }
            Output::Scan => self.scan(),
            Output::Look(key) => {
                self.look_at(key);
                None
            }
            Output::Forsake(key) => self.forsake(&key),
            Output::Launch(key) => self.launch(key),
            Output::Adjust(key) => {
                self.adjust(&key);
                None
            }
            Output::Stop(key) => {
                let grace = self.core.instance(&key).and_then(|i| i.launch());
                let grace = grace.map_or(Duration::ZERO, |launch| launch.service.stop.grace);
                self.order(&key, Order::Stop { grace });
                None
            }
            Output::Close(sockets) => {
                self.close(sockets);
                None
            }
            Output::Clean(key) => {
                self.order_clean(&key);
                None
            }
            Output::Probe { key, run, health } => {
                self.probe(key, run, health);
                None
            }
            Output::EndProbe(key) => {
                if let Some(probe) = self.probes.remove(&key) {
                    probe.abort();
                }
                None
            }
            Output::Retire(names) => self.retire(&names),
            Output::Report(name, run) => {
                self.ties.tell(Tell::Report(name, run));
                None
            }
            Output::Configured(services) => {
                self.ties.tell(Tell::Configured(services));
                None
            }
            Output::Publish(project, kind) => {
                self.publish(project, kind);
                None
            }
        }
    }

    /// Connections that had ended unseen since the agent's start.
    pub(crate) fn ended_unseen(&self) -> u64 {
        self.unseen.ended()
    }

    /// Gives up the numbers of `names`, but for those to which connections are open.
    fn retire(&mut self, names: &[ServiceName]) -> Option<Input> {
        let intent = self.core.intent();
        let open: BTreeSet<u32> = match self.datapath.lock().edges() {
            Ok(edges) => {
                edges.iter().filter(|e| e.counters.active > 0).map(|e| e.destination).collect()
            }
            Err(error) => {
                tracing::warn!("cannot see which services are called: {error}");
                return None;
            }
        };
        let number = |name: &&ServiceName| intent.numbers.get(*name).copied();
        let free = names.iter().filter(|name| number(name).is_some_and(|n| !open.contains(&n)));
        let free: Vec<_> = free.cloned().collect();
        let numbers: Vec<_> = free.iter().filter_map(|name| number(&name)).collect();
        if free.is_empty() {
            return None;
        }
        let next = intent.retire(&free);
        let done = self.store.save(&next).map_err(|error| error.to_string()).and_then(|()| {
            let forgotten = self.datapath.lock().forget_services(&numbers);
            forgotten.map_err(|error| error.to_string())
        });
        if let Err(error) = done {
            tracing::warn!("names that nobody uses keep their addresses for now: {error}");
            return None;
        }
        tracing::debug!("the addresses of {} names that nobody uses are free", free.len());
        Some(Input::Intent(Arc::new(next)))
    }

    pub(crate) fn publish(&self, project: Option<ProjectName>, kind: EventKind) {
        self.bus.publish(project, kind);
    }

    fn scan(&mut self) -> Option<Input> {
        let datapath = self.datapath.clone();
        let listeners =
            guarded(move || datapath.lock().listeners().map_err(|error| error.to_string()));
        match listeners {
            Ok(all) => {
                let instances = self.core.instances().map(|i| (&i.key, i.number));
                let network6 = self.core.intent().network6;
                let members = Members::new(instances, &self.paths, network6);
                Some(Input::Listeners(members.filter(all)))
            }
            Err(message) => {
                let message = format!("cannot see what listens: {message}");
                self.publish(None, EventKind::Warning { message });
                // Once more, later.
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(LOOK_AT_LOSSES).await;
                    let _ = inputs.send(Input::NoticesLost);
                });
                None
            }
        }
    }

    fn launch(&mut self, key: Key) -> Option<Input> {
        let instance = self.core.instance(&key)?;
        let Some(record) = Record::of(instance, self.core.intent()).map(Box::new) else {
            return Some(Input::Launched(key, Err("there is nothing to launch".to_owned())));
        };
        let order = match &instance.kind {
            Kind::Launched(launch) => {
                let search = self.names.search();
                let spec = environment::launch_spec(instance, launch, &search, &self.paths);
                Order::Launch { record, spec: Box::new(spec) }
            }
            Kind::Adopted(adoption) => {
                let adoption = adoption.clone();
                self.order_adoption(record, &adoption);
                return None;
            }
            Kind::Attached(_) | Kind::Rubble => match self.joiners.remove(&key) {
                Some(joiner) => Order::Join { record, joiner: Box::new(joiner) },
                None => return Some(Input::Launched(key, Err("nobody joins".to_owned()))),
            },
        };
        self.order(&key, order);
        None
    }

    fn adjust(&mut self, key: &Key) {
        let Some(instance) = self.core.instance(key) else { return };
        let Some(record) = Record::of(instance, self.core.intent()).map(Box::new) else { return };
        let Some(launch) = instance.launch() else { return };
        let (limits, restart) = (launch.service.limits, launch.service.restart);
        let stop = launch.service.stop.clone();
        self.order(key, Order::Adjust { record, limits, restart, stop });
    }

    fn order(&mut self, key: &Key, order: Order) {
        let worker = self.workers.entry(key.clone()).or_insert_with(|| {
            let (sender, orders) = mpsc::unbounded_channel();
            let place = Place {
                key: key.clone(),
                directory: self.paths.workload(key),
                cgroup: self.paths.member(key),
                shims: Shims { exe: self.exe.clone(), cgroup: self.paths.shim(key) },
                above: self.above.clone(),
            };
            self.background.spawn(worker::run(place, orders, self.inputs.clone()));
            sender
        });
        // A worker lives as long as its sender.
        let _ = worker.send(order);
    }

    fn close(&self, sockets: Vec<SocketAddr>) {
        let datapath = self.datapath.clone();
        tokio::task::spawn_blocking(move || {
            for socket in sockets {
                if let Err(error) = datapath.lock().close_connections(socket) {
                    tracing::warn!("connections to {socket} stay open: {error}");
                }
            }
        });
    }

    fn probe(&mut self, key: Key, run: u64, health: Health) {
        let Some(instance) = self.core.instance(&key) else { return };
        let exec = match (&health.check, instance.launch()) {
            (sinew_model::Check::Exec { command }, Some(launch)) => {
                let search = self.names.search();
                let spec = environment::launch_spec(instance, launch, &search, &self.paths);
                Some(CheckSpec { argv: command.argv(), workload: spec })
            }
            _ => None,
        };
        let address = instance.check_address();
        let inputs = self.inputs.clone();
        let checked = key.clone();
        let report = move |result| {
            let _ = inputs.send(Input::Checked { key: checked.clone(), run, result });
        };
        let target = health::Target { address, health, exec };
        let task = self.background.spawn(health::run(target, report));
        self.probes.insert(key, task.abort_handle());
    }

    fn take_event(&mut self, event: datapath::Event) {
        match event {
            datapath::Event::Listening { instance, address, port } => {
                self.feed(Input::Listening { instance, address, port });
            }
            datapath::Event::Bound { instance, address, port, protocol } => {
                self.feed(Input::Bound { instance, address, port, protocol });
            }
            datapath::Event::Flow(flow) => self.flows.offer(flow),
        }
    }

    fn look_at_draining(&mut self) {
        let active = self.datapath.lock().active(&self.core.draining_backends());
        match active {
            Ok(active) => self.feed(Input::Active(active)),
            Err(error) => tracing::debug!("cannot read the backends: {error}"),
        }
    }

    /// Ends the runtime; and the resolver, when there is nobody left who could ask.
    pub(crate) async fn end(self, with_resolver: bool) {
        self.ties.end().await;
        self.names.end(with_resolver).await;
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let unsynced =
            self.unsynced.iter().map(|error| format!("the data path is not up to date: {error}"));
        self.warnings
            .iter()
            .cloned()
            .chain(unsynced)
            .chain(self.lacking())
            .chain(self.names.trouble())
            .chain(loopback_down())
            .chain(self.fullness())
            .chain(
                self.reached
                    .refused
                    .as_ref()
                    .map(|why| format!("what is new of other hosts is not reached: {why}")),
            )
            .collect()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
