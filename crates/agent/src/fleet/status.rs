//! This host's membership in the API's words.

use std::time::Instant;

use sinew_api::{CertificateStatus, Doubtful, FleetStatus, RefusedService, SessionStatus};
use sinew_identity::{Due, Life, Moment};

use super::{member::Member, mirror::Doubt};

/// What the task knows; the rest is the data path's.
pub(crate) type Status = FleetStatus;

pub(super) fn of(
    member: &Member,
    now: Instant,
    certificate: Option<CertificateStatus>,
) -> FleetStatus {
    let (joined, known, mirror) = (member.joined(), member.known(), member.mirror());
    let around = member.around();
    let zone_of = |node| known.hosts().all().get(node).map(|host| host.zone.clone());
    let hosts = around.fleet.peers.keys();
    let subscribed: std::collections::BTreeMap<_, _> =
        mirror.known().map(|(service, generation)| (service.clone(), generation)).collect();
    FleetStatus {
        node: joined.node.clone(),
        zone: joined.zone.clone(),
        control: joined.control.clone(),
        addresses: around.own,
        slices: around.fleet.slices,
        session: member.session().map(|session| SessionStatus {
            control: session.control.clone(),
            epoch: session.epoch,
            open_s: now.saturating_duration_since(session.since).as_secs(),
        }),
        lost: member.lost().map(str::to_owned),
        revision: subscribed.values().copied().max().unwrap_or_default().max(known.revision()),
        hosts: hosts.filter_map(|node| Some((node.clone(), zone_of(node)?))).collect(),
        names: known.names().len(),
        subscribed,
        doubts: mirror
            .doubts()
            .map(|(service, key, doubt)| Doubtful {
                service: service.clone(),
                endpoint: key.to_string(),
                why: doubted(doubt).to_owned(),
            })
            .collect(),
        refused: member
            .refused()
            .iter()
            .map(|(service, (generation, reason))| RefusedService {
                service: service.clone(),
                generation: *generation,
                reason: reason.clone(),
            })
            .collect(),
        limited_zones: around.limited,
        certificate,
        notices: lists_in_doubt(known.doubted()).into_iter().chain(held(member)).collect(),
    }
}

fn lists_in_doubt((hosts, names): (usize, usize)) -> Vec<String> {
    let all = [(hosts, "hosts"), (names, "names of services")].into_iter();
    let some = all.filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what} may be gone and are kept in use")).collect()
}

fn held(member: &Member) -> impl Iterator<Item = String> {
    member.held().iter().map(|(service, reason)| {
        format!("control did not take all that was reported of {service}: {reason}")
    })
}

fn doubted(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Missing => "it is missing from what control tells, without a reason",
        Doubt::NodeDead => "its host was declared dead, with too many others at once",
    }
}

/// The certificate, and what is wrong with it.
pub(super) fn certificate(
    life: Life,
    now: Moment,
    jitter: f64,
    unrenewed: Option<String>,
) -> CertificateStatus {
    CertificateStatus {
        until: life.not_after.to_string(),
        until_s: life.not_after.0,
        alarm: unrenewed.or_else(|| words(life.due(now, jitter))),
    }
}

/// What people have to know of a certificate of that age.
pub(super) fn words(due: Due) -> Option<String> {
    match due {
        Due::Fine { .. } | Due::Renew => None,
        Due::Alarm { left } => Some(format!(
            "this host's certificate expires in {} s and could not be renewed; running traffic goes on \
             then, but changes of other hosts are not heard",
            left.as_secs()
        )),
        Due::Expired { by } => Some(format!(
            "this host's certificate expired {} s ago: running traffic goes on, changes of other hosts \
             are not heard; join again with `sinew agent --token TOKEN` and a fresh token",
            by.as_secs()
        )),
        Due::NotYetValid { by } => Some(format!(
            "this host's certificate holds in {} s only: its clock is behind that of control; set it",
            by.as_secs()
        )),
    }
}
