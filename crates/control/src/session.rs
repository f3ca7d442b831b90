//! One agent's session: what it says becomes writes to the store, and what it is told is computed
//! when its stream takes it. No IO; time and randomness are passed in.
//!
//! A session opens with a write that raises the host's epoch. Every later write of it compares the
//! revision of that one, so that a session that was superseded changes nothing more.

mod admission;
mod bounds;
mod opening;
mod reports;
#[cfg(test)]
mod tests;
mod write;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use bytes::Bytes;
use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Generation, Network},
};
use sinew_proto::{
    FromAgent, FromControl, Hello, Lineage, PROTOCOL, Placed, Reported, Welcome, bounds as proto,
};

use crate::{
    records::{Key, StoredSession, write as encode},
    registry::{Registry, SubscriberId},
    store::{Op, Revision},
};

pub use admission::Admission;
use reports::Reports;
pub use write::{Outcome, Write};

/// The first wait after the store failed; each further one is twice as long.
const RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// A host that cannot have a session until somebody changes something comes back after that.
const REFUSED: Duration = Duration::from_secs(60);
/// Who hears that another session of its host has begun is another machine, and is not to take it back
/// at once.
const SUPERSEDED: Duration = Duration::from_secs(5);
/// In that time all hosts come back that are to be told everything anew.
const ANEW: Duration = Duration::from_secs(3);
/// How many dead hosts a session is told of when it begins.
const DEAD_AT_FIRST: usize = 64;

/// What all sessions of a replica have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The replica.
    pub control: String,
    /// A host that is not heard of for so long is taken for dead.
    pub session_timeout: Duration,
}

/// The host of a session, as its connection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// In its certificate.
    pub node: NodeName,
    /// The one zone that its token let it into.
    pub zone: Option<ZoneName>,
    /// Where it connects from.
    pub address: IpAddr,
}

/// The time: since an origin, and since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Never goes back.
    pub monotonic: Duration,
    /// What clocks show.
    pub wall: Duration,
}

/// What an agent did wrong: its session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Something came before it.
    #[error("the first message of a session is hello, and is so once")]
    Hello,
    /// The certificate is another host's.
    #[error("hello.node is {said}, and the certificate is that of {certified}")]
    Node {
        /// In the message.
        said: NodeName,
        /// In the certificate.
        certified: NodeName,
    },
    /// Its token was for another zone.
    #[error(
        "hello.zone is {said}, and the token that the host joined with is for zone {allowed} alone: \
         give the agent --zone {allowed}, or join the host again with a token for its name"
    )]
    Zone {
        /// In the message.
        said: ZoneName,
        /// Of the token.
        allowed: ZoneName,
    },
    /// Too old, or too new.
    #[error(
        "the agent is Sinew {version} and speaks protocol version {protocol}, and this is \
         {PROTOCOL}: bring both to versions that are next to each other"
    )]
    Protocol {
        /// Of the agent.
        version: String,
        /// Of the agent.
        protocol: u32,
    },
    /// More than a host runs.
    #[error(
        "the agent reports {services} services with {instances} instances that run, ran or are gone, \
         and at most {most_services} with {most_instances} are taken of a host"
    )]
    Reports {
        /// It reports so many.
        services: usize,
        /// Of all of them.
        instances: usize,
        /// At most.
        most_services: usize,
        /// At most.
        most_instances: usize,
    },
    /// More than there can be.
    #[error("the agent subscribes to more than {} services", proto::MAX_SERVICES)]
    Subscriptions,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    member: Member,
    phase: Phase,
    reports: Reports,
    /// What was said before the registry had caught up with the session's beginning.
    early: Early,
    acked: BTreeMap<ServiceName, Generation>,
    nacked: BTreeMap<ServiceName, (Generation, String)>,
    placed: Option<Placed>,
    /// The newest of what the host is to run that it was told.
    told_assigned: Generation,
    writing: bool,
    /// Nothing is computed before the registry has seen that.
    seen: Revision,
    failures: u32,
    retry_at: Option<Duration>,
    /// What was declared dead up to there has been said.
    dead_told: Revision,
    deferred_until: Option<Duration>,
    /// In what the agent counts what it is told.
    lineage: Option<Lineage>,
    /// The agent was told, in that lineage, of what is yet to come.
    rewound: Option<String>,
    out: Out,
}

