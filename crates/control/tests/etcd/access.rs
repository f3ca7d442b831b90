//! Who may.

use std::fs;

use futures_util::StreamExt as _;
use sinew_control::store::{
    Error, Etcd, Fault, Range, Retry, Span, Store, Transaction, Update,
    etcd::{Options, Tls, User},
};

use crate::cluster::{Cluster, Config, key, pem};

fn tls(ca: &str, identity: Option<&str>) -> Option<Tls> {
    let read = |file: String| fs::read(file).unwrap();
    let identity = identity.map(|name| (read(pem(name)), read(key(name))));
    Some(Tls { ca_pem: read(pem(ca)), identity, server_name: None })
}

fn user(name: &str, password: &str) -> Option<User> {
    Some(User { name: name.to_owned(), password: password.to_owned() })
}

async fn refused(options: Options) -> Error {
    let error = Etcd::connect(options).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    assert_eq!((error.fault(), error.retry()), (Fault::Operator, Retry::No));
    error
}

#[tokio::test]
async fn certificates_have_to_fit() {
    let cluster = Cluster::start(Config { members: 1, tls: true, ..Config::default() });
    let with = |tls| Options { tls, ..cluster.options() };
    let store = Etcd::connect(with(tls("ca", Some("client")))).await.unwrap();
    store.commit(Transaction::put("a", "1")).await.unwrap();
    assert_eq!(store.range(Range::of(Span::all())).await.unwrap().entries.len(), 1);

    let error = refused(with(tls("stranger", Some("client")))).await;
    assert!(error.to_string().contains("check the CA"), "{error}");
    refused(with(tls("ca", None))).await;
    refused(with(tls("ca", Some("foreign")))).await;
    let other_name = tls("ca", Some("client"))
        .map(|tls| Tls { server_name: Some("other.example".to_owned()), ..tls });
    refused(with(other_name)).await;
}

/// A user who may do everything below `sinew/`.
fn secure(cluster: &Cluster) {
    for line in [
        "user add root:secret",
        "user grant-role root root",
        "role add sinew",
        "role grant-permission sinew readwrite --prefix sinew/",
        "user add sinew:secret",
        "user grant-role sinew sinew",
        "auth enable",
    ] {
        cluster.control(&line.split(' ').collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn users_may_do_what_their_roles_allow() {
    let mut cluster = Cluster::start(Config { members: 1, ..Config::default() });
    secure(&cluster);
    let with = |user| Options { user, ..cluster.options() };
    refused(with(user("sinew", "wrong"))).await;
    refused(with(user("nobody", "secret"))).await;
    let store = Etcd::connect(with(user("sinew", "secret"))).await.unwrap();
    store.commit(Transaction::put("sinew/a", "1")).await.unwrap();
    let denied = store.commit(Transaction::put("other", "1")).await.unwrap_err();
    assert!(matches!(denied, Error::PermissionDenied { call: "commit", .. }), "{denied:?}");
    let denied = store.watch(Span::all(), None).await.unwrap_err();
    assert!(matches!(denied, Error::PermissionDenied { .. }), "{denied:?}");
    let nobody = Etcd::connect(cluster.options()).await.unwrap();
    let refused = nobody.range(Range::of(Span::key("sinew/a"))).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthenticated { .. }), "{refused:?}");

    // A token that is older than the users, and one that the member has forgotten.
    let mut watch = store.watch(Span::prefix("sinew/"), None).await.unwrap();
    cluster.control(&["user", "add", "more:secret", "--user", "root:secret"]);
    store.commit(Transaction::put("sinew/a", "2")).await.unwrap();
    cluster.kill(0);
    cluster.restart(0).recv().unwrap();
    // A read finds the new connection; a write would leave open what the old one did.
    store.range(Range::of(Span::prefix("sinew/"))).await.unwrap();
    store.commit(Transaction::put("sinew/a", "3")).await.unwrap();
    let mut told = 0;
    while told < 2 {
        if let Update::Batch(_) = watch.next().await.unwrap().unwrap() {
            told += 1;
        }
    }
}

#[tokio::test]
async fn wrong_options_are_named() {
    let error = async |options| Etcd::connect(options).await.map(drop).unwrap_err().to_string();
    let of = |endpoint: &str| Options::new(vec![endpoint.to_owned()]);
    assert_eq!(error(Options::new(Vec::new())).await, "endpoints \"\": there has to be one");
    assert_eq!(
        error(of("localhost:2379")).await,
        "endpoints \"localhost:2379\": it has to begin with http:// or https://"
    );
    assert_eq!(
        error(of("https://localhost:2379")).await,
        "endpoints \"https://localhost:2379\": https needs the CA's certificate"
    );
    let tls = Tls { ca_pem: b"nonsense".to_vec(), identity: None, server_name: None };
    let with = Options { tls: Some(tls), ..of("https://localhost:2379") };
    assert_eq!(error(with).await, "tls ca_pem: it has no CERTIFICATE in PEM");
}
