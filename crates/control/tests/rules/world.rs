//! A network without sockets: replicas of control and agents as cores, over one store, by a clock
//! that the test moves. Agents can be cut off, replicas die, the store go away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use sinew_control::{
    duty::{Act, Duty, history},
    records::{
        Key,
        config::{Limits, StoredLead},
    },
    registry::Registry,
    session::{Admission, Member, Now, Outcome, Session, Settings, Write},
    store::{Compare, Op, Revision, Span, Store, Transaction, Update, Watch},
};
use sinew_model::{
    Balance, NodeName, Outlier, ServiceName,
    fleet::{Endpoint, EndpointKey, EndpointStatus, Generation, Resources, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Hello, PROTOCOL, Report, ServiceReport};

pub(crate) const STEP: Duration = Duration::from_millis(250);
/// How long a replica's lease lasts.
const LEASE: Duration = Duration::from_secs(5);
/// A replica gives up an agent that it has not heard of for so long, and an agent a replica.
const SILENCE: [Duration; 2] = [Duration::from_millis(3500), Duration::from_secs(5)];

pub(crate) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

/// Numbers that seem random, the same for a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}

/// A registry that follows the store.
pub(crate) struct Follower {
    pub(crate) registry: Registry,
    watch: Watch,
}

impl Follower {
    pub(crate) async fn new(store: &dyn Store) -> Self {
        let mut registry = Registry::default();
        let span = Span::prefix("sinew/");
        let listed = store.range(sinew_control::store::Range::of(span.clone())).await.unwrap();
        let watch = store.watch(span, Some(listed.revision.next())).await.unwrap();
        registry.list(listed.revision, listed.entries);
        Self { registry, watch }
    }

    pub(crate) async fn follow(&mut self, to: Revision) {
        while self.registry.revision() < to {
            match self.watch.next().await.unwrap().unwrap() {
                Update::Batch(batch) => drop(self.registry.apply(batch)),
                Update::Progress(revision) => self.registry.progress(revision),
                Update::Interrupted(_) => (),
            }
        }
    }
}

pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) follower: Follower,
    pub(crate) sessions: BTreeMap<usize, Open>,
    pub(crate) duty: Option<(Revision, Duty)>,
    admission: Admission,
}

pub(crate) struct Open {
    pub(crate) session: Session,
    heard: Duration,
}

pub(crate) struct Agent {
    pub(crate) node: NodeName,
    pub(crate) zone: String,
    pub(crate) cut: bool,
    /// What it runs.
    pub(crate) truth: BTreeSet<u32>,
    /// What it ran once.
    pub(crate) gone: BTreeSet<u32>,
    /// Of these the store said that it knows.
    pub(crate) acked_gone: BTreeSet<u32>,
    /// Instances that the newest report says are gone.
    told_gone: BTreeSet<u32>,
    sequence: u64,
    pub(crate) acked: bool,
    /// Something is to be reported.
    changed: bool,
    replica: Option<String>,
    heard: Duration,
    connect_at: Duration,
    /// Until when it had a session that worked.
    pub(crate) served_until: Option<Duration>,
    pub(crate) generation: Generation,
    pub(crate) known: BTreeSet<EndpointKey>,
    pub(crate) told_dead: BTreeSet<NodeName>,
    /// Part of its newest report may not be taken.
    pub(crate) held_is_fine: bool,
    pub(crate) held: Option<String>,
    /// Another service of which it runs the same.
    pub(crate) also: Option<ServiceName>,
    pub(crate) goodbye: Option<String>,
    pub(crate) snapshot_bytes: usize,
    /// The replica that it goes to.
    prefers: Option<usize>,
}

pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) now: Now,
    pub(crate) away: bool,
    pub(crate) revision: Revision,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) agents: Vec<Agent>,
    /// Sees all, and does nothing.
    pub(crate) observer: Follower,
    pub(crate) random: Random,
    /// Keys of replicas that died, and when their leases end.
    leases: Vec<(Duration, String)>,
    born: usize,
}

pub(crate) fn endpoint(zone: &str) -> Endpoint {
    Endpoint {
        address4: Some([10, 0, 0, 1].into()),
        address6: None,
        ports: BTreeMap::new(),
        zone: zone.parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    }
}

