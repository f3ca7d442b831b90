//! Adoptions: what callers ask for, and what the core wants done about it.

use std::collections::BTreeMap;

use sinew_api::Adopt;
use sinew_model::ServiceName;
use sinew_workload::cgroup;
use tokio::sync::oneshot;

use super::{Order, Runtime, guarded};
use crate::{
    adopt::{self, Adopting, Adoption, Places, Releasing, Subject},
    bus::now_ms,
    core::{Input, Instance},
    intent,
    key::Key,
    record::Record,
    refusal::Refusal,
    rights::Caller,
};

/// Who waits for adoptions and releases, and what was hooked for them.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    adopting: BTreeMap<Key, Adopting>,
    releasing: BTreeMap<Key, Releasing>,
    /// Ids of the cgroups that carry programs of their own.
    hooked: BTreeMap<Key, u64>,
    /// The look at all that listen.
    watch: Option<tokio::task::JoinHandle<()>>,
}

/// An adoption that is begun, or was there.
pub(crate) struct Begun {
    pub(crate) key: Key,
    pub(crate) places: Places,
    /// Tells when it is done, and how many processes it has.
    pub(crate) done: oneshot::Receiver<Result<usize, Refusal>>,
}

impl Runtime {
    /// Makes what was looked at an endpoint.
    pub(crate) fn adopt(
        &mut self,
        caller: &Caller,
        adopt: Adopt,
        subject: Subject,
    ) -> Result<Begun, Refusal> {
        self.check_not_ending()?;
        let Adopt { service, ports, .. } = adopt;
        intent::check_ports(&service, ports.iter().map(|p| (p.protocol, p.number)))?;
        self.check_held(caller, &service, &ports)?;
        let again = self.adopted_already(&service, &subject)?;
        let key = match &again {
            Some(key) => key.clone(),
            None => Key::of(&service, self.core.free_replica(Some(&service))),
        };
        let adoption = Adoption {
            key: key.clone(),
            target: subject.target,
            owner: caller.owner(),
            ports,
            command: subject.command,
            at_ms: now_ms(),
        };
        let next = self.core.intent().adopt(adoption.clone())?;
        let (sender, done) = oneshot::channel();
        if again.is_none() {
            let listeners = subject.places.values().map(|place| place.sockets.len()).sum();
            self.core.check_room_to_adopt(&next, listeners)?;
        }
        if again.is_some() {
            // Nobody waits when the receiver is dropped.
            let _ = sender.send(Ok(self.processes(&key)));
        } else {
            self.core.number_for(&key).ok_or(Refusal::NoAddressLeft)?;
            if let Some(path) = adoption.target.cgroup() {
                // Tried first: an intent that the kernel refuses is not written down.
                self.hook(&key, path).map_err(|what| Refusal::Hook { what })?;
            }
            self.adoptions.adopting.insert(key.clone(), sender);
        }
        self.intend(next).inspect_err(|_| {
            self.adoptions.adopting.remove(&key);
            self.feed(Input::Refresh);
        })?;
        Ok(Begun { key, places: subject.places, done })
    }

    fn processes(&self, key: &Key) -> usize {
        let instance = self.core.instance(key);
        instance.map_or(0, |instance| self.pids_of(instance).len())
    }

    /// The processes of an adopted instance.
    fn pids_of(&self, instance: &Instance) -> Vec<u32> {
        let cgroup = match instance.adoption().and_then(|adoption| adoption.target.cgroup()) {
            Some(cgroup) => cgroup.to_owned(),
            None => self.paths.member(&instance.key),
        };
        cgroup::processes(&cgroup).unwrap_or_default()
    }

