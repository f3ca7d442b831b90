//! A full file system.

use std::path::Path;

use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};
use sinew_control::store::{
    Applied, Embedded, Error, Op, Range, Retry, Revision, Span, Store, Transaction,
    embedded::Options,
};

/// Runs a test where `directory` is a small file system, which is gone with the test's threads.
fn within(bytes: u32, directory: &Path, test: impl AsyncFnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            // SAFETY: this thread shares no file descriptors with others by way of this, and its
            // children alone see its mounts.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).unwrap();
            let size = std::ffi::CString::new(format!("size={bytes}")).unwrap();
            mount("tmpfs", directory, "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test());
        });
        run.join().unwrap();
    });
}

/// Puts until the store takes no more, and answers what it took.
async fn fill(store: &Embedded) -> (Vec<String>, Error) {
    let mut taken = Vec::new();
    loop {
        let key = format!("k/{:06}", taken.len());
        match store.commit(Transaction::put(key.clone(), vec![b'v'; 4_000])).await {
            Ok(_) => taken.push(key),
            Err(error) => return (taken, error),
        }
    }
}

async fn keys(store: &Embedded) -> Vec<String> {
    let entries = store.range(Range::of(Span::all())).await.unwrap().entries;
    entries.iter().map(|entry| String::from_utf8(entry.key.to_vec()).unwrap()).collect()
}

#[test]
fn nothing_is_lost_when_the_file_system_is_full() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let options = Options { reserve_bytes: 0, ..Options::default() };
    within(6 << 20, directory.path(), async || {
        let store = Embedded::open(&file, options.clone()).await.unwrap();
        let (taken, error) = fill(&store).await;
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert_eq!((error.applied(), error.retry()), (Applied::No, Retry::Later));
        assert!(taken.len() > 100, "{}", taken.len());
        assert_eq!(keys(&store).await, taken);
        // It is told again and again, and stays as it is.
        let (more, error) = fill(&store).await;
        assert!(more.is_empty() && matches!(error, Error::NoSpace { .. }), "{more:?} {error:?}");
        assert_eq!(keys(&store).await, taken);
        store.close().await;
        let store = Embedded::open(&file, options.clone()).await.unwrap();
        assert_eq!(keys(&store).await, taken);
    });
}

#[test]
fn with_a_reserve_deletions_and_compaction_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let options = Options { reserve_bytes: 4 << 20, ..Options::default() };
    within(12 << 20, directory.path(), async || {
        let store = Embedded::open(&file, options.clone()).await.unwrap();
        let (taken, error) = fill(&store).await;
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert!(error.to_string().contains("bytes are free, and 4194304 are kept"), "{error}");
        let lease = store.grant(std::time::Duration::from_secs(5)).await;
        assert!(matches!(lease, Err(Error::NoSpace { .. })), "{lease:?}");
        let mut revision = Revision(taken.len() as u64 + 1);
        for key in &taken {
            let deleted = store.commit(Transaction::new().then(Op::delete(key.clone()))).await;
            assert_eq!(deleted.unwrap().revision, revision.next());
            revision = revision.next();
        }
        store.compact(revision).await.unwrap();
        assert_eq!(keys(&store).await, [""; 0]);
        store.close().await;
        // The file's room is used again, though the file system has no more than before.
        let options = Options { reserve_bytes: 0, ..options.clone() };
        let store = Embedded::open(&file, options).await.unwrap();
        let (again, _) = fill(&store).await;
        assert!(again.len() >= taken.len() / 2, "{} of {}", again.len(), taken.len());
    });
}
