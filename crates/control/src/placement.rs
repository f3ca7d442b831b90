//! On which hosts the replicas of services run. A pure function: hosts, services and what was decided
//! before go in, and what is to run where comes out.
//!
//! What is placed stays, unless its host is gone, no longer matches, or no longer has room: a host
//! that joins moves nothing. What is missing goes to the zone that has the fewest replicas of the
//! service, there to the host that has the fewest, and among those to the one with the most room.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use sinew_model::{NodeName, ServiceName, ZoneName, fleet::Resources};

/// Replicas by service and host; none of them is 0.
pub type Placement = BTreeMap<ServiceName, BTreeMap<NodeName, u16>>;

/// Whether a host may run something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes more.
    Open,
    /// It keeps what it has and takes no more: its session is lost, or its zone is evacuated.
    Closed,
    /// What it had is placed elsewhere.
    Gone,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it is.
    pub zone: ZoneName,
    /// Its words.
    pub labels: BTreeMap<String, String>,
    /// What it has.
    pub capacity: Resources,
    /// Whether it may run something.
    pub standing: Standing,
}

/// What is wanted of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many.
    pub replicas: u16,
    /// What one takes; nothing: it is not declared.
    pub each: Resources,
    /// Words that its hosts have.
    pub labels: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is to run where.
    pub placement: Placement,
    /// Replicas that have no place.
    pub unplaced: BTreeMap<ServiceName, Unplaced>,
}

/// Replicas that have no place, and what the hosts lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unplaced {
    /// How many.
    pub replicas: u16,
    /// Hosts that are gone or take no more.
    pub closed: usize,
    /// Hosts that lack a label.
    pub unlike: usize,
    /// Hosts without the room.
    pub full: usize,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replicas, closed, unlike, full } = self;
        write!(
            f,
            "replicas without a place: {replicas}; of the hosts {full} lack the room, {unlike} a label, and {closed} take no more"
        )
    }
}

/// Decides where everything runs. Services come in the order of their names: when room is short, it is
/// the later ones that lack it.
#[must_use]
pub fn place(
    nodes: &BTreeMap<NodeName, Node>,
    demands: &BTreeMap<ServiceName, Demand>,
    current: &Placement,
) -> Plan {
    let mut room: BTreeMap<&NodeName, Resources> =
        nodes.iter().map(|(name, node)| (name, node.capacity)).collect();
    let mut plan = Plan::default();
    // All that stays first: what is missing elsewhere pushes nothing out.
    for (service, demand) in demands {
        let kept = keep(nodes, demand, current.get(service), &mut room);
        plan.placement.insert(service.clone(), kept);
    }
    for (service, demand) in demands {
        let Some(placed) = plan.placement.get_mut(service) else { continue };
        let missing = demand.replicas.saturating_sub(placed.values().sum());
        for left in (1..=missing).rev() {
            let Some(node) = choose(service, demand, nodes, placed, &room) else {
                let unplaced = lacking(left, demand, nodes, &room);
                plan.unplaced.insert(service.clone(), unplaced);
                break;
            };
            *placed.entry(node.clone()).or_default() += 1;
            room.entry(node).and_modify(|room| *room = room.without(demand.each));
        }
    }
    plan.placement.retain(|_, placed| !placed.is_empty());
    plan
}

/// What of a service stays where it is, as many as are wanted.
fn keep<'a>(
    nodes: &'a BTreeMap<NodeName, Node>,
    demand: &Demand,
    current: Option<&BTreeMap<NodeName, u16>>,
    room: &mut BTreeMap<&'a NodeName, Resources>,
) -> BTreeMap<NodeName, u16> {
    let mut kept = BTreeMap::new();
    for (name, replicas) in current.into_iter().flatten() {
        let Some((name, node)) = nodes.get_key_value(name) else { continue };
        if node.standing == Standing::Gone || !demand.matches(node) {
            continue;
        }
        let Some(room) = room.get(name) else { continue };
        let stays = (*replicas).min(room.fits(demand.each));
        if stays > 0 {
            kept.insert(name.clone(), stays);
        }
    }
    let mut excess = kept.values().sum::<u16>().saturating_sub(demand.replicas);
    while excess > 0 {
        // The last of the fullest zone's fullest host goes.
        let zones = by_zone(nodes, &kept);
        let fullest =
            kept.iter().max_by_key(|(name, replicas)| (zones[&nodes[*name].zone], **replicas));
        let Some(name) = fullest.map(|(name, _)| name.clone()) else { break };
        take_one(&mut kept, &name);
        excess -= 1;
    }
    for (name, replicas) in &kept {
        let taken = demand.each.times(*replicas);
        if let Some((name, _)) = nodes.get_key_value(name) {
            room.entry(name).and_modify(|room| *room = room.without(taken));
        }
    }
    kept
}

