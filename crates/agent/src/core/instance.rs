//! One instance: where it stands, and what others may see of it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Instant,
};

use sinew_api::WorkloadState;
use sinew_model::{Check, Health, Port, Protocol, ServiceName};
use smallvec::SmallVec;

use super::{
    Ended,
    adopted::{Looks, Outsider},
};
use crate::{
    adopt::{Adoption, Place, Places},
    alloc::{self, Network6},
    health::Tracker,
    key::Key,
    launch::{Launch, Owner},
};

/// The process of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub pid: u32,
    /// When it started, milliseconds since 1970.
    pub at_ms: u64,
    /// How often the instance was started before.
    pub restarts: u32,
}

/// A process that joined by itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Attached {
    /// The process.
    pub pid: u32,
    /// Who runs it.
    pub owner: Owner,
    /// Ports it will listen on.
    pub ports: Vec<Port>,
    /// What it runs, in a line.
    pub command: String,
    /// When it joined, milliseconds since 1970.
    pub at_ms: u64,
}

/// How an instance came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent launched it.
    Launched(Arc<Launch>),
    /// It joined by itself.
    Attached(Box<Attached>),
    /// It was there before, and was adopted.
    Adopted(Arc<Adoption>),
    /// What a former agent left half made or half removed.
    Rubble,
}

/// Where an instance stands between nothing and running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For the services it depends on, or for the end of a pause after a failure.
    Waiting,
    /// Its cgroup is being made.
    Preparing,
    /// Waits until the data path holds this revision.
    Registering(u64),
    /// Its supervisor is being started.
    Launching,
    /// Its supervisor runs; its process may.
    Running,
    /// Out of the choice from this revision on; open connections may end until then.
    Draining {
        /// First revision without it.
        revision: u64,
        /// When it began.
        since: Instant,
        /// When it is stopped all the same.
        until: Instant,
    },
    /// Being stopped.
    Stopping,
    /// Its cgroup and directory are being removed.
    Cleaning,
    /// Drained by hand: it stays down.
    Held,
}

impl Phase {
    /// Whether the data path holds the cgroup.
    pub(crate) fn is_registered(self) -> bool {
        matches!(
            self,
            Self::Registering(_)
                | Self::Launching
                | Self::Running
                | Self::Draining { .. }
                | Self::Stopping
        )
    }
}

/// Which family a listener can be reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4, and IPv4-mapped addresses.
    V4,
    /// IPv6.
    V6,
}

/// What of an instance the data path is told; compared to see whether it has to be told again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Face {
    registered: bool,
    watch: bool,
    choice: Heard,
    /// `None`: at its own addresses.
    places: Option<Box<Places>>,
}

/// Pauses between the attempts at an action that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) failures: u32,
    pub(super) at: Option<Instant>,
    pub(super) error: Option<String>,
    /// When the removal of what is left is tried again.
    pub(super) clean_at: Option<Instant>,
}

/// Ports that are listened on, seldom more than a few.
pub(super) type Heard = SmallVec<[(Protocol, u16, Family); 4]>;

/// An instance of a service, or a session.
#[derive(Debug)]
pub(crate) struct Instance {
    /// Its name.
    pub key: Key,
    /// Number that its addresses and the kernel's notices bear.
    pub number: u32,
    /// Its address.
    pub address4: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// How it came to be.
    pub kind: Kind,
    /// Where it stands.
    pub phase: Phase,
    /// It goes as soon as it has come.
    pub(super) leaves: bool,
    /// Its process, while one runs.
    pub process: Option<Process>,
    /// The kernel says that the process is gone, and the supervisor has not said how.
    pub(super) gone: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// How its last process ended, until the next one starts.
    pub ended: Option<Box<Ended>>,
    /// Why its health check failed last.
    pub unwell: Option<String>,
    /// What it waits for.
    pub(super) waits_for: Option<ServiceName>,
    /// Each once.
    pub(super) listening: Heard,
    /// What it has when it was adopted: the many others need no room for it.
    outsider: Option<Box<Outsider>>,
    /// Bound, and perhaps soon listening.
    pub(super) awaited: BTreeSet<(u16, Family)>,
    pub(super) health: Tracker,
    /// When its process counts as up; set while that is all there is to go by, and not yet reached.
    pub(super) steady_at: Option<Instant>,
    /// The checks under way.
    pub(super) probe: Option<Box<(u64, Health)>>,
    /// No connection was open at the last look.
    pub(super) idle: bool,
    retry: Option<Box<Retry>>,
    pub(super) face: Face,
    /// The state and reason last published.
    pub(super) shown: Option<(WorkloadState, Option<String>)>,
}

