//! What holds of every placement, and the order in which hosts are chosen.

use proptest::{collection::btree_map, prelude::*};

use super::*;

fn node(zone: &str, cpu_millis: u64) -> Node {
    let capacity = Resources { cpu_millis, memory_bytes: 1 << 40 };
    let labels = BTreeMap::new();
    Node { zone: zone.parse().unwrap(), labels, capacity, standing: Standing::Open }
}

fn nodes(list: &[(&str, &str, u64)]) -> BTreeMap<NodeName, Node> {
    list.iter().map(|(name, zone, cpu)| (name.parse().unwrap(), node(zone, *cpu))).collect()
}

fn demand(replicas: u16, cpu_millis: u64) -> Demand {
    let each = Resources { cpu_millis, memory_bytes: 0 };
    Demand { replicas, each, labels: BTreeMap::new() }
}

fn demands(list: &[(&str, Demand)]) -> BTreeMap<ServiceName, Demand> {
    list.iter().map(|(name, demand)| (name.parse().unwrap(), demand.clone())).collect()
}

fn counts(plan: &Plan, service: &str) -> Vec<(String, u16)> {
    let placed = plan.placement.get(&service.parse::<ServiceName>().unwrap());
    placed.into_iter().flatten().map(|(node, count)| (node.to_string(), *count)).collect()
}

fn counted(list: &[(&str, u16)]) -> Vec<(String, u16)> {
    list.iter().map(|(node, count)| ((*node).to_owned(), *count)).collect()
}

#[test]
fn replicas_spread_over_zones_and_then_over_hosts() {
    let nodes = nodes(&[("a1", "a", 9000), ("a2", "a", 9000), ("b1", "b", 9000)]);
    let plan = place(&nodes, &demands(&[("web", demand(4, 100))]), &Placement::new());
    assert_eq!(counts(&plan, "web"), counted(&[("a1", 1), ("a2", 1), ("b1", 2)]));
    assert!(plan.unplaced.is_empty());
}

#[test]
fn of_hosts_that_are_alike_the_one_with_more_room_left_is_first() {
    let nodes = nodes(&[("a1", "a", 1000), ("a2", "a", 2000)]);
    let wanted = demands(&[("big", demand(1, 900)), ("small", demand(1, 100))]);
    // Of equal shares it may be either; the second goes where less is taken.
    let plan = place(&nodes, &wanted, &Placement::new());
    assert_ne!(counts(&plan, "big"), counts(&plan, "small"), "{plan:?}");
}

#[test]
fn a_host_that_joins_moves_nothing_and_one_that_goes_moves_its_own_alone() {
    let mut all = nodes(&[("a1", "a", 9000), ("b1", "b", 9000)]);
    let wanted = demands(&[("web", demand(4, 100))]);
    let before = place(&all, &wanted, &Placement::new());
    all.insert("c1".parse().unwrap(), node("c", 9000));
    let joined = place(&all, &wanted, &before.placement);
    assert_eq!(joined, before);
    // Lost, it keeps what it has: it may come back.
    all.get_mut(&"b1".parse::<NodeName>().unwrap()).unwrap().standing = Standing::Closed;
    assert_eq!(place(&all, &wanted, &before.placement), before);
    all.get_mut(&"b1".parse::<NodeName>().unwrap()).unwrap().standing = Standing::Gone;
    let after = place(&all, &wanted, &before.placement);
    assert_eq!(counts(&after, "web"), counted(&[("a1", 2), ("c1", 2)]));
    let moved = moves(&before.placement, &after.placement);
    let moved: Vec<_> = moved.values().flatten().map(|(n, c)| (n.to_string(), *c)).collect();
    assert_eq!(moved, [("b1".to_owned(), (2, 0)), ("c1".to_owned(), (0, 2))]);
}

#[test]
fn fewer_are_taken_from_where_most_are() {
    let nodes = nodes(&[("a1", "a", 9000), ("a2", "a", 9000), ("b1", "b", 9000)]);
    let before = place(&nodes, &demands(&[("web", demand(6, 1))]), &Placement::new());
    assert_eq!(counts(&before, "web").iter().map(|(_, count)| count).sum::<u16>(), 6);
    let after = place(&nodes, &demands(&[("web", demand(2, 1))]), &before.placement);
    let zones: BTreeSet<_> =
        after.placement.values().flatten().map(|(name, _)| nodes[name].zone.to_string()).collect();
    assert_eq!(zones.len(), 2, "{after:?}");
    let none = place(&nodes, &BTreeMap::new(), &before.placement);
    assert_eq!(none, Plan::default());
}

