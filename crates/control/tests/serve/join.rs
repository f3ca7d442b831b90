//! Who is let in, and what is said to who is not.

use std::time::Duration;

use sinew_control::{
    identity::{Grant, Lives, Purpose},
    testing::{self, Error},
};
use sinew_identity::{Key, Moment, Refusal, RefusedByPeer, tls};
use sinew_model::NodeName;
use sinew_proto::{Hello, Path};
use tonic::Code;

use crate::world::{World, hello, open, soon};

fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

fn code<T>(result: Result<T, Error>) -> (Code, String) {
    match result {
        Err(Error::Refused(status)) => (status.code(), status.message().to_owned()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn who_has_a_token_joins_and_who_has_none_does_not() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let token = world.any_token().await;
    let key = Key::generate().unwrap();
    let member = testing::join_with(replica.at, &token, &node("n1"), &key).await.unwrap();
    let (_talk, welcome) = open(&member, replica.at).await;
    assert_eq!((welcome.epoch, &welcome.control[..3]), (1, "c1-"));
    // The answer may have been lost.
    testing::join_with(replica.at, &token, &node("n1"), &key).await.unwrap();

    let (refused, why) = code(testing::join(replica.at, &token, &node("n2")).await);
    assert_eq!(refused, Code::PermissionDenied);
    assert!(why.contains("was used up: node/n1 joined with it at"), "{why}");

    let (refused, why) =
        code(testing::join(replica.at, &world.any_token().await, &node("n1")).await);
    assert_eq!(refused, Code::PermissionDenied);
    assert!(why.contains("node/n1 is a member already"), "{why}");

    let only = world.token(Purpose::Node { name: Some(node("n3")), zone: None }).await;
    let (_, why) = code(testing::join(replica.at, &only, &node("n4")).await);
    assert!(why.contains("is for node/n3 alone, and node/n4 asks"), "{why}");

    let revoked = world.any_token().await;
    let id = revoked.parse::<sinew_identity::Token>().unwrap().id;
    world.authority.revoke_token(&id, Moment::now()).await.unwrap();
    let (_, why) = code(testing::join(replica.at, &revoked, &node("n5")).await);
    assert!(why.contains("was revoked at"), "{why}");

    let short = Grant { life: Duration::from_secs(1), ..Grant::one_host() };
    let expired = world.token_of(short).await;
    let made = Moment::now();
    while Moment::now().since(made) < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_, why) = code(testing::join(replica.at, &expired, &node("n6")).await);
    assert!(why.contains("expired at"), "{why}");
}

#[tokio::test]
async fn a_token_of_another_network_is_refused_on_both_ends() {
    let (world, other) = (World::new().await, World::new().await);
    let replica = world.replica("c1").await;
    // The root that the token names is not the one that is shown.
    let told = testing::join(replica.at, &other.any_token().await, &node("n1")).await;
    let Err(Error::Io(error)) = told else { panic!("{told:?}") };
    assert!(matches!(Refusal::of_io(&error), Some(Refusal::NotOfToken { .. })), "{error}");
    // A secret that is wrong.
    let token = world.any_token().await;
    let right: sinew_identity::Token = token.parse().unwrap();
    let wrong = sinew_identity::Token::new([7; 25], right.root);
    let (refused, why) =
        code(testing::join(replica.at, wrong.reveal().reveal(), &node("n1")).await);
    assert_eq!(refused, Code::PermissionDenied);
    assert!(why.contains("is not known here"), "{why}");
}

#[tokio::test]
async fn a_stranger_may_join_and_nothing_else() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let root = world.any_token().await.parse::<sinew_identity::Token>().unwrap().root;
    let clock = std::sync::Arc::new(rustls::time_provider::DefaultTimeProvider);
    let config = tls::first_contact(root, clock).unwrap();
    let wire = testing::Wire::connect(replica.at, config).await.unwrap();
    let refused = wire.clone().talk().await.err().unwrap();
    assert!(refused.reason().contains("needs the certificate of a host"), "{refused}");
    let renew = sinew_proto::Renew { certificate_request: vec![1].into() };
    let (refused, _) = code(wire.clone().call(Path::Renew, renew.encode()).await);
    assert_eq!(refused, Code::Unauthenticated);
    let (refused, why) = code(wire.clone().call(Path::Join, vec![0xff; 7].into()).await);
    assert_eq!(refused, Code::InvalidArgument);
    assert!(why.contains("control cannot read what the agent says"), "{why}");
}

