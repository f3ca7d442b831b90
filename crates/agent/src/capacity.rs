//! Declared capacities of the kernel's maps: nearing one warns, reaching it refuses. What callers fill
//! cannot be refused to anybody: there, what finds no room is not counted, and that is told.

use sinew_abi::capacity;
use sinew_datapath::{self as datapath, Totals, usage};
use sinew_model::{Port, Protocol, Publish};

use crate::refusal::Refusal;

/// From this share of a capacity on, an operator is warned.
const WARN_PERCENT: usize = 80;

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    /// What it holds.
    pub(crate) what: &'static str,
    /// Entries in use.
    pub(crate) used: usize,
    /// Entries there can be.
    pub(crate) holds: usize,
}

impl Filled {
    fn is_nearly_full(&self) -> bool {
        self.used * 100 >= self.holds * WARN_PERCENT
    }

    fn told(&self) -> String {
        let Self { what, used, holds } = self;
        format!("{used} of at most {holds} {what} are in use")
    }
}

impl From<datapath::Usage> for Filled {
    fn from(usage: datapath::Usage) -> Self {
        let datapath::Usage { name, used, capacity } = usage;
        Self { what: name, used: used as usize, holds: capacity as usize }
    }
}

/// What other hosts run of a service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Elsewhere {
    pub(crate) ports: usize,
    pub(crate) backends: usize,
}

/// How many entries are taken of each map that is filled by what is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    instances: usize,
    listening: usize,
    service_ports: usize,
    backends: usize,
    published_ports: usize,
    adopted_listeners: usize,
    slots: usize,
    hosts: usize,
    /// Other hosts reach the instances: their UDP ports are listened for too.
    reached: bool,
}

impl Usage {
    /// Of a host whose instances other hosts reach, or not; with so many slots.
    pub(crate) fn new(reached: bool, slots: usize) -> Self {
        Self { reached, slots, ..Self::default() }
    }

    /// Counts other hosts.
    pub(crate) fn add_hosts(&mut self, count: usize) {
        self.hosts += count;
    }

    /// Counts a service.
    pub(crate) fn add_service(&mut self, ports: &[Port], published: &[Publish]) {
        // One published on all addresses of both families is two.
        let both = |p: &&Publish| p.host_ip.is_ipv6() && p.host_ip.is_unspecified();
        self.service_ports += ports.len();
        self.published_ports += published.len() + published.iter().filter(both).count();
    }

    /// Counts instances that have an address of their own.
    pub(crate) fn add_instances(&mut self, ports: &[Port], count: usize) {
        let listens = |port: &&Port| self.reached || port.protocol == Protocol::Tcp;
        // Each port is listened for in both families.
        self.listening += 2 * ports.iter().filter(listens).count() * count;
        self.add_adopted(ports, count);
    }

    /// Counts instances that were adopted: where they listen is not theirs alone.
    pub(crate) fn add_adopted(&mut self, ports: &[Port], count: usize) {
        self.instances += count;
        self.backends += ports.len() * count;
    }

    /// Counts what other hosts run of a service: its ports, unless it is one of this host's, and
    /// its backends.
    pub(crate) fn add_remote(&mut self, remote: Elsewhere, is_known: bool) {
        self.service_ports += if is_known { 0 } else { remote.ports };
        self.backends += remote.backends;
    }

    /// Counts it no more.
    pub(crate) fn take_remote(&mut self, remote: Elsewhere, is_known: bool) {
        self.service_ports -= if is_known { 0 } else { remote.ports.min(self.service_ports) };
        self.backends -= remote.backends.min(self.backends);
    }

    /// Counts listeners that adopted programs had.
    pub(crate) fn add_adopted_listeners(&mut self, count: usize) {
        self.adopted_listeners += count;
    }

    /// Each map.
    pub(crate) fn maps(&self) -> [Filled; 8] {
        [
            ("instances", self.instances, capacity::INSTANCES),
            ("listening addresses", self.listening, capacity::BACKENDS),
            ("service ports", self.service_ports, capacity::SERVICES),
            ("backends", self.backends, capacity::BACKENDS),
            ("published ports", self.published_ports, capacity::PUBLISHED),
            ("adopted listeners", self.adopted_listeners, capacity::ADOPTED_LISTENERS),
            ("slots", self.slots, capacity::SLOTS),
            // Their addresses have as much room.
            ("other hosts", self.hosts, capacity::NODES),
        ]
        .map(|(what, used, holds)| Filled { what, used, holds: holds as usize })
    }

    /// # Errors
    /// When more is wanted than a map holds. Less than `before` is never refused.
    pub(crate) fn refuse_when_full(&self, before: &Self) -> Result<(), Refusal> {
        let mut maps = self.maps().into_iter().zip(before.maps());
        match maps.find(|(wanted, before)| wanted.used > wanted.holds.max(before.used)) {
            Some((Filled { what, used, holds }, _)) => {
                Err(Refusal::Full { what, wanted: used, holds })
            }
            None => Ok(()),
        }
    }

    /// A warning for each map that is nearly full.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.maps().into_iter().filter(Filled::is_nearly_full).map(|map| map.told())
    }
}

/// A warning for each table that callers have nearly filled.
pub(crate) fn filling_warnings(filling: &[datapath::Usage]) -> impl Iterator<Item = String> {
    let maps = filling.iter().map(|usage| Filled::from(*usage));
    maps.filter(Filled::is_nearly_full)
        .map(|map| format!("{}: {}", map.told(), when_full(map.what)))
}

fn when_full(what: &str) -> &'static str {
    match what {
        usage::EDGES => "further ones work and are not counted, until unused names are given up",
        usage::SOCKETS => {
            "further connections work, but are not counted, nor drained before they are closed"
        }
        _ => "what comes beyond is not counted",
    }
}

