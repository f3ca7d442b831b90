//! Moves the instances of one service as far towards what is wanted as they go now.

use std::{sync::Arc, time::Duration};

use sinew_api::{EventKind, WorkloadState};
use sinew_model::ServiceName;

use super::{Core, Instance, Key, Kind, Output, Phase};
use crate::launch::Launch;

/// Time for the connections of an attached or adopted process to end.
pub(super) const ATTACHED_GRACE: Duration = Duration::from_secs(10);

/// What is wanted of an instance.
enum Desire {
    /// It runs, launched with this.
    Run(Arc<Launch>),
    /// It stays as it is.
    Keep,
    /// It exists, but is down.
    Hold,
    /// It does not exist.
    Gone,
}

impl Core {
    pub(super) fn converge(&mut self, service: Option<&ServiceName>) {
        self.add_missing(service);
        if let Some(name) = service {
            self.add_adopted(name);
        }
        let keys = self.keys_of(service);
        for key in &keys {
            while self.step(key) {}
        }
        self.roll(&keys);
        for key in &keys {
            while self.step(key) {}
            self.show(key);
        }
        if let Some(name) = service {
            self.note_readiness(name);
        }
    }

    /// Replicas that are wanted and not there.
    fn add_missing(&mut self, service: Option<&ServiceName>) {
        let Some((name, launch)) =
            service.and_then(|name| self.launches.get(name).map(|l| (name, l.clone())))
        else {
            return;
        };
        if self.halting {
            return;
        }
        for replica in 0..u32::from(launch.service.replicas) {
            let key = Key::of(name, replica);
            if self.instances.contains_key(&key) {
                continue;
            }
            let Some(number) = self.number_for(&key) else {
                self.warn(format!("no address is left for {key}"));
                return;
            };
            let kind = Kind::Launched(launch.clone());
            let network = self.intent.network6;
            self.insert(Instance::new(key, number, network, kind, self.now));
        }
    }

    fn desire(&self, instance: &Instance) -> Desire {
        let Some(name) = &instance.key.service else {
            return if self.halting { Desire::Gone } else { Desire::Keep };
        };
        if self.halting {
            return Desire::Gone;
        }
        if instance.adoption().is_some() {
            return if self.is_wanted_adopted(instance) { Desire::Keep } else { Desire::Gone };
        }
        if instance.launch().is_none() {
            return Desire::Keep;
        }
        match self.launches.get(name) {
            Some(launch) if instance.key.replica < u32::from(launch.service.replicas) => {
                if self.intent.drained.contains(&instance.key) {
                    Desire::Hold
                } else {
                    Desire::Run(launch.clone())
                }
            }
            _ => Desire::Gone,
        }
    }

    /// One step of one instance; tells whether there may be another one at once.
    fn step(&mut self, key: &Key) -> bool {
        let Some(instance) = self.instances.get(key) else { return false };
        let desire = self.desire(instance);
        match instance.phase {
            Phase::Waiting => self.step_waiting(key, desire),
            Phase::Held => self.step_held(key, &desire),
            Phase::Registering(revision) if revision <= self.synced => {
                self.step_registered(key, &desire)
            }
            Phase::Running => self.step_running(key, desire),
            Phase::Draining { until, .. } => self.step_draining(key, &desire, until <= self.now),
            Phase::Cleaning => self.step_cleaning(key),
            Phase::Launching => self.step_launching(key, &desire),
            Phase::Preparing | Phase::Registering(_) | Phase::Stopping => false,
        }
    }

    fn step_waiting(&mut self, key: &Key, desire: Desire) -> bool {
        let launch = match desire {
            Desire::Gone => {
                self.forget(key);
                return false;
            }
            Desire::Hold => return self.set_phase(key, Phase::Held),
            Desire::Keep => None,
            Desire::Run(launch) => Some(launch),
        };
        let waits_for = launch.as_ref().and_then(|l| self.missing_dependency(l));
        let now = self.now;
        let Some(instance) = self.instances.get_mut(key) else { return false };
        if let Some(launch) = launch {
            instance.kind = Kind::Launched(launch);
        }
        instance.waits_for = waits_for;
        if instance.waits_for.is_some() || instance.retry().at.is_some_and(|at| at > now) {
            return false;
        }
        self.outputs.push(Output::Prepare(key.clone()));
        self.set_phase(key, Phase::Preparing)
    }

