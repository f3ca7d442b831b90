//! Replicas on hosts: people say what is wanted, and the duty decides where it runs.
//!
//! A host whose session is lost keeps what it has, for it may come back. What a dead host had runs
//! elsewhere when it has been dead for a while (`reschedule_ms`), and never while many hosts are gone
//! at once: those are cut off, and run what they have.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{NodeName, Project, ProjectName, ServiceName, fleet::Resources};

use super::{
    liveness::{Standing as Session, standing as session_standing},
    people::Refused,
    plan::{Change, Plan, Rule, Touched, shown},
};
use crate::{
    placement::{self, Demand, Node, Placement, Standing, Unplaced, moves, place},
    records::{
        Key, StoredNode,
        config::Pausable,
        placed::{StoredAssigned, StoredProject},
    },
    registry::{Registry, placed::demand},
    session::{Now, milliseconds},
    store::Revision,
};

/// Hosts of one write.
const MAX_HOSTS: usize = 40;
/// Bytes of one write, but for the history of it.
const MAX_BYTES: usize = 256 << 10;
/// Projects whose change in between undoes a write.
const MAX_GUARDS: usize = 60;
/// Bytes of a project: it is in the store, and twice in the history of a change.
const MAX_PROJECT_BYTES: usize = 256 << 10;
/// Bytes of all of them: any host may be told of all.
const MAX_PLACED_BYTES: usize = 8 << 20;
/// Replicas that a plan names.
const NAMED: usize = 8;

/// Has a project's services run wherever there is room.
///
/// # Errors
/// When another project has one of them, or nothing changes.
pub fn put(project: &Project, who: &str, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    let placed = registry.placed();
    for service in project.services.keys() {
        if let Some(other) = placed.project_of(service).filter(|other| **other != project.name) {
            let (service, project) = (service.clone(), other.clone());
            return Err(Refused::Taken { service, project });
        }
    }
    let before = placed.projects().get(&project.name);
    if before.is_some_and(|(_, before)| before.services == project.services) {
        let why = format!("project {} is placed as it is", project.name);
        return Err(Refused::Nothing { why });
    }
    let after = StoredProject {
        services: project.services.clone(),
        by: who.to_owned(),
        since_ms: milliseconds(now.wall),
    };
    project.validate().map_err(|error| Refused::Invalid(error.to_string()))?;
    check_size(&after, &project.name, registry)?;
    let change = Change::new(Key::Project(project.name.clone()), before, Some(&after));
    let mut demands = placed.demands();
    if let Some((_, before)) = before {
        demands.retain(|service, _| !before.services.contains_key(service));
    }
    demands.extend(project.services.iter().map(|(name, it)| (name.clone(), demand(it))));
    let words = format!("project {} is placed", project.name);
    Ok(expected(Plan::new(Rule::Place, registry, words).with(change), &demands, now, registry))
}

fn check_size(
    project: &StoredProject,
    name: &ProjectName,
    registry: &Registry,
) -> Result<(), Refused> {
    let bytes = |project: &StoredProject| crate::records::write(project).len();
    let too_large = |what: &str, bytes, most| match bytes <= most {
        true => Ok(()),
        false => Err(Refused::TooLarge { what: what.to_owned(), bytes, most }),
    };
    too_large("the project", bytes(project), MAX_PROJECT_BYTES)?;
    let others = registry.placed().projects().iter().filter(|(other, _)| *other != name);
    let (services, all) = others
        .map(|(_, (_, other))| (other.services.len(), bytes(other)))
        .fold((project.services.len(), bytes(project)), |sum, it| (sum.0 + it.0, sum.1 + it.1));
    too_large("all that is placed", all, MAX_PLACED_BYTES)?;
    let most = sinew_proto::bounds::MAX_ASSIGNMENTS;
    if services > most {
        return Err(Refused::TooMany { services, most });
    }
    Ok(())
}

/// Has a project's services run nowhere.
///
/// # Errors
/// When it is not placed.
pub fn remove(name: &ProjectName, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    let placed = registry.placed();
    let Some(before) = placed.projects().get(name) else {
        return Err(Refused::NoProject { project: name.clone() });
    };
    let change = Change::new(Key::Project(name.clone()), Some(before), None);
    let mut demands = placed.demands();
    demands.retain(|service, _| !before.1.services.contains_key(service));
    let words = format!("project {name} is placed no more");
    Ok(expected(Plan::new(Rule::Unplace, registry, words).with(change), &demands, now, registry))
}

/// What the duty will make of it, as inputs and radius.
fn expected(
    mut plan: Plan,
    demands: &BTreeMap<ServiceName, Demand>,
    now: Now,
    registry: &Registry,
) -> Plan {
    let before = registry.placed().placement();
    let decided = place(&nodes(now, registry), demands, &before);
    for (service, unplaced) in &decided.unplaced {
        plan = plan.input(&format!("{service}: not placed"), unplaced);
    }
    touch(&mut plan, &before, &decided.placement, registry);
    plan
}

/// Whom that touches, and the moves in words.
fn touch(plan: &mut Plan, before: &Placement, after: &Placement, registry: &Registry) {
    let mut by_node: BTreeMap<NodeName, Touched> = BTreeMap::new();
    let mut words = Vec::new();
    for (service, nodes) in moves(before, after) {
        for (node, (from, to)) in nodes {
            let touched = by_node.entry(node.clone()).or_default();
            touched.hosts = 1;
            touched.services += 1;
            touched.endpoints += usize::from(from.abs_diff(to));
            words.push(format!("{service} on {node}: {from} -> {to}"));
        }
    }
    for (node, touched) in by_node {
        plan.touch(registry.zone(&node), &touched);
    }
    let more = words.len().saturating_sub(NAMED);
    words.truncate(NAMED);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    if !words.is_empty() {
        plan.inputs.insert("replicas".to_owned(), words.join(", "));
    }
}

