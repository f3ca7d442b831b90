//! The authority of a network over a store: tokens, certificates, their renewal and end; and that
//! replicas asked at once agree.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "common/etcd.rs"]
mod etcd;
#[path = "common/memory.rs"]
mod memory;
#[path = "identity/roots.rs"]
mod roots;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use sinew_control::{
    identity::{Admitted, Authority, Denied, Error, Grant, GrantError, Issued, Lives, Purpose},
    store::{Etcd, Store},
};
use sinew_identity::{Key, Moment, Peer, Role, Token, Trust, Usage};
use sinew_model::{NetworkName, NodeName, ZoneName};

const NOW: Moment = Moment(1_700_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

async fn authority(store: &Arc<dyn Store>) -> Authority {
    let network = NetworkName::new("prod").unwrap();
    Authority::open(Arc::clone(store), network, None, Lives::default(), NOW).await.unwrap()
}

async fn in_memory() -> Authority {
    authority(&(Arc::new(memory::memory().await) as Arc<dyn Store>)).await
}

fn node(name: &str) -> Role {
    Role::Node(NodeName::new(name).unwrap())
}

/// A token for that name.
fn named(name: &str) -> Grant {
    let name = Some(NodeName::new(name).unwrap());
    Grant { purpose: Purpose::Node { name, zone: None }, ..Grant::one_host() }
}

fn request(key: &Key) -> Vec<u8> {
    key.request().unwrap()
}

/// Joins with a new key.
async fn join(by: &Authority, token: &Token, name: &str, now: Moment) -> Result<Issued, Error> {
    by.join(token, &node(name), &request(&Key::generate().unwrap()), now).await
}

/// Who the connection would say that the holder of these is.
fn peer(issued: &Issued, now: Moment) -> Peer {
    let trust = Trust { network: NetworkName::new("prod").unwrap(), roots: issued.roots.clone() };
    trust.check(&issued.chain[0], &issued.chain[1..], Usage::Client, None, now).unwrap()
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Error>) -> Denied {
    match answer.unwrap_err() {
        Error::Denied(denied) => denied,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_token_admits_one_host() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let issued = join(&authority, &token, "web", NOW).await.unwrap();
    let peer = peer(&issued, NOW);
    assert_eq!(peer.identity.to_string(), "spiffe://prod/node/web");
    assert_eq!(peer.life.not_after, NOW + DAY);
    assert_eq!(authority.admit(&peer).await.unwrap(), Admitted { zone: None });

    let used = denied(join(&authority, &token, "db", NOW + HOUR / 2).await);
    assert_eq!(used, Denied::Used { id: token.id.clone(), by: node("web"), at: NOW });
    assert!(used.to_string().contains("node/web joined with it at 2023-11-14T22:13:20Z"), "{used}");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let key = Key::generate().unwrap();
    let first = authority.join(&token, &node("web"), &request(&key), NOW).await.unwrap();
    let second = authority.join(&token, &node("web"), &request(&key), NOW).await.unwrap();
    // Only the one that has arrived is good.
    assert!(matches!(denied(authority.admit(&peer(&first, NOW)).await), Denied::Replaced { .. }));
    authority.admit(&peer(&second, NOW)).await.unwrap();
    // Another key, or another name, is somebody else.
    assert!(matches!(denied(join(&authority, &token, "web", NOW).await), Denied::Used { .. }));
    let other = authority.join(&token, &node("db"), &request(&key), NOW).await;
    assert!(matches!(denied(other), Denied::Used { .. }));
    // Once it has renewed, the token is of no use to whoever has the old key.
    let next = Key::generate().unwrap();
    authority.renew(&peer(&second, NOW), &request(&next), NOW).await.unwrap();
    let again = authority.join(&token, &node("web"), &request(&key), NOW).await;
    assert!(matches!(denied(again), Denied::Used { .. }));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_to_who_has_it() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let late = NOW + HOUR + Duration::from_secs(5);
    let expired = denied(join(&authority, &token, "web", late).await);
    assert_eq!(
        expired.to_string(),
        format!(
            "join token {} expired at 2023-11-14T23:13:20Z, 5 s ago by control's clock, which says \
             2023-11-14T23:13:25Z: make one with `sinew token create`; if it was made just now, the \
             clocks of the control hosts differ",
            token.id
        )
    );
    join(&authority, &token, "web", NOW + HOUR).await.unwrap();

    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    authority.revoke_token(&token.id, NOW).await.unwrap();
    authority.revoke_token(&token.id, NOW + HOUR).await.unwrap();
    let revoked = denied(join(&authority, &token, "db", NOW).await);
    assert_eq!(revoked, Denied::Revoked { id: token.id.clone(), at: NOW });

    // The right id with another secret learns nothing, not even that it is revoked.
    let text = token.reveal().reveal().to_owned();
    let id = token.id.as_str();
    let mut bytes = [0x11; sinew_identity::token::RANDOM_BYTES];
    for (n, byte) in bytes.iter_mut().take(5).enumerate() {
        *byte = u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap();
    }
    let guess = Token::new(bytes, token.root);
    assert_ne!(guess.reveal().reveal(), text);
    let wrong = denied(join(&authority, &guess, "db", NOW).await);
    assert_eq!(wrong, Denied::WrongSecret { id: token.id.clone() });

    let strange = Token::new([0x22; sinew_identity::token::RANDOM_BYTES], token.root);
    assert!(matches!(denied(join(&authority, &strange, "db", NOW).await), Denied::Unknown { .. }));
    assert!(matches!(
        denied(authority.revoke_token(&strange.id, NOW).await),
        Denied::Unknown { .. }
    ));
}

#[tokio::test]
async fn a_token_is_for_one_purpose() {
    let authority = in_memory().await;
    let token = authority.create_token(named("web"), NOW).await.unwrap();
    let wrong = denied(join(&authority, &token, "db", NOW).await).to_string();
    assert!(wrong.contains("is for node/web alone, and node/db asks"), "{wrong}");
    let control: Role = "control/a".parse().unwrap();
    let key = Key::generate().unwrap();
    let wrong = denied(authority.join(&token, &control, &request(&key), NOW).await);
    assert!(matches!(wrong, Denied::WrongPurpose { .. }));
    let grant = Grant { purpose: Purpose::Control, ..Grant::one_host() };
    let token = authority.create_token(grant, NOW).await.unwrap();
    assert!(matches!(
        denied(join(&authority, &token, "db", NOW).await),
        Denied::WrongPurpose { .. }
    ));
    let issued = authority.join(&token, &control, &request(&key), NOW).await.unwrap();
    authority.admit(&peer(&issued, NOW)).await.unwrap();

    let zone = Some(ZoneName::new("east").unwrap());
    let purpose = Purpose::Node { name: None, zone: zone.clone() };
    let token = authority.create_token(Grant { purpose, ..Grant::one_host() }, NOW).await.unwrap();
    let issued = join(&authority, &token, "db", NOW).await.unwrap();
    assert_eq!(authority.admit(&peer(&issued, NOW)).await.unwrap(), Admitted { zone });
}

#[tokio::test]
async fn tokens_of_nothing_and_of_too_much_are_not_made() {
    let authority = in_memory().await;
    let made = async |grant| match authority.create_token(grant, NOW).await.unwrap_err() {
        Error::Grant(error) => error,
        other => panic!("{other}"),
    };
    assert_eq!(made(Grant { uses: 0, ..Grant::one_host() }).await, GrantError::NoUses);
    let endless = made(Grant { life: DAY * 8, ..Grant::one_host() }).await;
    assert_eq!(endless.to_string(), "a token lasts 1 s to 604800 s: 691200 s were given");
    assert_eq!(made(Grant { uses: 2, ..named("web") }).await, GrantError::OneName { uses: 2 });
    assert!(authority.tokens().await.unwrap().is_empty());
}

#[tokio::test]
async fn tokens_long_past_are_forgotten() {
    let authority = in_memory().await;
    let old = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let kept = authority.create_token(Grant::one_host(), NOW + DAY).await.unwrap();
    let new = authority.create_token(Grant::one_host(), NOW + HOUR * 2 + DAY * 7).await.unwrap();
    let mut ids: Vec<_> = authority.tokens().await.unwrap().into_iter().map(|t| t.id).collect();
    ids.sort();
    let mut left = vec![kept.id, new.id];
    left.sort();
    assert_eq!(ids, left);
    assert!(matches!(denied(join(&authority, &old, "web", NOW).await), Denied::Unknown { .. }));
}

#[tokio::test]
async fn the_store_holds_nothing_to_join_with() {
    let store = memory::memory().await;
    let authority = authority(&(Arc::new(store.clone()) as Arc<dyn Store>)).await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    join(&authority, &token, "web", NOW).await.unwrap();
    let kept = memory::contents(&store).await.join("\n");
    let secret = token.reveal().reveal().split('.').nth(2).unwrap().to_owned();
    assert!(kept.contains(token.id.as_str()) && !kept.contains(&secret));
}

#[tokio::test]
async fn a_name_is_not_taken_from_a_member() {
    let authority = in_memory().await;
    let any = async || authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let first = join(&authority, &any().await, "web", NOW).await.unwrap();
    let taken = denied(join(&authority, &any().await, "web", NOW).await);
    assert_eq!(taken, Denied::NameTaken { role: node("web"), until: NOW + DAY });
    // The token was not used by that.
    let token = any().await;
    denied(join(&authority, &token, "web", NOW).await);
    join(&authority, &token, "db", NOW).await.unwrap();

    // A token for the name takes it: the host before has no session any more.
    let token = authority.create_token(named("web"), NOW).await.unwrap();
    let second = join(&authority, &token, "web", NOW).await.unwrap();
    authority.admit(&peer(&second, NOW)).await.unwrap();
    let gone = denied(authority.admit(&peer(&first, NOW)).await);
    assert!(matches!(gone, Denied::Replaced { .. }));
    let key = Key::generate().unwrap();
    let gone = authority.renew(&peer(&first, NOW), &request(&key), NOW).await;
    assert!(matches!(denied(gone), Denied::Replaced { .. }));
}

#[tokio::test]
async fn a_host_whose_certificate_expired_joins_anew() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    join(&authority, &token, "web", NOW).await.unwrap();
    let later = NOW + DAY * 3;
    let token = authority.create_token(Grant::one_host(), later).await.unwrap();
    let issued = join(&authority, &token, "web", later).await.unwrap();
    authority.admit(&peer(&issued, later)).await.unwrap();
}

#[tokio::test]
async fn renewal_keeps_the_name_and_survives_a_lost_answer() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let mut held = join(&authority, &token, "web", NOW).await.unwrap();
    let mut now = NOW;
    for _ in 0..30 {
        now = now + HOUR * 16;
        let old = peer(&held, now);
        let renew = async || {
            let key = Key::generate().unwrap();
            authority.renew(&old, &request(&key), now).await.unwrap()
        };
        let lost = renew().await;
        held = renew().await;
        assert_eq!(held.certificate.identity, old.identity);
        assert_eq!(held.certificate.life.not_after, now + DAY);
        authority.admit(&peer(&held, now)).await.unwrap();
        authority.admit(&old).await.unwrap();
        assert!(matches!(
            denied(authority.admit(&peer(&lost, now)).await),
            Denied::Replaced { .. }
        ));
    }
}