    /// The first service that has to be up before this launch and is not.
    fn missing_dependency(&self, launch: &Launch) -> Option<ServiceName> {
        let is_up = |name: &ServiceName| {
            self.of(Some(name)).any(|i| i.state() == WorkloadState::Up || i.is_done())
                || self.is_up_elsewhere(name)
        };
        launch.service.depends_on.iter().find(|name| !is_up(name)).cloned()
    }

    fn step_held(&mut self, key: &Key, desire: &Desire) -> bool {
        match desire {
            Desire::Hold => false,
            _ => self.set_phase(key, Phase::Waiting),
        }
    }

    fn step_registered(&mut self, key: &Key, desire: &Desire) -> bool {
        if matches!(desire, Desire::Gone | Desire::Hold) {
            self.outputs.push(Output::Clean(key.clone()));
            return self.set_phase(key, Phase::Cleaning);
        }
        self.outputs.push(Output::Launch(key.clone()));
        self.set_phase(key, Phase::Launching)
    }

    fn step_launching(&mut self, key: &Key, desire: &Desire) -> bool {
        if let Some(instance) = self.instances.get_mut(key) {
            instance.leaves = matches!(desire, Desire::Gone | Desire::Hold);
        }
        false
    }

    fn step_running(&mut self, key: &Key, desire: Desire) -> bool {
        let now = self.now;
        if let Some(instance) = self.instances.get_mut(key)
            && instance.steady_at.is_some_and(|at| at <= now)
        {
            instance.steady_at = None;
        }
        match desire {
            Desire::Keep => {
                self.drain_adopted(key);
                self.look(key);
                false
            }
            Desire::Hold => self.drain(key),
            Desire::Gone => !self.is_needed(key) && self.drain(key),
            Desire::Run(wanted) => {
                let Some(instance) = self.instances.get_mut(key) else { return false };
                let Some(launch) = instance.launch() else { return false };
                if !Arc::ptr_eq(launch, &wanted) && !launch.outdated(&wanted) {
                    let differs = *launch != wanted;
                    // Also when it is equal: what was read from a record is shared from now on.
                    instance.kind = Kind::Launched(wanted);
                    if differs {
                        self.outputs.push(Output::Adjust(key.clone()));
                    }
                }
                false
            }
        }
    }

    /// Whether somebody who leaves too still calls it: callers stop before what they call.
    fn is_needed(&self, key: &Key) -> bool {
        let Some(name) = &key.service else { return false };
        let callers = self.dependents.get(name).into_iter().flatten();
        callers.flat_map(|caller| self.of(Some(caller))).any(|other| {
            other.depends_on().contains(name)
                && other.key.service.as_ref() != Some(name)
                && !matches!(other.phase, Phase::Waiting | Phase::Held)
                && matches!(self.desire(other), Desire::Gone)
        })
    }

    /// Takes it out of the choice; it is stopped when its connections have ended, or after a while.
    fn drain(&mut self, key: &Key) -> bool {
        let (now, revision) = (self.now, self.revision + 1);
        let Some(instance) = self.instances.get_mut(key) else { return false };
        let grace = instance.launch().map_or(ATTACHED_GRACE, |l| l.service.stop.grace);
        instance.idle = instance.ports().is_empty() || !instance.serves();
        let until = now + grace;
        self.timers.insert((until, key.clone()));
        self.dirty = true;
        self.set_phase(key, Phase::Draining { revision, since: now, until })
    }

    fn step_draining(&mut self, key: &Key, desire: &Desire, late: bool) -> bool {
        let Some(instance) = self.instances.get(key) else { return false };
        let stays = match desire {
            Desire::Run(wanted) => instance.launch().is_some_and(|l| !l.outdated(wanted)),
            Desire::Keep => true,
            Desire::Hold | Desire::Gone => false,
        };
        if stays {
            return self.set_phase(key, Phase::Running);
        }
        if !(late || instance.idle || !instance.serves()) {
            return false;
        }
        self.outputs.push(Output::Stop(key.clone()));
        self.set_phase(key, Phase::Stopping)
    }