impl Instance {
    pub(super) fn new(key: Key, number: u32, network: Network6, kind: Kind, now: Instant) -> Self {
        Self {
            key,
            number,
            address4: alloc::instance4(number),
            address6: alloc::instance6(network, number),
            kind,
            phase: Phase::Waiting,
            leaves: false,
            process: None,
            gone: false,
            restarts: 0,
            ended: None,
            unwell: None,
            waits_for: None,
            listening: Heard::new(),
            outsider: None,
            awaited: BTreeSet::new(),
            health: Tracker::new(now),
            steady_at: None,
            probe: None,
            idle: false,
            retry: None,
            face: Face::default(),
            shown: None,
        }
    }

    /// What it was launched with, unless it joined by itself.
    pub(crate) fn launch(&self) -> Option<&Arc<Launch>> {
        match &self.kind {
            Kind::Launched(launch) => Some(launch),
            Kind::Attached(_) | Kind::Adopted(_) | Kind::Rubble => None,
        }
    }

    /// What was adopted.
    pub(crate) fn adoption(&self) -> Option<&Arc<Adoption>> {
        match &self.kind {
            Kind::Adopted(adoption) => Some(adoption),
            Kind::Launched(_) | Kind::Attached(_) | Kind::Rubble => None,
        }
    }

    /// What it has as it was adopted.
    pub(super) fn retry(&self) -> &Retry {
        static NOTHING_FAILED: Retry = Retry { failures: 0, at: None, error: None, clean_at: None };
        self.retry.as_deref().unwrap_or(&NOTHING_FAILED)
    }

    pub(super) fn failing(&mut self) -> &mut Retry {
        self.retry.get_or_insert_default()
    }

    /// What failed works now.
    pub(super) fn recover(&mut self) {
        self.retry = None;
    }

    pub(super) fn outsider(&mut self) -> &mut Outsider {
        self.outsider.get_or_insert_default()
    }

    /// Where it listens, when it was adopted.
    pub(crate) fn places(&self) -> &Places {
        static NOWHERE: Places = Places::new();
        self.outsider.as_ref().map_or(&NOWHERE, |outsider| &outsider.places)
    }

    /// Taken out of the choice by hand, when it was adopted: from which revision on, and when.
    pub(super) fn drained(&self) -> Option<(u64, Instant)> {
        self.outsider.as_ref()?.drained
    }

    /// Whether its name stands for as long as it is there.
    pub(super) fn holds_name(&self) -> bool {
        match self.kind {
            Kind::Attached(_) | Kind::Adopted(_) => self.key.service.is_some(),
            Kind::Launched(_) | Kind::Rubble => false,
        }
    }

    /// Ports it declares.
    pub(crate) fn ports(&self) -> &[Port] {
        match &self.kind {
            Kind::Launched(launch) => &launch.service.ports,
            Kind::Attached(attached) => &attached.ports,
            Kind::Adopted(adoption) => &adoption.ports,
            Kind::Rubble => &[],
        }
    }

    /// Whether the kernel has told that its process is gone, and nobody yet how it ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Services that must be up before it is launched.
    pub(crate) fn depends_on(&self) -> &[ServiceName] {
        self.launch().map_or(&[], |launch| &launch.service.depends_on)
    }

    /// Where it stands, in the API's words.
    pub(crate) fn state(&self) -> WorkloadState {
        match self.phase {
            Phase::Waiting if self.retry().at.is_some() => WorkloadState::BackingOff,
            Phase::Waiting => WorkloadState::Waiting,
            Phase::Preparing | Phase::Registering(_) | Phase::Launching => WorkloadState::Starting,
            Phase::Running if self.drained().is_some() => match self.idle {
                true => WorkloadState::Stopped,
                false => WorkloadState::Draining,
            },
            Phase::Running => self.running_state(),
            Phase::Draining { .. } | Phase::Stopping | Phase::Cleaning => WorkloadState::Draining,
            Phase::Held => WorkloadState::Stopped,
        }
    }

