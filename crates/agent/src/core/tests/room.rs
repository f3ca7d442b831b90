//! What is asked for is measured together with what is there besides.

use sinew_abi::capacity;

use super::{
    host::{name, old},
    *,
};
use crate::{
    adopt::{Place, Places},
    capacity::Usage,
    intent::Intent,
    refusal::Refusal,
};

const INSTANCES: usize = capacity::INSTANCES as usize;
const LISTENERS: usize = capacity::ADOPTED_LISTENERS as usize;

/// With so many instances more, of services without ports.
fn with_more(host: &Host, instances: usize) -> Intent {
    let services = (0..).zip((0..instances).step_by(1024)).map(|(index, from)| {
        let name = ServiceName::new(format!("many-{index}")).unwrap();
        let command = sinew_model::Command::Shell("true".into());
        let mut service = sinew_model::Service::new(command, "/".into());
        service.replicas = (instances - from).min(1024) as u16;
        (name, service)
    });
    let name = ProjectName::new("many").unwrap();
    let project = sinew_model::Project { name, services: services.collect() };
    let owner = crate::launch::Owner { uid: 0, gid: 0 };
    host.intent.apply(project, owner, &BTreeSet::new()).unwrap()
}

fn is_full(result: &Result<(), Refusal>, map: &str) -> bool {
    matches!(result, Err(Refusal::Full { what, .. }) if *what == map)
}

#[test]
fn those_who_joined_or_still_end_take_room_too() {
    let mut host = Host::new();
    host.take(Step::Apply { replicas: [2, 3, 1], variant: 0 });
    for service in [true, false] {
        host.take(Step::Attach { service });
        host.take(Step::Adopt { foreign: service });
    }
    host.calm_down();
    let here = host.core.instances().len();
    assert!(here >= 9, "{here}");
    let room = |host: &Host, more: usize| host.core.check_room(&with_more(host, more));
    room(&host, INSTANCES - here).unwrap();
    assert!(is_full(&room(&host, INSTANCES - here + 1), "instances"));

    // What is told to end has its place until it has ended.
    host.take(Step::Scale { service: 1, replicas: 0 });
    assert!(is_full(&room(&host, INSTANCES - here + 3), "instances"));
    host.calm_down();
    room(&host, INSTANCES - here + 3).unwrap();
}

#[test]
fn who_joins_by_himself_needs_room() {
    let host = Host::new();
    let attached = Attached {
        pid: 1,
        owner: crate::launch::Owner { uid: 0, gid: 0 },
        ports: Vec::new(),
        command: String::new(),
        at_ms: 0,
    };
    let joins = |more| {
        let next = with_more(&host, more);
        host.core.check_room_to_attach(&next, Some(&name(0)), &attached)
    };
    joins(INSTANCES - 1).unwrap();
    assert!(is_full(&joins(INSTANCES), "instances"));
}

/// So many sockets on one port.
fn places(sockets: usize) -> Places {
    let sockets = (1..=sockets as u64).collect();
    let place = Place { address: [127, 0, 0, 1].into(), wildcard: false, sockets };
    Places::from([((Protocol::Tcp, 80, Family::V4), place)])
}

#[test]
fn an_adopted_program_with_too_many_listeners_harms_itself_alone() {
    let mut host = Host::new();
    host.take(Step::Adopt { foreign: true });
    host.take(Step::Adopt { foreign: true });
    host.calm_down();
    let [own, other] = [0, 1].map(|replica| Key::of(&old(), replica));
    host.core.take_places(&other, {
        let mut places = places(4);
        places.values_mut().for_each(|place| place.address = [127, 0, 0, 2].into());
        places
    });
    let listeners = |host: &Host| host.core.instance(&own).unwrap().adopted_listeners();
    host.core.take_places(&own, places(LISTENERS - 4));
    assert_eq!(listeners(&host), LISTENERS - 4);
    let adopts = |host: &Host, more| host.core.check_room_to_adopt(&host.intent, more);
    adopts(&host, 0).unwrap();
    assert!(is_full(&adopts(&host, 1), "adopted listeners"));

    host.core.take_places(&own, places(LISTENERS - 3));
    assert_eq!(listeners(&host), LISTENERS - 4, "what it had it keeps");
    let unwell = host.core.instance(&own).unwrap().unwell.clone().unwrap();
    assert!(unwell.contains("more than the 16384 adopted ones"), "{unwell}");
    host.core.take_places(&own, places(1));
    assert_eq!((listeners(&host), &host.core.instance(&own).unwrap().unwell), (1, &None));
}

#[test]
fn a_name_counts_once_however_many_bear_it() {
    let mut host = Host::new();
    let used = |host: &Host| {
        let maps = host.core.usage(&host.intent).maps();
        ["service ports", "backends", "instances", "listening addresses"]
            .map(|what| maps.iter().find(|map| map.what == what).unwrap().used)
    };
    assert_eq!(host.core.usage(&host.intent), Usage::default());
    host.take(Step::Adopt { foreign: true });
    host.take(Step::Adopt { foreign: true });
    host.calm_down();
    assert_eq!(used(&host), [1, 2, 2, 0]);
}
