//! What people have control do, and what was done.

use std::collections::BTreeMap;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State},
};
use sinew_api::control as api;
use sinew_model::fleet::Generation;

use super::{
    Who,
    answer::{Answer, Failure},
};
use crate::{
    duty::{
        capacity, forgetting, history,
        history::Action,
        liveness, people,
        people::Refused,
        placing,
        plan::Plan,
        rollback::{self, NotUndone},
        zones,
    },
    records::config::Pausable,
    registry::Registry,
    serve::{Done, Handle},
    session::Now,
};

/// The most entries of one answer.
const MOST: usize = history::KEPT;

pub(super) async fn act(
    State(handle): State<Handle>,
    Extension(who): Extension<Who>,
    body: Bytes,
) -> Answer<api::Acted> {
    let api::Act { action, dry_run } =
        serde_json::from_slice(&body).map_err(|error| Failure::invalid("body", &error))?;
    if let api::Request::Rollback { generation } = action {
        return roll_back(&handle, &who, generation, dry_run).await;
    }
    let done = handle.act(&who.0, dry_run, |now, registry| plan(&action, &who, now, registry));
    Ok(Json(api::Acted { done: Some(shown(done.await?)), not_undone: Vec::new() }))
}

fn plan(action: &api::Request, who: &Who, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    match action {
        api::Request::Pause { what, reason } => {
            people::pause(what.parse()?, &who.0, reason, now, registry)
        }
        api::Request::Resume { what } => people::resume(what.parse()?, registry),
        api::Request::Evacuate { zone, reason, force } => {
            zones::evacuate(zone, reason, *force, now, registry)
        }
        api::Request::Return { zone } => zones::bring_back(zone, now, registry),
        api::Request::Place { project } => placing::put(project, &who.0, now, registry),
        api::Request::Unplace { project } => placing::remove(project, now, registry),
        api::Request::Forget { node } => forgetting::forget(node, now, registry),
        api::Request::SetLimits { limits } => people::set_limits(limits, registry),
        api::Request::Rollback { generation } => {
            rollback::plan(*generation, &[], now, registry)?.plan.ok_or_else(nothing_set)
        }
    }
}

fn nothing_set() -> Refused {
    Refused::Nothing { why: "nothing was set since".to_owned() }
}

async fn roll_back(
    handle: &Handle,
    who: &Who,
    generation: Generation,
    dry_run: bool,
) -> Answer<api::Acted> {
    let entries = handle.history(generation, MOST).await?;
    let mut left = Vec::new();
    let done = handle.act(&who.0, dry_run, |now, registry| {
        let rollback = rollback::plan(generation, &entries, now, registry)?;
        left = rollback.not_undone;
        rollback.plan.ok_or_else(nothing_set)
    });
    let done = match done.await {
        Err(crate::serve::NotDone::Refused(Refused::Nothing { .. })) => None,
        done => Some(shown(done?)),
    };
    let not_undone = left.into_iter().map(|NotUndone { generation, what, why }| api::NotUndone {
        generation,
        what,
        why,
    });
    Ok(Json(api::Acted { done, not_undone: not_undone.collect() }))
}

fn shown(done: Done) -> api::Entry {
    entry(done.generation, done.action)
}

fn entry(generation: Option<Generation>, action: Action) -> api::Entry {
    let rule = serde_json::to_value(action.rule);
    let rule = rule.ok().and_then(|rule| rule.as_str().map(str::to_owned)).unwrap_or_default();
    let diff = action.diff.into_iter().map(|it| api::Diff {
        key: it.key,
        before: it.before,
        after: it.after,
    });
    let radius = action.radius.into_iter().map(|(zone, it)| {
        let (hosts, endpoints, services) = (it.hosts, it.endpoints, it.services);
        (zone, api::ZoneRadius { hosts, endpoints, services })
    });
    api::Entry {
        generation,
        when_ms: action.when_ms,
        who: action.who,
        rule,
        words: action.words,
        inputs: action.inputs,
        computed_from: action.computed_from,
        duty: action.duty,
        diff: diff.collect(),
        radius: radius.collect(),
    }
}

pub(super) async fn list(
    State(handle): State<Handle>,
    Path((after, limit)): Path<(u64, usize)>,
) -> Answer<Vec<api::Entry>> {
    let entries = handle.history(Generation(after), limit.min(MOST)).await?;
    let shown = |it: history::Entry| entry(Some(it.generation), it.action);
    Ok(Json(entries.into_iter().map(shown).collect()))
}

pub(super) async fn placement(State(handle): State<Handle>) -> Answer<Vec<api::Placed>> {
    let seen = handle.shared.seen();
    let now = handle.shared.now();
    let registry = handle.shared.registry();
    let unplaced = placing::unplaced(now, &registry);
    let mut hosts = registry.placed().placement();
    let placed = registry.placed().projects().iter().flat_map(|(project, (_, stored))| {
        stored.services.iter().map(move |(service, it)| (project, service, it.replicas))
    });
    let placed = placed.map(|(project, service, wanted)| {
        let refused = seen.iter().filter_map(|(node, seen)| {
            seen.refused.get(service).map(|reason| (node.clone(), reason.clone()))
        });
        api::Placed {
            service: service.clone(),
            project: project.clone(),
            wanted,
            hosts: hosts.remove(service).unwrap_or_default(),
            unplaced: unplaced.get(service).map(ToString::to_string),
            refused: refused.collect(),
        }
    });
    Ok(Json(placed.collect()))
}

pub(super) async fn limits(State(handle): State<Handle>) -> Answer<BTreeMap<String, u64>> {
    let registry = handle.shared.registry();
    let limits = registry.config().limits().each();
    Ok(Json(limits.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

pub(super) async fn overview(State(handle): State<Handle>) -> Answer<api::Overview> {
    let now = handle.shared.now();
    let registry = handle.shared.registry();
    let config = registry.config();
    let duty = config.lead().map(|(revision, lead)| api::Duty {
        control: lead.control.clone(),
        generation: Generation(revision.0),
        since_ms: lead.since_ms,
    });
    let pause = |what: Pausable| {
        let (_, pause) = config.pauses().get(&what)?;
        Some(api::Pause {
            what: what.to_string(),
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            since_ms: pause.since_ms,
        })
    };
    let zones = config.zones().iter().map(|(zone, (_, it))| api::Zone {
        zone: zone.clone(),
        percent: it.percent,
        reason: it.reason.clone(),
        since_ms: it.since_ms,
        returning: it.returning.is_some(),
        stopped: it.returning.as_ref().and_then(|returning| returning.stopped.clone()),
    });
    let frozen = liveness::frozen(now, &registry);
    let trouble = handle.trouble();
    let full = capacity::nearly_full(now, &registry);
    Ok(Json(api::Overview {
        duty,
        frozen: frozen.iter().map(ToString::to_string).collect(),
        pauses: Pausable::EACH.into_iter().filter_map(pause).collect(),
        zones: zones.collect(),
        trouble,
        nearly_full: full.iter().map(ToString::to_string).collect(),
    }))
}