#[tokio::test]
async fn a_host_is_held_to_the_zone_of_its_token() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let token = world.token(Purpose::Node { name: None, zone: Some("b".parse().unwrap()) }).await;
    let member = testing::join(replica.at, &token, &node("n1")).await.unwrap();
    let (refused, why) = code(member.open(replica.at, hello(&member)).await);
    assert_eq!(refused, Code::PermissionDenied);
    assert!(why.starts_with("hello.zone is a, and the token"), "{why}");
    member.open(replica.at, member.hello("b".parse().unwrap())).await.unwrap();
}

#[tokio::test]
async fn versions_that_are_not_next_to_each_other_do_not_talk() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let newer = Hello { protocol: sinew_proto::PROTOCOL + 1, ..hello(&member) };
    member.open(replica.at, newer).await.unwrap();
    let far = Hello { protocol: sinew_proto::PROTOCOL + 2, ..hello(&member) };
    let (refused, why) = code(member.open(replica.at, far).await);
    assert_eq!(refused, Code::FailedPrecondition);
    assert!(why.contains("bring both to versions that are next to each other"), "{why}");
    let other = Hello { node: node("n2"), ..hello(&member) };
    let (refused, _) = code(member.open(replica.at, other).await);
    assert_eq!(refused, Code::PermissionDenied);
}

#[tokio::test]
async fn a_session_ends_with_the_certificate_that_it_began_with() {
    let lives = Lives { leaf: Duration::from_secs(3), ..Lives::default() };
    let world = World::with_lives(lives).await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let (mut talk, _) = open(&member, replica.at).await;
    let goodbye = talk.hear_until(|message| match message {
        sinew_proto::FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = soon(goodbye).await.unwrap();
    assert_eq!(reason, "the certificate that the session began with has expired");
    let life = member.holder.current().certificate().life;
    while Moment::now() <= life.not_after {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = member.open(replica.at, hello(&member)).await.err().unwrap();
    let told = match &refused {
        Error::Io(error) => RefusedByPeer::of_io(error, life, Moment::now()),
        _ => None,
    };
    assert!(told.is_some() || matches!(refused, Error::Http(_) | Error::Refused(_)), "{refused}");
}

#[tokio::test]
async fn a_certificate_is_renewed_and_a_withdrawn_host_loses_its_session() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let before = member.holder.current().certificate().serial.clone();
    member.renew(replica.at).await.unwrap();
    assert_ne!(member.holder.current().certificate().serial, before);
    let (mut talk, _) = open(&member, replica.at).await;
    world.authority.withdraw(&node("n1"), Moment::now()).await.unwrap();
    let goodbye = talk.hear_until(|message| match message {
        sinew_proto::FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = soon(goodbye).await.unwrap();
    assert!(reason.starts_with("node/n1 was withdrawn from the network at"), "{reason}");
    let (refused, why) = code(member.open(replica.at, hello(&member)).await);
    assert_eq!(refused, Code::PermissionDenied);
    assert!(why.contains("was withdrawn"), "{why}");
    let (refused, _) = code(member.renew(replica.at).await);
    assert_eq!(refused, Code::PermissionDenied);
}

#[tokio::test]
async fn when_the_root_changes_those_who_know_the_old_one_go_on() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (member, token) = (world.member(replica.at, "n1").await, world.any_token().await);
    let new = world.authority.rotate(Moment::now()).await.unwrap();
    // Control shows a certificate of the new root as soon as it has seen it.
    soon(async {
        loop {
            member.renew(replica.at).await.unwrap();
            let roots = member.holder.current().trust().roots.clone();
            if roots.iter().any(|root| sinew_identity::Fingerprint::of(root) == new) {
                break;
            }
        }
    })
    .await;
    open(&member, replica.at).await;
    testing::join(replica.at, &token, &node("n2")).await.unwrap();
    world.member(replica.at, "n3").await;
}