    /// The endpoint that the same thing is already.
    fn adopted_already(
        &self,
        service: &ServiceName,
        subject: &Subject,
    ) -> Result<Option<Key>, Refusal> {
        let own = subject.target.cgroup();
        for instance in self.core.instances() {
            let Some(adoption) = instance.adoption() else { continue };
            let by = instance.key.clone();
            let twice = |what: String| Refusal::AdoptedTwice { what, by: by.clone() };
            if adoption.target == subject.target && by.service.as_ref() == Some(service) {
                return Ok(Some(by));
            }
            let theirs = adoption.target.cgroup();
            if let (Some(own), Some(theirs)) = (own, theirs)
                && (own.starts_with(theirs) || theirs.starts_with(own))
            {
                return Err(twice(format!(
                    "{} and the {} of {by} lie one in the other: each call would pass Sinew twice",
                    subject.target, adoption.target
                )));
            }
            let member = self.paths.member(&by);
            if let adopt::Target::Process { process, .. } = &subject.target
                && let Ok(is) = cgroup::of(process.pid)
                && is.starts_with(theirs.unwrap_or(&member))
            {
                return Err(twice(format!(
                    "process {} belongs to {by}, the {}, and so is adopted already",
                    process.pid, adoption.target
                )));
            }
            for ((protocol, port, family), place) in &subject.places {
                let same = instance.places().get(&(*protocol, *port, *family));
                if same.is_some_and(|same| same.address == place.address) {
                    return Err(twice(format!(
                        "{}:{port} of {} is where {by} listens, which is the {}",
                        place.address, subject.target, adoption.target
                    )));
                }
            }
        }
        Ok(None)
    }

    /// Begins to let an adopted endpoint go; what comes of it arrives when it is done.
    pub(crate) fn release(
        &mut self,
        caller: &Caller,
        key: &Key,
    ) -> Result<oneshot::Receiver<Result<Option<sinew_workload::tree::GivenBack>, Refusal>>, Refusal>
    {
        self.check_not_ending()?;
        let next = self.core.intent().release(key)?;
        if let Some(adoption) = self.core.intent().adoption(key) {
            caller.may_change_adopted(key, adoption.owner)?;
        }
        let (sender, done) = oneshot::channel();
        self.adoptions.releasing.insert(key.clone(), sender);
        self.intend(next).inspect_err(|_| {
            self.adoptions.releasing.remove(key);
        })?;
        Ok(done)
    }

    /// # Errors
    /// When a service has adopted endpoints: Sinew cannot do that to them.
    pub(crate) fn check_not_adopted(
        &self,
        service: &ServiceName,
        doing: &'static str,
    ) -> Result<(), Refusal> {
        let adopted = self.core.instances_of(service).any(|i| i.adoption().is_some());
        if adopted { Err(Refusal::IsAdopted { service: service.clone(), doing }) } else { Ok(()) }
    }

    /// Puts the programs on a cgroup of somebody else.
    fn hook(&mut self, key: &Key, path: &std::path::Path) -> Result<(), String> {
        let datapath = self.datapath.clone();
        guarded(|| datapath.lock().hook(path).map_err(|error| error.to_string()))?;
        if let Ok(id) = cgroup::id(path) {
            self.adoptions.hooked.insert(key.clone(), id);
        }
        Ok(())
    }

    /// Prepares a cgroup: one of its own, or the one that somebody else has made.
    pub(super) fn prepare(&mut self, key: &Key) -> Result<(), String> {
        let adopted = self.core.instance(key).and_then(Instance::adoption);
        let owner = adopted.map(|adoption| adoption.owner.uid);
        match adopted.and_then(|adoption| adoption.target.cgroup()).map(ToOwned::to_owned) {
            // It comes when its unit is started.
            Some(path) if !path.is_dir() => {
                self.adoptions.hooked.remove(key);
                Ok(())
            }
            Some(path) => {
                if let Some(owner) = owner {
                    adopt::check_owner(owner, &path).map_err(|refusal| refusal.to_string())?;
                }
                self.hook(key, &path)
            }
            None => cgroup::create(&self.paths.member(key)).map_err(|error| error.to_string()),
        }
    }