    fn running_state(&self) -> WorkloadState {
        match (&self.process, &self.ended) {
            (None, Some(ended)) if ended.returns => WorkloadState::BackingOff,
            (None, Some(_)) => WorkloadState::Exited,
            (None, None) => WorkloadState::Starting,
            (Some(_), _) if self.silent_port().is_some() || self.steady_at.is_some() => {
                WorkloadState::Starting
            }
            (Some(_), _) if self.is_healthy() => WorkloadState::Up,
            (Some(_), _) if self.health.failed() => WorkloadState::Unhealthy,
            (Some(_), _) => WorkloadState::Starting,
        }
    }

    /// Why it stands there, in words.
    pub(crate) fn reason(&self) -> Option<String> {
        if let Some(error) = &self.retry().error {
            return Some(error.clone());
        }
        match self.state() {
            WorkloadState::Draining | WorkloadState::Stopped if self.drained().is_some() => {
                Some("drained by hand; `sinew adopt` takes it back".to_owned())
            }
            WorkloadState::Starting if self.adoption().is_some() && self.unwell.is_some() => {
                self.unwell.clone()
            }
            WorkloadState::Waiting => {
                self.waits_for.as_ref().map(|service| format!("waits for {service} to be up"))
            }
            WorkloadState::Starting if self.process.is_some() => match self.silent_port() {
                Some(port) => Some(format!("does not listen on port {} yet", port.number)),
                None if self.steady_at.is_some() => Some("has only just started".to_owned()),
                None => self.unwell.clone(),
            },
            WorkloadState::Unhealthy => self.unwell.clone(),
            WorkloadState::BackingOff | WorkloadState::Exited => {
                self.ended.as_ref().map(|ended| ended.reason.clone())
            }
            WorkloadState::Stopped => Some("drained by hand; `sinew restart` starts it".to_owned()),
            _ => None,
        }
    }

    /// Whether it did all that it was launched for.
    pub(crate) fn is_done(&self) -> bool {
        self.state() == WorkloadState::Exited && self.ended.as_ref().is_some_and(|e| e.success)
    }

    /// The first declared port that nothing listens on.
    fn silent_port(&self) -> Option<&Port> {
        self.ports().iter().find(|port| !self.hears(port.protocol, port.number))
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent_port().is_some()
    }

    fn hears(&self, protocol: Protocol, number: u16) -> bool {
        [Family::V4, Family::V6].iter().any(|f| self.listening.contains(&(protocol, number, *f)))
    }

    /// Whether the kernel shall tell of its next listen().
    pub(super) fn watches(&self) -> bool {
        if self.adoption().is_some() {
            return false;
        }
        let silent = |p: &Port| p.protocol == Protocol::Tcp && !self.hears(p.protocol, p.number);
        !self.awaited.is_empty() || self.ports().iter().any(silent)
    }

    fn check(&self) -> Option<&Health> {
        self.launch().map(|launch| &launch.service.health).filter(|h| h.check != Check::None)
    }

    /// Whether nothing but its life tells that it works: no port to listen on, no check.
    pub(super) fn is_mute(&self) -> bool {
        self.launch().is_some() && self.ports().is_empty() && self.check().is_none()
    }

    fn is_healthy(&self) -> bool {
        self.check().is_none() || self.health.is_healthy()
    }

    /// The checks that it should be under: those of its service, once it listens.
    pub(super) fn wanted_probe(&self) -> Option<&Health> {
        let probed = matches!(self.phase, Phase::Running)
            && self.process.is_some()
            && self.silent_port().is_none();
        self.check().filter(|_| probed)
    }

    /// Whether callers may be sent to `port`.
    pub(crate) fn in_choice(&self, protocol: Protocol, port: u16) -> bool {
        let launched = match self.phase {
            Phase::Running => true,
            // What is launched may be there before it is told that it was.
            Phase::Launching => self.launch().is_some() && !self.leaves,
            _ => false,
        };
        launched
            && self.serves()
            && !self.gone
            && self.drained().is_none()
            && self.is_healthy()
            && self.hears(protocol, port)
    }

