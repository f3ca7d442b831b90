//! Whether the kernel's maps hold what is asked for, together with what is there besides: processes
//! that joined by themselves, and what still ends.

use std::collections::BTreeMap;

use sinew_model::{Port, ServiceName};

use super::{Attached, Core, Key};
use crate::{
    capacity::{Elsewhere, Usage},
    fleet::Remote,
    intent::Intent,
    refusal::Refusal,
};

impl Core {
    /// # Errors
    /// When the maps cannot hold `next` and what is there besides.
    pub(crate) fn check_room(&self, next: &Intent) -> Result<(), Refusal> {
        self.usage(next).refuse_when_full(&self.usage(&self.intent))
    }

    /// # Errors
    /// When the maps cannot hold one more process that joins by itself, beside what `next` wants.
    pub(crate) fn check_room_to_attach(
        &self,
        next: &Intent,
        service: Option<&ServiceName>,
        attached: &Attached,
    ) -> Result<(), Refusal> {
        let mut usage = self.usage(next);
        usage.add_instances(&attached.ports, 1);
        if service.is_some_and(|name| self.instances_of(name).next().is_none()) {
            usage.add_service(&attached.ports, &[]);
        }
        usage.refuse_when_full(&self.usage(&self.intent))
    }

    /// # Errors
    /// When the maps cannot hold `next` with an adopted program that has so many listeners.
    pub(crate) fn check_room_to_adopt(
        &self,
        next: &Intent,
        listeners: usize,
    ) -> Result<(), Refusal> {
        let mut usage = self.usage(next);
        usage.add_adopted_listeners(listeners);
        usage.refuse_when_full(&self.usage(&self.intent))
    }

    /// Whether the maps, of which so much is used, hold what other hosts run of a service in the
    /// place of what is known; it is counted then.
    pub(super) fn makes_room_for(
        &self,
        usage: &mut Usage,
        name: &ServiceName,
        remote: Option<&Remote>,
    ) -> bool {
        let is_known = self.local(name).is_some();
        let mut after = *usage;
        if let Some(known) = self.remote(name) {
            after.take_remote(elsewhere(known), is_known);
        }
        if let Some(remote) = remote {
            after.add_remote(elsewhere(remote), is_known);
        }
        let fits = after.refuse_when_full(usage).is_ok();
        if fits {
            *usage = after;
        }
        fits
    }

    /// How many entries of each map are taken while `intent` is what is wanted.
    pub(crate) fn usage(&self, intent: &Intent) -> Usage {
        let reached = self.around().is_some_and(|around| !around.fleet.slices.is_empty());
        let mut usage = Usage::new(reached, self.slots());
        usage.add_hosts(self.around().map_or(0, |around| around.fleet.peers.len()));
        for (.., service) in intent.services() {
            usage.add_service(&service.ports, &service.publish);
            usage.add_instances(&service.ports, usize::from(service.replicas));
        }
        // Names of no project, with what several of their instances share.
        let mut names: BTreeMap<&ServiceName, &[Port]> = BTreeMap::new();
        for adoption in &intent.adopted {
            usage.add_adopted(&adoption.ports, 1);
            note(&mut names, &adoption.key, &adoption.ports);
        }
        for instance in self.instances.values() {
            usage.add_adopted_listeners(instance.adopted_listeners());
            if intent.wants(&instance.key) {
                continue;
            }
            match instance.adoption() {
                Some(_) => usage.add_adopted(instance.ports(), 1),
                None => usage.add_instances(instance.ports(), 1),
            }
            note(&mut names, &instance.key, instance.ports());
        }
        for (name, remote) in self.remotes() {
            let is_known = intent.service(name).is_some() || names.contains_key(name);
            usage.add_remote(elsewhere(remote), is_known);
        }
        names.retain(|name, _| intent.service(name).is_none());
        names.into_values().for_each(|ports| usage.add_service(ports, &[]));
        usage
    }
}

fn elsewhere(remote: &Remote) -> Elsewhere {
    let ports = remote.ports.len();
    Elsewhere { ports, backends: ports * remote.endpoints.len() }
}

fn note<'a>(names: &mut BTreeMap<&'a ServiceName, &'a [Port]>, key: &'a Key, ports: &'a [Port]) {
    if let Some(name) = &key.service {
        names.insert(name, ports);
    }
}