#[test]
fn what_has_no_place_is_told_with_what_the_hosts_lack() {
    let mut nodes = nodes(&[("a1", "a", 250), ("b1", "b", 9000), ("c1", "c", 9000)]);
    nodes.get_mut(&"c1".parse::<NodeName>().unwrap()).unwrap().standing = Standing::Closed;
    let disk = |value: &str| BTreeMap::from([("disk".to_owned(), value.to_owned())]);
    nodes.get_mut(&"a1".parse::<NodeName>().unwrap()).unwrap().labels = disk("ssd");
    let wanted = Demand { labels: disk("ssd"), ..demand(5, 100) };
    let plan = place(&nodes, &demands(&[("db", wanted)]), &Placement::new());
    assert_eq!(counts(&plan, "db"), counted(&[("a1", 2)]));
    let told: Vec<_> = plan.unplaced.values().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "replicas without a place: 3; of the hosts 1 lack the room, 1 a label, and 1 take no more"
        ]
    );
}

#[test]
fn a_host_whose_capacity_shrank_keeps_what_fits() {
    let mut nodes = nodes(&[("a1", "a", 300), ("b1", "b", 0)]);
    let wanted = demands(&[("x", demand(3, 100))]);
    let before = place(&nodes, &wanted, &Placement::new());
    assert_eq!(counts(&before, "x"), counted(&[("a1", 3)]));
    nodes.get_mut(&"a1".parse::<NodeName>().unwrap()).unwrap().capacity.cpu_millis = 200;
    nodes.get_mut(&"b1".parse::<NodeName>().unwrap()).unwrap().capacity.cpu_millis = 200;
    let after = place(&nodes, &wanted, &before.placement);
    assert_eq!(counts(&after, "x"), counted(&[("a1", 2), ("b1", 1)]));
}

fn label<T: std::str::FromStr<Err: fmt::Debug> + fmt::Debug>(
    letters: &'static str,
) -> impl Strategy<Value = T> {
    letters.prop_map(|text: String| text.parse().unwrap())
}

fn disk() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(Just("disk".to_owned()), "ssd|hdd", 0..2)
}

fn any_nodes() -> impl Strategy<Value = BTreeMap<NodeName, Node>> {
    let standing = prop_oneof![
        4 => Just(Standing::Open), 1 => Just(Standing::Closed), 1 => Just(Standing::Gone)
    ];
    let node = (label("[ab]"), disk(), 0..1000u64, 0..1000u64, standing).prop_map(
        |(zone, labels, cpu_millis, memory_bytes, standing)| {
            let capacity = Resources { cpu_millis, memory_bytes };
            Node { zone, labels, capacity, standing }
        },
    );
    btree_map(label("[n-s]"), node, 0..6)
}

fn any_demands() -> impl Strategy<Value = BTreeMap<ServiceName, Demand>> {
    let demand = (0..9u16, 0..300u64, 0..300u64, disk()).prop_map(
        |(replicas, cpu_millis, memory_bytes, labels)| Demand {
            replicas,
            each: Resources { cpu_millis, memory_bytes },
            labels,
        },
    );
    btree_map(label("[x-z]"), demand, 0..4)
}

fn any_placement() -> impl Strategy<Value = Placement> {
    btree_map(label("[w-z]"), btree_map(label("[m-s]"), 1..5u16, 1..4), 0..4)
}

/// How many of a service could stay, were it alone: as many as are wanted and its hosts hold.
fn could_stay(
    nodes: &BTreeMap<NodeName, Node>,
    demand: &Demand,
    current: &BTreeMap<NodeName, u16>,
) -> u16 {
    let stays = current.iter().filter_map(|(name, count)| {
        let node = nodes.get(name).filter(|node| node.standing != Standing::Gone)?;
        let alike = demand.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let mut fits = 0;
        while alike
            && fits < *count
            && u64::from(fits + 1) * demand.each.cpu_millis <= node.capacity.cpu_millis
            && u64::from(fits + 1) * demand.each.memory_bytes <= node.capacity.memory_bytes
        {
            fits += 1;
        }
        Some(fits)
    });
    stays.sum::<u16>().min(demand.replicas)
}

