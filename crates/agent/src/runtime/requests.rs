//! What callers ask for. Each request that changes the intent is checked, stored and only then
//! begun: one that cannot be stored has changed nothing.

use std::{collections::BTreeSet, os::fd::OwnedFd, sync::Arc};

use sinew_api::{Attach, Attached, Shutdown};
use sinew_model::{Plan, Port, Project, ProjectName, ServiceName};
use tokio::sync::oneshot;

use super::{Ending, Runtime};
use crate::{
    attach::Joiner,
    bus::now_ms,
    core::{Attached as Joined, Input, Kind},
    environment,
    intent::{self, Intent},
    key::Key,
    publish,
    refusal::Refusal,
    rights::Caller,
};

/// Where the answer to an attachment arrives.
pub(crate) type Joining = oneshot::Receiver<Result<Attached, Refusal>>;

impl Runtime {
    /// Makes `next` the intent, on disk first.
    pub(super) fn intend(&mut self, next: Intent) -> Result<(), Refusal> {
        if next == **self.core.intent() {
            return Ok(());
        }
        self.core.check_room(&next)?;
        self.store.save(&next)?;
        self.feed(Input::Intent(Arc::new(next)));
        Ok(())
    }

    fn check_change(
        &self,
        caller: &Caller,
        service: &ServiceName,
        doing: &'static str,
    ) -> Result<(), Refusal> {
        self.check_not_ending()?;
        self.check_not_adopted(service, doing)?;
        self.check_owner(caller, service)
    }

    fn check_owner(&self, caller: &Caller, service: &ServiceName) -> Result<(), Refusal> {
        match self.core.intent().service(service) {
            Some((_, owned, _)) => caller.may_change(owned),
            None => Err(self.core.intent().no_service(service)),
        }
    }

    pub(super) fn check_not_ending(&self) -> Result<(), Refusal> {
        if self.ending.is_some() { Err(Refusal::Stopping) } else { Ok(()) }
    }

    /// What has to be compared with the host's listeners before `project` is applied, if anything:
    /// whoever asks does that, since it takes longer than this thread has time for.
    pub(crate) fn to_compare(
        &self,
        caller: &Caller,
        project: &Project,
    ) -> Result<Option<Arc<Intent>>, Refusal> {
        self.check_not_ending()?;
        if let Some(owned) = self.core.intent().projects.get(&project.name) {
            caller.may_replace(owned)?;
        }
        let intent = self.core.intent();
        Ok(publish::has_new(intent, project).then(|| intent.clone()))
    }

    pub(crate) fn apply(
        &mut self,
        caller: &Caller,
        project: Project,
        dry_run: bool,
    ) -> Result<Plan, Refusal> {
        self.check_not_ending()?;
        let before = self.core.intent().projects.get(&project.name).cloned();
        if let Some(owned) = &before {
            caller.may_replace(owned)?;
        }
        let plan = Plan::between(before.as_deref().map(|owned| &owned.project), Some(&project));
        let attached: BTreeSet<_> = self.core.attached_names().into_keys().collect();
        let next = self.core.intent().apply(project, caller.owner(), &attached)?;
        if dry_run {
            self.core.check_room(&next)?;
        } else {
            self.intend(next)?;
        }
        Ok(plan)
    }

    pub(crate) fn remove(&mut self, caller: &Caller, name: &ProjectName) -> Result<(), Refusal> {
        self.check_not_ending()?;
        if let Some(owned) = self.core.intent().projects.get(name) {
            caller.may_change(owned)?;
        }
        let next = self.core.intent().remove(name)?;
        self.intend(next)
    }

    pub(crate) fn scale(
        &mut self,
        caller: &Caller,
        service: &ServiceName,
        replicas: u16,
    ) -> Result<(), Refusal> {
        self.check_change(caller, service, "scale it")?;
        let next = self.core.intent().scale(service, replicas)?;
        self.intend(next)
    }

    pub(crate) fn restart(
        &mut self,
        caller: &Caller,
        service: &ServiceName,
    ) -> Result<(), Refusal> {
        self.check_change(caller, service, "restart it")?;
        let next = self.core.intent().restart(service)?;
        self.intend(next)
    }

    pub(crate) fn drain(
        &mut self,
        caller: &Caller,
        service: &ServiceName,
        replica: u32,
    ) -> Result<(), Refusal> {
        self.check_not_ending()?;
        match self.core.intent().adoption(&Key::of(service, replica)) {
            Some(adoption) => caller.may_change_adopted(&adoption.key, adoption.owner)?,
            None => self.check_owner(caller, service)?,
        }
        let next = self.core.intent().drain(service, replica)?;
        self.intend(next)
    }

    /// Begins to let the caller in; the answer comes when it is.
    pub(crate) fn attach(
        &mut self,
        caller: &Caller,
        pidfd: OwnedFd,
        attach: Attach,
    ) -> Result<Joining, Refusal> {
        self.check_not_ending()?;
        let mut next = Intent::clone(self.core.intent());
        if let Some(service) = &attach.service {
            intent::check_ports(service, attach.ports.iter().map(|p| (p.protocol, p.number)))?;
            self.check_held(caller, service, &attach.ports)?;
            next = next.attach(service, caller.owner().uid)?;
        }
        let replica = self.core.free_replica(attach.service.as_ref());
        let key = Key { service: attach.service, replica };
        let joined = Joined {
            pid: caller.pid,
            owner: caller.owner(),
            ports: if key.service.is_some() { attach.ports } else { Vec::new() },
            command: attach.command,
            at_ms: now_ms(),
        };
        self.core.check_room_to_attach(&next, key.service.as_ref(), &joined)?;
        self.intend(next)?;
        let number = self.core.number_for(&key).ok_or(Refusal::NoAddressLeft)?;
        let (sender, receiver) = oneshot::channel();
        let address = crate::alloc::instance4(number);
        let env = environment::variables(&key, address, &self.names.search());
        let joiner = Joiner {
            pid: caller.pid,
            pidfd,
            answer: Some(sender).into(),
            attached: Attached { replica, address, env },
        };
        self.joiners.insert(key.clone(), joiner);
        self.feed(Input::Attach { key, attached: joined });
        Ok(receiver)
    }

    /// Nobody joins a service that other people's processes are, or on other ports.
    pub(super) fn check_held(
        &self,
        caller: &Caller,
        service: &ServiceName,
        ports: &[Port],
    ) -> Result<(), Refusal> {
        let held = self.core.instances_of(service).find_map(|instance| match &instance.kind {
            Kind::Attached(joined) => Some((joined.owner.uid, &joined.ports)),
            Kind::Adopted(adoption) => Some((adoption.owner.uid, &adoption.ports)),
            Kind::Launched(_) | Kind::Rubble => None,
        });
        let Some((user, held)) = held else { return Ok(()) };
        caller.may_join(service, user)?;
        if held != ports {
            return Err(Refusal::PortsDiffer { service: service.clone() });
        }
        Ok(())
    }

    pub(crate) fn shut_down(&mut self, caller: &Caller, how: Shutdown) -> Result<(), Refusal> {
        caller.may_shut_down()?;
        let ending = match how {
            Shutdown { purge: true, .. } => Ending::Purge,
            Shutdown { stop_workloads: true, .. } => Ending::Stopped,
            _ => Ending::Leave,
        };
        self.ending = Some(ending);
        if ending != Ending::Leave {
            self.feed(Input::Halt);
        }
        Ok(())
    }
}
