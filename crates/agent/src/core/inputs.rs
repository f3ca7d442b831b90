//! What each input changes, before anything follows from it.

use std::net::IpAddr;

use sinew_api::{EventKind, WorkloadState};
use sinew_model::{Protocol, ServiceName};

use super::{
    Attached, Core, Ended, Found, Input, Instance, Key, Kind, Output, Phase, Process, RETRY,
    RETRY_MAX, SETTLE, STEADY, backend_keys,
};
use crate::health::Tracker;

impl Core {
    pub(super) fn take(&mut self, input: Input) {
        match input {
            Input::Intent(intent) => self.take_intent(&intent, true),
            Input::Attach { key, attached } => self.take_attach(&key, attached),
            Input::Boot { intent, found, listeners, rubble } => {
                found.into_iter().for_each(|found| self.take_found(found));
                self.take_listeners(&listeners);
                rubble.into_iter().for_each(|key| self.take_rubble(key));
                self.take_intent(&intent, false);
                self.settle_addresses();
            }
            Input::Prepared(key, result) => self.take_prepared(&key, result),
            Input::Synced(revision, result) => self.take_synced(revision, result),
            Input::Launched(key, result) => self.take_launched(&key, result),
            Input::Started(key, process) => self.take_started(&key, process),
            Input::Trouble(key, what) => self.warn(format!("{key} {what}")),
            Input::Gone(key, pid) => self.take_gone(&key, pid),
            Input::Exited(key, ended) => self.take_exited(&key, ended),
            Input::Stopped(key) => self.take_stopped(&key),
            Input::Cleaned(key, result) => self.take_cleaned(&key, result),
            Input::Listening { instance, address, port } => {
                self.take_listening(instance, address, port);
            }
            Input::Bound { instance, address, port, protocol } => {
                self.take_bound(instance, address, port, protocol);
            }
            Input::NoticesLost => self.scan_after_sync(),
            Input::Listeners(all) => self.take_listeners(&all),
            Input::Places(key, places) => self.take_places(&key, places),
            Input::Replaced(key) => self.take_replaced(&key),
            Input::Checked { key, run, result } => self.take_checked(&key, run, result),
            Input::Active(active) => self.take_active(&active),
            Input::Halt => {
                self.halting = true;
                self.touch_all();
            }
            Input::Withdraw(how) => self.withdraw(how),
            Input::Alone => self.leave_others(),
            Input::News(news) => self.take_news(news),
            Input::Unwell(unwell) => self.take_unwell(unwell),
            Input::Refresh => self.dirty = true,
            Input::Tick => {}
        }
    }

    fn take_attach(&mut self, key: &Key, attached: Attached) {
        let Some(number) = self.number_for(key) else { return };
        let process = Process { pid: attached.pid, at_ms: attached.at_ms, restarts: 0 };
        let mut instance = self.fresh(key.clone(), number, Kind::Attached(Box::new(attached)));
        instance.process = Some(process);
        self.insert(instance);
        self.touch(key);
    }

    fn take_found(&mut self, found: Found) {
        let Found { key, number, kind, process, ended, places } = found;
        if self.instances.contains_key(&key) || self.by_number.contains_key(&number) {
            self.take_rubble(key);
            return;
        }
        let mut instance = self.fresh(key.clone(), number, kind);
        instance.phase = Phase::Running;
        instance.restarts = process.map_or(0, |p| p.restarts);
        instance.process = process;
        instance.ended = ended.map(Box::new);
        instance.listening = places.keys().copied().collect();
        if instance.adoption().is_some() {
            instance.outsider().places = places;
        }
        // It was called until now as far as anybody knows; the first check that fails ends that.
        if let Some(launch) = instance.launch() {
            instance.health = Tracker::presume_well(self.now, &launch.service.health);
        }
        self.insert(instance);
        self.touch(&key);
        self.dirty = true;
        self.scan_after_sync();
    }

    fn take_rubble(&mut self, key: Key) {
        let Some(number) = self.number_for(&key) else { return };
        if self.instances.contains_key(&key) {
            return;
        }
        let mut instance = self.fresh(key.clone(), number, Kind::Rubble);
        instance.phase = Phase::Cleaning;
        self.insert(instance);
        self.outputs.push(Output::Clean(key));
    }

    fn fresh(&self, key: Key, number: u32, kind: Kind) -> Instance {
        Instance::new(key, number, self.intent.network6, kind, self.now)
    }

    pub(super) fn insert(&mut self, instance: Instance) {
        if let (Some(name), Some(launch)) = (&instance.key.service, instance.launch()) {
            self.note_dependencies(&name.clone(), &launch.clone());
        }
        if let Some(name) = &instance.key.service {
            self.unused.remove(name);
        }
        self.attachments += u64::from(instance.holds_name());
        self.by_number.insert(instance.number, instance.key.clone());
        self.instances.insert(instance.key.clone(), Box::new(instance));
    }

