//! The duty among replicas: hosts that die, and replicas that do.

use sinew_control::{
    duty::people,
    records::{Key, config::StoredLead},
    store::{Range, Span},
};
use sinew_model::fleet::Generation;
use sinew_proto::FromControl;

use super::world::{Known, Replica, World, has, open, report, reported, soon, subscribe};

/// Hosts are dead after a second, and nobody gets more time.
async fn hurried(replica: &Replica) {
    let limits = [("session_timeout_ms".to_owned(), 1000), ("reconnect_ms".to_owned(), 0)];
    let plan = |_, registry: &_| people::set_limits(&limits.clone().into(), registry);
    replica.handle.act("test", false, plan).await.unwrap();
}

async fn lead(world: &World) -> Option<StoredLead> {
    let range = Range::of(Span::key(Key::Lead.bytes()));
    let entries = world.store.range(range).await.unwrap().entries;
    entries.first().map(|entry| serde_json::from_slice(&entry.value).unwrap())
}

/// Waits until another replica than that one has the duty.
async fn other_lead(world: &World, than: Option<&StoredLead>) -> StoredLead {
    loop {
        match lead(world).await {
            Some(lead) if than.is_none_or(|than| than.control != lead.control) => return lead,
            _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_dead_host_is_told_of_and_its_endpoints_leave() {
    let world = World::new().await;
    let (one, two) = (world.replica("one").await, world.replica("two").await);
    hurried(&one).await;
    let (mut talks, mut known) = (Vec::new(), Known::default());
    for (name, at, instance) in [("a", one.at, 1), ("b", two.at, 2), ("c", two.at, 3)] {
        let member = world.member(at, name).await;
        let (mut talk, _) = open(&member, at).await;
        talk.say(report(&talk, 1, true, [instance])).await.unwrap();
        reported(&mut talk, 1).await;
        talks.push((member, talk));
    }
    let (dead, mut talk) = talks.pop().unwrap();
    talk.say(report(&talk, 2, false, [3, 4])).await.unwrap();
    reported(&mut talk, 2).await;
    drop(talk);
    let (_, a) = &mut talks[0];
    subscribe(a).await;
    // Whoever has the duty, and whoever has the session.
    let mut told = false;
    soon(async {
        while !told || known.instances() != [1, 2] {
            match a.hear().await.unwrap() {
                FromControl::Dead { node } => {
                    assert_eq!(node.as_str(), "c");
                    told = true;
                }
                message => known.take(message),
            }
        }
    })
    .await;
    let history = one.handle.history(Generation(0), 100).await.unwrap();
    let words: Vec<_> = history.iter().map(|entry| entry.action.words.as_str()).collect();
    assert_eq!(
        words[1..],
        [
            "host c is dead: it was not heard of for the session time-out",
            "2 endpoints of dead host c go, of 1 services"
        ]
    );
    let lead = lead(&world).await.unwrap();
    assert!(history[1].action.duty.is_some());
    assert_eq!(history[1].action.who, format!("control {}", lead.control));
    assert_eq!(one.handle.history(history[1].generation, 100).await.unwrap(), history[2..]);
    assert_eq!(one.handle.history(Generation(0), 1).await.unwrap(), history[2..]);
    // It is back, and nothing of it is lost.
    let (back, _) = open(&dead, two.at).await;
    back.say(report(&back, 1, true, [3, 4])).await.unwrap();
    soon(has(a, &mut known, &[1, 2, 3, 4])).await;
}

#[tokio::test]
async fn when_a_replica_ends_another_has_its_duty_at_once() {
    let world = World::new().await;
    let one = world.replica("one").await;
    let first = soon(other_lead(&world, None)).await;
    let two = world.replica("two").await;
    one.stop().await;
    let second = soon(other_lead(&world, Some(&first))).await;
    let three = world.replica("three").await;
    // One that is killed says nothing: its lease has to end.
    two.kill();
    soon(other_lead(&world, Some(&second))).await;
    drop(three);
}