#[derive(Debug)]
enum Phase {
    New,
    Opening {
        hello: Box<Hello>,
        opening: Opening,
    },
    Open {
        epoch: u64,
        fence: Revision,
        subscriber: Option<SubscriberId>,
    },
    /// It was closed, and the store does not say so yet.
    Closing {
        epoch: u64,
        fence: Revision,
    },
    Closed,
}

/// What the last write that was to begin the session would have made of it.
#[derive(Clone, Debug, Default)]
struct Opening {
    epoch: u64,
    /// Addresses that the host says are its own, and cannot have.
    passed_over: Vec<IpAddr>,
    instances4: Option<Network>,
    instances6: Option<Network>,
    lineage: Option<Lineage>,
}

/// What the agent knows, as it said at first.
#[derive(Debug, Default)]
struct Early {
    /// Subscriptions by what it has of each.
    subscriptions: BTreeMap<ServiceName, Generation>,
    lineage: Option<String>,
    newest: Generation,
}

/// What waits to be said: at most one of a kind.
#[derive(Debug, Default)]
struct Out {
    welcome: Option<Welcome>,
    reported: Option<Reported>,
    busy: Option<Duration>,
    dead: BTreeSet<NodeName>,
    goodbye: Option<(String, Duration)>,
}

impl Session {
    /// A session of that host.
    #[must_use]
    pub fn new(member: Member, settings: Settings) -> Self {
        Self {
            settings,
            member,
            phase: Phase::New,
            reports: Reports::default(),
            early: Early::default(),
            acked: BTreeMap::new(),
            nacked: BTreeMap::new(),
            placed: None,
            told_assigned: Generation(0),
            writing: false,
            // An empty store is at it: before, the registry knows nothing.
            seen: Revision(1),
            failures: 0,
            retry_at: None,
            dead_told: Revision(0),
            deferred_until: None,
            lineage: None,
            rewound: None,
            out: Out::default(),
        }
    }

    /// The host.
    #[must_use]
    pub const fn node(&self) -> &NodeName {
        &self.member.node
    }

    /// Its number among those of the host, when it is open.
    #[must_use]
    pub const fn epoch(&self) -> Option<u64> {
        match self.phase {
            Phase::Open { epoch, .. } => Some(epoch),
            _ => None,
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.is_closing() && self.out.goodbye.is_none()
    }

    /// Whether it is over, though the agent may not have been told.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. } | Phase::Closed)
    }

    /// What the agent has applied of each service.
    #[must_use]
    pub const fn acked(&self) -> &BTreeMap<ServiceName, Generation> {
        &self.acked
    }

    /// What it has refused since, and why.
    #[must_use]
    pub const fn nacked(&self) -> &BTreeMap<ServiceName, (Generation, String)> {
        &self.nacked
    }