impl World {
    /// Agents in those zones, each with so many instances of `orders`.
    pub(crate) async fn new(
        store: Arc<dyn Store>,
        replicas: usize,
        zones: &[&str],
        instances: u32,
        seed: u64,
    ) -> Self {
        let observer = Follower::new(&*store).await;
        let now = Now { monotonic: s(1000), wall: s(1_000_000) };
        let agent = |(number, zone): (usize, &&str)| {
            Agent::new(&format!("n{number}"), zone, (0..instances).collect(), now.monotonic)
        };
        let agents = zones.iter().enumerate().map(agent).collect();
        let revision = observer.registry.revision();
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (leases, born) = (Vec::new(), 0);
        let mut world = Self {
            store,
            now,
            away: false,
            revision,
            replicas: Vec::new(),
            agents,
            observer,
            random,
            leases,
            born,
        };
        for _ in 0..replicas {
            world.start().await;
        }
        world
    }

    /// A replica begins.
    pub(crate) async fn start(&mut self) {
        self.born += 1;
        let id = format!("c{}", self.born);
        self.commit(Transaction::put(Key::Control(id.clone()).bytes(), "{}")).await;
        let follower = Follower::new(&*self.store).await;
        let admission = Admission::new(64 << 20, s(1));
        let sessions = BTreeMap::new();
        self.replicas.push(Replica { id, follower, sessions, duty: None, admission });
    }

    /// A replica ends without a word.
    pub(crate) fn kill(&mut self, number: usize) {
        let replica = self.replicas.remove(number);
        self.leases.push((self.now.monotonic + LEASE, replica.id.clone()));
        for agent in &mut self.agents {
            if agent.replica.as_ref() == Some(&replica.id) {
                agent.replica = None;
                agent.connect_at = self.now.monotonic + STEP.mul_f64(self.random.unit() * 8.0);
            }
        }
    }