/// What found no room in tables that callers fill, since `before`.
pub(crate) fn losses(before: &Totals, now: &Totals) -> Vec<String> {
    let lost = [
        (now.edges_lost.saturating_sub(before.edges_lost), "table of edges"),
        (now.sockets_lost.saturating_sub(before.sockets_lost), "table of open connections"),
    ];
    let lost = lost.into_iter().filter(|(times, _)| *times > 0);
    lost.map(|(times, table)| {
        format!(
            "the {table} was full {times} times since the agent started: so much is not counted"
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(numbers: std::ops::Range<u16>, protocol: &str) -> Vec<Port> {
        let port =
            |n| serde_json::json!({"name": format!("p{n}"), "number": n, "protocol": protocol});
        numbers.map(|n| serde_json::from_value(port(n)).unwrap()).collect()
    }

    fn publish(host_ip: &str, ports: usize) -> Vec<Publish> {
        let at = |port| serde_json::json!({"host_ip": host_ip, "host_port": port, "port": "p1"});
        (1..=ports).map(|port| serde_json::from_value(at(port)).unwrap()).collect()
    }

    /// Every map warns from 80 % on and refuses what is beyond 100 %.
    #[test]
    fn each_map_warns_then_refuses() {
        let (tcp, udp) = (ports(1..17, "tcp"), ports(1..3, "udp"));
        let none: [Port; 0] = [];
        type Add<'a> = Box<dyn Fn(&mut Usage, usize) + 'a>;
        let cases: [(&str, u32, usize, Add<'_>); 10] = [
            ("instances", capacity::INSTANCES, 1, Box::new(|u, n| u.add_instances(&none, n))),
            ("instances", capacity::INSTANCES, 1, Box::new(|u, n| u.add_adopted(&none, n))),
            ("listening addresses", capacity::BACKENDS, 32, {
                // As few instances as can be.
                Box::new(|u, n| u.add_instances(&tcp, n / 32))
            }),
            ("service ports", capacity::SERVICES, 16, {
                Box::new(|u, n| (0..n / 16).for_each(|_| u.add_service(&tcp, &[])))
            }),
            ("backends", capacity::BACKENDS, 16, {
                Box::new(|u, n| {
                    u.add_adopted(&tcp, n / 16);
                    u.instances = 0;
                })
            }),
            ("published ports", capacity::PUBLISHED, 1, {
                Box::new(|u, n| u.add_service(&none, &publish("127.0.0.1", n)))
            }),
            ("published ports", capacity::PUBLISHED, 2, {
                Box::new(|u, n| u.add_service(&none, &publish("::", n / 2)))
            }),
            ("adopted listeners", capacity::ADOPTED_LISTENERS, 1, {
                Box::new(Usage::add_adopted_listeners)
            }),
            ("slots", capacity::SLOTS, 1, Box::new(|u, n| *u = Usage::new(false, n))),
            ("other hosts", capacity::NODES, 1, Box::new(Usage::add_hosts)),
        ];
        for (what, holds, step, add) in cases {
            let holds = holds as usize;
            let with = |used: usize| {
                let mut usage = Usage::default();
                add(&mut usage, used);
                usage
            };
            let nearly = (holds * 4).div_ceil(5).next_multiple_of(step);
            let warns = |used| with(used).warnings().any(|told| told.contains(what));
            assert!(!warns(nearly - step) && warns(nearly) && warns(holds), "{what}");
            let told = format!("{nearly} of at most {holds} {what} are in use");
            assert!(with(nearly).warnings().any(|warning| warning == told), "{told}");

            let before = Usage::default();
            let refused = |used| with(used).refuse_when_full(&before);
            refused(holds).expect("exactly full is not too much");
            let refusal = refused(holds + step).unwrap_err();
            assert!(matches!(refusal, Refusal::Full { what: map, .. } if map == what), "{refusal}");
            let over = with(holds + 2 * step);
            with(holds + step).refuse_when_full(&over).expect("it is less than there was");
        }
        let mut usage = Usage::default();
        usage.add_instances(&udp, 3);
        assert_eq!((usage.listening, usage.backends), (0, 6), "UDP sockets do not listen");
        let mut usage = Usage::new(true, 0);
        usage.add_instances(&udp, 3);
        assert_eq!(usage.listening, 12, "but for other hosts they are found by their ports");
    }

    #[test]
    fn what_callers_fill_is_told_with_what_it_means() {
        let usage = |name, used| datapath::Usage { name, used, capacity: 100 };
        let told: Vec<String> =
            filling_warnings(&[usage(usage::EDGES, 80), usage(usage::SOCKETS, 79)]).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("80 of at most 100 edges are in use: further ones work"));
        let told: Vec<String> = filling_warnings(&[usage(usage::SOCKETS, 100)]).collect();
        assert!(told[0].contains("overflowed sockets") && told[0].contains("not counted"));
    }

    #[test]
    fn losses_count_from_the_start() {
        let before = Totals { edges_lost: 7, sockets_lost: 2, ..Totals::ZERO };
        assert_eq!(losses(&before, &before), [""; 0]);
        let now = Totals { edges_lost: 9, ..before };
        let told = losses(&before, &now);
        assert!(told.len() == 1 && told[0].contains("table of edges was full 2 times"), "{told:?}");
        let now = Totals { sockets_lost: 3, ..before };
        assert!(losses(&before, &now)[0].contains("open connections was full 1 times"));
        // Somebody removed the pins: counting begins anew.
        assert_eq!(losses(&before, &Totals::ZERO), [""; 0]);
    }
}