    /// Takes what the agent says.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub fn receive(&mut self, message: FromAgent, registry: &mut Registry) -> Result<(), Refused> {
        match (message, &self.phase) {
            (_, Phase::Closing { .. } | Phase::Closed) => Ok(()),
            (FromAgent::Hello(hello), Phase::New) => self.hello(hello),
            (FromAgent::Hello(_), _) | (_, Phase::New) => Err(Refused::Hello),
            (FromAgent::Report(report), _) => self.reports.take(report),
            (FromAgent::Subscribe(services), _) => self.subscribe(services, registry),
            (FromAgent::Unsubscribe(services), _) => {
                services.iter().for_each(|service| self.unsubscribe(service, registry));
                Ok(())
            }
            (FromAgent::Ack { service, generation }, _) => {
                if self.has_told(registry, &service, generation) {
                    self.nacked
                        .retain(|name, (refused, _)| *name != service || *refused > generation);
                    self.acked.insert(service, generation);
                }
                Ok(())
            }
            (FromAgent::Nack { service, generation, reason }, _) => {
                if self.has_told(registry, &service, generation) {
                    tracing::warn!(node = %self.member.node, %service, %generation, reason, "a host refuses what it was told, and keeps what it had");
                    self.nacked.insert(service, (generation, reason));
                }
                Ok(())
            }
            (FromAgent::Placed(placed), _) => {
                self.placed = Some(placed);
                Ok(())
            }
        }
    }

    fn hello(&mut self, hello: Hello) -> Result<(), Refused> {
        let Hello { node, zone, version, protocol, .. } = &hello;
        if *node != self.member.node {
            let (said, certified) = (node.clone(), self.member.node.clone());
            return Err(Refused::Node { said, certified });
        }
        if let Some(allowed) = self.member.zone.as_ref().filter(|allowed| *allowed != zone) {
            return Err(Refused::Zone { said: zone.clone(), allowed: allowed.clone() });
        }
        if !sinew_proto::speaks(*protocol) {
            return Err(Refused::Protocol { version: version.clone(), protocol: *protocol });
        }
        self.early = Early {
            subscriptions: hello.known.clone(),
            lineage: hello.lineage.clone(),
            newest: hello.newest,
        };
        self.phase = Phase::Opening { hello: Box::new(hello), opening: Opening::default() };
        Ok(())
    }

    /// What the registry wakes it by, when it has joined that.
    #[must_use]
    pub const fn subscriber(&self) -> Option<SubscriberId> {
        match self.phase {
            Phase::Open { subscriber, .. } => subscriber,
            _ => None,
        }
    }

    fn subscribe(
        &mut self,
        services: Vec<ServiceName>,
        registry: &mut Registry,
    ) -> Result<(), Refused> {
        for service in services {
            let number = match self.subscriber() {
                Some(id) => {
                    if registry.told(id, &service).is_none() {
                        registry.subscribe(id, &service, Generation(0));
                    }
                    registry.subscriptions(id)
                }
                None => {
                    self.early.subscriptions.entry(service).or_default();
                    self.early.subscriptions.len()
                }
            };
            if number > proto::MAX_SERVICES {
                return Err(Refused::Subscriptions);
            }
        }
        Ok(())
    }

    fn unsubscribe(&mut self, service: &ServiceName, registry: &mut Registry) {
        self.early.subscriptions.remove(service);
        self.acked.remove(service);
        self.nacked.remove(service);
        if let Some(id) = self.subscriber() {
            registry.unsubscribe(id, service);
        }
    }

    /// Whether the agent was told that: an answer to anything else says nothing.
    fn has_told(&self, registry: &Registry, service: &ServiceName, generation: Generation) -> bool {
        let told = self.subscriber().and_then(|id| registry.told(id, service));
        told.is_some_and(|told| generation <= told)
    }

    /// What became of what the host is to run, as it said last.
    #[must_use]
    pub const fn placed(&self) -> Option<&Placed> {
        self.placed.as_ref()
    }

    /// The next write to the store, if there is one and none is under way.
    pub fn write(&mut self, now: Now, registry: &mut Registry) -> Option<Write> {
        let early = self.retry_at.is_some_and(|at| now.monotonic < at);
        if self.writing || early || registry.revision() < self.seen {
            return None;
        }
        let write = match &mut self.phase {
            Phase::Opening { hello, opening } => {
                let control = &self.settings.control;
                match opening::open(&self.member, control, hello, now, registry) {
                    Ok((write, next)) => {
                        *opening = next;
                        Some(write)
                    }
                    Err(refused) => {
                        self.close(refused.to_string(), REFUSED, registry);
                        return None;
                    }
                }
            }
            Phase::Open { fence, .. } if registry.session(&self.member.node).0 == *fence => {
                let (fence, node) = (*fence, &self.member.node);
                let write = self.reports.next(node, milliseconds(now.wall), registry);
                write.map(|write| write.fenced(&Key::Session(node.clone()), fence))
            }
            _ => None,
        };
        self.writing = write.is_some();
        if let Some(reported) = self.reports.done(registry) {
            self.out.reported = Some(reported);
        }
        write
    }

    /// What came of the last write. `random`: from 0 to 1.
    pub fn written(&mut self, outcome: Outcome, now: Now, random: f64) {
        self.writing = false;
        (self.retry_at, self.failures) = match outcome {
            Outcome::Done(_) | Outcome::Conflict(_) => (None, 0),
            Outcome::Failed => {
                let pause = (RETRY * 2u32.saturating_pow(self.failures.min(16))).min(LONGEST_RETRY);
                let pause = pause / 2 + pause.mul_f64(random / 2.0);
                (Some(now.monotonic + pause), self.failures.saturating_add(1))
            }
        };
        let (Outcome::Done(revision) | Outcome::Conflict(revision)) = outcome else { return };
        self.seen = self.seen.max(revision);
        let opened = matches!(outcome, Outcome::Done(_));
        if let (Phase::Opening { hello, opening }, true) = (&self.phase, opened) {
            let Opening { epoch, instances4, instances6, .. } = *opening;
            self.lineage.clone_from(&opening.lineage);
            for address in &opening.passed_over {
                tracing::warn!(node = %self.member.node, %address, "a host says that its own address is one that another host has, or at which nobody meets it: it is passed over; give its agent its own with --address");
            }
            let skew = now.wall.abs_diff(hello.wall_clock);
            if skew > Duration::from_secs(2) {
                tracing::warn!(node = %self.member.node, ?skew, "the clocks of the host and of control differ");
            }
            self.out.welcome = Some(Welcome {
                epoch,
                session_timeout: self.settings.session_timeout,
                control: self.settings.control.clone(),
                wall_clock: now.wall,
                instances4,
                instances6,
                lineage: self.lineage.clone(),
            });
            self.phase = Phase::Open { epoch, fence: revision, subscriber: None };
        }
    }

    /// The next message to the agent. `random`: from 0 to 1.
    pub fn send(
        &mut self,
        now: Now,
        registry: &mut Registry,
        admission: &mut Admission,
        random: f64,
    ) -> Option<Bytes> {
        self.look(registry, random);
        if let Some((reason, reconnect_after)) = self.out.goodbye.take() {
            return Some(FromControl::Goodbye { reason, reconnect_after }.encode());
        }
        if let Some(welcome) = self.out.welcome.take() {
            return Some(FromControl::Welcome(welcome).encode());
        }
        let subscriber = self.subscriber()?;
        if let Some(reported) = self.out.reported.take() {
            return Some(FromControl::Reported(reported).encode());
        }
        // What was a dead host's may be another's now.
        if let Some(hosts) = registry.take_hosts(subscriber) {
            return Some(FromControl::Hosts(hosts).encode());
        }
        if let Some(node) = self.out.dead.pop_first() {
            return Some(FromControl::Dead { node }.encode());
        }
        if let Some(retry_after) = self.out.busy.take() {
            return Some(FromControl::Busy { retry_after }.encode());
        }
        if let Some(catalog) = registry.take_catalog(subscriber) {
            return Some(FromControl::Catalog(catalog).encode());
        }
        if let Some(zones) = registry.take_zones(subscriber) {
            return Some(FromControl::Zones(zones).encode());
        }
        // What cannot be read is not taken down.
        if registry.placed().generation(self.node()) > self.told_assigned
            && !registry.is_placement_poisoned()
        {
            let assigned = registry.placed().of(self.node());
            self.told_assigned = assigned.generation;
            return Some(FromControl::Assigned(assigned).encode());
        }
        self.update(subscriber, now, registry, admission, random)
    }

    fn update(
        &mut self,
        subscriber: SubscriberId,
        now: Now,
        registry: &mut Registry,
        admission: &mut Admission,
        random: f64,
    ) -> Option<Bytes> {
        if self.deferred_until.is_some_and(|until| until <= now.monotonic) {
            self.deferred_until = None;
            registry.resume(subscriber);
        }
        let mut wait = None;
        let waits = self.deferred_until.is_some();
        let frame = registry.take_update(subscriber, |frame| {
            if !frame.snapshot {
                return true;
            }
            // Who was told to wait does not try before.
            let refused = !waits && wait.is_none();
            match refused.then(|| admission.admit(now.monotonic, frame.bytes.len())) {
                Some(Ok(())) => true,
                Some(Err(after)) => {
                    wait = Some(after);
                    false
                }
                None => false,
            }
        });
        if let Some(after) = wait {
            let retry_after = after + after.mul_f64(random);
            self.deferred_until = Some(now.monotonic + retry_after);
            self.out.busy = Some(retry_after);
        }
        match frame {
            Some(frame) => Some(frame.bytes),
            None => {
                let retry_after = self.out.busy.take()?;
                Some(FromControl::Busy { retry_after }.encode())
            }
        }
    }

    /// Joins the registry when that has seen the session's beginning; ends when another began.
    fn look(&mut self, registry: &mut Registry, random: f64) {
        let Phase::Open { fence, subscriber, epoch } = &mut self.phase else { return };
        if registry.revision() < *fence {
            return;
        }
        let (revision, session) = registry.session(&self.member.node);
        if revision != *fence {
            let (reason, reconnect_after) = match session {
                Some(session) if session.dead_since_ms.is_some() => (
                    "the host was declared dead: it had not been heard of for too long".to_owned(),
                    Duration::ZERO,
                ),
                Some(session) => (
                    format!(
                        "the session of epoch {epoch} was superseded by another at replica {} of \
                         control; if a copy of this machine has opened that, join one of them under \
                         another name",
                        session.control
                    ),
                    SUPERSEDED,
                ),
                None => {
                    (format!("the session of epoch {epoch} was superseded by nobody"), SUPERSEDED)
                }
            };
            self.close(reason, reconnect_after, registry);
            return;
        }
        if registry.lineage().is_some_and(|is| self.lineage.as_ref() != Some(is)) {
            let reason = "the store was restored as it was before, and all is told anew".to_owned();
            self.close(reason, ANEW.mul_f64(random), registry);
            return;
        }
        let joined = subscriber.is_some();
        // A session that begins is told of the newest only: of those before, nothing may be left.
        let most = if joined { usize::MAX } else { DEAD_AT_FIRST };
        let known: Vec<_> = registry.dead_since(self.dead_told).collect();
        for (revision, node) in known.into_iter().rev().take(most) {
            self.out.dead.insert(node.clone());
            self.dead_told = self.dead_told.max(revision);
        }
        self.out.dead.retain(|node| registry.is_dead(node));
        if joined {
            return;
        }
        opening::notice_address(&self.member, registry);
        let id = registry.join(self.member.node.clone());
        *subscriber = Some(id);
        let newest = Generation(fence.0);
        let Early { subscriptions, lineage, newest: told } = std::mem::take(&mut self.early);
        let here = self.lineage.as_ref().map(|lineage| lineage.id.as_str());
        // What it counts in another lineage says nothing here.
        let same = lineage.is_none() || lineage.as_deref() == here;
        self.rewound = lineage.filter(|_| same && told > newest);
        let says_nothing = !same || self.rewound.is_some();
        for (service, has) in subscriptions {
            if has > newest && !says_nothing {
                tracing::warn!(node = %self.member.node, %service, %has, %newest, "a host knows more than the store has: was it restored from a backup?");
            }
            let has = if has > newest || says_nothing { Generation(0) } else { has };
            if has > Generation(0) {
                self.acked.insert(service.clone(), has);
            }
            registry.subscribe(id, &service, has);
        }
    }

    /// The lineage of the store in which the agent was told of what is yet to come: the store was
    /// restored as it was before. Said once.
    pub fn take_rewound(&mut self) -> Option<String> {
        self.rewound.take()
    }

    /// What the registry has to have seen before it goes on.
    #[must_use]
    pub const fn awaits(&self) -> Revision {
        self.seen
    }

    /// When it has something to do again with nothing new told.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        let times = [self.retry_at, self.deferred_until];
        times.into_iter().flatten().min()
    }

    /// Ends the session, and says why; the agent comes back after that time.
    pub fn close(&mut self, reason: String, reconnect_after: Duration, registry: &mut Registry) {
        if let Some(id) = self.subscriber() {
            registry.leave(id);
        }
        self.phase = match self.phase {
            Phase::Open { epoch, fence, .. } => Phase::Closing { epoch, fence },
            _ => Phase::Closed,
        };
        self.out = Out { goodbye: Some((reason, reconnect_after)), ..Out::default() };
    }

    /// The stream has ended: the write that says since when, if the session was open. `silent`: for
    /// how long nothing had been heard of the agent.
    pub fn lost(&mut self, now: Now, silent: Duration, registry: &mut Registry) -> Option<Write> {
        if let Some(id) = self.subscriber() {
            registry.leave(id);
        }
        registry.release_slice(&self.member.node);
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let (Phase::Open { epoch, fence, .. } | Phase::Closing { epoch, fence }) = phase else {
            return None;
        };
        let node = &self.member.node;
        let session = StoredSession {
            control: self.settings.control.clone(),
            epoch,
            since_ms: registry.session(node).1.map_or(0, |session| session.since_ms),
            lost_since_ms: None,
            silent_ms: 0,
            dead_since_ms: None,
            withdrawn: false,
        };
        Some(lose(node, &session, fence, now, silent))
    }
}

/// The write that says that a session, which that revision put, is lost, when for that long nothing
/// had been heard of its agent.
#[must_use]
pub fn lose(
    node: &NodeName,
    session: &StoredSession,
    fence: Revision,
    now: Now,
    silent: Duration,
) -> Write {
    let (lost_since_ms, silent_ms) = (Some(milliseconds(now.wall)), milliseconds(silent));
    let key = Key::Session(node.clone());
    let lost = StoredSession { lost_since_ms, silent_ms, ..session.clone() };
    let put = Op::put(key.bytes(), encode(&lost));
    Write::new(vec![put]).fenced(&key, fence)
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
