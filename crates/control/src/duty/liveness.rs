//! Which hosts are dead: by when they were heard of last, and not while that may be a mistake.
//!
//! All times are this process's own: what another clock shows is never compared with them. What was
//! not seen happen is taken to have happened now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use sinew_model::{NodeName, ZoneName};

use crate::{
    records::{Key, StoredSession, config::Limits},
    registry::Registry,
    session::Now,
    store::Revision,
};

/// Hosts that were declared dead so lately count among those that are gone at once.
const MASS_WINDOW: Duration = Duration::from_secs(60);
/// A duty that did not look for so long does not know what it missed.
const LONGEST_BLINK: Duration = Duration::from_secs(2);

/// How a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has a session.
    Live,
    /// Its session ended.
    Lost,
    /// The replica that had its session is gone.
    Orphaned,
    /// It was declared dead.
    Dead,
}

/// How a host stands, as its session says.
#[must_use]
pub fn standing(registry: &Registry, session: &StoredSession) -> Standing {
    if session.dead_since_ms.is_some() {
        Standing::Dead
    } else if session.lost_since_ms.is_some() {
        Standing::Lost
    } else if registry.config().controls().contains(&session.control) {
        Standing::Live
    } else {
        Standing::Orphaned
    }
}

/// Why no host is declared dead, or none of a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frozen {
    /// All hosts, or those of that zone.
    pub zone: Option<ZoneName>,
    /// Those that are gone.
    pub gone: usize,
    /// Of so many.
    pub of: usize,
}

impl fmt::Display for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, gone, of } = self;
        write!(f, "{gone} of {of} hosts")?;
        if let Some(zone) = zone {
            write!(f, " of zone {zone}")?;
        }
        f.write_str(" have no session: so many do not die at once, so none is declared dead")
    }
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Hosts to declare dead, with the session that says so.
    pub dead: Vec<(NodeName, Revision)>,
    /// What is frozen.
    pub frozen: Vec<Frozen>,
}

/// A host that has no session.
#[derive(Clone, Copy, Debug)]
struct Gone {
    revision: Revision,
    standing: Standing,
    /// When this was seen.
    noticed: Duration,
    /// When it was heard of last.
    heard: Duration,
}

/// What has been seen of hosts since the duty was taken.
#[derive(Debug)]
pub struct Liveness {
    /// Nobody who was gone then is declared dead before the grace is over.
    grace_from: Duration,
    looked: Duration,
    gone: BTreeMap<NodeName, Gone>,
    /// Zones that were frozen at the last look; `None` is all.
    frozen: BTreeSet<Option<ZoneName>>,
    /// Hosts that are gone or were declared dead lately.
    lately: usize,
    /// Since when a zone is frozen no more.
    thawed: BTreeMap<Option<ZoneName>, Duration>,
}

/// Hosts, and those of them that are gone.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    gone: usize,
    of: usize,
}

impl Census {
    fn count(&mut self, gone: bool) {
        self.of += 1;
        self.gone += usize::from(gone);
    }
}

/// What is frozen now.
#[must_use]
pub fn frozen(now: Now, registry: &Registry) -> Vec<Frozen> {
    masses(census(now, registry), registry.config().limits())
}

/// Of all hosts and of each zone's, those that are gone or were declared dead lately.
fn census(now: Now, registry: &Registry) -> BTreeMap<Option<&ZoneName>, Census> {
    let mut census: BTreeMap<Option<&ZoneName>, Census> = BTreeMap::new();
    for (node, _, session) in registry.sessions() {
        if let Some(since) = session.dead_since_ms {
            let ago = now.wall.saturating_sub(Duration::from_millis(since));
            if ago >= MASS_WINDOW {
                continue;
            }
        }
        let gone = standing(registry, session) != Standing::Live;
        census.entry(None).or_default().count(gone);
        if let Some(zone) = registry.zone(node) {
            census.entry(Some(zone)).or_default().count(gone);
        }
    }
    census
}

fn masses(census: BTreeMap<Option<&ZoneName>, Census>, limits: &Limits) -> Vec<Frozen> {
    let mass = |(zone, census): &(Option<&ZoneName>, Census)| {
        // A zone of one host is gone with that host.
        let several = zone.is_none() || census.gone > 1;
        several && census.gone * 100 > census.of * usize::from(limits.mass_percent)
    };
    let frozen = |(zone, Census { gone, of }): (Option<&ZoneName>, Census)| Frozen {
        zone: zone.cloned(),
        gone,
        of,
    };
    census.into_iter().filter(mass).map(frozen).collect()
}