    fn take_prepared(&mut self, key: &Key, result: Result<(), String>) {
        let revision = self.revision + 1;
        let Some(instance) = self.in_phase(key, Phase::Preparing) else { return };
        match result {
            Ok(()) => {
                instance.phase = Phase::Registering(revision);
                self.registering.push(key.clone());
                self.dirty = true;
            }
            Err(error) => {
                self.fail(key, &error);
                self.forsake(key);
            }
        }
        self.touch(key);
    }

    fn take_synced(&mut self, revision: u64, result: Result<(), String>) {
        match result {
            Ok(()) => {
                self.synced = self.synced.max(revision);
                if revision == self.revision {
                    self.note_ready();
                    self.sync_failures = 0;
                    self.sync_retry = None;
                }
                for key in std::mem::take(&mut self.registering) {
                    match self.instances.get(&key).map(|instance| instance.phase) {
                        Some(Phase::Registering(r)) if r <= revision => self.touch(&key),
                        Some(Phase::Registering(_)) => self.registering.push(key),
                        _ => {}
                    }
                }
            }
            Err(error) => {
                let pause = RETRY.saturating_mul(1 << self.sync_failures.min(10)).min(RETRY_MAX);
                self.sync_failures += 1;
                self.sync_retry = Some(self.now + pause);
                self.warn(format!("the data path cannot be brought up to date: {error}"));
            }
        }
    }

    fn take_launched(&mut self, key: &Key, result: Result<(), String>) {
        let Some(instance) = self.in_phase(key, Phase::Launching) else { return };
        match result {
            Ok(()) => {
                instance.phase = Phase::Running;
                instance.recover();
            }
            Err(error) => {
                self.fail(key, &error);
                self.forsake(key);
            }
        }
        self.touch(key);
    }

