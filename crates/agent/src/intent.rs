//! What this host was told to run. The only durable state: everything else is found again by
//! looking. A request is a pure function from one intent to the next; the next one is on disk before
//! anything is done about it, so a request that cannot be stored changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sinew_model::{Project, ProjectName, Protocol, Service, ServiceName, nearest};

use crate::{
    adopt::Adoption,
    alloc::{self, Network6},
    key::Key,
    launch::{Launch, Owner},
    publish,
    refusal::Refusal,
};

/// Replicas that one service may have.
pub(crate) const MAX_REPLICAS: u16 = 1024;

/// Names that a user other than root may hold at a time: a name stays his for a while after its
/// last use, and the numbers of all are few.
pub(crate) const NAMES_PER_USER: usize = 1024;

/// Names that mean something else where a service's name could stand.
const RESERVED: [&str; 3] = ["agent", "exec", "outside"];

/// A project and who applied it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owned {
    /// What was applied.
    pub project: Project,
    /// By whom.
    pub owner: Owner,
    /// Raised with every applied change.
    pub generation: u64,
}

/// What this host was told to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The host's IPv6 network, generated once.
    pub network6: Network6,
    /// Raised with every change.
    pub generation: u64,
    /// Projects that are up.
    pub projects: BTreeMap<ProjectName, Arc<Owned>>,
    /// The number of every name in use: a name keeps its addresses, because programs (Java above
    /// all) remember what a name resolved to.
    pub numbers: BTreeMap<ServiceName, u32>,
    /// Which user took a name into use, unless it was root.
    #[serde(default)]
    pub takers: BTreeMap<ServiceName, u32>,
    /// How often each service was told to restart.
    pub rollouts: BTreeMap<ServiceName, u64>,
    /// Instances that were drained by hand and stay down until their service is restarted.
    pub drained: BTreeSet<Key>,
    /// What runs without Sinew and is an endpoint.
    #[serde(default)]
    pub adopted: Vec<Arc<Adoption>>,
    /// Projects that control has this host run.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub placed: BTreeSet<ProjectName>,
}

impl Intent {
    /// Nothing wanted.
    pub(crate) fn new(network6: Network6) -> Self {
        Self {
            network6,
            generation: 0,
            projects: BTreeMap::new(),
            numbers: BTreeMap::new(),
            takers: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            drained: BTreeSet::new(),
            adopted: Vec::new(),
            placed: BTreeSet::new(),
        }
    }

    /// The service called `name` and the project that owns it.
    pub(crate) fn service(
        &self,
        name: &ServiceName,
    ) -> Option<(&ProjectName, &Arc<Owned>, &Service)> {
        self.projects.iter().find_map(|(project, owned)| {
            owned.project.services.get(name).map(|service| (project, owned, service))
        })
    }

    /// Every service with its project.
    pub(crate) fn services(
        &self,
    ) -> impl Iterator<Item = (&ProjectName, &Arc<Owned>, &ServiceName, &Service)> {
        self.projects.iter().flat_map(|(project, owned)| {
            owned
                .project
                .services
                .iter()
                .map(move |(name, service)| (project, owned, name, service))
        })
    }

    /// What an instance of `name` is launched with now.
    pub(crate) fn launch(&self, name: &ServiceName) -> Option<Launch> {
        let (project, owned, service) = self.service(name)?;
        Some(Launch {
            project: project.clone(),
            owner: owned.owner,
            service: service.clone(),
            rollout: self.rollouts.get(name).copied().unwrap_or(0),
        })
    }

    /// With `project` in the place of what its name stood for. `attached` are the names that
    /// attached processes hold.
    ///
    /// # Errors
    /// When a name is taken or a service cannot be had on this host.
    pub(crate) fn apply(
        &self,
        project: Project,
        owner: Owner,
        attached: &BTreeSet<ServiceName>,
    ) -> Result<Self, Refusal> {
        let mut next = self.clone();
        for (name, service) in &project.services {
            check_service(name, service)?;
            if let Some((other, ..)) = self.service(name)
                && *other != project.name
            {
                return Err(Refusal::NameTaken { service: name.clone(), project: other.clone() });
            }
            if attached.contains(name) {
                return Err(Refusal::NameAttached { service: name.clone() });
            }
        }
        publish::check_projects(self, &project)?;
        next.assign(owner.uid, project.services.keys())?;
        let before = self.projects.get(&project.name);
        if before.is_some_and(|b| b.project == project && b.owner == owner) {
            return Ok(next);
        }
        let kept = |name: &ServiceName, replica: u32| {
            project.services.get(name).is_some_and(|s| replica < u32::from(s.replicas))
        };
        let forgotten = |key: &Key| match &key.service {
            Some(name) => {
                before.is_some_and(|b| b.project.services.contains_key(name))
                    && !kept(name, key.replica)
            }
            None => true,
        };
        next.drained.retain(|key| !forgotten(key));
        next.rollouts.retain(|name, _| {
            before.is_none_or(|b| !b.project.services.contains_key(name))
                || project.services.contains_key(name)
        });
        next.generation += 1;
        let generation = before.map_or(1, |b| b.generation + 1);
        next.projects.insert(project.name.clone(), Arc::new(Owned { project, owner, generation }));
        Ok(next)
    }

