//! This host among others.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use sinew_model::{
    ZoneName,
    fleet::{EndpointKey, EndpointStatus, Network},
};

use super::{host::name, *};
use crate::fleet::{Around, Remote, RemoteEndpoint};

fn zone(text: &str) -> ZoneName {
    text.parse().unwrap()
}

fn around(slices: &[&str]) -> Arc<Around> {
    let slices: Vec<Network> = slices.iter().map(|text| text.parse().unwrap()).collect();
    let fleet = sinew_datapath::Fleet { networks: slices.clone(), slices, ..Default::default() };
    let (limited, own) = (BTreeMap::new(), vec!["192.0.2.1".parse().unwrap()]);
    Arc::new(Around { node: "here".parse().unwrap(), zone: zone("a"), own, fleet, limited })
}

fn remote(count: u32, of: &str, status: EndpointStatus) -> Option<Arc<Remote>> {
    let endpoint = |instance| RemoteEndpoint {
        key: EndpointKey { node: "there".parse().unwrap(), instance },
        address4: Some(Ipv4Addr::new(10, 111, 9, instance as u8 + 1)),
        address6: None,
        numbers: vec![80],
        zone: zone(of),
        weight: 256,
        status,
        in_choice: status == EndpointStatus::Up,
    };
    Some(Arc::new(Remote {
        ports: vec!["http:80".parse().unwrap()],
        balance: Default::default(),
        outlier: Default::default(),
        panic: false,
        endpoints: (0..count).map(endpoint).collect(),
    }))
}

fn joined() -> Host {
    let mut host = Host::new();
    host.core.join(around(&["10.111.3.0/24", "fd01:0:0:3::/64"]), []);
    host
}

fn hear(host: &mut Host, service: &str, remote: Option<Arc<Remote>>) {
    let service: ServiceName = service.parse().unwrap();
    if let Some(next) = host.intent.know([service.clone()].iter()).unwrap() {
        host.intent = next;
        host.feed(Input::Intent(Arc::new(host.intent.clone())));
    }
    host.feed(Input::News(News::Services(vec![(service, remote)])));
    host.calm_down();
}

fn backends(host: &Host, service: &str) -> Vec<sinew_datapath::Backend> {
    let number = host.intent.numbers[&service.parse::<ServiceName>().unwrap()];
    let service = host.kernel.services.get(&number);
    service.map(|service| service.ports[0].backends.clone()).unwrap_or_default()
}

#[test]
fn what_runs_is_told_with_addresses_of_the_slice_and_what_ends_is_not() {
    let mut host = joined();
    host.take(Step::Apply { replicas: [2, 1, 0], variant: 0 });
    host.calm_down();
    let told = host.core.told();
    assert_eq!(told.keys().map(ServiceName::as_str).collect::<Vec<_>>(), ["api", "base"]);
    let (record, endpoints) = &told[&name(0)];
    assert_eq!(record.as_ref().unwrap().ports[0].number, 80);
    assert_eq!(endpoints.len(), 2);
    let slice: Network = "10.111.3.0/24".parse().unwrap();
    for (replica, endpoint) in endpoints {
        let instance = host.core.instance(&Key::of(&name(0), *replica)).unwrap();
        let held = &host.kernel.instances[&u64::from(instance.number)];
        assert_eq!((held.fleet4, endpoint.status), (endpoint.address4, EndpointStatus::Up));
        assert!(slice.contains(IpAddr::V4(endpoint.address4.unwrap())));
        assert_eq!((endpoint.zone.as_str(), endpoint.weight), ("a", 256));
        assert!(held.fleet6.is_some());
    }
    let distinct: HashSet<_> = endpoints.values().map(|endpoint| endpoint.address4).collect();
    assert_eq!(distinct.len(), 2);
    let kept = endpoints[&0].address4;
    host.take(Step::Scale { service: 0, replicas: 1 });
    host.calm_down();
    let told = host.core.told();
    assert_eq!(told[&name(0)].1.len(), 1);
    assert_eq!(told[&name(0)].1[&0].address4, kept);
    host.take(Step::Remove);
    host.calm_down();
    assert!(host.core.told().is_empty());
}

#[test]
fn without_a_slice_nothing_is_told_and_then_everything_is() {
    let mut host = Host::new();
    host.core.join(around(&[]), []);
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    host.calm_down();
    assert!(host.core.told().is_empty());
    host.feed(Input::News(News::Around(around(&["10.111.3.0/24"]))));
    host.calm_down();
    assert_eq!(host.core.told()[&name(0)].1.len(), 1);
    assert_eq!(host.kernel.fleet.as_ref().unwrap().slices.len(), 1);
}

