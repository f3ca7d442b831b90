//! A process that writes is killed again and again: what it acknowledged is there.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use rustix::process::{Signal, set_parent_process_death_signal};
use sinew_control::store::{
    Batch, Embedded, Event, Op, Range, Revision, Span, Store, Transaction, Update,
    embedded::Options,
};

const KILLS: u64 = 100;
const WRITERS: usize = 4;
const FILE: &str = "SINEW_TEST_STORE";

/// Acknowledgements: writer, its count, the revision.
type Acknowledged = (usize, u64, u64);

#[test]
fn killed_at_any_moment_it_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let (mut last, mut state, mut told) = (1, BTreeMap::new(), 0);
    for seed in 0..KILLS {
        let acknowledged = write_until_killed(&file, scattered(seed) % 120);
        told += acknowledged.len();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime.block_on(check(&file, last, &mut state));
        for (writer, count, revision) in acknowledged {
            let batch = &batches[usize::try_from(revision - last).unwrap() - 1];
            let put = batch.events.iter().any(|event| {
                let Event::Put(entry) = event else { return false };
                entry.key == counter(writer) && entry.value == count.to_string()
            });
            assert!(put, "seed {seed}: {count} of writer {writer} at {revision}: {batch:?}");
        }
        last += batches.len() as u64;
    }
    assert!(told > 2_000, "{told}");
}

/// A number without a pattern, the same in every run.
fn scattered(seed: u64) -> u64 {
    let mixed = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

/// Opens the file and compares its history from `last` on, and what is there, with each other.
async fn check(file: &Path, last: u64, state: &mut BTreeMap<Bytes, Bytes>) -> Vec<Batch> {
    let store = Embedded::open(file, options()).await.unwrap();
    let now = store.range(Range::of(Span::all())).await.unwrap();
    let mut watch = store.watch(Span::all(), Some(Revision(last + 1))).await.unwrap();
    let mut batches = Vec::new();
    for revision in last + 1..=now.revision.0 {
        let batch = loop {
            if let Update::Batch(batch) = watch.next().await.unwrap().unwrap() {
                break batch;
            }
        };
        assert_eq!(batch.revision.0, revision, "no gaps");
        for event in &batch.events {
            match event {
                Event::Put(entry) => state.insert(entry.key.clone(), entry.value.clone()),
                Event::Delete(key) => state.remove(key),
            };
        }
        batches.push(batch);
    }
    let found = now.entries.into_iter().map(|entry| (entry.key, entry.value));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), *state);
    drop(watch);
    store.close().await;
    batches
}

/// Lets a process write until it has acknowledged so many, and then kills it.
fn write_until_killed(file: &Path, acknowledgements: u64) -> Vec<Acknowledged> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer", "--ignored", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = Vec::new();
    for _ in 0..acknowledgements {
        acknowledged.extend(lines.by_ref().find_map(|line| parse(&line)));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it told before it died counts.
    acknowledged.extend(lines.filter_map(|line| parse(&line)));
    acknowledged
}

fn parse(line: &str) -> Option<Acknowledged> {
    let mut words = line.strip_prefix("ack ")?.strip_suffix(" end")?.split(' ');
    let mut number = || words.next()?.parse().ok();
    Some((usize::try_from(number()?).ok()?, number()?, number()?))
}

fn counter(writer: usize) -> String {
    format!("counter/{writer}")
}

/// Small enough to be compacted all the time, so that this too is interrupted.
fn options() -> Options {
    Options { history_revisions: 1_000, ..Options::default() }
}

#[test]
#[ignore = "it is the process that the test of crashes kills"]
fn writer() {
    let Some(file) = std::env::var_os(FILE) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Embedded::open(Path::new(&file), options()).await.unwrap();
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer)));
        futures_util::future::join_all(writers).await;
    });
}

async fn write(store: Embedded, writer: usize) {
    for count in 0_u64.. {
        let key = format!("{writer}/{}", count % 50);
        let other = if count % 3 == 0 { Op::delete(key) } else { Op::put(key, count.to_string()) };
        let both = Transaction::put(counter(writer), count.to_string()).then(other);
        let revision = store.commit(both).await.unwrap().revision;
        let line = format!("ack {writer} {count} {revision} end\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}