    /// Without the project called `name`.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn remove(&self, name: &ProjectName) -> Result<Self, Refusal> {
        let mut next = self.clone();
        let owned = next
            .projects
            .remove(name)
            .ok_or_else(|| Refusal::NoProject { project: name.clone() })?;
        for service in owned.project.services.keys() {
            next.rollouts.remove(service);
            next.drained.retain(|key| key.service.as_ref() != Some(service));
        }
        next.placed.remove(name);
        next.generation += 1;
        Ok(next)
    }

    /// With `replicas` instances of `service`.
    ///
    /// # Errors
    /// When no project has such a service, or it were too many of one.
    pub(crate) fn scale(&self, service: &ServiceName, replicas: u16) -> Result<Self, Refusal> {
        if replicas > MAX_REPLICAS {
            return Err(Refusal::TooManyReplicas { service: service.clone(), replicas });
        }
        let mut next = self.clone();
        let (_, owned) = next.owned_mut(service)?;
        if let Some(found) = owned.project.services.get_mut(service) {
            if found.replicas == replicas {
                return Ok(self.clone());
            }
            found.replicas = replicas;
        }
        owned.generation += 1;
        next.drained.retain(|key| {
            key.service.as_ref() != Some(service) || key.replica < u32::from(replicas)
        });
        next.generation += 1;
        Ok(next)
    }

    /// With every instance of `service` to be launched anew, drained ones included.
    ///
    /// # Errors
    /// When no project has such a service.
    pub(crate) fn restart(&self, service: &ServiceName) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.owned_mut(service)?;
        *next.rollouts.entry(service.clone()).or_default() += 1;
        next.drained.retain(|key| key.service.as_ref() != Some(service));
        next.generation += 1;
        Ok(next)
    }

    /// With replica `replica` of `service` taken out until its service is restarted.
    ///
    /// # Errors
    /// When no project has such a service or the service no such replica.
    pub(crate) fn drain(&self, service: &ServiceName, replica: u32) -> Result<Self, Refusal> {
        let key = Key::of(service, replica);
        if self.adoption(&key).is_some() {
            let mut next = self.clone();
            next.drained.insert(key);
            next.generation += 1;
            return Ok(next);
        }
        let (_, _, found) = self.service(service).ok_or_else(|| self.no_service(service))?;
        if replica >= u32::from(found.replicas) {
            return Err(Refusal::NoReplica { key, replicas: found.replicas });
        }
        let mut next = self.clone();
        next.drained.insert(key);
        next.generation += 1;
        Ok(next)
    }

    /// Without the numbers of `names`, as far as no project has such a service.
    pub(crate) fn retire(&self, names: &[ServiceName]) -> Self {
        let mut next = self.clone();
        for name in names.iter().filter(|name| self.service(name).is_none()) {
            next.numbers.remove(name);
            next.takers.remove(name);
        }
        next.generation += 1;
        next
    }

    /// With a number for each of these names of services of other hosts; `None`: they have one.
    ///
    /// # Errors
    /// When no number is left.
    pub(crate) fn know<'a>(
        &self,
        names: impl Iterator<Item = &'a ServiceName> + Clone,
    ) -> Result<Option<Self>, Refusal> {
        if names.clone().all(|name| self.numbers.contains_key(name)) {
            return Ok(None);
        }
        let mut next = self.clone();
        next.assign(0, names)?;
        Ok(Some(next))
    }

    /// With a number for `service`, which a process of user `uid` will hold.
    ///
    /// # Errors
    /// When a project owns the name, the user holds too many, or no number is left.
    pub(crate) fn attach(&self, service: &ServiceName, uid: u32) -> Result<Self, Refusal> {
        if let Some((project, ..)) = self.service(service) {
            let project = project.clone();
            return Err(Refusal::NameTaken { service: service.clone(), project });
        }
        check_name(service)?;
        let mut next = self.clone();
        next.assign(uid, [service])?;
        Ok(next)
    }

    /// What was adopted as the endpoint called `key`.
    pub(crate) fn adoption(&self, key: &Key) -> Option<&Arc<Adoption>> {
        self.adopted.iter().find(|adoption| adoption.key == *key)
    }

    /// With something adopted; what is adopted as that already takes connections again.
    ///
    /// # Errors
    /// When a project owns the name.
    pub(crate) fn adopt(&self, adoption: Adoption) -> Result<Self, Refusal> {
        let mut next = match &adoption.key.service {
            Some(service) => self.attach(service, adoption.owner.uid)?,
            None => self.clone(),
        };
        next.drained.remove(&adoption.key);
        if next.adoption(&adoption.key).is_none() {
            next.adopted.push(Arc::new(adoption));
        }
        next.generation += 1;
        Ok(next)
    }

    /// Without what was adopted as `key`.
    ///
    /// # Errors
    /// When nothing was.
    pub(crate) fn release(&self, key: &Key) -> Result<Self, Refusal> {
        if self.adoption(key).is_none() {
            return Err(Refusal::NotAdopted { key: key.clone() });
        }
        let mut next = self.clone();
        next.adopted.retain(|adoption| adoption.key != *key);
        next.drained.remove(key);
        next.generation += 1;
        Ok(next)
    }

    /// Whether an instance is one of a project's or adopted, and not just still there.
    pub(crate) fn wants(&self, key: &Key) -> bool {
        let launched = key.service.as_ref().and_then(|name| self.service(name));
        launched.is_some_and(|(.., service)| key.replica < u32::from(service.replicas))
            || self.adoption(key).is_some()
    }

    /// As [`apply`](Self::apply), for a bench: whether a host could run it is not asked.
    pub(crate) fn take_unchecked(&mut self, project: Project, owner: Owner) -> Result<(), Refusal> {
        self.assign(owner.uid, project.services.keys())?;
        let name = project.name.clone();
        self.projects.insert(name, Arc::new(Owned { project, owner, generation: 1 }));
        Ok(())
    }

    fn assign<'a>(
        &mut self,
        uid: u32,
        names: impl IntoIterator<Item = &'a ServiceName>,
    ) -> Result<(), Refusal> {
        let mut held = self.takers.values().filter(|taker| **taker == uid).count();
        let mut taken: BTreeSet<u32> = self.numbers.values().copied().collect();
        for name in names {
            if self.numbers.contains_key(name) {
                continue;
            }
            if uid != 0 {
                if held >= NAMES_PER_USER {
                    return Err(Refusal::TooManyNames { service: name.clone(), uid });
                }
                held += 1;
                self.takers.insert(name.clone(), uid);
            }
            let number = alloc::service_number(name.as_str(), |n| taken.contains(&n))
                .ok_or(Refusal::NoAddressLeft)?;
            taken.insert(number);
            self.numbers.insert(name.clone(), number);
        }
        Ok(())
    }

    fn owned_mut(&mut self, service: &ServiceName) -> Result<(ProjectName, &mut Owned), Refusal> {
        if self.service(service).is_none() {
            return Err(self.no_service(service));
        }
        let has = |owned: &Owned| owned.project.services.contains_key(service);
        let found = self.projects.iter_mut().find(|(_, owned)| has(owned));
        let found = found.map(|(name, owned)| (name.clone(), Arc::make_mut(owned)));
        found.ok_or_else(|| Refusal::NoService { service: service.clone(), meant: None })
    }

    /// Why nothing is known of `service`.
    pub(crate) fn no_service(&self, service: &ServiceName) -> Refusal {
        Refusal::NoService {
            service: service.clone(),
            meant: self.meant(service.as_str()).map(ToOwned::to_owned),
        }
    }

    /// The service whose name was probably meant by `text`.
    pub(crate) fn meant<'a>(&'a self, text: &'a str) -> Option<&'a str> {
        let adopted = self.adopted.iter().filter_map(|adoption| adoption.key.service.as_ref());
        let here = self.services().map(|(_, _, name, _)| name).chain(adopted);
        nearest(text, here.map(ServiceName::as_str))
    }
}

