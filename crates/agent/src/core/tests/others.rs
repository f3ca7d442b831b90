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
