//! Machines that take one host's session from each other: copies, mostly, of one disk. The newest has
//! the session, as it has when a host comes back before its end was noticed; who had it before, and is
//! there to hear so, waits, longer from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use sinew_model::NodeName;

/// Whoever is displaced waits for so long at first, then twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// What was so long ago has nothing to do with what is now.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Addresses of one host that are remembered.
const ADDRESSES: usize = 8;

/// Hosts of which a session was displaced lately.
#[derive(Debug, Default)]
pub(super) struct Rivals(BTreeMap<NodeName, Rival>);

#[derive(Debug, Default)]
struct Rival {
    times: u32,
    at: Duration,
    /// Where sessions came from that were displaced.
    displaced: BTreeSet<IpAddr>,
    told: bool,
}

/// What becomes of who had the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Displaced {
    /// It comes back after that.
    pub(super) pause: Duration,
    /// These two are there at once: to be told, which it was not yet.
    pub(super) two: Option<(IpAddr, IpAddr)>,
}

impl Rivals {
    /// A session from `newer` displaces that from `older`. `random`: from 0 to 1.
    pub(super) fn displaced(
        &mut self,
        node: &NodeName,
        (older, newer): (IpAddr, IpAddr),
        now: Duration,
        random: f64,
    ) -> Displaced {
        self.0.retain(|_, rival| now.saturating_sub(rival.at) < REMEMBERED);
        let rival = self.0.entry(node.clone()).or_default();
        let bound = FIRST.saturating_mul(1 << rival.times.min(6)).min(LONGEST);
        (rival.times, rival.at) = (rival.times.saturating_add(1), now);
        // A host that moves does not come back from where it was.
        let is_back = older != newer && rival.displaced.contains(&newer);
        if rival.displaced.len() < ADDRESSES {
            rival.displaced.insert(older);
        }
        let news = is_back && !rival.told;
        rival.told |= is_back;
        Displaced {
            pause: bound / 2 + bound.mul_f64(random / 2.0),
            two: news.then_some((older, newer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn who_is_displaced_waits_longer_each_time_and_two_that_are_there_are_told_once() {
        let (mut rivals, node) = (Rivals::default(), "web".parse().unwrap());
        let mut now = Duration::ZERO;
        let mut displace = |older, newer, later: u64| {
            now += Duration::from_secs(later);
            rivals.displaced(&node, (older, newer), now, 1.0)
        };
        // A host that came back from elsewhere.
        let first = displace(A, B, 1);
        assert_eq!(first, Displaced { pause: Duration::from_secs(1), two: None });
        let second = displace(B, A, 1);
        assert_eq!(second, Displaced { pause: Duration::from_secs(2), two: Some((B, A)) });
        let pauses: Vec<_> = (0..6).map(|_| displace(A, B, 30)).collect();
        assert!(pauses.iter().all(|it| it.two.is_none()), "{pauses:?}");
        let seconds: Vec<_> = pauses.iter().map(|it| it.pause.as_secs()).collect();
        assert_eq!(seconds, [4, 8, 16, 32, 60, 60]);
        // Long after, all of it begins anew.
        assert_eq!(displace(A, B, 600), first);
        assert_eq!(displace(B, A, 1).two, Some((B, A)));
    }

    #[test]
    fn pauses_are_of_chance_and_hosts_apart() {
        let mut rivals = Rivals::default();
        let (web, db) = ("web".parse().unwrap(), "db".parse().unwrap());
        let now = Duration::from_secs(5);
        let half = rivals.displaced(&web, (A, A), now, 0.0);
        assert_eq!(half, Displaced { pause: Duration::from_millis(500), two: None });
        assert_eq!(rivals.displaced(&web, (A, A), now, 0.5).pause, Duration::from_millis(1500));
        assert_eq!(rivals.displaced(&db, (A, B), now, 0.0).pause, Duration::from_millis(500));
    }
}
