//! The host's file: what is written comes back, and what is wrong with it is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "tls/network.rs"]
#[allow(dead_code, reason = "a part is used")]
mod network;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use network::{DAY, NOW, Network, node};
use sinew_identity::{
    Key, Refusal, Root,
    file::{self, FileError},
    tls::{Credentials, CredentialsError},
};
use sinew_model::NetworkName;

fn joined() -> (Key, Credentials) {
    let network = Network::new("prod");
    let key = Key::generate().unwrap();
    let (leaf, _) = network.sign(&node("web"), &key.request().unwrap(), NOW).unwrap();
    let roots = network.node("x").trust().roots.clone();
    let credentials = Credentials::new(&key, vec![leaf], roots).unwrap();
    (key, credentials)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn it_comes_back_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity.json");
    assert!(matches!(file::read(&path), Err(FileError::Missing { .. })));
    let (key, credentials) = joined();
    // What a writer that was killed has left.
    fs::write(path.with_extension("new"), "half").unwrap();
    file::write(&path, &key, &credentials).unwrap();
    assert_eq!(mode(&path), 0o600);
    let (read_key, read) = file::read(&path).unwrap();
    assert_eq!(read_key.fingerprint(), key.fingerprint());
    assert_eq!(read.certificate(), credentials.certificate());
    assert_eq!(read.trust(), credentials.trust());

    let (key, credentials) = joined();
    file::write(&path, &key, &credentials).unwrap();
    assert_eq!(file::read(&path).unwrap().1.certificate(), credentials.certificate());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity.json");
    let (key, credentials) = joined();
    file::write(&path, &key, &credentials).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = file::read(&path).unwrap_err().to_string();
    assert!(refused.contains("has mode 640") && refused.contains("chmod 600"), "{refused}");
}

#[test]
fn any_damage_is_told_with_its_remedy_and_without_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity.json");
    let (key, credentials) = joined();
    file::write(&path, &key, &credentials).unwrap();
    let whole = fs::read_to_string(&path).unwrap();
    let secret = key.to_pem().reveal().lines().nth(1).unwrap().to_owned();
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        let told = file::read(&path).unwrap_err();
        assert!(!format!("{told} {told:?}").contains(&secret[..20]), "{told:?}");
        told.to_string()
    };
    let remedy = "move it away and join again with a fresh token";
    for cut in (0..whole.len()).step_by(97) {
        assert!(refused(&whole[..cut]).ends_with(remedy), "cut at {cut}");
    }
    assert!(refused(&whole.replace("BEGIN CERT", "BEGIN CART")).ends_with(remedy));
    let (other, _) = joined();
    let other = serde_json::to_string(other.to_pem().reveal()).unwrap();
    let mine = serde_json::to_string(key.to_pem().reveal()).unwrap();
    let told = refused(&whole.replace(&mine, &other));
    assert!(
        told.contains("the certificate of spiffe://prod/node/web is for another key"),
        "{told}"
    );
    let told = refused(&whole.replace("\"version\": 1", "\"version\": 2"));
    assert!(told.contains("is of version 2"), "{told}");
}

#[test]
fn parts_that_do_not_fit_are_no_credentials() {
    let (key, credentials) = joined();
    let chain = || credentials.chain().to_vec();
    let refused = |chain, roots| Credentials::new(&key, chain, roots).unwrap_err();
    assert_eq!(refused(chain(), Vec::new()), CredentialsError::NoRoots);
    assert_eq!(refused(Vec::new(), Vec::new()), CredentialsError::Empty);
    let network = NetworkName::new("prod").unwrap();
    let root = Root::generate(&network, Key::generate().unwrap(), NOW, DAY, [1; 16]).unwrap();
    let told = refused(vec![root.certificate().clone()], chain()).to_string();
    assert!(told.contains("0 URIs"), "{told}");
}

#[test]
fn an_answer_that_is_of_no_use_is_not_taken() {
    let network = Network::new("prod");
    let key = Key::generate().unwrap();
    let (leaf, _) = network.sign(&node("web"), &key.request().unwrap(), NOW).unwrap();
    let roots = network.node("x").trust().roots.clone();
    let accept = |roots: &[_], role, now| {
        Credentials::accept(&key, vec![leaf.clone()], roots.to_vec(), &node(role), now)
    };
    accept(&roots, "web", NOW).unwrap();
    let other = accept(&roots, "db", NOW).unwrap_err();
    assert_eq!(other, CredentialsError::OtherRole { got: node("web"), asked: node("db") });
    let strange = Network::new("prod").node("x").trust().roots.clone();
    let useless = accept(&strange, "web", NOW).unwrap_err();
    assert_eq!(useless, CredentialsError::Useless(Refusal::UnknownAuthority));
    let behind = accept(&roots, "web", sinew_identity::Moment(NOW.0 - 3600)).unwrap_err();
    assert!(behind.to_string().contains("the clocks differ by 3300 s at least"), "{behind}");
}