#[tokio::test]
async fn who_was_withdrawn_comes_back_by_a_new_token_for_its_name_alone() {
    let authority = in_memory().await;
    let before = authority.create_token(named("web"), NOW).await.unwrap();
    let spare = authority.create_token(named("web"), NOW).await.unwrap();
    let key = Key::generate().unwrap();
    let issued = authority.join(&before, &node("web"), &request(&key), NOW).await.unwrap();
    let held = peer(&issued, NOW);
    let later = NOW + HOUR / 2;
    authority.withdraw(&NodeName::new("web").unwrap(), later).await.unwrap();
    let out = Denied::Withdrawn { role: node("web"), at: later };
    assert_eq!(denied(authority.admit(&held).await), out);
    assert_eq!(denied(authority.renew(&held, &request(&key), later).await), out);
    let any = authority.create_token(Grant::one_host(), later).await.unwrap();
    assert_eq!(denied(join(&authority, &any, "web", later).await), out);
    // Neither the token it came with nor one from before.
    assert_eq!(denied(authority.join(&before, &node("web"), &request(&key), later).await), out);
    assert_eq!(denied(join(&authority, &spare, "web", later).await), out);
    let token = authority.create_token(named("web"), later).await.unwrap();
    let back = join(&authority, &token, "web", later).await.unwrap();
    authority.admit(&peer(&back, later)).await.unwrap();
    assert!(matches!(denied(authority.admit(&held).await), Denied::Replaced { .. }));
}

