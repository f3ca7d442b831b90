//! What a change aims at, and what is still missing of it. No IO.

use std::collections::BTreeMap;

use sinew_api::{WorkloadState, WorkloadStatus};
use sinew_model::ServiceName;

use crate::{command::printer::source, render::style::state_word};

/// A process: its number and when it started.
type Process = (Option<u32>, Option<u64>);

/// What a change aims at.
#[derive(Debug)]
pub(super) struct Goal {
    service: ServiceName,
    aim: Aim,
}

#[derive(Debug)]
enum Aim {
    /// So many instances, all up.
    Scaled(u16),
    /// This one is down; what was adopted goes on, and is called by nobody.
    Drained(u32),
    /// Each has another process than before, and is up.
    Restarted(BTreeMap<u32, Process>),
}

fn process(workload: &WorkloadStatus) -> Process {
    (workload.pid, workload.started_at_ms)
}

impl Goal {
    pub(super) fn scaled(service: ServiceName, replicas: u16) -> Self {
        Self { service, aim: Aim::Scaled(replicas) }
    }

    pub(super) fn drained(service: ServiceName, replica: u32) -> Self {
        Self { service, aim: Aim::Drained(replica) }
    }

    pub(super) fn restarted(service: ServiceName, before: &[WorkloadStatus]) -> Self {
        let before = of(&service, before).map(|w| (w.replica, process(w))).collect();
        Self { service, aim: Aim::Restarted(before) }
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }

    /// How many instances it is about, as far as names are shown.
    pub(super) fn instances(&self) -> u16 {
        let count = match &self.aim {
            Aim::Scaled(replicas) => return *replicas,
            Aim::Drained(replica) => replica.saturating_add(1),
            Aim::Restarted(before) => before.keys().last().map_or(1, |last| last.saturating_add(1)),
        };
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// The instances that are not where they should be, each with where it stands.
    pub(super) fn left(&self, workloads: &[WorkloadStatus]) -> Vec<String> {
        let there: BTreeMap<u32, &WorkloadStatus> =
            of(&self.service, workloads).map(|w| (w.replica, w)).collect();
        match &self.aim {
            Aim::Scaled(replicas) => {
                let wanted = 0..u32::from(*replicas);
                let missing = wanted.clone().filter(|replica| !there.contains_key(replica));
                let missing = missing.map(|replica| self.stands(replica, None));
                let unready =
                    there.iter().filter(|(replica, w)| !wanted.contains(replica) || !serves(w));
                missing.chain(unready.map(|(replica, w)| self.stands(*replica, Some(w)))).collect()
            }
            Aim::Drained(replica) => there
                .get(replica)
                .filter(|w| w.state != WorkloadState::Stopped)
                .map(|w| self.stands(*replica, Some(w)))
                .into_iter()
                .collect(),
            Aim::Restarted(before) => {
                let is_new = |w: &WorkloadStatus| before.get(&w.replica) != Some(&process(w));
                let old = there.values().filter(|w| !(serves(w) && is_new(w)));
                old.map(|w| self.stands(w.replica, Some(w))).collect()
            }
        }
    }

    /// That it was asked for.
    pub(super) fn asked(&self, _: &[WorkloadStatus]) -> String {
        let name = &self.service;
        match &self.aim {
            Aim::Scaled(replicas) => format!("{name}: {} wanted", counted(*replicas)),
            Aim::Drained(replica) => {
                format!("{} takes no new connections", source(name, *replica))
            }
            Aim::Restarted(_) => format!("{name} restarts, one instance at a time"),
        }
    }

    /// That it is reached, as these show.
    pub(super) fn reached(&self, workloads: &[WorkloadStatus]) -> String {
        let name = &self.service;
        let is_adopted =
            |replica: u32| of(name, workloads).any(|w| w.replica == replica && w.adopted.is_some());
        match &self.aim {
            Aim::Drained(replica) if is_adopted(*replica) => {
                format!("{} is called by nobody until it is adopted again", source(name, *replica))
            }
            Aim::Scaled(0) => format!("{name}: no instance is left"),
            Aim::Scaled(replicas) => format!("{name}: {} up", counted(*replicas)),
            Aim::Drained(replica) => format!(
                "{} has ended its connections and stays down until `sinew restart {name}`",
                source(name, *replica)
            ),
            Aim::Restarted(_) => format!("{name} has restarted"),
        }
    }

    fn stands(&self, replica: u32, workload: Option<&WorkloadStatus>) -> String {
        let Some(workload) = workload else {
            return format!("{} is not there yet", source(&self.service, replica));
        };
        let reason = workload.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
        format!("{} {}{reason}", source(&self.service, replica), state_word(workload.state))
    }
}

fn of<'a>(
    service: &'a ServiceName,
    workloads: &'a [WorkloadStatus],
) -> impl Iterator<Item = &'a WorkloadStatus> {
    workloads.iter().filter(move |w| w.service.as_ref() == Some(service))
}

