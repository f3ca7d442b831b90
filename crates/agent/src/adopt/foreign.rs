//! Watches a cgroup that somebody else makes, fills, empties and removes: a unit that is restarted
//! has a new one of the same name.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use sinew_workload::cgroup::{self, Watch};
use tokio::io::{Interest, unix::AsyncFd};

use crate::pollable::{self, Pollable};

/// From look to look where nothing can be watched (a user has 128 inotify instances by default).
const BLIND: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There are processes, this one among them.
    Filled(u32),
    /// There is no process any more.
    Emptied,
    /// There is another cgroup at its path.
    Replaced,
}

/// A cgroup of somebody else.
#[derive(Debug)]
pub(crate) struct Foreign {
    path: PathBuf,
    /// The cgroup that carries the programs.
    hooked: Option<u64>,
    events: Option<AsyncFd<Pollable<Watch>>>,
    /// What was told last.
    populated: Option<bool>,
}

impl Foreign {
    /// Watches what is at `path`, where the cgroup with the id `hooked` carries the programs.
    pub(crate) fn new(path: PathBuf, hooked: Option<u64>) -> Self {
        Self { path, hooked, events: None, populated: None }
    }

    /// The next change; the first one tells how things are. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            // Before the look, so that no change between them is missed.
            let made = Above::watch(&self.path);
            if let Some(seen) = self.look() {
                return seen;
            }
            tokio::select! {
                () = changed(self.events.as_mut()) => {}
                () = made.changed() => {}
            }
        }
    }

    fn look(&mut self) -> Option<Seen> {
        let is = cgroup::id(&self.path).ok();
        if is.is_none() || is != self.hooked {
            self.events = None;
        }
        match is {
            Some(id) if self.hooked != Some(id) => {
                self.hooked = Some(id);
                self.populated = None;
                return Some(Seen::Replaced);
            }
            Some(_) if self.events.is_none() => {
                self.events =
                    Watch::new(&self.path).ok().and_then(|watch| pollable::watch(watch).ok());
            }
            _ => {}
        }
        let populated = self.events.as_mut().is_some_and(|watch| watch.get_mut().0.is_populated());
        if self.populated == Some(populated) {
            return None;
        }
        let pid = cgroup::processes(&self.path).ok().and_then(|pids| pids.first().copied());
        // Filled and emptied again before it was looked at.
        if populated && pid.is_none() {
            return None;
        }
        self.populated = Some(populated);
        Some(pid.filter(|_| populated).map_or(Seen::Emptied, Seen::Filled))
    }
}

async fn changed(events: Option<&mut AsyncFd<Pollable<Watch>>>) {
    match events {
        Some(events) => match events.ready(Interest::PRIORITY).await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => tokio::time::sleep(BLIND).await,
        },
        None => std::future::pending().await,
    }
}

/// Tells when something is made or removed in the nearest directory above a path.
struct Above(Option<AsyncFd<OwnedFd>>);

impl Above {
    fn watch(path: &Path) -> Self {
        Self(Self::open(path).ok())
    }

    fn open(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF;
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let watched = path
            .ancestors()
            .skip(1)
            .any(|directory| inotify::add_watch(&inotify, directory, flags).is_ok());
        if watched { pollable::readable(inotify) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    async fn changed(&self) {
        let Some(inotify) = &self.0 else { return tokio::time::sleep(BLIND).await };
        loop {
            let Ok(mut ready) = inotify.readable().await else {
                return tokio::time::sleep(BLIND).await;
            };
            let mut buffer = [MaybeUninit::uninit(); 4096];
            match rustix::io::read(inotify.get_ref(), &mut buffer) {
                Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Trial(PathBuf);

    impl Trial {
        fn new() -> Self {
            let name = format!("sinew-foreign-{}", std::process::id());
            Self(cgroup::find_root().unwrap().join(name))
        }

        fn fill(&self, path: &Path) -> Child {
            cgroup::create(path).unwrap();
            let child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
            cgroup::move_pid(path, child.id()).unwrap();
            child
        }
    }

    impl Drop for Trial {
        fn drop(&mut self) {
            let _ = cgroup::remove_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_cgroup_is_followed_through_its_lives() {
        let trial = Trial::new();
        let path = trial.0.join("slice/unit");
        let mut child = trial.fill(&path);
        let mut foreign = Foreign::new(path.clone(), cgroup::id(&path).ok());
        assert_eq!(foreign.next().await, Seen::Filled(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(foreign.next().await, Seen::Emptied);
        // In the same cgroup, then in another one of that name, whose parent was gone too.
        let mut child = trial.fill(&path);
        assert_eq!(foreign.next().await, Seen::Filled(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(foreign.next().await, Seen::Emptied);
        cgroup::remove_all(&trial.0.join("slice")).unwrap();
        let next = tokio::spawn(async move { (foreign.next().await, foreign.next().await) });
        tokio::task::yield_now().await;
        let mut child = trial.fill(&path);
        assert_eq!(next.await.unwrap(), (Seen::Replaced, Seen::Filled(child.id())));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
