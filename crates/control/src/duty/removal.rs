//! What goes with a dead host, and how much of it at once.
//!
//! **The cap.** Of a service, in an interval (10 s), the control plane removes
//! - all endpoints of one dead host, when none of another host were removed in the interval and the
//!   service is up on a host that is alive;
//! - else at most 10 % of its endpoints, and at least one.
//!
//! So of three hosts the one that dies leaves at once, and when several vanish no more goes than one
//! of them holds, or the cap, until the interval is over. What goes is marked in its tombstone, so
//! that whoever removes next counts it.

use serde_json::json;
use sinew_model::{
    NodeName, ServiceName,
    fleet::{EndpointKey, EndpointStatus, Removal},
};

use super::{
    liveness::{Standing, standing},
    people::Refused,
    plan::{Change, Plan, Rule, Touched, of_host},
};
use crate::{
    records::{Key, StoredEndpoints, StoredTombstone, write as encode},
    registry::Registry,
    session::{Now, milliseconds},
    store::{Op, Revision},
};

/// Tombstones of one write.
const MAX_OPS: usize = 60;

/// Declares a host dead whose session is that one.
#[must_use]
pub fn declare(node: &NodeName, at: Revision, now: Now, registry: &Registry) -> Option<Plan> {
    let (revision, session) = registry.session(node);
    let before = session.filter(|it| revision == at && it.dead_since_ms.is_none())?;
    let mut after = before.clone();
    after.dead_since_ms = Some(milliseconds(now.wall));
    let words = match standing(registry, before) {
        Standing::Orphaned => {
            format!("host {node} is dead: its replica of control is gone, and it came to no other")
        }
        _ => format!("host {node} is dead: it was not heard of for the session time-out"),
    };
    let key = Key::Session(node.clone());
    let change = Change::new(key, Some(&(revision, before.clone())), Some(&after));
    let timeout = registry.config().limits().session_timeout_ms;
    let mut plan = Plan::new(Rule::HostDead, registry, words)
        .with(change)
        .input("host", node)
        .input("session_timeout_ms", timeout)
        .input("control", &before.control);
    plan.touch(registry.zone(node), &of_host(registry, node));
    Some(plan)
}

/// Has a person take a host out: what is left of its session ends, and all of it goes.
///
/// # Errors
/// When there is nothing to take out.
pub fn withdraw(node: &NodeName, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    let (revision, session) = registry.session(node);
    let before = session.ok_or_else(|| Refused::NoHost { node: node.clone() })?;
    if before.withdrawn {
        return Err(Refused::Nothing { why: format!("host {node} is taken out already") });
    }
    let mut after = before.clone();
    after.dead_since_ms = Some(milliseconds(now.wall));
    after.withdrawn = true;
    let key = Key::Session(node.clone());
    let change = Change::new(key, Some(&(revision, before.clone())), Some(&after));
    let words = format!("host {node} is taken out");
    let mut plan = Plan::new(Rule::Withdraw, registry, words).with(change).input("host", node);
    plan.touch(registry.zone(node), &of_host(registry, node));
    Ok(plan)
}

/// Removes what may go now of a dead host; `None`: nothing.
#[must_use]
pub fn bury(node: &NodeName, now: Now, registry: &Registry) -> Option<Plan> {
    let (revision, session) = registry.session(node);
    let session = session.filter(|session| session.dead_since_ms.is_some())?;
    let withdrawn = session.withdrawn;
    let now_ms = milliseconds(now.wall);
    let mut plan = Plan::new(Rule::RemoveDead, registry, String::new())
        .guarded(Key::Session(node.clone()), revision)
        .input("host", node)
        .input("removal_cap_percent", registry.config().limits().removal_cap_percent);
    let mut services = 0;
    for service in registry.services_of(node) {
        let room = MAX_OPS.saturating_sub(plan.len() + 2);
        let may = if withdrawn { room } else { allowed(service, node, now_ms, registry).min(room) };
        let tombstone = StoredTombstone {
            removal: if withdrawn { Removal::Withdrawn } else { Removal::NodeDead },
            at_ms: now_ms,
            capped: !withdrawn,
        };
        if let Some(change) = bury_service(service, node, may, tombstone, registry, &mut plan) {
            services += 1;
            plan.changes.push(change);
        }
        let stored = registry.of_node(service, node).endpoints.map_or(0, StoredEndpoints::len);
        if room > 0 && stored <= may {
            plan.changes.extend(leave(service, node, registry));
        }
    }
    if plan.changes.is_empty() {
        return None;
    }
    let endpoints = plan.quiet_ops();
    plan.words = match endpoints {
        0 => format!("dead host {node} offers nothing any more"),
        _ => format!("{endpoints} endpoints of dead host {node} go, of {services} services"),
    };
    plan.touch(registry.zone(node), &Touched { hosts: 1, endpoints, services });
    Some(plan)
}

/// The change of one service's endpoints on a host; the tombstones are added to the plan.
fn bury_service(
    service: &ServiceName,
    node: &NodeName,
    may: usize,
    tombstone: StoredTombstone,
    registry: &Registry,
    plan: &mut Plan,
) -> Option<Change> {
    let of = registry.of_node(service, node);
    let stored = of.endpoints.filter(|stored| !stored.is_empty() && may > 0)?;
    let mut next = stored.clone();
    for instance in stored.keys().take(may) {
        next.remove(instance);
        let endpoint = EndpointKey { node: node.clone(), instance: *instance };
        let key = Key::Tombstone(service.clone(), endpoint);
        plan.quietly(Op::put(key.bytes(), encode(&tombstone)));
    }
    let instances = |endpoints: &StoredEndpoints| {
        let there: Vec<_> = endpoints.keys().collect();
        (!there.is_empty()).then(|| json!({ "instances": there }))
    };
    let (before, after) = (instances(stored), instances(&next));
    let next = (!next.is_empty()).then_some(&next);
    let key = Key::Endpoints(service.clone(), node.clone());
    let held = (of.revision, stored.clone());
    Some(Change::new(key, Some(&held), next).showing(before, after))
}

/// A host whose last endpoint of a service is gone has no word in what that is.
fn leave(service: &ServiceName, node: &NodeName, registry: &Registry) -> Option<Change> {
    let owned = registry.of_node(service, node).owned?;
    let mut next = owned.service.clone();
    if !next.leave(node) {
        return None;
    }
    let before = (owned.revision, owned.service.clone());
    let changed = next.record != before.1.record;
    let change = Change::new(Key::Service(service.clone()), Some(&before), Some(&next));
    let gone = (Some(json!({ "offered_by": node })), None);
    Some(if changed { change } else { change.showing(gone.0, gone.1) })
}

/// How many endpoints of a service may go with a dead host now.
fn allowed(service: &ServiceName, node: &NodeName, now_ms: u64, registry: &Registry) -> usize {
    let limits = registry.config().limits();
    let lately = registry.removed_lately(service, now_ms);
    let of_others = registry.removed_lately_of(service, now_ms, |key| key.node != *node);
    let serves = |(other, endpoints): (&NodeName, &StoredEndpoints)| {
        let up = endpoints.values().any(|endpoint| endpoint.status == EndpointStatus::Up);
        up && other != node && is_live(other, registry)
    };
    if of_others == 0 && registry.hosts_of(service).any(serves) {
        return usize::MAX;
    }
    let all = registry.endpoints(service) + lately;
    limits.removal_cap(all).saturating_sub(lately)
}

fn is_live(node: &NodeName, registry: &Registry) -> bool {
    let session = registry.session(node).1;
    session.is_some_and(|session| standing(registry, session) == Standing::Live)
}
