//! Which fields of a service differ, and whether its instances have to be replaced for that.

use std::collections::{BTreeMap, BTreeSet};

use super::{FieldChange, show::Show};
use crate::Service;

#[derive(Default)]
pub(super) struct Differences {
    pub(super) fields: Vec<FieldChange>,
    /// Whether one of them needs new processes.
    pub(super) restart: bool,
}

#[derive(Clone, Copy)]
enum Needs {
    /// The agent or the kernel takes it up while the processes run.
    Nothing,
    /// It is fixed when a process starts.
    Restart,
}

/// Compares field by field. The new service is taken apart by name, so that a field added to the
/// type cannot be forgotten here.
pub(super) fn differences(old: &Service, new: &Service) -> Differences {
    let Service {
        command,
        ports,
        replicas,
        env,
        working_dir,
        user,
        group,
        limits,
        health,
        restart,
        stop,
        depends_on,
        balance,
        outlier,
        zone,
        labels,
        publish,
        privileges,
        placement,
    } = new;
    let mut found = Differences::default();

    // What execve() and the child before it were given.
    found.field("command", &old.command, command, Needs::Restart);
    found.pairs("env", &old.env, env, Needs::Restart);
    found.field("working_dir", &old.working_dir, working_dir, Needs::Restart);
    found.field("user", &old.user, user, Needs::Restart);
    found.field("group", &old.group, group, Needs::Restart);
    found.field("privileges", &old.privileges, privileges, Needs::Restart);
    // bind() was rewritten by the ports declared at that time, and a listener keeps its address.
    found.field("ports", &old.ports, ports, Needs::Restart);

    // The cgroup's files take new values at any time.
    found.field("limits", &old.limits, limits, Needs::Nothing);
    // The rest is read by the agent or the kernel when it matters: at the next check, connect,
    // exit or stop.
    found.field("replicas", &old.replicas, replicas, Needs::Nothing);
    found.field("health", &old.health, health, Needs::Nothing);
    found.field("restart", &old.restart, restart, Needs::Nothing);
    found.field("stop", &old.stop, stop, Needs::Nothing);
    found.field("depends_on", &old.depends_on, depends_on, Needs::Nothing);
    found.field("balance", &old.balance, balance, Needs::Nothing);
    found.field("outlier", &old.outlier, outlier, Needs::Nothing);
    found.field("zone", &old.zone, zone, Needs::Nothing);
    found.pairs("labels", &old.labels, labels, Needs::Nothing);
    found.field("publish", &old.publish, publish, Needs::Nothing);
    // Read by control, before there is an instance.
    found.pairs("placement.labels", &old.placement.labels, &placement.labels, Needs::Nothing);
    found
}

impl Differences {
    fn field<T: PartialEq + Show>(&mut self, name: &str, old: &T, new: &T, needs: Needs) {
        if old != new {
            self.note(name.to_owned(), old.show(), new.show(), needs);
        }
    }

    fn pairs(
        &mut self,
        name: &str,
        old: &BTreeMap<String, String>,
        new: &BTreeMap<String, String>,
        needs: Needs,
    ) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let (from, to) = (old.get(key), new.get(key));
            if from != to {
                self.note(format!("{name}.{key}"), from.cloned(), to.cloned(), needs);
            }
        }
    }

    fn note(&mut self, field: String, from: Option<String>, to: Option<String>, needs: Needs) {
        self.restart |= matches!(needs, Needs::Restart);
        self.fields.push(FieldChange { field, from, to });
    }
}
