//! Hosts: what they say of themselves, their sessions, and how they keep up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use sinew_api::control::{Behind, Done, KeepsUp, Node, Session, Told};
use sinew_identity::Moment;
use sinew_model::NodeName;
use tokio::time::timeout;

use super::{
    Who,
    answer::{Answer, Failure},
};
use crate::{
    duty::removal,
    identity::Error,
    records::{Key, StoredNode, StoredSession},
    registry::Registry,
    serve::{Handle, NotDone, Seen},
    store::{Op, Transaction},
};

/// With a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn list(State(handle): State<Handle>) -> Answer<Vec<Node>> {
    // That alone is not in memory; while the store is away, the overview says so.
    let withdrawn = match timeout(PATIENCE, handle.shared.authority.withdrawn()).await {
        Ok(Err(Error::Store(_))) | Err(_) => BTreeMap::new(),
        Ok(withdrawn) => withdrawn?,
    };
    let seen = handle.shared.seen();
    let registry = handle.shared.registry();
    let names: BTreeSet<&NodeName> =
        registry.sessions().map(|(node, ..)| node).chain(withdrawn.keys()).collect();
    let node = |name: &NodeName| Node {
        name: name.clone(),
        told: registry.node(name).1.map(told),
        session: registry.session(name).1.map(|session| shown(session, &registry)),
        keeps_up: seen.get(name).and_then(|seen| keeps_up(seen, &registry)),
        withdrawn_s: withdrawn.get(name).map(|at| at.0),
    };
    Ok(Json(names.into_iter().map(node).collect()))
}

fn told(node: &StoredNode) -> Told {
    Told {
        zone: node.zone.clone(),
        labels: node.labels.clone(),
        version: node.version.clone(),
        address4: node.address4,
        address6: node.address6,
        instances4: node.instances4,
        instances6: node.instances6,
        first_seen_ms: node.first_seen_ms,
    }
}

fn shown(session: &StoredSession, registry: &Registry) -> Session {
    Session {
        control: session.control.clone(),
        epoch: session.epoch,
        since_ms: session.since_ms,
        lost_since_ms: session.lost_since_ms,
        dead_since_ms: session.dead_since_ms,
        control_runs: registry.config().controls().contains(&session.control),
    }
}

/// A session that is not open says nothing.
fn keeps_up(seen: &Seen, registry: &Registry) -> Option<KeepsUp> {
    seen.epoch?;
    let mut keeps_up = KeepsUp::default();
    for service in &seen.subscribed {
        let has = seen.acked.get(service).copied();
        let newest = registry.newest(service);
        if has.is_some_and(|has| has >= newest) {
            keeps_up.current += 1;
            continue;
        }
        let refused = seen.nacked.get(service).map(|(_, reason)| reason.clone());
        keeps_up.behind.insert(service.clone(), Behind { has, newest, refused });
    }
    Some(keeps_up)
}

pub(super) async fn withdraw(
    State(handle): State<Handle>,
    Extension(who): Extension<Who>,
    Path(node): Path<String>,
) -> Answer<Done> {
    let node: NodeName = node.parse().map_err(|error| Failure::invalid("node", &error))?;
    handle.shared.authority.withdraw(&node, Moment::now()).await?;
    // What it ran goes with it; one that never had a session ran nothing.
    let plan = |now, registry: &Registry| removal::withdraw(&node, now, registry);
    match handle.act(&who.0, false, plan).await {
        Ok(_) | Err(NotDone::Refused(_)) => (),
        Err(error) => return Err(error.into()),
    }
    // Its slice stays its own: it may come back.
    let forget = Transaction::new().then(Op::delete(Key::Node(node.clone()).bytes()));
    handle.store().commit(forget).await.map_err(Error::from)?;
    tracing::warn!(%node, "a host was withdrawn from the network");
    Ok(Json(Done {}))
}