    fn step_cleaning(&mut self, key: &Key) -> bool {
        let now = self.now;
        if let Some(instance) = self.instances.get_mut(key)
            && instance.retry().clean_at.is_some_and(|at| at <= now)
        {
            instance.failing().clean_at = None;
            self.outputs.push(Output::Clean(key.clone()));
        }
        false
    }

    /// Begins the replacement of instances that were launched with something else: at once those
    /// that serve nobody, then one at a time, and only while all the others are up. An instance
    /// that does not come up thus stops the roll-out while the rest still serves, and none begins
    /// that could not start.
    fn roll(&mut self, keys: &[Key]) {
        let (mut serving, mut silent, mut all_well) = (Vec::new(), Vec::new(), true);
        for instance in keys.iter().filter_map(|key| self.instances.get(key)) {
            let Desire::Run(wanted) = self.desire(instance) else {
                all_well &= !self.is_in_the_way(instance);
                continue;
            };
            let up = instance.state() == WorkloadState::Up;
            let outdated = instance.launch().is_some_and(|l| l.outdated(&wanted));
            match (instance.phase, outdated) {
                (Phase::Running, true) if self.missing_dependency(&wanted).is_some() => {}
                (Phase::Running, true) if up => serving.push(instance.key.clone()),
                (Phase::Running, true) => silent.push(instance.key.clone()),
                _ => all_well &= up || instance.is_done(),
            }
        }
        for key in &silent {
            self.drain(key);
        }
        if let Some(key) = serving.first()
            && all_well
            && silent.is_empty()
        {
            self.drain(key);
        }
    }

    /// What a former agent left of a replica that is wanted: it is up when that is cleared away.
    fn is_in_the_way(&self, instance: &Instance) -> bool {
        let launch = instance.key.service.as_ref().and_then(|name| self.launches.get(name));
        matches!(instance.kind, Kind::Rubble)
            && launch.is_some_and(|it| instance.key.replica < u32::from(it.service.replicas))
            && !self.intent.drained.contains(&instance.key)
    }

    fn set_phase(&mut self, key: &Key, phase: Phase) -> bool {
        let Some(instance) = self.instances.get_mut(key) else { return false };
        instance.phase = phase;
        true
    }

    /// Tells what changed of an instance: to the data path, to the checks, to who listens.
    fn show(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let drains = match instance.phase {
            Phase::Draining { .. } => true,
            _ => instance.drained().is_some() && !instance.idle,
        };
        match drains {
            true => self.draining.insert(key.clone()),
            false => self.draining.remove(key),
        };
        let face = instance.present_face();
        if face != instance.face {
            instance.face = face;
            self.dirty = true;
        }
        let wanted = instance.wanted_probe().cloned();
        if wanted.as_ref() != instance.probe.as_deref().map(|(_, health)| health) {
            self.runs += 1;
            let run = self.runs;
            if instance.probe.is_some() {
                self.outputs.push(Output::EndProbe(key.clone()));
            }
            instance.probe = wanted.clone().map(|health| Box::new((run, health)));
            if let Some(health) = wanted {
                self.outputs.push(Output::Probe { key: key.clone(), run, health });
            }
        }
        let shows = (instance.state(), instance.reason());
        if instance.shown.as_ref() != Some(&shows) {
            let moved = instance.shown.as_ref().is_none_or(|(state, _)| *state != shows.0);
            instance.shown = Some(shows.clone());
            self.publish(key, shows);
            if moved && let Some(service) = &key.service {
                self.touch_neighbours(&service.clone());
            }
        }
    }

    pub(super) fn publish(&mut self, key: &Key, (state, reason): (WorkloadState, Option<String>)) {
        let Some(service) = key.service.clone() else { return };
        let project = self.project_of(&service);
        let kind = EventKind::Workload { service, replica: key.replica, state, reason };
        self.outputs.push(Output::Publish(project, kind));
    }
}