    pub(crate) async fn commit(&mut self, transaction: Transaction) -> Outcome {
        if self.away {
            return Outcome::Failed;
        }
        let committed = self.store.commit(transaction).await.unwrap();
        self.revision = self.revision.max(committed.revision);
        if committed.succeeded {
            Outcome::Done(committed.revision)
        } else {
            Outcome::Conflict(committed.revision)
        }
    }

    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic + time;
        while self.now.monotonic < end {
            self.step().await;
        }
    }

    pub(crate) async fn step(&mut self) {
        self.now.monotonic += STEP;
        self.now.wall += STEP;
        self.end_leases().await;
        self.connect();
        self.report();
        for number in 0..self.replicas.len() {
            self.serve(number).await;
        }
        if !self.away {
            self.observer.follow(self.revision).await;
        }
    }

    async fn end_leases(&mut self) {
        if self.away {
            return;
        }
        let now = self.now.monotonic;
        let (ended, left) = self.leases.drain(..).partition(|(at, _)| *at <= now);
        self.leases = left;
        let ended: Vec<(Duration, String)> = ended;
        for (_, id) in ended {
            self.observer.follow(self.revision).await;
            let mut delete = Transaction::new().then(Op::delete(Key::Control(id.clone()).bytes()));
            let lead = self.observer.registry.config().lead();
            if lead.is_some_and(|(_, lead)| lead.control == id) {
                delete = delete.then(Op::delete(Key::Lead.bytes()));
            }
            self.commit(delete).await;
        }
    }

    /// Both ends notice silence; who has no session looks for one.
    fn connect(&mut self) {
        let now = self.now.monotonic;
        for (number, agent) in self.agents.iter_mut().enumerate() {
            let jitter = STEP.mul_f64(self.random.unit() * 4.0);
            if let Some(id) = &agent.replica {
                let replica = self.replicas.iter_mut().find(|replica| replica.id == *id);
                let open = replica.and_then(|replica| replica.sessions.get_mut(&number));
                match open {
                    Some(open) if !agent.cut => {
                        (open.heard, agent.heard) = (now, now);
                        if open.session.epoch().is_some() && !open.session.is_closed() {
                            agent.served_until = Some(now);
                        }
                    }
                    Some(_) if now.saturating_sub(agent.heard) < SILENCE[1] => (),
                    _ => {
                        agent.replica = None;
                        agent.connect_at = now + jitter;
                    }
                }
            }
            let free = agent.replica.is_none() && agent.connect_at <= now && !agent.cut;
            if free && !self.replicas.is_empty() {
                let any = self.random.below(self.replicas.len());
                let choice = agent.prefers.unwrap_or(any);
                let replica = &mut self.replicas[choice];
                agent.open(number, replica, now);
            }
        }
    }

    async fn serve(&mut self, number: usize) {
        if !self.away {
            let to = self.revision;
            self.replicas[number].follower.follow(to).await;
        }
        let numbers: Vec<usize> = self.replicas[number].sessions.keys().copied().collect();
        for agent in numbers {
            self.serve_agent(number, agent).await;
        }
        self.do_duty(number).await;
    }

    async fn serve_agent(&mut self, number: usize, agent: usize) {
        let now = self.now;
        loop {
            let replica = &mut self.replicas[number];
            let Some(open) = replica.sessions.get_mut(&agent) else { return };
            let registry = &mut replica.follower.registry;
            let silent = now.monotonic.saturating_sub(open.heard);
            if silent >= SILENCE[0] {
                // The stream is over.
                let mut open = replica.sessions.remove(&agent).unwrap();
                if let Some(lost) = open.session.lost(now, silent, registry) {
                    self.write(number, lost).await;
                }
                return;
            }
            let Some(write) = open.session.write(now, registry) else { break };
            let outcome = self.write(number, write).await;
            let random = self.random.unit();
            let open = self.replicas[number].sessions.get_mut(&agent).unwrap();
            open.session.written(outcome, now, random);
        }
        self.tell(number, agent);
    }

    async fn write(&mut self, number: usize, write: Write) -> Outcome {
        let outcome = self.commit(write.transaction()).await;
        if outcome != Outcome::Failed {
            self.replicas[number].follower.follow(self.revision).await;
        }
        outcome
    }

    fn tell(&mut self, number: usize, agent: usize) {
        let replica = &mut self.replicas[number];
        if self.agents[agent].cut {
            return;
        }
        loop {
            let Some(open) = replica.sessions.get_mut(&agent) else { return };
            let (registry, admission) = (&mut replica.follower.registry, &mut replica.admission);
            let Some(bytes) = open.session.send(self.now, registry, admission, 0.5) else { break };
            let length = bytes.len();
            let message = FromControl::decode(bytes).unwrap();
            if matches!(message, FromControl::Snapshot(_)) {
                self.agents[agent].snapshot_bytes += length;
            }
            let answer = self.agents[agent].hear(message);
            match answer {
                Some(answer) => open.session.receive(answer, registry).unwrap(),
                None if open.session.is_closed() => {
                    replica.sessions.remove(&agent);
                    self.agents[agent].replica = None;
                    self.agents[agent].connect_at = self.now.monotonic + STEP;
                }
                None => (),
            }
        }
    }

    async fn do_duty(&mut self, number: usize) {
        if self.away {
            return;
        }
        let replica = &mut self.replicas[number];
        let lead = replica.follower.registry.config().lead().cloned();
        match (&lead, &replica.duty) {
            (None, _) => {
                let since_ms = 0;
                let lead = StoredLead { control: replica.id.clone(), since_ms };
                let lead = serde_json::to_vec(&lead).unwrap();
                let take = Transaction::put(Key::Lead.bytes(), lead)
                    .when(Compare::absent(Key::Lead.bytes()));
                let taken = self.commit(take).await;
                self.replicas[number].follower.follow(self.revision).await;
                if let Outcome::Done(revision) = taken {
                    self.replicas[number].duty = Some((revision, Duty::new(self.now)));
                }
            }
            (Some((at, _)), Some((held, _))) if at == held => self.act(number).await,
            _ => replica.duty = None,
        }
    }

    async fn act(&mut self, number: usize) {
        loop {
            let now = self.now;
            let replica = &mut self.replicas[number];
            let Some((held, duty)) = &mut replica.duty else { return };
            let Some(act) = duty.next(now, &replica.follower.registry) else { return };
            let transaction = match act {
                Act::Plan(plan) => history::recorded(&plan, &replica.id, now, Some(*held)),
                Act::Sweep(sweep) => history::fenced(sweep, Some(*held)),
            };
            let outcome = self.commit(transaction).await;
            assert!(matches!(outcome, Outcome::Done(_)), "it was computed from what is there");
            self.replicas[number].follower.follow(self.revision).await;
        }
    }

    /// An agent's instances change.
    pub(crate) fn change(&mut self, agent: usize, starts: &[u32], ends: &[u32]) {
        let it = &mut self.agents[agent];
        for instance in
            ends.iter().filter(|instance| it.truth.contains(instance)).copied().collect::<Vec<_>>()
        {
            it.truth.remove(&instance);
            it.gone.insert(instance);
        }
        for instance in starts {
            it.truth.insert(*instance);
            it.gone.remove(instance);
            it.acked_gone.remove(instance);
        }
        (it.changed, it.acked) = (true, false);
    }

    /// What agents have to say goes out when it can.
    fn report(&mut self) {
        for (number, agent) in self.agents.iter_mut().enumerate() {
            let mut replicas = self.replicas.iter_mut();
            let replica = replicas.find(|replica| Some(&replica.id) == agent.replica.as_ref());
            if let Some(replica) = replica.filter(|_| agent.changed && !agent.cut) {
                agent.report(number, replica, false);
            }
        }
    }

    /// Which replica each agent goes to.
    pub(crate) fn prefer<const N: usize>(&mut self, replicas: [usize; N]) {
        for (agent, replica) in self.agents.iter_mut().zip(replicas) {
            agent.prefers = Some(replica);
        }
    }

    /// Another host comes; it runs nothing.
    pub(crate) fn join(&mut self, name: &str, zone: &str) {
        let now = self.now.monotonic;
        self.agents.push(Agent::new(name, zone, BTreeSet::new(), now));
    }

    /// Each replica gives out so many bytes of snapshots a second.
    pub(crate) fn give_out(&mut self, bytes_per_s: usize) {
        let bytes_per_s = u32::try_from(bytes_per_s).unwrap();
        for replica in &mut self.replicas {
            replica.admission = Admission::new(bytes_per_s, s(1));
        }
    }

    /// Hosts that are declared dead.
    pub(crate) fn dead(&self) -> Vec<String> {
        let registry = &self.observer.registry;
        let dead = registry.sessions().filter(|(node, ..)| registry.is_dead(node));
        dead.map(|(node, ..)| node.to_string()).collect()
    }

    /// What the store has of `orders`.
    pub(crate) fn stored(&self) -> BTreeSet<EndpointKey> {
        let hosts = self
            .observer
            .registry
            .hosts_of(&sinew_model::ServiceName::new("orders").unwrap())
            .map(|(node, endpoints)| (node.clone(), endpoints.clone()))
            .collect::<Vec<_>>();
        let keys = hosts.into_iter().flat_map(|(node, endpoints)| {
            endpoints.into_keys().map(move |instance| EndpointKey { node: node.clone(), instance })
        });
        keys.collect()
    }

    /// What all agents run.
    pub(crate) fn truth(&self) -> BTreeSet<EndpointKey> {
        let of = |agent: &Agent| {
            let node = agent.node.clone();
            agent
                .truth
                .iter()
                .map(move |it| EndpointKey { node: node.clone(), instance: *it })
                .collect::<Vec<_>>()
        };
        self.agents.iter().flat_map(of).collect()
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.observer.registry.config().limits()
    }
}