#[test]
fn an_instance_keeps_the_address_that_it_had() {
    let had = Ipv4Addr::new(10, 111, 3, 77);
    let mut host = Host::new();
    host.core.join(around(&["10.111.3.0/24"]), [(name(0), 0, had)]);
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    host.calm_down();
    assert_eq!(host.core.told()[&name(0)].1[&0].address4, Some(had));
}

#[test]
fn a_service_that_runs_elsewhere_alone_is_called_there() {
    let mut host = joined();
    host.calm_down();
    let far: ServiceName = "far".parse().unwrap();
    host.feed(Input::News(News::Names(Arc::new([far.clone()].into()))));
    assert_eq!(host.core.elsewhere(&far), Some(false));
    hear(&mut host, "far", remote(2, "b", EndpointStatus::Up));
    assert_eq!(host.core.elsewhere(&far), Some(true));
    let all = backends(&host, "far");
    assert_eq!(all.len(), 2);
    for backend in &all {
        assert!(!backend.local && backend.node > 0 && backend.zone > 0 && backend.in_choice);
        assert_eq!((backend.slots, backend.port), (1, 80));
    }
    assert_eq!(all[0].address4, Some(Ipv4Addr::new(10, 111, 9, 1)));
    hear(&mut host, "far", remote(2, "b", EndpointStatus::Draining));
    assert!(backends(&host, "far").iter().all(|backend| !backend.in_choice));
    hear(&mut host, "far", None);
    assert!(backends(&host, "far").is_empty());
    assert_eq!(host.core.elsewhere(&far), Some(false), "the name is still there");
}

#[test]
fn calls_stay_in_the_zone_until_it_falls_short() {
    let mut host = joined();
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    host.calm_down();
    hear(&mut host, "base", remote(1, "b", EndpointStatus::Up));
    let slots = |host: &Host| -> Vec<(bool, u8)> {
        backends(host, "base").iter().map(|backend| (backend.local, backend.slots)).collect()
    };
    assert_eq!(slots(&host), [(true, 1), (false, 0)]);
    let own = backends(&host, "base")[0].key;
    host.feed(Input::Unwell([own].into()));
    host.calm_down();
    assert_eq!(slots(&host), [(true, 0), (false, 1)]);
    // In the same zone both are called.
    hear(&mut host, "base", remote(1, "a", EndpointStatus::Up));
    assert!(slots(&host).iter().all(|(_, slots)| *slots == 1), "{:?}", slots(&host));
    let limited = [(zone("a"), 0)].into();
    let evacuated = Around { limited, ..(*around(&["10.111.3.0/24"])).clone() };
    host.feed(Input::News(News::Around(Arc::new(evacuated))));
    hear(&mut host, "base", remote(1, "b", EndpointStatus::Up));
    assert_eq!(slots(&host), [(true, 0), (false, 1)]);
}

#[test]
fn who_depends_on_a_service_starts_when_it_is_up_elsewhere() {
    let mut host = joined();
    host.take(Step::Apply { replicas: [0, 1, 0], variant: 0 });
    host.calm_down();
    let state = |host: &Host| host.core.instance(&Key::of(&name(1), 0)).map(Instance::state);
    assert_eq!(state(&host), Some(WorkloadState::Waiting));
    hear(&mut host, "base", remote(1, "b", EndpointStatus::Starting));
    assert_eq!(state(&host), Some(WorkloadState::Waiting));
    hear(&mut host, "base", remote(1, "b", EndpointStatus::Up));
    assert_eq!(state(&host), Some(WorkloadState::Up));
}

#[test]
fn a_host_that_is_alone_tells_and_keeps_nothing() {
    let mut host = Host::new();
    host.take(Step::Apply { replicas: [1, 0, 0], variant: 0 });
    host.feed(Input::News(News::Services(vec![(name(0), remote(1, "b", EndpointStatus::Up))])));
    host.calm_down();
    assert!(host.core.told().is_empty() && host.core.around().is_none());
    let all = backends(&host, "base");
    assert!(all.len() == 1 && all[0].local && all[0].zone == 0);
    assert_eq!(host.kernel.fleet, None);
    assert!(host.kernel.instances.values().all(|instance| instance.fleet4.is_none()));
}

/// So many endpoints with so many ports, half of them unhealthy where they are `ill`.
fn many(ports: u16, count: u32, of: &str, ill: bool) -> Remote {
    let endpoint = |instance: u32| {
        let unhealthy = ill && instance.is_multiple_of(2);
        let status = if unhealthy { EndpointStatus::Unhealthy } else { EndpointStatus::Up };
        RemoteEndpoint {
            key: EndpointKey { node: format!("there-{of}").parse().unwrap(), instance },
            address4: Some(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 112, 0, 1)) + instance)),
            address6: None,
            numbers: (1..=ports).collect(),
            zone: zone(of),
            weight: 256,
            status,
            in_choice: !unhealthy,
        }
    };
    let port = |number| format!("p{number}:{number}").parse().unwrap();
    Remote {
        ports: (1..=ports).map(port).collect(),
        balance: Default::default(),
        outlier: Default::default(),
        panic: false,
        endpoints: (0..count).map(endpoint).collect(),
    }
}

