//! Zones that get less than their share of new connections: taken out at once, brought back by steps.
//!
//! A zone that comes back gets 10 %, 25 %, 50 %, then all. After each step the next waits for the
//! zone to be as well as it was when the step began: as many endpoints up, no more of them unhealthy,
//! none removed and no host gone. Else it stops there, and says so, until somebody has it go on. How
//! far it is lies in the store, so another replica goes on with it.

use sinew_model::{
    ZoneName,
    fleet::{EndpointStatus, Generation, Removal},
};

use super::{
    liveness::{Standing, standing},
    people::Refused,
    plan::{Change, Plan, Rule, of_zone},
};
use crate::{
    records::{
        Key,
        config::{StoredReturn, StoredZone},
    },
    registry::Registry,
    session::{Now, milliseconds},
};

/// The share of a zone that comes back, step by step.
const STEPS: [u8; 4] = [10, 25, 50, 100];

/// How many services a refusal names.
const NAMED: usize = 5;

/// Takes a zone out: nothing new goes there. `force`: though others may not carry it.
///
/// # Errors
/// When that is not done without force, or the zone is out already.
pub fn evacuate(
    zone: &ZoneName,
    reason: &str,
    force: bool,
    now: Now,
    registry: &Registry,
) -> Result<Plan, Refused> {
    check_zone(zone, registry)?;
    let zones = registry.config().zones();
    let before = zones.get(zone);
    if before.is_some_and(|(_, it)| it.percent == 0 && it.returning.is_none()) {
        return Err(Refused::Nothing { why: format!("zone {zone} is evacuated already") });
    }
    if !force {
        if let Some((other, (_, limited))) = zones.iter().find(|(other, _)| *other != zone) {
            let (other, percent) = (other.clone(), limited.percent);
            return Err(Refused::AnotherZone { zone: zone.clone(), other, percent });
        }
        let needed = needing(zone, registry);
        if !needed.is_empty() {
            let (of, needed) = (needed.len(), needed.into_iter().take(NAMED).collect());
            return Err(Refused::Needed { zone: zone.clone(), of, needed });
        }
    }
    let after = StoredZone {
        percent: 0,
        since_ms: milliseconds(now.wall),
        reason: reason.to_owned(),
        returning: None,
    };
    let words = format!("zone {zone} is evacuated: new connections go elsewhere");
    let change = Change::new(Key::Zone(zone.clone()), before, Some(&after));
    let mut plan = Plan::new(Rule::Evacuate, registry, words)
        .with(change)
        .input("zone", zone)
        .input("force", force);
    plan.touch(Some(zone), &of_zone(registry, zone));
    Ok(plan)
}

/// Has a zone come back by steps, or go on where it stopped.
///
/// # Errors
/// When it is not out.
pub fn bring_back(zone: &ZoneName, now: Now, registry: &Registry) -> Result<Plan, Refused> {
    check_zone(zone, registry)?;
    let Some(before) = registry.config().zones().get(zone) else {
        return Err(Refused::Nothing { why: format!("zone {zone} has all of its share") });
    };
    let returning = before.1.returning.as_ref();
    if returning.is_some_and(|it| it.stopped.is_none()) {
        let why = format!("zone {zone} is on its way back, at {} %", before.1.percent);
        return Err(Refused::Nothing { why });
    }
    let percent = before.1.percent.max(STEPS[0]);
    let words = format!("zone {zone} comes back: it gets {percent} % of its share");
    Ok(at_step(Rule::Return, zone, before, Some(percent), None, words, now, registry))
}

/// The next step of a zone that comes back, or its stop; `None`: none is due.
#[must_use]
pub fn step(now: Now, registry: &Registry) -> Option<Plan> {
    let limits = registry.config().limits();
    registry.config().zones().iter().find_map(|(zone, before)| {
        let returning = before.1.returning.as_ref().filter(|it| it.stopped.is_none())?;
        let due_ms = before.1.since_ms.saturating_add(limits.return_step_ms);
        (due_ms <= milliseconds(now.wall)).then_some(())?;
        if let Some(why) = unwell(zone, returning, registry) {
            let words =
                format!("zone {zone} stops on its way back at {} %: {why}", before.1.percent);
            let percent = Some(before.1.percent);
            let rule = Rule::ReturnStopped;
            return Some(at_step(rule, zone, before, percent, Some(why), words, now, registry));
        }
        let next = STEPS.into_iter().find(|percent| *percent > before.1.percent)?;
        let words = format!("zone {zone} is well at {} %: it gets {next} %", before.1.percent);
        let percent = (next < 100).then_some(next);
        Some(at_step(Rule::ReturnStep, zone, before, percent, None, words, now, registry))
    })
}