impl Replica {
    pub(crate) fn rest(&mut self, now: Duration) {
        self.sessions.values_mut().for_each(|open| open.heard = now);
    }
}

impl Agent {
    fn new(name: &str, zone: &str, truth: BTreeSet<u32>, now: Duration) -> Self {
        Self {
            node: name.parse().unwrap(),
            zone: zone.to_owned(),
            cut: false,
            truth,
            gone: BTreeSet::new(),
            acked_gone: BTreeSet::new(),
            told_gone: BTreeSet::new(),
            sequence: 0,
            acked: false,
            changed: false,
            replica: None,
            heard: now,
            connect_at: now,
            served_until: None,
            generation: Generation(0),
            known: BTreeSet::new(),
            told_dead: BTreeSet::new(),
            held_is_fine: false,
            held: None,
            also: None,
            goodbye: None,
            snapshot_bytes: 0,
            prefers: None,
        }
    }

    fn open(&mut self, number: usize, replica: &mut Replica, now: Duration) {
        let settings = Settings { control: replica.id.clone(), session_timeout: s(5) };
        let member = Member { node: self.node.clone(), zone: None, address: [10, 0, 0, 1].into() };
        let mut session = Session::new(member, settings);
        let hello = Hello {
            node: self.node.clone(),
            zone: self.zone.parse().unwrap(),
            labels: BTreeMap::new(),
            version: "0.1.0".to_owned(),
            protocol: PROTOCOL,
            boot_id: "b".to_owned(),
            address4: None,
            address6: None,
            capacity: Resources::default(),
            lineage: None,
            newest: Generation(0),
            wall_clock: s(1_000_000),
            known: [(orders(), self.generation)].into(),
        };
        session.receive(FromAgent::Hello(hello), &mut replica.follower.registry).unwrap();
        replica.sessions.insert(number, Open { session, heard: now });
        self.replica = Some(replica.id.clone());
        self.heard = now;
        self.report(number, replica, true);
    }

