//! Endpoints that Sinew did not start: they come with the intent, are looked at until they listen,
//! and stay while what was adopted comes and goes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Core, Instance, Key, Kind, Output, Phase, converge::ATTACHED_GRACE};
use crate::adopt::{Adoption, Places};

/// From look to look at a program that does not listen yet; doubled each time.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Looks after a bind(): listen() follows, and old sockets may be closed later.
const LOOKS_AFTER_BIND: u8 = 3;
const ADOPTED_LISTENERS: usize = sinew_abi::capacity::ADOPTED_LISTENERS as usize;

/// What an instance has only when it was adopted.
#[derive(Debug, Default)]
pub(super) struct Outsider {
    /// Where it listens.
    pub(super) places: Places,
    /// When it is looked for listeners again.
    pub(super) looks: Looks,
    /// Taken out of the choice by hand: from which revision on, and when.
    pub(super) drained: Option<(u64, Instant)>,
}

/// When an adopted program is looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Looks {
    at: Option<Instant>,
    pause: Duration,
    /// How often it is looked at although it listens on every port.
    more: u8,
}

impl Core {
    /// The intent's adoptions of a service that have no instance yet.
    pub(super) fn add_adopted(&mut self, service: &sinew_model::ServiceName) {
        if self.halting {
            return;
        }
        let adopted: Vec<Arc<Adoption>> = self
            .intent
            .adopted
            .iter()
            .filter(|a| a.key.service.as_ref() == Some(service))
            .filter(|a| !self.instances.contains_key(&a.key))
            .cloned()
            .collect();
        for adoption in adopted {
            let key = adoption.key.clone();
            let Some(number) = self.number_for(&key) else {
                self.warn(format!("no address is left for {key}"));
                return;
            };
            let network = self.intent.network6;
            self.insert(Instance::new(key, number, network, Kind::Adopted(adoption), self.now));
        }
    }

    /// Whether the instance is adopted, and still wanted so.
    pub(super) fn is_wanted_adopted(&self, instance: &Instance) -> bool {
        let wanted = self.intent.adoption(&instance.key);
        !self.halting && wanted.is_some() && wanted == instance.adoption()
    }

    /// Out of the choice, or back in it, as the intent says; its process goes on.
    pub(super) fn drain_adopted(&mut self, key: &Key) {
        let (now, revision) = (self.now, self.revision + 1);
        let wanted = self.intent.drained.contains(key);
        let Some(instance) = self.instances.get_mut(key) else { return };
        match instance.drained() {
            _ if instance.adoption().is_none() => {}
            Some(_) if !wanted => instance.outsider().drained = None,
            Some((_, since)) => instance.idle |= now >= since + ATTACHED_GRACE,
            None if wanted => {
                instance.outsider().drained = Some((revision, now));
                instance.idle = false;
                self.timers.insert((now + ATTACHED_GRACE, key.clone()));
                self.dirty = true;
            }
            None => {}
        }
    }

    /// Looks where it listens, as long as a port is silent.
    pub(super) fn look(&mut self, key: &Key) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.adoption().is_none() {
            return;
        }
        let idle = instance.process.is_none();
        let silent = instance.is_silent();
        let looks = &mut instance.outsider().looks;
        if idle {
            *looks = Looks::default();
            return;
        }
        if !silent && looks.more == 0 {
            *looks = Looks::default();
            return;
        }
        if looks.at.is_some_and(|at| at > now) {
            return;
        }
        looks.pause = (looks.pause * 2).clamp(LOOK, LOOK_MAX);
        looks.more = looks.more.saturating_sub(1);
        let at = now + looks.pause;
        looks.at = Some(at);
        self.timers.insert((at, key.clone()));
        self.outputs.push(Output::Look(key.clone()));
    }

    /// It bound a port that it declares.
    pub(super) fn look_again(&mut self, key: &Key) {
        if let Some(instance) = self.instances.get_mut(key) {
            instance.outsider().looks = Looks { more: LOOKS_AFTER_BIND, ..Looks::default() };
            self.touch(key);
        }
    }

    pub(super) fn take_places(&mut self, key: &Key, mut places: Places) {
        let mut clash = None;
        for other in self.instances.values().filter(|i| i.key != *key) {
            places.retain(|(protocol, port, family), place| {
                let same = other.places().get(&(*protocol, *port, *family));
                let free = same.is_none_or(|same| same.address != place.address);
                if !free {
                    clash = Some(format!("{}:{port} is {}'s already", place.address, other.key));
                }
                free
            });
        }
        let others = self.instances.values().filter(|i| i.key != *key);
        let others: usize = others.map(|i| i.adopted_listeners()).sum();
        let own: usize = places.values().map(|place| place.sockets.len()).sum();
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.adoption().is_none() || !instance.phase.is_registered() {
            return;
        }
        // It may open ever more of them: nobody else is to suffer from a table that is full.
        if others + own > ADOPTED_LISTENERS && own > instance.adopted_listeners() {
            instance.unwell = Some(format!(
                "its {own} listeners and those of others are more than the {ADOPTED_LISTENERS} \
                 adopted ones that the kernel maps hold"
            ));
            self.touch(key);
            return;
        }
        instance.listening = places.keys().copied().collect();
        instance.outsider().places = places;
        instance.unwell = clash;
        self.touch(key);
    }

    /// There is another cgroup where its own was: it has to be hooked as well.
    pub(super) fn take_replaced(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.phase != Phase::Running || instance.adoption().is_none() {
            return;
        }
        instance.silence();
        instance.phase = Phase::Preparing;
        self.outputs.push(Output::Prepare(key.clone()));
        self.touch(key);
    }

    /// A process that was adopted is gone for good.
    pub(super) fn forsake(&mut self, key: &Key) {
        let ends_with_it = self
            .instances
            .get(key)
            .and_then(|instance| instance.adoption())
            .is_some_and(|adoption| adoption.target.cgroup().is_none());
        if ends_with_it {
            self.outputs.push(Output::Forsake(key.clone()));
        }
    }
}