/// Replicas that are asked at once: the root is one, and a token admits as many as it should.
async fn race(store: Arc<dyn Store>) {
    let replicas = join_all((0..4).map(|_| authority(&store))).await;
    let token =
        replicas[0].create_token(Grant { uses: 3, ..Grant::one_host() }, NOW).await.unwrap();
    let names: Vec<String> = (0..12).map(|n| format!("web-{n}")).collect();
    let asked = names.iter().enumerate().map(|(n, name)| join(&replicas[n % 4], &token, name, NOW));
    let (admitted, refused): (Vec<_>, Vec<_>) =
        join_all(asked).await.into_iter().partition(Result::is_ok);
    assert_eq!(admitted.len(), 3);
    for answer in refused {
        assert!(matches!(denied(answer), Denied::Used { .. }));
    }
    for issued in &admitted {
        let peer = peer(issued.as_ref().unwrap(), NOW);
        replicas[3].admit(&peer).await.unwrap();
    }
    // One name, two tokens of any name, two replicas: one gets it.
    let one = replicas[0].create_token(Grant::one_host(), NOW).await.unwrap();
    let two = replicas[0].create_token(Grant::one_host(), NOW).await.unwrap();
    let both = [join(&replicas[1], &one, "db", NOW), join(&replicas[2], &two, "db", NOW)];
    let answers = join_all(both).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    // A whole network with one token: none is turned away because the others write it too.
    let all = 80;
    let token =
        replicas[0].create_token(Grant { uses: all, ..Grant::one_host() }, NOW).await.unwrap();
    let names: Vec<String> = (0..all).map(|n| format!("all-{n}")).collect();
    let asked = names.iter().enumerate().map(|(n, name)| join(&replicas[n % 4], &token, name, NOW));
    for answer in join_all(asked).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn replicas_asked_at_once_agree_over_a_file() {
    race(Arc::new(memory::memory().await)).await;
}

#[tokio::test]
async fn replicas_asked_at_once_agree_over_etcd() {
    let cluster = etcd::Cluster::single();
    race(Arc::new(Etcd::connect(cluster.options()).await.unwrap())).await;
}