    pub(crate) fn report(&mut self, number: usize, replica: &mut Replica, full: bool) {
        let Some(open) = replica.sessions.get_mut(&number) else { return };
        self.sequence += 1;
        (self.acked, self.changed) = (false, false);
        self.told_gone.clone_from(&self.gone);
        let record = ServiceRecord {
            ports: Vec::new(),
            balance: Balance::default(),
            outlier: Outlier::default(),
        };
        let endpoints = self.truth.iter().map(|it| (*it, endpoint(&self.zone))).collect();
        let gone = self.gone.clone();
        let service = ServiceReport { record: Some(record), endpoints, gone };
        let also = self.also.clone().map(|name| (name, service.clone()));
        let services = [(orders(), service)].into_iter().chain(also).collect();
        let report = Report { sequence: self.sequence, full, services };
        open.session.receive(FromAgent::Report(report), &mut replica.follower.registry).unwrap();
    }

    fn hear(&mut self, message: FromControl) -> Option<FromAgent> {
        match message {
            FromControl::Reported(reported) if reported.sequence == self.sequence => {
                self.held = reported.held.first().map(|held| held.reason.clone());
                assert!(self.held_is_fine || self.held.is_none(), "{:?}", self.held);
                self.acked = self.held.is_none();
                self.acked_gone.extend(&self.told_gone);
                None
            }
            FromControl::Goodbye { reason, .. } => {
                self.goodbye = Some(reason);
                None
            }
            FromControl::Dead { node } => {
                self.told_dead.insert(node);
                None
            }
            FromControl::Snapshot(snapshot) => {
                assert!(snapshot.generation >= self.generation, "a generation went back");
                self.known = snapshot.endpoints.into_keys().collect();
                Some(self.acks(snapshot.generation))
            }
            FromControl::Delta(delta) => {
                assert_eq!(delta.from, self.generation, "it applies to what is known");
                assert!(delta.to > delta.from, "a generation went back");
                self.known.extend(delta.put.into_keys());
                self.known.retain(|key| !delta.removed.contains_key(key));
                Some(self.acks(delta.to))
            }
            _ => None,
        }
    }

    /// Its session ends, and it knows no more of the past than what it runs.
    pub(crate) fn forget(&mut self) {
        self.replica = None;
        self.held_is_fine = true;
    }

    /// A long time passes in which both ends hear of each other.
    pub(crate) fn rest(&mut self, now: Duration) {
        self.heard = now;
    }

    fn acks(&mut self, generation: Generation) -> FromAgent {
        self.generation = generation;
        FromAgent::Ack { service: orders(), generation }
    }
}
