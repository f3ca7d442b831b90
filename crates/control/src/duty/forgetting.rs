//! Hosts that are gone for good: nothing of them stays, and their slice is free after a while.
//!
//! Its certificate is of no use from then on: who comes back joins anew, and gets another slice.

use sinew_identity::Role;
use sinew_model::NodeName;

use super::{
    people::Refused,
    plan::{Change, Plan, Rule, of_host},
};
use crate::{
    identity::records::holder_key,
    records::{Key, StoredSlice},
    registry::Registry,
    session::{Now, milliseconds},
    store::Op,
};

/// Forgets a host that is dead, and of which nothing is left to remove.
///
/// # Errors
/// When it is not.
pub fn forget(node: &NodeName, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    let (revision, session) = registry.session(node);
    let session = session.ok_or_else(|| Refused::NoHost { node: node.clone() })?;
    if session.dead_since_ms.is_none() {
        return Err(Refused::Alive { node: node.clone() });
    }
    let services = registry.services_of(node).count();
    if services > 0 {
        return Err(Refused::Remains { node: node.clone(), services });
    }
    let words = format!("host {node} is forgotten: it is gone for good");
    let before = (revision, session.clone());
    let change = Change::new(Key::Session(node.clone()), Some(&before), None);
    let mut plan = Plan::new(Rule::Forget, registry, words).with(change).input("host", node);
    plan.touch(registry.zone(node), &of_host(registry, node));
    let (revision, stored) = registry.node(node);
    if let Some(stored) = stored {
        let before = (revision, stored.clone());
        plan.changes.push(Change::new(Key::Node(node.clone()), Some(&before), None));
    }
    if let Some(slice) = registry.given_slice(node) {
        let before = (slice.revision, StoredSlice::Given(node.clone()));
        let after = StoredSlice::Free { last: node.clone(), since_ms: milliseconds(now.wall) };
        plan.changes.push(Change::new(Key::Slice(slice.index), Some(&before), Some(&after)));
    }
    if let Some(assigned) = registry.placed().assigned().get(node) {
        plan.changes.push(Change::new(Key::Assigned(node.clone()), Some(assigned), None));
    }
    plan.quietly(Op::delete(holder_key(&Role::Node(node.clone()))));
    Ok(plan)
}

/// Forgets a host that has been dead for long enough; `None`: there is none.
#[must_use]
pub fn due(now: Now, registry: &Registry) -> Option<Plan> {
    let forget_ms = registry.config().limits().forget_ms;
    let now_ms = milliseconds(now.wall);
    registry.sessions().find_map(|(node, _, session)| {
        let due_ms = session.dead_since_ms?.saturating_add(forget_ms);
        let plan = (due_ms <= now_ms).then(|| forget(node, now, registry).ok()).flatten()?;
        Some(plan.input("forget_ms", forget_ms))
    })
}
