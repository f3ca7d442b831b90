//! One inotify instance for all cgroups of others that are watched: a user has 128 of them by default.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{io::unix::AsyncFd, sync::watch};

use crate::pollable;

/// From look to look where nothing can be watched.
pub(super) const BLIND: Duration = Duration::from_secs(1);

/// Tells when something is made or removed in directories. Everybody is told of everything: such
/// changes are rare, and a look costs little.
#[derive(Debug, Default)]
pub(crate) struct Above(OnceLock<Option<Shared>>);

#[derive(Debug)]
struct Shared {
    inotify: Arc<AsyncFd<OwnedFd>>,
    changes: watch::Receiver<()>,
}

impl Above {
    /// Watches the nearest directory above `path` from now on; what is returned ends with the next
    /// change. Needs an event loop, which is that of the first who asks.
    pub(super) fn watch(&self, path: &Path) -> impl Future<Output = ()> + use<> {
        let changes = self.shared().and_then(|shared| {
            // Before the watch is set: what happens then counts.
            let mut changes = shared.changes.clone();
            changes.mark_unchanged();
            shared.add(path).then_some(changes)
        });
        async move {
            let told = match changes {
                Some(mut changes) => changes.changed().await.is_ok(),
                None => false,
            };
            if !told {
                tokio::time::sleep(BLIND).await;
            }
        }
    }

    fn shared(&self) -> Option<&Shared> {
        let open = || {
            Shared::open().inspect_err(|error| {
                tracing::warn!("cgroups of others are looked at each second: {error}");
            })
        };
        self.0.get_or_init(|| open().ok()).as_ref()
    }
}

impl Shared {
    fn open() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let inotify = Arc::new(pollable::readable(inotify)?);
        let (sender, changes) = watch::channel(());
        tokio::spawn(tell(inotify.clone(), sender));
        Ok(Self { inotify, changes })
    }

    /// A watch ends with the first event: whoever is told sets it again before it looks, and what
    /// nobody asks for any more is not kept.
    fn add(&self, path: &Path) -> bool {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONESHOT;
        let mut above = path.ancestors().skip(1);
        above.any(|directory| inotify::add_watch(self.inotify.get_ref(), directory, flags).is_ok())
    }
}

async fn tell(inotify: Arc<AsyncFd<OwnedFd>>, changes: watch::Sender<()>) {
    while let Ok(mut ready) = inotify.readable().await {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        match rustix::io::read(inotify.get_ref(), &mut buffer) {
            Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                tracing::error!("cgroups of others are looked at each second: {error}");
                return;
            }
            Ok(_) => changes.send_replace(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances() -> usize {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = links.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.filter(|link| link.as_os_str() == "anon_inode:inotify").count()
    }

    #[tokio::test]
    async fn many_watches_share_one_instance() {
        let trial = tempfile::tempdir().unwrap();
        let above = Above::default();
        let before = instances();
        let waits: Vec<_> = (0..300)
            .map(|n| {
                let directory = trial.path().join(n.to_string());
                std::fs::create_dir(&directory).unwrap();
                above.watch(&directory.join("unit"))
            })
            .collect();
        // Other tests of this process have some too.
        assert!(instances() < before + 100);
        std::fs::create_dir(trial.path().join("77/unit")).unwrap();
        for wait in waits {
            wait.await;
        }
        // The same directory once more, and one that is not there: the one above it.
        let wait = above.watch(&trial.path().join("77/none/below"));
        std::fs::remove_dir(trial.path().join("77/unit")).unwrap();
        wait.await;
    }
}
