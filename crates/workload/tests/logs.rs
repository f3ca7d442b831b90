//! Output is bounded, and read while it is written and bounded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Place, end};
use sinew_workload::{
    Exit,
    logs::{Follow, Record, tail},
};
use std::os::unix::fs::MetadataExt;

const LIMIT: u64 = 1 << 20;
/// About 20 MiB.
const LINES: u32 = 400_000;

#[tokio::test]
async fn a_log_keeps_its_limit_and_its_end() {
    let place = Place::new();
    place.fifo("go");
    let script = format!("seq -f '%.0f of {LINES} lines, all of some length' {LINES}; read x <go");
    let mut spec = place.script(&script);
    spec.log_limit_bytes = LIMIT;
    let mut supervised = place.start(&spec).await;
    let log = place.path("log");
    // A reader that is slower than the writer is told what it missed, and sees whole lines only.
    let mut follow = Follow::open(&log, 0).unwrap();
    let last = format!("{LINES} of {LINES} lines, all of some length");
    loop {
        match follow.next().await.unwrap() {
            Record::Line(line) if line == last => break,
            Record::Line(line) => assert!(line.ends_with("lines, all of some length"), "{line:?}"),
            Record::Dropped { bytes } => assert!(bytes > 0),
            Record::Removed => panic!("removed"),
        }
    }
    // The shim looks at the size once more after the last write.
    while std::fs::metadata(&log).unwrap().blocks() * 512 > LIMIT * 5 / 4 {
        tokio::task::yield_now().await;
    }
    let kept = tail(&log, 3).unwrap();
    assert_eq!(kept.lines.len(), 3);
    assert_eq!(kept.lines[2], last);
    let all = tail(&log, usize::MAX).unwrap();
    assert!(all.lines.iter().all(|line| line.ends_with("lines, all of some length")));
    assert!(all.lines.len() > 10_000, "{}", all.lines.len());
    std::fs::write(place.path("go"), "\n").unwrap();
    assert_eq!(end(&mut supervised).await, Exit::Code { code: 0 });
    assert!(supervised.status().log_dropped_bytes > 0);
    assert_eq!(supervised.status().log_unbounded, None);
}

#[tokio::test]
async fn a_follower_sees_what_a_tail_did_not() {
    use std::io::Write;
    let place = Place::new();
    let path = place.path("log");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"one\ntwo\nthr").unwrap();
    let first = tail(&path, 1).unwrap();
    assert_eq!(first.lines, ["two"]);
    assert_eq!(first.partial.as_deref(), Some("thr"));
    let mut follow = Follow::open(&path, first.end).unwrap();
    let mut write = tokio::task::spawn_blocking(move || {
        file.write_all(b"ee\nfo").unwrap();
        file.write_all(b"ur\xff\n").unwrap();
        file
    });
    assert_eq!(follow.next().await.unwrap(), Record::Line("three".into()));
    assert_eq!(follow.next().await.unwrap(), Record::Line("four\u{fffd}".into()));
    let mut file = (&mut write).await.unwrap();
    // A program that empties its log, as `>/dev/stdout` does in a shell.
    file.set_len(0).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file.write_all(b"new\n").unwrap();
    assert_eq!(follow.next().await.unwrap(), Record::Line("new".into()));
    file.write_all(b"last").unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(follow.next().await.unwrap(), Record::Line("last".into()));
    assert_eq!(follow.next().await.unwrap(), Record::Removed);
}