fn take_one(placed: &mut BTreeMap<NodeName, u16>, name: &NodeName) {
    if let Some(replicas) = placed.get_mut(name) {
        *replicas -= 1;
        if *replicas == 0 {
            placed.remove(name);
        }
    }
}

/// Replicas of a service by zone.
fn by_zone<'a>(
    nodes: &'a BTreeMap<NodeName, Node>,
    placed: &BTreeMap<NodeName, u16>,
) -> BTreeMap<&'a ZoneName, u16> {
    let mut zones = BTreeMap::new();
    for (name, replicas) in placed {
        if let Some(node) = nodes.get(name) {
            *zones.entry(&node.zone).or_default() += replicas;
        }
    }
    zones
}

/// The host that gets the next replica.
fn choose<'a>(
    service: &ServiceName,
    demand: &Demand,
    nodes: &'a BTreeMap<NodeName, Node>,
    placed: &BTreeMap<NodeName, u16>,
    room: &BTreeMap<&NodeName, Resources>,
) -> Option<&'a NodeName> {
    let zones = by_zone(nodes, placed);
    let open = nodes.iter().filter(|(name, node)| {
        node.standing == Standing::Open
            && demand.matches(node)
            && room.get(name).is_some_and(|room| room.fits(demand.each) > 0)
    });
    let least = open.min_by_key(|(name, node)| {
        let of_zone = zones.get(&node.zone).copied().unwrap_or(0);
        let of_node = placed.get(*name).copied().unwrap_or(0);
        let used = room.get(name).map_or(u64::MAX, |room| room.used_of(node.capacity));
        (of_zone, of_node, used, tie(service, name))
    });
    least.map(|(name, _)| name)
}

/// Which of equal hosts comes first differs from service to service.
fn tie(service: &ServiceName, node: &NodeName) -> u64 {
    let mut hasher = DefaultHasher::new();
    (service, node).hash(&mut hasher);
    hasher.finish()
}

fn lacking(
    replicas: u16,
    demand: &Demand,
    nodes: &BTreeMap<NodeName, Node>,
    room: &BTreeMap<&NodeName, Resources>,
) -> Unplaced {
    let mut unplaced = Unplaced { replicas, ..Unplaced::default() };
    for (name, node) in nodes {
        if node.standing != Standing::Open {
            unplaced.closed += 1;
        } else if !demand.matches(node) {
            unplaced.unlike += 1;
        } else if room.get(name).is_none_or(|room| room.fits(demand.each) == 0) {
            unplaced.full += 1;
        }
    }
    unplaced
}

impl Demand {
    fn matches(&self, node: &Node) -> bool {
        self.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    }
}

/// Services of which something changed, with what changed on each host: before and after.
#[must_use]
pub fn moves(
    before: &Placement,
    after: &Placement,
) -> BTreeMap<ServiceName, BTreeMap<NodeName, (u16, u16)>> {
    let none = BTreeMap::new();
    let services: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = services.into_iter().filter_map(|service| {
        let old = before.get(service).unwrap_or(&none);
        let new = after.get(service).unwrap_or(&none);
        let nodes: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let of = |placed: &BTreeMap<NodeName, u16>, node| placed.get(node).copied().unwrap_or(0);
        let nodes: BTreeMap<_, _> = nodes
            .into_iter()
            .map(|node| (node.clone(), (of(old, node), of(new, node))))
            .filter(|(_, (old, new))| old != new)
            .collect();
        (!nodes.is_empty()).then(|| (service.clone(), nodes))
    });
    changed.collect()
}

#[cfg(test)]
mod tests;