    /// What a predecessor hooked is hooked, or is so again.
    pub(super) fn hook_found(&mut self, record: &Record) {
        if let Some(path) = record.foreign()
            && let Err(error) = self.hook(&record.key, path)
        {
            tracing::error!("{} is without kernel programs: {error}", record.key);
        }
    }

    /// The cgroup that carries the programs of an instance which has its own.
    pub(super) fn hooked(&self, key: &Key) -> Option<u64> {
        self.adoptions.hooked.get(key).copied()
    }

    pub(super) fn order_adoption(&mut self, record: Box<Record>, adoption: &Adoption) {
        let key = record.key.clone();
        let (hooked, answer) = (self.hooked(&key), self.adoptions.adopting.remove(&key));
        let owner = Box::new(self.policy.allow_owner(adoption.owner));
        let adoption = Box::new(adoption.clone());
        self.order(&key, Order::Adopt { record, adoption, owner, hooked, answer });
    }

    pub(super) fn order_clean(&mut self, key: &Key) {
        // Whoever waits for an adoption that came to nothing is told by what drops its place.
        self.adoptions.adopting.remove(key);
        self.adoptions.hooked.remove(key);
        let answer = self.adoptions.releasing.remove(key);
        self.order(key, Order::Clean { answer });
    }

    /// What was adopted is gone.
    pub(super) fn forsake(&mut self, key: &Key) -> Option<Input> {
        let next = self.core.intent().release(key).ok()?;
        if let Err(error) = self.store.save(&next) {
            tracing::warn!("that {key} is gone is not written down: {error}");
        }
        Some(Input::Intent(next.into()))
    }

    /// Looks where it listens.
    pub(super) fn look_at(&self, key: Key) {
        let Some(instance) = self.core.instance(&key) else { return };
        let cgroup = instance.adoption().and_then(|adoption| adoption.target.cgroup());
        let cgroup = cgroup.map_or_else(|| self.paths.member(&key), ToOwned::to_owned);
        let ports = instance.ports().to_vec();
        let (datapath, inputs) = (self.datapath.clone(), self.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let pids = cgroup::processes(&cgroup).unwrap_or_default();
            let listeners =
                guarded(|| datapath.lock().listeners().map_err(|error| error.to_string()));
            match listeners {
                Ok(all) => {
                    let places = adopt::places_of(&all, &adopt::sockets_of(&pids), &ports);
                    let _ = inputs.send(Input::Places(key, places));
                }
                Err(error) => tracing::warn!("cannot see where {key} listens: {error}"),
            }
        });
    }

    /// Looks whether those that listened still do: whoever binds where one of them did is a
    /// stranger, although the kernel finds a listener there.
    pub(super) fn look_at_adopted(&mut self) {
        if self.adoptions.watch.as_ref().is_some_and(|watch| !watch.is_finished()) {
            return;
        }
        let heard = self.core.instances().filter(|i| !i.places().is_empty());
        let heard: Vec<_> = heard
            .filter_map(|instance| {
                let cgroup = instance.adoption()?.target.cgroup();
                let cgroup = cgroup.map_or_else(|| self.paths.member(&instance.key), Into::into);
                let known = instance.places().clone();
                Some((instance.key.clone(), cgroup, instance.ports().to_vec(), known))
            })
            .collect();
        if heard.is_empty() {
            return;
        }
        let (datapath, inputs) = (self.datapath.clone(), self.inputs.clone());
        self.adoptions.watch = Some(tokio::task::spawn_blocking(move || {
            let all = guarded(|| datapath.lock().listeners().map_err(|error| error.to_string()));
            let Ok(all) = all.inspect_err(|error| tracing::warn!("cannot see listeners: {error}"))
            else {
                return;
            };
            for (key, cgroup, ports, known) in heard {
                let pids = cgroup::processes(&cgroup).unwrap_or_default();
                let places = adopt::places_of(&all, &adopt::sockets_of(&pids), &ports);
                if places != known {
                    // The runtime is gone only when the agent ends.
                    let _ = inputs.send(Input::Places(key, places));
                }
            }
        }));
    }
}