#[test]
fn what_the_maps_have_no_room_for_waits_until_there_is() {
    let mut host = joined();
    host.calm_down();
    hear(&mut host, "large", Some(many(16, 8000, "b", false).into()));
    hear(&mut host, "more", Some(many(16, 200, "b", false).into()));
    let known = |host: &Host, name: &str| host.core.remote(&name.parse().unwrap()).is_some();
    assert!(known(&host, "large") && !known(&host, "more"));
    assert!(host.core.left_out().unwrap().contains("of 1 services, more among them"));
    // Less of the one is enough for the other.
    hear(&mut host, "large", Some(many(16, 7000, "b", false).into()));
    assert!(known(&host, "more") && host.core.left_out().is_none());
    assert_eq!(backends(&host, "more").len(), 200);
}

#[test]
fn ports_of_services_of_other_hosts_take_room() {
    let mut host = joined();
    host.calm_down();
    hear(&mut host, "wide", Some(many(65_534, 0, "b", false).into()));
    hear(&mut host, "more", Some(many(3, 1, "b", false).into()));
    assert!(host.core.left_out().is_some());
    hear(&mut host, "wide", None);
    assert!(host.core.left_out().is_none());
    assert_eq!(backends(&host, "more").len(), 1);
}

#[test]
fn where_slots_are_short_services_get_by_with_one_a_backend() {
    let mut host = joined();
    host.calm_down();
    let both = || {
        let mut near = many(1, 4000, "a", true);
        near.endpoints.extend(many(1, 4000, "b", false).endpoints);
        Some(Arc::new(near))
    };
    let names = ["one", "two", "three", "four"];
    for name in names {
        hear(&mut host, name, both());
    }
    let slots = |host: &Host, name: &str| -> Vec<u64> {
        [true, false]
            .map(|near| {
                let zone = alloc::zone_number(if near { "a" } else { "b" });
                let all = backends(host, name);
                all.iter().filter(|b| b.zone == zone).map(|b| u64::from(b.slots)).sum()
            })
            .to_vec()
    };
    let [fine, coarse] = ["one", "four"].map(|name| slots(&host, name));
    let share = |slots: &[u64]| {
        // Half of the near ones are not well, and are walked past.
        slots[1] * 100 / (slots[1] + slots[0] / 2)
    };
    assert!(fine.iter().sum::<u64>() > 60_000 && coarse.iter().sum::<u64>() < 8000, "{fine:?}");
    assert!(share(&fine).abs_diff(30) <= 2 && share(&coarse).abs_diff(30) <= 2, "{coarse:?}");
    assert!(host.core.coarse().unwrap().contains("the calls of 1 services leave this zone"));
    hear(&mut host, "two", None);
    assert_eq!((slots(&host, "four"), host.core.coarse()), (fine, None));
}

#[test]
fn who_leaves_drains_first_then_has_nothing_and_then_is_alone_with_what_it_runs() {
    let mut host = joined();
    host.take(Step::Apply { replicas: [2, 0, 0], variant: 0 });
    host.calm_down();
    hear(&mut host, "far", remote(2, "b", EndpointStatus::Up));
    let all = |host: &Host, status| {
        let told = host.core.told();
        let mut endpoints = told.values().flat_map(|(_, endpoints)| endpoints.values());
        !told.is_empty() && endpoints.all(|endpoint| endpoint.status == status)
    };
    assert!(all(&host, EndpointStatus::Up));
    host.feed(Input::Withdraw(Some(Withdrawal::Drain)));
    host.calm_down();
    assert!(all(&host, EndpointStatus::Draining));
    assert!(backends(&host, "base").iter().all(|backend| backend.in_choice), "here it serves");
    host.feed(Input::Withdraw(Some(Withdrawal::Gone)));
    host.calm_down();
    assert!(host.core.told().is_empty());
    // The disk was full: it stays.
    host.feed(Input::Withdraw(None));
    host.calm_down();
    assert!(all(&host, EndpointStatus::Up));
    host.feed(Input::Alone);
    host.calm_down();
    assert!(host.core.around().is_none() && host.kernel.fleet.is_none());
    let here = backends(&host, "base");
    assert!(here.len() == 2 && here.iter().all(|backend| backend.in_choice));
    assert!(host.kernel.instances.values().all(|instance| instance.fleet4.is_none()));
    assert!(host.kernel.services.values().all(|service| {
        service.ports.iter().flat_map(|port| &port.backends).all(|backend| backend.local)
    }));
}