proptest! {
    #[test]
    fn what_holds_of_every_placement(
        nodes in any_nodes(), demands in any_demands(), current in any_placement(),
    ) {
        let plan = place(&nodes, &demands, &current);
        let mut taken: BTreeMap<&NodeName, (u64, u64)> = BTreeMap::new();
        let none = BTreeMap::new();
        for (service, demand) in &demands {
            let placed = plan.placement.get(service).unwrap_or(&none);
            let had = current.get(service).unwrap_or(&none);
            let missing = plan.unplaced.get(service).map_or(0, |it| it.replicas);
            // Each replica has a place or is told to have none.
            prop_assert_eq!(placed.values().sum::<u16>() + missing, demand.replicas);
            for (name, count) in placed {
                let node = &nodes[name];
                prop_assert!(*count > 0 && demand.matches(node));
                let more = *count > had.get(name).copied().unwrap_or(0);
                let allowed = match node.standing {
                    Standing::Open => true,
                    Standing::Closed => !more,
                    Standing::Gone => false,
                };
                prop_assert!(allowed, "{} on {:?}", service, node);
                let taken = taken.entry(name).or_default();
                taken.0 += u64::from(*count) * demand.each.cpu_millis;
                taken.1 += u64::from(*count) * demand.each.memory_bytes;
            }
        }
        for (name, (cpu, memory)) in taken {
            let capacity = nodes[name].capacity;
            prop_assert!(cpu <= capacity.cpu_millis && memory <= capacity.memory_bytes);
        }
        // Decided once, it stays so.
        prop_assert_eq!(&place(&nodes, &demands, &plan.placement).placement, &plan.placement);
    }

    #[test]
    fn nothing_moves_that_need_not(
        nodes in any_nodes(), demand in any_demands(), current in any_placement(),
    ) {
        // One service alone: with several, who goes first has the room.
        let Some((service, demand)) = demand.into_iter().next() else { return Ok(()) };
        let none = BTreeMap::new();
        let had = current.get(&service).unwrap_or(&none);
        let plan = place(&nodes, &BTreeMap::from([(service.clone(), demand.clone())]), &current);
        let placed = plan.placement.get(&service).unwrap_or(&none);
        let stayed: u16 = placed
            .iter()
            .map(|(name, count)| (*count).min(had.get(name).copied().unwrap_or(0)))
            .sum();
        prop_assert_eq!(stayed, could_stay(&nodes, &demand, had));
    }

    #[test]
    fn with_room_zones_and_hosts_of_a_zone_differ_by_one_at_most(
        sizes in proptest::collection::vec(1..4usize, 1..4), replicas in 0..30u16,
    ) {
        let list: Vec<(String, String)> = sizes.iter().enumerate().flat_map(|(zone, size)| {
            (0..*size).map(move |host| (format!("n{zone}-{host}"), format!("z{zone}")))
        }).collect();
        let list: Vec<(&str, &str, u64)> =
            list.iter().map(|(name, zone)| (name.as_str(), zone.as_str(), 1_000_000)).collect();
        let nodes = nodes(&list);
        let plan = place(&nodes, &demands(&[("web", demand(replicas, 1))]), &Placement::new());
        let placed: BTreeMap<_, _> = plan.placement.values().flatten().collect();
        let of = |name: &NodeName| placed.get(name).copied().copied().unwrap_or(0);
        let spread = |counts: &[u16]| counts.iter().max().unwrap() - counts.iter().min().unwrap();
        let mut zones: BTreeMap<&ZoneName, Vec<u16>> = BTreeMap::new();
        for (name, node) in &nodes {
            zones.entry(&node.zone).or_default().push(of(name));
        }
        for counts in zones.values() {
            prop_assert!(spread(counts) <= 1, "{:?}", zones);
        }
        let sums: Vec<u16> = zones.values().map(|counts| counts.iter().sum()).collect();
        prop_assert!(spread(&sums) <= 1, "{:?}", zones);
    }
}
