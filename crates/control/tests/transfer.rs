//! Exports and imports, between a file's store and a real etcd.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "common/etcd.rs"]
mod etcd;
#[path = "common/memory.rs"]
mod memory;

use std::time::Duration;

use etcd::Cluster;
use memory::{Failing, contents, memory};
use sinew_control::store::{
    Embedded, Etcd, Op, Range, Span, Store, Transaction, schema,
    transfer::{Error, Import, Summary, export, import},
};
use tokio::io::AsyncWriteExt as _;

async fn exported(store: &dyn Store) -> Vec<u8> {
    let mut out = Vec::new();
    export(store, &mut out).await.unwrap();
    out
}

async fn imported(store: &dyn Store, mut export: &[u8], replace: bool) -> Result<Summary, Error> {
    import(store, &mut export, Import { replace, ..Import::default() }).await
}

/// 1203 entries: text, bytes, a large one, and two under a lease.
async fn filled() -> Embedded {
    let store = memory().await;
    schema::open(&store).await.unwrap();
    let lease = store.grant(Duration::from_secs(5)).await.unwrap().id;
    for n in 0..12 {
        let hundred = (0..100).fold(Transaction::new(), |all, m| {
            all.then(Op::put(format!("sinew/n/{n:02}{m:02}"), format!("{n}\n\"{m}\" ä")))
        });
        store.commit(hundred).await.unwrap();
    }
    let others = Transaction::put(&b"sinew/\xff\x00"[..], &b"\xfe\xff"[..])
        .then(Op::put_under(lease, "sinew/leased", ""))
        .then(Op::put("somebody/else", "not ours"));
    store.commit(others).await.unwrap();
    let large = vec![b'l'; Transaction::MAX_BYTES - "sinew/large".len()];
    store.commit(Transaction::put("sinew/large", large)).await.unwrap();
    store
}

async fn ours(store: &dyn Store) -> Vec<String> {
    let all = contents(store).await;
    all.into_iter().filter(|pair| pair.starts_with(schema::ROOT)).collect()
}