    /// Whether it serves as far as is known. Who listens runs, whether or not its supervisor has said
    /// so yet; but a check is of the process that was told of, what has ended for good may have
    /// listened before, and a listener of somebody else's vouches for nothing.
    pub(super) fn serves(&self) -> bool {
        let stays_down = self.ended.as_ref().is_some_and(|ended| !ended.returns);
        let unchecked = self.adoption().is_none() && self.check().is_none();
        self.process.is_some() || (!self.listening.is_empty() && unchecked && !stays_down)
    }

    /// The families that callers reach `port` by.
    pub(super) fn families(&self, protocol: Protocol, port: u16) -> (bool, bool) {
        if !self.hears(protocol, port) {
            return (true, true);
        }
        let by = |family| self.listening.contains(&(protocol, port, family));
        (by(Family::V4), by(Family::V6))
    }

    /// Where callers of `port` are connected to in a family; of an adopted one that does not listen
    /// there, nowhere.
    pub(crate) fn place(&self, protocol: Protocol, port: u16, family: Family) -> Option<Place> {
        if self.adoption().is_some() {
            return self.places().get(&(protocol, port, family)).cloned();
        }
        let address = match family {
            Family::V4 => self.address4.into(),
            Family::V6 => self.address6.into(),
        };
        Some(Place { address, wildcard: false, sockets: BTreeSet::new() })
    }

    /// Cookies of the TCP listeners that an adopted one was seen with.
    pub(super) fn brought(&self) -> Vec<u64> {
        let streams = self.places().iter().filter(|((protocol, ..), _)| *protocol == Protocol::Tcp);
        let cookies: BTreeSet<u64> = streams.flat_map(|(_, p)| p.sockets.iter().copied()).collect();
        cookies.into_iter().collect()
    }

    /// How many those are.
    pub(crate) fn adopted_listeners(&self) -> usize {
        if self.adoption().is_some() { self.brought().len() } else { 0 }
    }

    /// The first of the addresses that callers of `port` are connected to.
    pub(crate) fn reached_at(&self, protocol: Protocol, port: u16) -> IpAddr {
        let place = |family| self.place(protocol, port, family).map(|place| place.address);
        let reached = place(Family::V4).or_else(|| place(Family::V6));
        reached.unwrap_or(IpAddr::V4(self.address4))
    }

    /// Where its checks go: by IPv4, unless it listens by IPv6 only.
    pub(crate) fn check_address(&self) -> IpAddr {
        let by_v4 = self.listening.iter().any(|(_, _, family)| *family == Family::V4);
        if by_v4 || self.listening.is_empty() {
            IpAddr::V4(self.address4)
        } else {
            IpAddr::V6(self.address6)
        }
    }

    pub(super) fn present_face(&self) -> Face {
        let choice = self
            .ports()
            .iter()
            .filter(|p| self.in_choice(p.protocol, p.number))
            .flat_map(|p| {
                let (v4, v6) = self.families(p.protocol, p.number);
                let number = p.number;
                [(v4, Family::V4), (v6, Family::V6)]
                    .into_iter()
                    .filter(|(by, _)| *by)
                    .map(move |(_, family)| (p.protocol, number, family))
            })
            .collect();
        let places = self.outsider.as_ref().map(|outsider| Box::new(outsider.places.clone()));
        Face { registered: self.phase.is_registered(), watch: self.watches(), choice, places }
    }

    /// Which of its families `address` is of; `None` when others cannot reach it there.
    pub(super) fn family_of(&self, address: IpAddr) -> Option<Family> {
        match address.to_canonical() {
            IpAddr::V4(v4) => (v4 == self.address4).then_some(Family::V4),
            IpAddr::V6(v6) => (v6 == self.address6).then_some(Family::V6),
        }
    }

    pub(super) fn declares(&self, protocol: Protocol, number: u16) -> bool {
        self.ports().iter().any(|p| p.protocol == protocol && p.number == number)
    }

    /// Forgets what the last process did.
    pub(super) fn silence(&mut self) {
        self.process = None;
        self.gone = false;
        self.steady_at = None;
        self.listening.clear();
        if let Some(outsider) = &mut self.outsider {
            outsider.places.clear();
            outsider.looks = Looks::default();
        }
        self.awaited.clear();
        self.unwell = None;
    }
}

#[cfg(test)]
mod tests {
    /// There may be a hundred thousand: what few of them have is kept apart.
    #[test]
    fn an_instance_takes_little_room() {
        assert!(size_of::<super::Instance>() <= 376);
    }
}
