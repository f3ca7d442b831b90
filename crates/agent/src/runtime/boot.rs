//! What a new agent finds: what its predecessor left running, by the workloads' directories and the
//! cgroups. What runs is taken up untouched; what is neither running nor whole is cleared away.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sinew_datapath::Listener;
use sinew_model::ServiceName;
use sinew_workload::{
    Shims, Supervised,
    cgroup::{self, Watch},
    reconnect,
};
use tokio::{task::JoinSet, time::timeout};

use super::{Members, Order, Resumed, Runtime, nobody_there, worker::ended};
use crate::{
    adopt::{Foreign, Places, Target, check_owner, places_of, sockets_of},
    core::{Found, Input, Process},
    intent::Intent,
    key::Key,
    paths::Paths,
    record::{Origin, Record},
};

/// Who waits longer says so.
const LONG: Duration = Duration::from_secs(1);
/// Nobody waits longer: a supervisor that does not answer is replaced long before, so one that takes
/// this long never will.
const GIVE_UP: Duration = Duration::from_secs(60);

/// What a predecessor left.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    running: Vec<(Record, Resumed)>,
    rubble: BTreeSet<Key>,
}

impl Discovered {
    /// What runs.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.running.iter().map(|(record, _)| record.clone()).collect()
    }
}

/// Looks at everything that lies about.
pub(crate) async fn discover(paths: &Paths, exe: &Path) -> Discovered {
    let mut found = Discovered { rubble: cgroups(&paths.members()), ..Discovered::default() };
    found.rubble.extend(names(&paths.shims()).iter().filter_map(|name| Key::from_file(name)));
    let mut looks = JoinSet::new();
    for name in names(&paths.workloads()) {
        let directory = paths.workloads().join(&name);
        let Ok(record) = Record::read(&directory) else {
            match Key::from_file(&name) {
                Some(key) => {
                    found.rubble.insert(key);
                }
                None => tracing::warn!("{} is not an instance", directory.display()),
            }
            continue;
        };
        let shims = Shims { exe: exe.to_owned(), cgroup: paths.shim(&record.key) };
        let paths = paths.clone();
        looks.spawn(async move {
            let resumed = resume(&record, &paths, &shims).await;
            (record, resumed)
        });
    }
    while let Some(look) = looks.join_next().await {
        match look {
            Ok((record, Ok(resumed))) => {
                found.rubble.remove(&record.key);
                found.running.push((record, resumed));
            }
            Ok((record, Err(why))) => {
                tracing::info!("{} does not run any more: {why}", record.key);
                found.rubble.insert(record.key);
            }
            Err(error) => tracing::error!("cannot look at an instance: {error}"),
        }
    }
    found.running.sort_by(|a, b| a.0.key.cmp(&b.0.key));
    found
}

async fn resume(record: &Record, paths: &Paths, shims: &Shims) -> Result<Resumed, String> {
    match &record.origin {
        Origin::Launched(_) => {
            let directory = paths.workload(&record.key);
            let supervised = reconnect(shims, &directory);
            patiently(&record.key, supervised, LONG, GIVE_UP)
                .await?
                .map(|supervised| Resumed::Supervised(Box::new(supervised)))
                .map_err(|error| error.to_string())
        }
        Origin::Attached(_) => {
            let watch =
                Watch::new(&paths.member(&record.key)).map_err(|error| error.to_string())?;
            populated(watch)
        }
        Origin::Adopted(adoption) => match adoption.target.cgroup() {
            // Who carries the programs is known when they are attached.
            Some(path) if path.is_dir() => {
                check_owner(adoption.owner.uid, path).map_err(|refusal| refusal.to_string())?;
                Ok(Resumed::Foreign(Foreign::new(path.to_owned(), None, Arc::default())))
            }
            Some(path) => Ok(Resumed::Foreign(Foreign::new(path.to_owned(), None, Arc::default()))),
            None => {
                let watch = Watch::new(&paths.member(&record.key));
                populated(watch.map_err(|error| error.to_string())?)
            }
        },
    }
}

/// Waits for the supervisor of an instance, and says so when that takes `long`.
async fn patiently<T>(
    key: &Key,
    answer: impl Future<Output = T>,
    long: Duration,
    give_up: Duration,
) -> Result<T, String> {
    tokio::pin!(answer);
    if let Ok(answer) = timeout(long, answer.as_mut()).await {
        return Ok(answer);
    }
    tracing::warn!("the start waits for the supervisor of {key}");
    let late = timeout(give_up, answer).await;
    late.map_err(|_| format!("its supervisor did not answer for {} s", give_up.as_secs()))
}

fn populated(mut watch: Watch) -> Result<Resumed, String> {
    if watch.is_populated() {
        Ok(Resumed::Cgroup(watch))
    } else {
        Err("its processes have ended".to_owned())
    }
}

