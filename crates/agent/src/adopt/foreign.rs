//! Watches a cgroup that somebody else makes, fills, empties and removes: a unit that is restarted
//! has a new one of the same name.

use std::{path::PathBuf, sync::Arc};

use sinew_workload::cgroup::{self, Watch};
use tokio::io::{Interest, unix::AsyncFd};

use super::above::{Above, BLIND};
use crate::pollable::{self, Pollable};

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
    /// Tells what is made and removed where it lies.
    above: Arc<Above>,
    /// The cgroup that carries the programs.
    hooked: Option<u64>,
    events: Option<AsyncFd<Pollable<Watch>>>,
    /// What was told last.
    populated: Option<bool>,
}

impl Foreign {
    /// Watches what is at `path`, where the cgroup with the id `hooked` carries the programs.
    pub(crate) fn new(path: PathBuf, hooked: Option<u64>, above: Arc<Above>) -> Self {
        Self { path, above, hooked, events: None, populated: None }
    }

    /// The next change; the first one tells how things are. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            // Before the look, so that no change between them is missed.
            let made = self.above.watch(&self.path);
            if let Some(seen) = self.look() {
                return seen;
            }
            tokio::select! {
                () = changed(self.events.as_mut()) => {}
                () = made => {}
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

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        process::{Child, Command, Stdio},
    };

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
        let mut foreign = Foreign::new(path.clone(), cgroup::id(&path).ok(), Arc::default());
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
