//! The schema's version, and migrations.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "common/memory.rs"]
mod memory;

use std::{fs::File, path::Path};

use memory::{Failing, contents, memory};
use sinew_control::store::{
    Entry, Op, Span, Store, Transaction,
    schema::{self, Error, KEY, Migration, VERSION, migrate},
    transfer::{Import, import},
};
use tokio::io::BufReader;

async fn put(store: &dyn Store, key: &str, value: &str) {
    store.commit(Transaction::put(key.to_owned(), value.to_owned())).await.unwrap();
}

#[tokio::test]
async fn an_empty_store_gets_the_version() {
    let store = memory().await;
    for _ in 0..2 {
        schema::open(&store).await.unwrap();
        assert_eq!(contents(&store).await, [format!("{KEY}={VERSION}")]);
    }
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_left() {
    for (key, value, expected) in [
        (KEY, "2", "the store has schema version 2, and this program knows 1: use the Sinew that"),
        (KEY, "0", "there is no migration from schema version 0"),
        (KEY, "one", "sinew/schema is \"one\": it was changed by something else; import an export"),
        ("sinew/a", "1", "the store has no schema version, and yet \"sinew/a\": what begins with"),
        ("sinew/import", "", "an import into the store is not finished"),
    ] {
        let store = memory().await;
        put(&store, key, value).await;
        let error = schema::open(&store).await.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(contents(&store).await, [format!("{key}={value}")]);
    }
    let store = memory().await;
    put(&store, "somebody/else", "1").await;
    schema::open(&store).await.unwrap();
}

/// Neither may be done twice to an entry.
const STEPS: [Migration; 2] = [
    Migration { from: 1, prefix: "sinew/a/", change: append },
    Migration { from: 2, prefix: "sinew/a/", change: rename },
];

fn append(entry: &Entry) -> Result<Vec<Op>, String> {
    Ok(vec![Op::put(entry.key.clone(), [&entry.value[..], b"!"].concat())])
}

fn rename(entry: &Entry) -> Result<Vec<Op>, String> {
    let new = [b"sinew/b/", &entry.key["sinew/a/".len()..]].concat();
    Ok(vec![Op::delete(entry.key.clone()), Op::put(new, entry.value.clone())])
}

async fn old() -> sinew_control::store::Embedded {
    let store = memory().await;
    put(&store, KEY, "1").await;
    for n in 0..100 {
        put(&store, &format!("sinew/a/{n:03}"), &n.to_string()).await;
    }
    put(&store, "sinew/c", "1").await;
    store
}

async fn assert_migrated(store: &dyn Store) {
    let mut expected: Vec<String> = (0..100).map(|n| format!("sinew/b/{n:03}={n}!")).collect();
    expected.extend(["sinew/c=1".to_owned(), format!("{KEY}=3")]);
    assert_eq!(contents(store).await, expected);
}

#[tokio::test]
async fn each_step_is_done_once_to_each_entry() {
    let store = old().await;
    migrate(&store, 3, &STEPS).await.unwrap();
    assert_migrated(&store).await;
    migrate(&store, 3, &STEPS).await.unwrap();
    assert_migrated(&store).await;
    let back = migrate(&store, 2, &STEPS).await;
    assert!(matches!(back, Err(Error::Newer { found: 3, known: 2 })), "{back:?}");
}

#[tokio::test]
async fn interrupted_anywhere_it_goes_on() {
    for fails in 0.. {
        let store = old().await;
        if migrate(&Failing::at(&store, fails), 3, &STEPS).await.is_ok() {
            assert!(fails > 12, "{fails}");
            return;
        }
        migrate(&store, 3, &STEPS).await.unwrap();
        assert_migrated(&store).await;
    }
}

#[tokio::test]
async fn several_at_once_do_it_once() {
    let store = old().await;
    let all = (0..4).map(|_| migrate(&store, 3, &STEPS));
    for migrated in futures_util::future::join_all(all).await {
        migrated.unwrap();
    }
    assert_migrated(&store).await;
}

#[tokio::test]
async fn an_entry_that_it_does_not_take_is_named() {
    let store = old().await;
    put(&store, "sinew/a/050", "bad").await;
    let refuses = |entry: &Entry| match &entry.value[..] {
        b"bad" => Err("it is bad".to_owned()),
        _ => append(entry),
    };
    let step = Migration { from: 1, prefix: "sinew/a/", change: refuses };
    let error = migrate(&store, 2, &[step]).await.unwrap_err().to_string();
    let expected = "migrating schema version 1: \"sinew/a/050\": it is bad; nothing of it is lost";
    assert_eq!(error, expected);
    put(&store, "sinew/a/050", "50").await;
    migrate(&store, 3, &STEPS).await.unwrap();
    assert_migrated(&store).await;
}

/// The exports in `tests/schema` were made by the first Sinew that wrote their version.
#[tokio::test]
async fn every_version_there_was_can_be_opened() {
    for version in 1..=VERSION {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schema/{version}.jsonl"));
        let mut file = BufReader::new(tokio::fs::File::from_std(File::open(file).unwrap()));
        let store = memory().await;
        import(&store, &mut file, Import::default()).await.unwrap();
        schema::open(&store).await.unwrap();
        let expected = ["sinew/a=text", "sinew/b=\\x00\\xff", &format!("{KEY}={VERSION}")];
        assert_eq!(contents(&store).await, expected);
        let leased =
            store.range(sinew_control::store::Range::of(Span::key("sinew/a"))).await.unwrap();
        assert!(leased.entries[0].lease.is_some());
    }
}