/// What is to run elsewhere than it was decided last; `None`: all is as it should be.
#[must_use]
pub fn step(now: Now, registry: &Registry) -> Option<Plan> {
    let placed = registry.placed();
    if placed.projects().is_empty() && placed.assigned().values().all(|(_, it)| it.is_empty()) {
        return None;
    }
    // What cannot be read is not nothing.
    if registry.is_placement_poisoned() {
        return None;
    }
    let before = placed.placement();
    let decided = decide(now, registry);
    if decided.placement == before {
        return None;
    }
    let mut by_node: BTreeMap<&NodeName, StoredAssigned> = BTreeMap::new();
    for (service, nodes) in &decided.placement {
        for (node, replicas) in nodes {
            by_node.entry(node).or_default().insert(service.clone(), *replicas);
        }
    }
    let none = StoredAssigned::new();
    let mut plan = Plan::new(Rule::Spread, registry, String::new());
    let known = placed.assigned();
    let (mut bytes, mut written) = (0, BTreeSet::new());
    let all: BTreeSet<&NodeName> = known.keys().chain(by_node.keys().copied()).collect();
    for node in all {
        let (had, has) = (known.get(node), by_node.get(node).unwrap_or(&none));
        let had_before = had.map_or(&none, |(_, had)| had);
        if had_before == has {
            continue;
        }
        let size = crate::records::write(has).len();
        if plan.changes.len() == MAX_HOSTS || (bytes > 0 && bytes + size > MAX_BYTES) {
            break;
        }
        bytes += size;
        // All of a host's is in the store; the history tells what changed.
        let change = Change::new(Key::Assigned(node.clone()), had, Some(has));
        let (from, to) = differing(had_before, has);
        plan.changes.push(change.showing(Some(shown(&from)), Some(shown(&to))));
        written.insert(node.clone());
    }
    let only = |placement: &Placement| -> Placement {
        let of = |hosts: &BTreeMap<NodeName, u16>| {
            let hosts = hosts.iter().filter(|(node, _)| written.contains(*node));
            hosts.map(|(node, replicas)| (node.clone(), *replicas)).collect()
        };
        placement.iter().map(|(service, hosts)| (service.clone(), of(hosts))).collect()
    };
    touch(&mut plan, &only(&before), &only(&decided.placement), registry);
    for pause in [Pausable::Placement, Pausable::All] {
        plan = plan.guarded(Key::Pause(pause), Revision(0));
    }
    for (project, (revision, _)) in placed.projects().iter().take(MAX_GUARDS) {
        plan = plan.guarded(Key::Project(project.clone()), *revision);
    }
    let (count, hosts) =
        plan.radius.values().fold((0, 0), |(e, h), it| (e + it.endpoints, h + it.hosts));
    plan.words = format!("replicas that begin or end: {count}, on hosts: {hosts}");
    Some(plan)
}

/// What differs of what a host runs.
fn differing(had: &StoredAssigned, has: &StoredAssigned) -> (StoredAssigned, StoredAssigned) {
    let of = |one: &StoredAssigned, other: &StoredAssigned| {
        let differs =
            one.iter().filter(|(service, replicas)| other.get(*service) != Some(*replicas));
        differs.map(|(service, replicas)| (service.clone(), *replicas)).collect()
    };
    (of(had, has), of(has, had))
}

/// Where everything is to run, as of now.
#[must_use]
pub fn decide(now: Now, registry: &Registry) -> placement::Plan {
    let placed = registry.placed();
    place(&nodes(now, registry), &placed.demands(), &placed.placement())
}

/// Replicas that have no place.
#[must_use]
pub fn unplaced(now: Now, registry: &Registry) -> BTreeMap<ServiceName, Unplaced> {
    decide(now, registry).unplaced
}

fn nodes(now: Now, registry: &Registry) -> BTreeMap<NodeName, Node> {
    let node = |(name, stored): (&NodeName, &StoredNode)| {
        let node = Node {
            zone: stored.zone.clone(),
            labels: stored.labels.clone(),
            capacity: stored.capacity,
            standing: standing(name, stored, now, registry),
        };
        (name.clone(), node)
    };
    registry.nodes().map(node).collect()
}

fn standing(name: &NodeName, node: &StoredNode, now: Now, registry: &Registry) -> Standing {
    // It does not run what others place.
    if node.capacity == Resources::default() {
        return Standing::Gone;
    }
    let (_, Some(session)) = registry.session(name) else { return Standing::Closed };
    match session_standing(registry, session) {
        Session::Live if registry.config().zones().contains_key(&node.zone) => Standing::Closed,
        Session::Live => Standing::Open,
        Session::Lost | Session::Orphaned => Standing::Closed,
        Session::Dead => {
            let dead_ms = session.dead_since_ms.unwrap_or(u64::MAX);
            let due_ms = dead_ms.saturating_add(registry.config().limits().reschedule_ms);
            let gone = session.withdrawn || due_ms <= milliseconds(now.wall);
            if gone { Standing::Gone } else { Standing::Closed }
        }
    }
}
