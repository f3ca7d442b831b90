//! The root: sealed or not, one for all replicas, and replaced.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use sinew_control::{
    identity::{Authority, Error, Grant, Lives, Seal, SealError},
    store::{Op, Range, Span, Store, Transaction},
};
use sinew_identity::{Trust, Usage, tls::Credentials};
use sinew_model::{ControlName, NetworkName};

use crate::{DAY, HOUR, NOW, in_memory, join, memory, peer};

fn control() -> ControlName {
    ControlName::new("a").unwrap()
}

fn accepts(trust: &Trust, shown: &Credentials, now: sinew_identity::Moment) -> bool {
    let chain = shown.chain();
    trust.check(&chain[0], &chain[1..], Usage::Server, None, now).is_ok()
}

#[tokio::test]
async fn a_store_is_of_one_network() {
    let store: Arc<dyn Store> = Arc::new(memory::memory().await);
    crate::authority(&store).await;
    let other = NetworkName::new("test").unwrap();
    let opened = Authority::open(store, other, None, Lives::default(), NOW).await;
    let told = opened.err().unwrap().to_string();
    assert!(told.contains("holds network prod, and this is to be network test"), "{told}");
}

#[tokio::test]
async fn hosts_and_tokens_outlive_a_rotation() {
    let authority = in_memory().await;
    let token = authority.create_token(Grant::one_host(), NOW).await.unwrap();
    let late =
        authority.create_token(Grant { life: DAY * 7, ..Grant::one_host() }, NOW).await.unwrap();
    let held = join(&authority, &token, "web", NOW).await.unwrap();
    let known = Trust { network: NetworkName::new("prod").unwrap(), roots: held.roots.clone() };
    let old = authority.credentials(&control(), NOW).await.unwrap();

    let rotated = NOW + HOUR;
    let fingerprint = authority.rotate(rotated).await.unwrap();
    assert_ne!(fingerprint, token.root);
    let again = authority.rotate(rotated + DAY * 7).await.unwrap_err();
    assert!(matches!(again, Error::RotationUnderway { until } if until == rotated + DAY * 7));

    // Control with the new root is believed by a host that knows the old one, and the host by it.
    let new = authority.credentials(&control(), rotated).await.unwrap();
    assert!(accepts(&known, &new, rotated));
    let (leaf, others) = held.chain.split_first().unwrap();
    new.trust().check(leaf, others, Usage::Client, None, rotated).unwrap();
    // A replica that still serves with the old one goes on as well.
    assert!(accepts(new.trust(), &old, rotated));

    // The next certificate brings the new root; a token from before still joins.
    let key = sinew_identity::Key::generate().unwrap();
    let renewed =
        authority.renew(&peer(&held, rotated), &key.request().unwrap(), rotated).await.unwrap();
    assert_eq!(renewed.roots.len(), 2);
    let end = NOW + DAY * 7;
    let shown = authority.credentials(&control(), end).await.unwrap();
    let (leaf, others) = shown.chain().split_first().unwrap();
    Trust::first_contact(late.root, leaf, others, end).unwrap();
    join(&authority, &late, "db", end).await.unwrap();

    // After its time the old one is trusted no more, and the next rotation may be.
    let after = rotated + DAY * 7 + HOUR;
    let shown = authority.credentials(&control(), after).await.unwrap();
    assert_eq!(shown.trust().roots.len(), 1);
    assert!(!accepts(&known, &shown, after));
    authority.rotate(after).await.unwrap();
}

#[tokio::test]
async fn an_expired_root_signs_nothing_and_can_be_replaced() {
    let authority = in_memory().await;
    let end = NOW + Lives::default().root;
    let told = authority.credentials(&control(), end + HOUR).await.unwrap_err().to_string();
    assert!(told.contains("rotate the root"), "{told}");
    authority.rotate(end + HOUR).await.unwrap();
    authority.credentials(&control(), end + HOUR).await.unwrap();
}

fn key_file(directory: &tempfile::TempDir, digits: &str) -> PathBuf {
    let path = directory.path().join(&digits[..2]);
    fs::write(&path, format!("{digits}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn open(store: &Arc<dyn Store>, seal: Option<Seal>) -> Result<Authority, Error> {
    let network = NetworkName::new("prod").unwrap();
    Authority::open(Arc::clone(store), network, seal, Lives::default(), NOW).await
}

#[tokio::test]
async fn a_sealed_root_is_of_no_use_without_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = ("ab".repeat(32), "cd".repeat(32));
    let right = key_file(&directory, &right);
    let wrong = key_file(&directory, &wrong);
    let kept = memory::memory().await;
    let store: Arc<dyn Store> = Arc::new(kept.clone());
    open(&store, Some(Seal::read(&right).unwrap())).await.unwrap();
    assert!(!memory::contents(&kept).await.join("\n").contains("PRIVATE KEY"));
    let again = open(&store, Some(Seal::read(&right).unwrap())).await.unwrap();
    again.credentials(&control(), NOW).await.unwrap();

    let seal = |opened: Result<Authority, Error>| match opened.err().unwrap() {
        Error::Seal(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(seal(open(&store, None).await), SealError::Missing { .. }));
    let other = seal(open(&store, Some(Seal::read(&wrong).unwrap())).await);
    assert!(matches!(other, SealError::Other { .. }));

    // One bit of what is sealed.
    let key = "sinew/ca/root";
    let entry = store.range(Range::of(Span::key(key))).await.unwrap().entries.remove(0);
    let mut value: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    let sealed = value["key"]["sealed"]["sealed"].as_str().unwrap().to_owned();
    let flipped = if sealed.starts_with('A') { "B" } else { "A" };
    value["key"]["sealed"]["sealed"] = format!("{flipped}{}", &sealed[1..]).into();
    let damaged = value.to_string();
    store.commit(Transaction::new().then(Op::put(key, damaged))).await.unwrap();
    let told = seal(open(&store, Some(Seal::read(&right).unwrap())).await);
    assert!(matches!(told, SealError::Damaged), "{told}");
}

#[tokio::test]
async fn rotation_seals_a_root_that_was_not() {
    let directory = tempfile::tempdir().unwrap();
    let kept = memory::memory().await;
    let store: Arc<dyn Store> = Arc::new(kept.clone());
    open(&store, None).await.unwrap();
    assert!(memory::contents(&kept).await.join("\n").contains("PRIVATE KEY"));
    let seal = Seal::read(&key_file(&directory, &"ab".repeat(32))).unwrap();
    let authority = open(&store, Some(seal)).await.unwrap();
    authority.rotate(NOW).await.unwrap();
    assert!(!memory::contents(&kept).await.join("\n").contains("PRIVATE KEY"));
}

#[test]
fn key_files_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let told = |path: &PathBuf| Seal::read(path).unwrap_err().to_string();
    let path = key_file(&directory, "12345");
    assert!(told(&path).contains("openssl rand -hex 32"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told(&path).contains("mode 644"));
    assert!(told(&directory.path().join("none")).contains("cannot read key file"));
}

#[tokio::test]
async fn a_damaged_root_is_told_and_left() {
    let store: Arc<dyn Store> = Arc::new(memory::memory().await);
    crate::authority(&store).await;
    let put = Transaction::new().then(Op::put("sinew/ca/root", "{\"network\":"));
    store.commit(put).await.unwrap();
    let told = open(&store, None).await.err().unwrap().to_string();
    assert!(told.contains("sinew/ca/root in the store is damaged at line 1"), "{told}");
}
