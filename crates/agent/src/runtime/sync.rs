//! How the data path and the names that are served are brought to what is wanted.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use sinew_datapath::{self as datapath, Wanted};
use sinew_workload::cgroup;

use super::Runtime;
use crate::{core::Input, dns::Addresses};

impl Runtime {
    /// Brings the data path up to date, and goes on with what waited for that.
    pub(super) fn settle(&mut self) {
        while let Some(revision) = self.due.take() {
            let result = self.sync();
            self.unsynced = result.as_ref().err().cloned();
            self.report(revision, result);
        }
    }

    /// Nobody is let in before the names are served that it may ask for.
    fn report(&mut self, revision: u64, result: Result<(), String>) {
        match self.names.settling().filter(|_| result.is_ok()) {
            None => self.feed(Input::Synced(revision, result)),
            Some(settling) => {
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    settling.await;
                    let _ = inputs.send(Input::Synced(revision, result));
                });
            }
        }
    }

    fn sync(&mut self) -> Result<(), String> {
        self.publish_zone()?;
        let resolver = self.names.resolver();
        // It has just answered, and shows its own life as soon as queries are led to it.
        let alive = resolver.as_ref().is_some_and(|resolver| self.names.is_new(resolver));
        let members = self.paths.members();
        let wanted = self.core.wanted(&members, resolver);
        let (datapath, reached) = (self.datapath.clone(), &mut self.reached);
        guarded(|| {
            let mut datapath = datapath.lock();
            if alive {
                datapath.beat().map_err(|error| error.to_string())?;
            }
            let mut applied = datapath.apply(wanted);
            if matches!(applied, Err(datapath::Error::Cgroup { .. })) {
                restore_cgroups(wanted, &members)?;
                applied = datapath.apply(wanted);
            }
            if let Err(error) = &applied
                && error.is_of_others()
            {
                let why = error.to_string();
                applied = reached.without(&why, wanted, |wanted| datapath.apply(wanted));
            } else if applied.is_ok() {
                reached.all(wanted.fleet.as_ref());
            }
            applied.map_err(|error| error.to_string())
        })?;
        self.names.leads_to(wanted.resolver.as_ref());
        Ok(())
    }

    /// Names are there before the first connection can be made, and go after the last.
    fn publish_zone(&mut self) -> Result<(), String> {
        let version = self.core.names_version();
        if self.zone_of == Some(version) {
            return Ok(());
        }
        let intent = self.core.intent().clone();
        let attached = self.core.attached_names();
        let launched = intent.services().map(|(_, _, name, service)| (name, &service.ports));
        let core = &self.core;
        let elsewhere = core.names_of_all().map(|name| {
            (name, core.remote(name).map_or(const { &Vec::new() }, |remote| &remote.ports))
        });
        // What this host says of a service comes last: it holds here.
        let all = elsewhere.chain(launched).chain(attached.iter());
        let services = all.filter_map(|(name, ports)| {
            let number = *intent.numbers.get(name)?;
            let address4 = crate::alloc::service4(number);
            let address6 = crate::alloc::service6(intent.network6, number);
            let elsewhere = core.elsewhere(name);
            let addresses = Addresses { address4, address6, ports: ports.clone(), elsewhere };
            Some((name.clone(), addresses))
        });
        let published = self.names.publish(services);
        published.map_err(|error| format!("the names cannot be written: {error}"))?;
        self.zone_of = Some(version);
        Ok(())
    }
}

/// Somebody may have removed one; without it nothing at all could be applied.
fn restore_cgroups(wanted: &Wanted, members: &Path) -> Result<(), String> {
    let cgroups = wanted.instances.values().map(|instance| &instance.cgroup);
    for cgroup in cgroups.filter(|cgroup| cgroup.starts_with(members) && !cgroup.is_dir()) {
        cgroup::create(cgroup).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A panic in one action is a failure of that action.
pub(super) fn guarded<T>(action: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|_| Err("a fault of sinew, see its log".to_owned()))
}