    /// The step failed: what there is of the instance is cleared away; it is tried again later.
    fn fail(&mut self, key: &Key, error: &str) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let retry = instance.failing();
        let pause = RETRY.saturating_mul(1 << retry.failures.min(10)).min(RETRY_MAX);
        retry.failures += 1;
        retry.at = Some(self.now + pause);
        retry.error = Some(error.to_owned());
        instance.silence();
        instance.phase = Phase::Cleaning;
        self.timers.insert((self.now + pause, key.clone()));
        self.outputs.push(Output::Clean(key.clone()));
        self.warn(format!("{key} cannot be started: {error}"));
    }

    fn take_started(&mut self, key: &Key, process: Process) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(key) else { return };
        if !instance.phase.is_registered() {
            return;
        }
        if instance.process == Some(process) {
            return;
        }
        // Its listen() may have been told before the end of its predecessor was.
        let look = instance.ended.is_some() || instance.process.is_some();
        instance.process = Some(process);
        instance.gone = false;
        instance.restarts = process.restarts;
        instance.ended = None;
        instance.health = Tracker::new(now);
        if instance.is_mute() {
            instance.steady_at = Some(now + STEADY);
            self.timers.insert((now + STEADY, key.clone()));
        }
        if look {
            self.scan_after_sync();
        }
        self.touch(key);
    }

    fn take_gone(&mut self, key: &Key, pid: u32) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        if instance.process.is_some_and(|process| process.pid == pid) {
            instance.gone = true;
            self.touch(key);
        }
    }

    fn take_exited(&mut self, key: &Key, ended: Ended) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        if !instance.phase.is_registered() {
            return;
        }
        instance.silence();
        instance.ended = Some(Box::new(ended));
        self.touch(key);
    }

    fn take_stopped(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        if !instance.phase.is_registered() {
            return;
        }
        instance.silence();
        let stopping = instance.phase == Phase::Stopping;
        // What was adopted goes on, and so do its connections.
        let left_open = stopping && !instance.idle && instance.adoption().is_none();
        instance.phase = Phase::Cleaning;
        if left_open {
            self.outputs.push(Output::Close(super::wanted::sockets(instance)));
        }
        self.outputs.push(Output::Clean(key.clone()));
        if !stopping {
            self.forsake(key);
        }
        self.touch(key);
    }

    fn take_cleaned(&mut self, key: &Key, result: Result<(), String>) {
        let now = self.now;
        let wanted = self.instances.get(key).is_some_and(|i| self.is_wanted_adopted(i));
        let Some(instance) = self.in_phase(key, Phase::Cleaning) else { return };
        let comes_back = instance.launch().is_some() || wanted;
        match result {
            Ok(()) if !comes_back => self.forget(key),
            Ok(()) => {
                instance.phase = Phase::Waiting;
                instance.ended = None;
                instance.restarts = 0;
                instance.health = Tracker::new(now);
            }
            Err(error) => {
                self.warn(format!("what is left of {key} cannot be removed: {error}"));
                if let Some(instance) = self.instances.get_mut(key) {
                    instance.failing().clean_at = Some(now + RETRY);
                }
                self.timers.insert((now + RETRY, key.clone()));
            }
        }
        self.touch(key);
        if let Some(service) = &key.service {
            self.touch_neighbours(service);
        }
    }

    /// The instance is no more.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some(service) = &key.service {
            self.touch_neighbours(&service.clone());
        }
        self.draining.remove(key);
        // The last that is heard of it.
        self.publish(key, (WorkloadState::Stopped, None));
        self.suspect_names();
        self.take_address_back(key);
        if let Some(instance) = self.instances.remove(key) {
            self.by_number.remove(&instance.number);
            self.wanted.instances.remove(&instance.number.into());
            self.attachments += u64::from(instance.holds_name());
            self.touched_projects.extend(instance.launch().map(|l| l.project.clone()));
            self.dirty = true;
        }
    }

    fn take_listening(&mut self, number: u64, address: IpAddr, port: u16) {
        let Some(key) = self.key_of(number) else { return };
        self.hear(&key, address, port, Protocol::Tcp);
    }

    fn take_bound(&mut self, number: u64, address: IpAddr, port: u16, protocol: Protocol) {
        let Some(key) = self.key_of(number) else { return };
        if self.instances.get(&key).is_some_and(|i| i.adoption().is_some()) {
            self.look_again(&key);
            return;
        }
        if protocol == Protocol::Udp {
            self.hear(&key, address, port, protocol);
            return;
        }
        let Some(instance) = self.instances.get_mut(&key) else { return };
        let Some(family) = instance.family_of(address) else { return };
        let watched = instance.watches();
        if instance.declares(protocol, port) && instance.process.is_some() {
            instance.awaited.insert((port, family));
        }
        // A listen() may come before the kernel is told to watch again.
        if !watched && instance.watches() {
            self.dirty = true;
            self.scan_after_sync();
        }
        self.touch(&key);
    }

    fn take_listeners(&mut self, all: &[(IpAddr, u16, Protocol)]) {
        let by_address: std::collections::HashMap<IpAddr, Key> = self
            .instances
            .values()
            .flat_map(|i| {
                [IpAddr::V4(i.address4), IpAddr::V6(i.address6)].map(|a| (a, i.key.clone()))
            })
            .collect();
        for (address, port, protocol) in all {
            if let Some(key) = by_address.get(&address.to_canonical()) {
                self.hear(key, *address, *port, *protocol);
            }
        }
    }

    fn hear(&mut self, key: &Key, address: IpAddr, port: u16, protocol: Protocol) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let Some(family) = instance.family_of(address) else { return };
        if !instance.declares(protocol, port) || !instance.phase.is_registered() {
            return;
        }
        if !instance.listening.contains(&(protocol, port, family)) {
            instance.listening.push((protocol, port, family));
        }
        if protocol == Protocol::Tcp {
            instance.awaited.remove(&(port, family));
        }
        self.touch(key);
    }

    fn take_checked(&mut self, key: &Key, run: u64, result: Result<(), String>) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(key) else { return };
        let Some((current, health)) = instance.probe.as_deref() else { return };
        if *current != run {
            return;
        }
        let well = result.is_ok();
        instance.unwell = result.err();
        instance.health.record(now, well, health);
        self.touch(key);
    }

    fn take_active(&mut self, active: &std::collections::HashMap<u64, u32>) {
        let (synced, now) = (self.synced, self.now);
        let mut idle = Vec::new();
        for key in &self.draining {
            let Some(instance) = self.instances.get_mut(key) else { continue };
            let (revision, since, released) = match (instance.phase, instance.drained()) {
                (Phase::Draining { revision, since, .. }, _) => {
                    (revision, since, instance.adoption().is_some())
                }
                (_, Some((revision, since))) => (revision, since, false),
                _ => continue,
            };
            // The connections of what was adopted go on when it is let go: nobody waits for them.
            let open = !released
                && backend_keys(instance).any(|key| active.get(&key).is_some_and(|n| *n > 0));
            if synced >= revision && now >= since + SETTLE && !open {
                instance.idle = true;
                idle.push(instance.key.clone());
            }
        }
        for key in idle {
            self.touch(&key);
        }
    }

    fn in_phase(&mut self, key: &Key, phase: Phase) -> Option<&mut Instance> {
        self.instances.get_mut(key).map(Box::as_mut).filter(|i| i.phase == phase)
    }

    fn key_of(&self, number: u64) -> Option<Key> {
        self.by_number.get(&u32::try_from(number).ok()?).cloned()
    }

    pub(super) fn warn(&mut self, message: String) {
        self.outputs.push(Output::Publish(None, EventKind::Warning { message }));
    }

    pub(super) fn project_of(&self, service: &ServiceName) -> Option<sinew_model::ProjectName> {
        self.of(Some(service)).find_map(|i| i.launch().map(|l| l.project.clone()))
    }
}
