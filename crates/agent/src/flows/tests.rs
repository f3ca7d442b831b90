use std::net::Ipv4Addr;

use sinew_datapath::{Fake, FlowBackend};
use sinew_model::{Protocol, ServiceName};

use super::*;
use crate::core::backend_key;

const WEB: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 7);
const PLACE: FlowBackend = FlowBackend { index: 3, generation: 9 };

fn raw(verdict: u32) -> datapath::Flow {
    datapath::Flow {
        at_ns: 5_000_000_000,
        verdict,
        instance: 0,
        source: 0,
        destination: 7,
        address: WEB.into(),
        port: 80,
        protocol: Protocol::Tcp,
        backend: Some(PLACE),
        connect_us: 40,
        duration_us: 900,
        sent_bytes: 10,
        received_bytes: 20,
    }
}

fn names() -> Names {
    let web = ServiceName::new("web").unwrap();
    let mut names = Names::default();
    names.services.insert(7, web.clone());
    names.addresses.insert(WEB.into(), web.clone());
    names.streams.insert((web.clone(), 80), ());
    names.instances.insert(300, ("web/1".to_owned(), Some(web)));
    names.instances.insert(301, ("exec/0".to_owned(), None));
    names.add_backends([(PLACE, backend_key(300, Protocol::Tcp, 80))]);
    names
}

const CLOCKS: Clocks = Clocks { monotonic_ns: 7_500_000_000, wall_ms: 1_000_000 };

fn told(raw: &datapath::Flow) -> Flow {
    translate(raw, 8, CLOCKS, &names()).unwrap()
}

#[test]
fn numbers_become_names_and_times_the_wall_clock() {
    let flow = told(&raw(sinew_abi::verdict::CLOSED));
    assert_eq!((flow.source.as_str(), flow.backend.as_deref()), ("exec", Some("web/1")));
    assert_eq!(flow.destination.unwrap().as_str(), "web");
    assert_eq!((flow.at_ms, flow.one_of), (997_500, 8));
    assert_eq!(told(&raw(sinew_abi::verdict::RESET)).one_of, 1, "failures are all told");
}

#[test]
fn a_refusal_bears_the_names_that_it_has() {
    let refused = datapath::Flow { destination: 0, backend: None, ..raw(6) };
    let flow = told(&refused);
    assert_eq!(flow.destination.unwrap().as_str(), "web", "by its address");
    assert_eq!(flow.reason, "the service has no such port");
    let nobodys = datapath::Flow { address: [127, 64, 9, 9].into(), ..refused.clone() };
    assert_eq!(told(&nobodys).reason, "no service has this address");
    let denied = datapath::Flow { verdict: 7, instance: 300, ..nobodys };
    assert_eq!(told(&denied).source, "web", "by its instance");
    let datagram = datapath::Flow { protocol: Protocol::Udp, ..refused };
    assert!(translate(&datagram, 1, CLOCKS, &names()).is_none(), "a look-up of a name");
    let other = datapath::Flow { port: 53, ..datagram };
    assert_eq!(told(&other).reason, "the service has no such port");
    assert!(!names().know(&other), "its ports may have changed");
    assert!(translate(&raw(99), 1, CLOCKS, &names()).is_none());
}

#[test]
fn what_is_not_known_is_noticed() {
    let names = names();
    assert!(names.know(&raw(0)));
    assert!(!names.know(&datapath::Flow { destination: 8, ..raw(0) }));
    assert!(!names.know(&datapath::Flow { source: 8, ..raw(0) }));
    assert!(!names.know(&datapath::Flow { instance: 302, ..raw(0) }));
    let other = FlowBackend { generation: 10, ..PLACE };
    let replaced = datapath::Flow { backend: Some(other), ..raw(0) };
    assert_eq!(names.unknown_backends(&[raw(0), replaced.clone()]), [other].into());
    assert_eq!(names.backend(&replaced), None, "another one has the place");
}

#[test]
fn many_are_sampled_and_few_are_not() {
    assert_eq!(next_sample(1, 0), 1);
    assert_eq!(next_sample(1, PER_LOOK), 1);
    assert_eq!(next_sample(1, PER_LOOK + 1), 2);
    assert_eq!(next_sample(1, 10 * PER_LOOK), 16);
    assert_eq!(next_sample(16, PER_LOOK / 2), 16, "it does not go up and down");
    assert_eq!(next_sample(16, 3), 8);
    assert_eq!(next_sample(ONE_OF_MAX, u32::MAX), ONE_OF_MAX);
}

fn flows() -> (Fake, Arc<Flows>) {
    let fake = Fake::default();
    let (flows, _) = Flows::new(SharedDatapath::new(Box::new(fake.clone())));
    (fake, flows)
}

#[tokio::test]
async fn the_kernel_tells_while_somebody_watches() {
    let (fake, flows) = flows();
    let one = flows.watch().await;
    assert_eq!(fake.state().flow_sample, 1);
    let two = flows.watch().await;
    drop(one);
    flows.adjust(|one_of| one_of).await;
    assert_eq!(fake.state().flow_sample, 1, "another one watches");
    drop(two);
    flows.left.notified().await;
    flows.adjust(|one_of| one_of).await;
    assert_eq!(fake.state().flow_sample, 0);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost() {
    let (_, flows) = flows();
    let mut watch = flows.watch().await;
    for _ in 0..BACKLOG + 5 {
        flows.tell(FlowItem::Flow(told(&raw(0))));
    }
    let first = watch.next().await.unwrap();
    assert!(matches!(*first, FlowItem::Lost { flows: 5, .. }), "{first:?}");
    assert!(matches!(*watch.next().await.unwrap(), FlowItem::Flow(_)));
    assert_eq!(flows.kept().len(), KEPT);
}

#[tokio::test]
async fn losses_before_somebody_watched_are_not_told() {
    let (fake, flows) = flows();
    let lost = |n| sinew_datapath::Totals { flows_lost: n, ..sinew_datapath::Totals::ZERO };
    fake.state().totals = Some(lost(3));
    let mut losses = Losses::default();
    assert_eq!(losses.look(&flows).await, None);
    fake.state().totals = Some(lost(4));
    // The receiver is gone: nothing that is offered finds room.
    flows.offer(raw(0));
    losses.looks = 0;
    let told = losses.look(&flows).await.unwrap();
    assert!(matches!(told, FlowItem::Lost { flows: 2, .. }), "{told:?}");
}