fn check_name(name: &ServiceName) -> Result<(), Refusal> {
    if RESERVED.contains(&name.as_str()) {
        return Err(Refusal::NameReserved { service: name.clone() });
    }
    Ok(())
}

/// What the model cannot know: what this agent and its maps can hold.
fn check_service(name: &ServiceName, service: &Service) -> Result<(), Refusal> {
    check_name(name)?;
    if service.replicas > MAX_REPLICAS {
        return Err(Refusal::TooManyReplicas { service: name.clone(), replicas: service.replicas });
    }
    check_ports(name, service.ports.iter().map(|p| (p.protocol, p.number)))
}

/// Whether an instance can hold `ports`.
///
/// # Errors
/// When there are too many, one is 0, or one comes twice.
pub(crate) fn check_ports(
    service: &ServiceName,
    ports: impl Iterator<Item = (Protocol, u16)>,
) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for (protocol, number) in ports {
        if number == 0 {
            return Err(Refusal::PortZero { service: service.clone() });
        }
        if !seen.insert((protocol, number)) {
            return Err(Refusal::PortTwice { service: service.clone(), number });
        }
    }
    if seen.len() > sinew_abi::capacity::DECLARED_PORTS {
        return Err(Refusal::TooManyPorts { service: service.clone(), ports: seen.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