/// Serves, or has done its work: a command may be meant to end.
fn serves(workload: &WorkloadStatus) -> bool {
    matches!(workload.state, WorkloadState::Up | WorkloadState::Exited)
}

fn counted(instances: u16) -> String {
    let plural = if instances == 1 { "" } else { "s" };
    format!("{instances} instance{plural}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn web() -> ServiceName {
        ServiceName::new("web").unwrap()
    }

    fn workload(replica: u32, state: WorkloadState, pid: u32) -> WorkloadStatus {
        WorkloadStatus {
            service: Some(web()),
            replica,
            state,
            pid: Some(pid),
            address: Ipv4Addr::LOCALHOST,
            started_at_ms: Some(u64::from(pid)),
            restarts: 0,
            reason: None,
            command: String::new(),
            adopted: None,
        }
    }

    use WorkloadState::{Draining, Exited, Starting, Stopped, Up};

    #[test]
    fn scaled_up_is_reached_when_all_are_up() {
        let goal = Goal::scaled(web(), 2);
        assert_eq!(goal.left(&[workload(0, Up, 1)]), ["web/1 is not there yet"]);
        assert_eq!(goal.left(&[workload(0, Up, 1), workload(1, Starting, 2)]), ["web/1 starting"]);
        assert!(goal.left(&[workload(0, Up, 1), workload(1, Up, 2)]).is_empty());
    }

    #[test]
    fn scaled_down_is_reached_when_the_others_are_gone() {
        let goal = Goal::scaled(web(), 1);
        assert_eq!(goal.left(&[workload(0, Up, 1), workload(1, Draining, 2)]), ["web/1 draining"]);
        assert!(goal.left(&[workload(0, Up, 1)]).is_empty());
        assert!(Goal::scaled(web(), 0).left(&[]).is_empty());
    }

    #[test]
    fn drained_is_reached_when_it_is_down() {
        let goal = Goal::drained(web(), 1);
        let all = |state| [workload(0, Up, 1), workload(1, state, 2)];
        assert_eq!(goal.left(&all(Draining)), ["web/1 draining"]);
        assert!(goal.left(&all(Stopped)).is_empty());
        let reached = goal.reached(&all(Stopped));
        assert!(reached.contains("until `sinew restart web`"), "{reached}");
        let adopted = WorkloadStatus { adopted: Some("process 2".into()), ..workload(1, Up, 2) };
        let reached = goal.reached(&[adopted]);
        assert_eq!(reached, "web/1 is called by nobody until it is adopted again");
    }

    #[test]
    fn restarted_is_reached_when_every_process_is_another() {
        let goal = Goal::restarted(web(), &[workload(0, Up, 1), workload(1, Exited, 2)]);
        let left = goal.left(&[workload(0, Up, 1), workload(1, Exited, 2)]);
        assert_eq!(left, ["web/0 up", "web/1 exited"]);
        assert_eq!(goal.left(&[workload(0, Up, 3), workload(1, Starting, 4)]), ["web/1 starting"]);
        assert!(goal.left(&[workload(0, Up, 3), workload(1, Exited, 4)]).is_empty());
    }

    #[test]
    fn others_are_no_concern() {
        let mut other = workload(5, Draining, 9);
        other.service = Some(ServiceName::new("api").unwrap());
        assert!(Goal::scaled(web(), 0).left(&[other]).is_empty());
    }
}