impl Liveness {
    /// The duty has just been taken.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            grace_from: now,
            looked: now,
            gone: BTreeMap::new(),
            frozen: BTreeSet::new(),
            lately: 0,
            thawed: BTreeMap::new(),
        }
    }

    /// What was known may have been stale: everybody gets the time to come back anew.
    pub fn doubt(&mut self, now: Duration) {
        self.grace_from = self.grace_from.max(now);
    }

    /// Looks who is gone, and for how long.
    pub fn look(&mut self, now: Now, registry: &Registry) -> Found {
        let at = now.monotonic;
        if at.saturating_sub(self.looked) > LONGEST_BLINK {
            self.doubt(at);
        }
        self.looked = at;
        let limits = registry.config().limits();
        self.notice(at, registry);
        let frozen = self.freeze(now, registry);
        let suspects = self.suspects(registry);
        let due = |(node, gone): (&NodeName, &Gone)| {
            let suspect = registry.session(node).1.is_some_and(|it| suspects.contains(&it.control));
            let held = self.is_frozen(registry.zone(node))
                || self.due(gone, suspect, registry.zone(node), limits) > at
                || registry.is_poisoned(&Key::Session(node.clone()));
            (!held).then(|| (node.clone(), gone.revision))
        };
        let dead = self.gone.iter().filter_map(due).collect();
        Found { dead, frozen }
    }

    fn notice(&mut self, at: Duration, registry: &Registry) {
        let mut gone = BTreeMap::new();
        for (node, revision, session) in registry.sessions() {
            let standing = standing(registry, session);
            if matches!(standing, Standing::Live | Standing::Dead) {
                continue;
            }
            let known = self.gone.get(node).copied();
            let known = known.filter(|it| it.revision == revision && it.standing == standing);
            let silent = Duration::from_millis(session.silent_ms);
            let heard = at.saturating_sub(silent);
            let new = Gone { revision, standing, noticed: at, heard };
            gone.insert(node.clone(), known.unwrap_or(new));
        }
        self.gone = gone;
    }

    fn freeze(&mut self, now: Now, registry: &Registry) -> Vec<Frozen> {
        let census = census(now, registry);
        self.lately = census.get(&None).map_or(0, |census| census.gone);
        let frozen = masses(census, registry.config().limits());
        let still: BTreeSet<_> = frozen.iter().map(|it| it.zone.clone()).collect();
        for zone in self.frozen.difference(&still) {
            self.thawed.insert(zone.clone(), now.monotonic);
        }
        self.frozen = still;
        frozen
    }

    fn is_frozen(&self, zone: Option<&ZoneName>) -> bool {
        self.frozen.contains(&None)
            || zone.is_some_and(|zone| self.frozen.contains(&Some(zone.clone())))
    }

    /// When a host that is gone counts as dead.
    fn due(
        &self,
        gone: &Gone,
        suspect: bool,
        zone: Option<&ZoneName>,
        limits: &Limits,
    ) -> Duration {
        let timeout = limits.session_timeout();
        let all_again = timeout + limits.reconnect();
        // Its last fifth is for coming back by another way than the one that fell silent.
        let mut due = (gone.heard + timeout).max(gone.noticed + timeout / 5);
        if gone.standing == Standing::Orphaned || suspect {
            due = due.max(gone.noticed + all_again);
        }
        let thawed = |zone: Option<ZoneName>| self.thawed.get(&zone).copied();
        let of_zone = zone.and_then(|zone| thawed(Some(zone.clone())));
        let anew = [Some(self.grace_from), thawed(None), of_zone];
        for from in anew.into_iter().flatten() {
            due = due.max(from + all_again);
        }
        due.max(self.settled(due, timeout))
    }

    /// Replicas that lost most of the sessions that they had: they may be cut off themselves.
    fn suspects<'a>(&self, registry: &'a Registry) -> BTreeSet<&'a String> {
        let mut replicas: BTreeMap<&String, Census> = BTreeMap::new();
        for (node, _, session) in registry.sessions() {
            if session.dead_since_ms.is_none() {
                replicas.entry(&session.control).or_default().count(self.gone.contains_key(node));
            }
        }
        let suspect = |census: &Census| census.gone > 1 && census.gone * 2 > census.of;
        replicas.into_iter().filter(|(_, census)| suspect(census)).map(|(id, _)| id).collect()
    }

    /// While one host after the other is lost, it is not known yet how many are: that they are too
    /// many at once is to be seen first.
    fn settled(&self, due: Duration, timeout: Duration) -> Duration {
        let newest = self.gone.values().map(|gone| gone.noticed).max().unwrap_or_default();
        if self.lately < 2 {
            return due;
        }
        // In a large network somebody is lost all the time.
        (newest + timeout * 2 / 5).min(due + timeout * 2)
    }

    /// Hosts that have no session and are not declared dead, and how they stand.
    pub fn gone(&self) -> impl Iterator<Item = (&NodeName, Standing)> {
        self.gone.iter().map(|(node, gone)| (node, gone.standing))
    }
}
