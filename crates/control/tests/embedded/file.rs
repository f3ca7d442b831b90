//! Opening a file.

use std::{fs, path::Path, sync::Arc, time::Duration};

use sinew_control::store::{
    Clock as _, Embedded, Error, Fault, ManualClock, Op, Range, Revision, Span, Store, Transaction,
    embedded::Options,
};

async fn open(file: &Path) -> Result<Embedded, Error> {
    Embedded::open(file, Options::default()).await
}

async fn filled(file: &Path) {
    let store = open(file).await.unwrap();
    for n in 0..200 {
        store.commit(Transaction::put(format!("k/{n}"), vec![b'v'; 500])).await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    filled(&file).await;
    let store = open(&file).await.unwrap();
    let ranged = store.range(Range::of(Span::prefix("k/"))).await.unwrap();
    assert_eq!((ranged.revision, ranged.entries.len()), (Revision(201), 200));
    assert_eq!(store.commit(Transaction::put("k/0", "")).await.unwrap().revision, Revision(202));
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let first = open(&file).await.unwrap();
    let second = open(&file).await.map(drop).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second:?}");
    assert_eq!(second.fault(), Fault::Operator);
    first.close().await;
    open(&file).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_told_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let whole = directory.path().join("store");
    filled(&whole).await;
    let whole = fs::read(whole).unwrap();
    let length = whole.len();
    let place = |at: usize| (at..at + 64).collect::<Vec<_>>();
    let values: Vec<usize> =
        (0..length - 8).filter(|&at| whole[at..at + 8] == *b"vvvvvvvv").collect();
    let damages =
        [place(0), place(128), values[..8].to_vec(), values[values.len() / 2..][..8].to_vec()];
    for (number, damage) in damages.into_iter().enumerate() {
        let mut bytes = whole.clone();
        damage.iter().for_each(|&at| bytes[at] ^= 0x5a);
        refused(&directory.path().join(format!("damaged{number}")), &bytes).await;
    }
    refused(&directory.path().join("cut"), &whole[..length / 2]).await;
    refused(&directory.path().join("text"), b"not a store, and somebody needs it\n").await;
}

async fn refused(file: &Path, bytes: &[u8]) {
    fs::write(file, bytes).unwrap();
    let error = open(file).await.map(drop).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{}: {error:?}", file.display());
    assert!(error.to_string().contains("move it away"), "{error}");
    assert!(fs::read(file).unwrap() == bytes, "{} was changed", file.display());
}

#[tokio::test]
async fn leases_live_anew_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let clock = Arc::new(ManualClock::default());
    let open = async || {
        Embedded::with_clock(&file, Options::default(), Arc::clone(&clock) as _).await.unwrap()
    };
    let store = open().await;
    let lease = store.grant(Duration::from_secs(5)).await.unwrap();
    store.commit(Transaction::new().then(Op::put_under(lease.id, "a", ""))).await.unwrap();
    store.close().await;
    // Whoever was down cannot have heard of owners that were not.
    clock.advance(Duration::from_secs(60));
    let store = open().await;
    let status = store.time_to_live(lease.id).await.unwrap();
    assert_eq!((status.remaining, status.keys.len()), (lease.ttl, 1));
    let mut watch = store.watch(Span::all(), None).await.unwrap();
    clock.advance(lease.ttl);
    futures_util::StreamExt::next(&mut watch).await.unwrap().unwrap();
    assert_eq!(store.range(Range::of(Span::all())).await.unwrap().entries, []);
    assert_eq!(clock.now(), Duration::from_secs(65));
}

#[tokio::test]
async fn watches_end_when_the_store_is_closed() {
    let store =
        Embedded::in_memory(Options::default(), Arc::new(ManualClock::default())).await.unwrap();
    let mut watch = store.watch(Span::all(), None).await.unwrap();
    store.close().await;
    let told = futures_util::StreamExt::next(&mut watch).await.unwrap();
    assert!(matches!(told, Err(Error::Unavailable { .. })), "{told:?}");
    assert!(futures_util::StreamExt::next(&mut watch).await.is_none());
}