impl Runtime {
    /// Takes up what runs, clears away what does not, and goes on from there. All of it is one
    /// step for the data path: nothing leaves the choice that need not.
    pub(crate) fn boot(&mut self, intent: Intent, discovered: Discovered) {
        let intent = Arc::new(self.known_before(intent));
        let all = self.datapath.lock().listeners();
        let all = match all {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!("cannot see what listens: {error}");
                Vec::new()
            }
        };
        let running = discovered.running.iter();
        let instances = running.map(|(record, _)| (&record.key, record.number));
        let members = Members::new(instances, &self.paths, intent.network6);
        let mut found = Vec::new();
        let mut orders = Vec::new();
        for (record, mut resumed) in discovered.running {
            self.hook_found(&record);
            if let (Resumed::Foreign(foreign), Some(path)) = (&mut resumed, record.foreign()) {
                *foreign =
                    Foreign::new(path.to_owned(), self.hooked(&record.key), self.above.clone());
            }
            found.push(self.found_instance(&record, &resumed, &all));
            orders.push((record.key, resumed));
        }
        let listeners = members.filter(all);
        for (key, resumed) in orders {
            self.order(&key, Order::Resume(Box::new(resumed)));
        }
        let rubble = discovered.rubble.into_iter().collect();
        self.feed(Input::Boot { intent, found, listeners, rubble });
        self.meet_others();
        self.settle();
    }

    fn found_instance(&self, record: &Record, resumed: &Resumed, all: &[Listener]) -> Found {
        let (process, ended) = match (resumed, &record.origin) {
            (Resumed::Supervised(supervised), _) => standing(supervised),
            (Resumed::Cgroup(_), Origin::Attached(attached)) => {
                (Some(Process { pid: attached.pid, at_ms: attached.at_ms, restarts: 0 }), None)
            }
            (Resumed::Cgroup(_) | Resumed::Foreign(_), Origin::Adopted(adoption)) => {
                let pids = cgroup::processes(&self.cgroup_of(record)).unwrap_or_default();
                let process = |pid: &u32| Process { pid: *pid, at_ms: adoption.at_ms, restarts: 0 };
                let main = match &adoption.target {
                    Target::Process { process, .. } => pids.iter().find(|p| **p == process.pid),
                    Target::Unit { .. } | Target::Cgroup { .. } => None,
                };
                let process = main.or(pids.first()).map(process);
                (process, process.is_none().then(nobody_there))
            }
            (Resumed::Cgroup(_) | Resumed::Foreign(_), _) => (None, None),
        };
        Found {
            key: record.key.clone(),
            number: record.number,
            kind: record.kind(),
            process,
            ended,
            places: self.places_of(record, all),
        }
    }

    fn cgroup_of(&self, record: &Record) -> PathBuf {
        record.foreign().map_or_else(|| self.paths.member(&record.key), Path::to_owned)
    }

    /// Where an adopted one listens; nowhere as far as the others go.
    fn places_of(&self, record: &Record, all: &[Listener]) -> Places {
        let Origin::Adopted(adoption) = &record.origin else { return Places::new() };
        let pids = cgroup::processes(&self.cgroup_of(record)).unwrap_or_default();
        places_of(all, &sockets_of(&pids), &adoption.ports)
    }
}

fn standing(supervised: &Supervised) -> (Option<Process>, Option<crate::core::Ended>) {
    let status = supervised.status();
    match &status.run {
        Some(run) => {
            let process = Process {
                pid: run.process.pid,
                at_ms: run.started_at_ms,
                restarts: run.number.saturating_sub(1),
            };
            (Some(process), None)
        }
        None => (None, Some(ended(status.last_exit(), true))),
    }
}

/// Every instance that has a cgroup.
fn cgroups(members: &Path) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for name in names(members) {
        if let Some(number) = name.strip_prefix("exec-").and_then(|n| n.parse().ok()) {
            keys.insert(Key { service: None, replica: number });
        } else if let Some(service) =
            name.strip_prefix("svc-").and_then(|name| ServiceName::new(name).ok())
        {
            let replicas = names(&members.join(&name));
            keys.extend(
                replicas.iter().filter_map(|n| n.parse().ok()).map(|n| Key::of(&service, n)),
            );
        }
    }
    keys
}

/// The directories in `directory`; none when it is not there.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_supervisor_that_never_answers_is_not_waited_for_for_ever() {
        let key = Key::of(&ServiceName::new("web").unwrap(), 0);
        let soon = Duration::from_millis(1);
        let answer = patiently(&key, std::future::pending::<()>(), soon, soon).await;
        assert!(answer.unwrap_err().contains("did not answer"));
        let later = async { tokio::task::yield_now().await };
        assert_eq!(patiently(&key, later, Duration::ZERO, GIVE_UP).await, Ok(()));
    }
}