#[tokio::test]
async fn all_moves_to_etcd_and_back() {
    let source = filled().await;
    let cluster = Cluster::single();
    let target = Etcd::connect(cluster.options()).await.unwrap();
    let there = imported(&target, &exported(&source).await, false).await.unwrap();
    assert_eq!((there.leases, there.entries), (1, 1_204));
    schema::open(&target).await.unwrap();
    assert_eq!(ours(&target).await, ours(&source).await);
    let leased = target.range(Range::of(Span::key("sinew/leased"))).await.unwrap();
    let lease = leased.entries[0].lease.unwrap();
    assert_eq!(target.time_to_live(lease).await.unwrap().ttl, Duration::from_secs(60));

    let back = memory().await;
    let export = exported(&target).await;
    assert_eq!(imported(&back, &export, false).await.unwrap().entries, 1_204);
    assert_eq!(ours(&back).await, ours(&source).await);
    assert!(!contents(&back).await.iter().any(|pair| pair.starts_with("somebody")));
    let text = String::from_utf8(export).unwrap();
    assert!(text.contains(r#"{"entry":{"key":"sinew/n/0203","value":"2\n\"3\" ä"}}"#));
    assert!(text.contains(r#"{"entry":{"key_base64":"c2luZXcv/wA=","value_base64":"/v8="}}"#));
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_that_is_said() {
    let export = exported(&filled().await).await;
    let target = memory().await;
    schema::open(&target).await.unwrap();
    target.commit(Transaction::put("sinew/old", "")).await.unwrap();
    target.commit(Transaction::put("somebody/else", "")).await.unwrap();
    let before = contents(&target).await;
    let refused = imported(&target, &export, false).await;
    assert!(matches!(refused, Err(Error::NotEmpty)), "{refused:?}");
    assert_eq!(contents(&target).await, before);
    imported(&target, &export, true).await.unwrap();
    let after = contents(&target).await;
    assert!(
        !after.contains(&"sinew/old=".to_owned()) && after.contains(&"somebody/else=".to_owned())
    );
    assert_eq!(after.len(), 1_205);
}

#[tokio::test]
async fn an_interrupted_import_is_told_and_can_be_repeated() {
    let source = filled().await;
    let export = exported(&source).await;
    for fails in 0.. {
        let target = memory().await;
        let failing = Failing::at(&target, fails);
        if imported(&failing, &export, false).await.is_ok() {
            assert!(fails > 12, "{fails}");
            break;
        }
        if fails > 0 {
            let told = schema::open(&target).await;
            let done = ours(&target).await.len() == 1_204;
            assert!(done || matches!(told, Err(schema::Error::Importing)), "{fails}: {told:?}");
        }
        // Where the last answer alone was lost there is nothing to repeat.
        let repeated = imported(&target, &export, false).await;
        assert!(matches!(repeated, Ok(_) | Err(Error::NotEmpty)), "{fails}: {repeated:?}");
        schema::open(&target).await.unwrap();
        assert_eq!(ours(&target).await, ours(&source).await);
    }
}

#[tokio::test]
async fn a_cut_export_is_told() {
    let export = exported(&filled().await).await;
    let text = String::from_utf8(export).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for kept in [1, 2, 500, lines.len() - 1] {
        let target = memory().await;
        let cut = lines[..kept].concat();
        let told = imported(&target, cut.as_bytes(), false).await;
        assert!(matches!(told, Err(Error::Truncated { .. })), "{told:?}");
        let told = imported(&target, &cut.as_bytes()[..cut.len() - 3], false).await;
        assert!(matches!(told, Err(Error::Line { .. })), "{told:?}");
        if kept > 1 {
            let open = schema::open(&target).await;
            assert!(matches!(open, Err(schema::Error::Importing)), "{open:?}");
        }
    }
}

#[tokio::test]
async fn two_imports_do_not_mix() {
    let export = exported(&filled().await).await;
    let target = memory().await;
    let (mut slow, reader) = tokio::io::duplex(64);
    let first = async {
        let mut reader = tokio::io::BufReader::new(reader);
        import(&target, &mut reader, Import::default()).await
    };
    let (first, ()) = tokio::join!(first, async {
        // So much was taken that it has begun.
        slow.write_all(&export[..20_000]).await.unwrap();
        imported(&target, &export, false).await.unwrap();
        let _gone = slow.write_all(&export[20_000..]).await;
    });
    assert!(matches!(first, Err(Error::Overtaken)), "{first:?}");
    assert_eq!(ours(&target).await.len(), 1_204);
    schema::open(&target).await.unwrap();
}

#[tokio::test]
async fn an_export_shows_one_revision() {
    let store = filled().await;
    let pair = |n: u32| {
        Transaction::put("sinew/a-first", n.to_string())
            .then(Op::put("sinew/z-last", n.to_string()))
    };
    store.commit(pair(0)).await.unwrap();
    let (mut reader, mut writer) = (Vec::new(), tokio::io::duplex(64));
    let export = async {
        export(&store, &mut writer.0).await.unwrap();
        drop(writer.0);
    };
    let write = async {
        let mut first = [0; 100];
        tokio::io::AsyncReadExt::read_exact(&mut writer.1, &mut first).await.unwrap();
        store.commit(pair(1)).await.unwrap();
        reader.extend(first);
        tokio::io::AsyncReadExt::read_to_end(&mut writer.1, &mut reader).await.unwrap();
    };
    tokio::join!(export, write);
    let text = String::from_utf8(reader).unwrap();
    assert!(text.contains(r#""sinew/a-first","value":"0""#));
    assert!(text.contains(r#""sinew/z-last","value":"0""#));
}

#[tokio::test]
async fn wrong_lines_are_named() {
    let header = r#"{"header":{"format":1,"schema":1,"revision":4}}"#;
    let error = async |lines: &[&str]| {
        let text = lines.join("\n");
        imported(&memory().await, text.as_bytes(), false).await.unwrap_err().to_string()
    };
    let wrong = "line 1 of the export: it is no header: this is no export";
    assert_eq!(error(&[r#"{"end":{"leases":0,"entries":0}}"#]).await, wrong);
    assert_eq!(error(&[""]).await, wrong.replace("line 1", "line 0"));
    assert_eq!(
        error(&[&header.replace("\"format\":1", "\"format\":2")]).await,
        "the export has format 2, and this program knows 1"
    );
    assert!(
        error(&[&header.replace("\"schema\":1", "\"schema\":2")])
            .await
            .starts_with("the store has schema version 2, and this program knows 1")
    );
    for (line, why) in [
        (r#"{"entry":{"key":"sinew/a"}}"#, "it has to have either value or value_base64"),
        (r#"{"entry":{"key":"","value":""}}"#, "the key is empty"),
        (
            r#"{"entry":{"key":"other","value":""}}"#,
            "its key does not belong into an export of sinew/",
        ),
        (
            r#"{"entry":{"key":"sinew/a","value":"","lease":"1"}}"#,
            "its lease 0000000000000001 has no line before it",
        ),
        (r#"{"lease":{"id":"x","ttl_s":1}}"#, "lease \"x\" is no hexadecimal number"),
        (header, "it is a second header"),
        (r#"{"end":{"leases":0,"entries":0}}"#, "the export lacks its schema version"),
    ] {
        assert_eq!(error(&[header, line]).await, format!("line 2 of the export: {why}"));
    }
}

#[test]
fn no_input_breaks_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let right = include_bytes!("schema/1.jsonl");
    let target = runtime.block_on(memory());
    sinew_fuzz::each(&[right], |input| {
        let _told = runtime.block_on(imported(&target, input, true));
    });
    runtime.block_on(imported(&target, right, true)).unwrap();
    assert_eq!(runtime.block_on(contents(&target)).len(), 3);
}