/// `percent`: none is all of its share.
#[allow(clippy::too_many_arguments, reason = "all of a step, named by its callers")]
fn at_step(
    rule: Rule,
    zone: &ZoneName,
    before: &(crate::store::Revision, StoredZone),
    percent: Option<u8>,
    stopped: Option<String>,
    words: String,
    now: Now,
    registry: &Registry,
) -> Plan {
    let health = Health::of(zone, registry);
    let after = percent.map(|percent| StoredZone {
        percent,
        since_ms: milliseconds(now.wall),
        reason: before.1.reason.clone(),
        returning: Some(StoredReturn {
            generation: Generation(registry.revision().0),
            up: health.up,
            unhealthy: health.unhealthy,
            stopped,
        }),
    });
    let change = Change::new(Key::Zone(zone.clone()), Some(before), after.as_ref());
    let mut plan = Plan::new(rule, registry, words)
        .with(change)
        .input("zone", zone)
        .input("up", health.up)
        .input("unhealthy", health.unhealthy);
    plan.touch(Some(zone), &of_zone(registry, zone));
    plan
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    up: u32,
    unhealthy: u32,
}

impl Health {
    fn of(zone: &ZoneName, registry: &Registry) -> Self {
        let mut health = Self::default();
        let hosts = registry.services().flat_map(|service| registry.hosts_of(service));
        for endpoint in hosts.flat_map(|(_, endpoints)| endpoints.values()) {
            if endpoint.zone == *zone {
                health.up += u32::from(endpoint.status == EndpointStatus::Up);
                health.unhealthy += u32::from(endpoint.status == EndpointStatus::Unhealthy);
            }
        }
        health
    }
}

/// Why a zone is not as well as when its step began.
fn unwell(zone: &ZoneName, then: &StoredReturn, registry: &Registry) -> Option<String> {
    let here = |node| registry.zone(node) == Some(zone);
    let gone = registry.sessions().find(|(node, _, session)| {
        here(node) && matches!(standing(registry, session), Standing::Lost | Standing::Orphaned)
    });
    if let Some((node, ..)) = gone {
        return Some(format!("host {node} has no session"));
    }
    let health = Health::of(zone, registry);
    if health.unhealthy > then.unhealthy {
        let (now, then) = (health.unhealthy, then.unhealthy);
        return Some(format!("{now} endpoints are unhealthy, {then} were"));
    }
    if health.up < then.up {
        return Some(format!("{} endpoints are up, {} were", health.up, then.up));
    }
    let graves = registry.services().flat_map(|service| registry.graves(service));
    let removed = graves
        .filter(|it| it.generation > then.generation && here(&it.key.node))
        .filter(|it| it.stored.removal != Removal::Reported)
        .count();
    (removed > 0).then(|| format!("{removed} endpoints were removed"))
}

/// Services of which more than half of what is up is there.
fn needing(zone: &ZoneName, registry: &Registry) -> Vec<String> {
    let needs = |service: &&sinew_model::ServiceName| {
        let all = registry.hosts_of(service).filter(|(node, _)| !registry.is_dead(node));
        let up = all.flat_map(|(_, endpoints)| endpoints.values());
        let up = up.filter(|endpoint| endpoint.status == EndpointStatus::Up);
        let (mut here, mut of) = (0, 0);
        for endpoint in up {
            of += 1;
            here += usize::from(endpoint.zone == *zone);
        }
        here * 2 > of
    };
    registry.services().filter(needs).map(ToString::to_string).collect()
}

fn check_zone(zone: &ZoneName, registry: &Registry) -> Result<(), Refused> {
    let known: std::collections::BTreeSet<_> =
        registry.sessions().filter_map(|(node, ..)| registry.zone(node)).collect();
    if known.contains(zone) || registry.config().zones().contains_key(zone) {
        return Ok(());
    }
    let known = known.into_iter().map(ToString::to_string).collect();
    Err(Refused::NoZone { zone: zone.clone(), known })
}
