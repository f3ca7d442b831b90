//! One task an instance: starts, watches, stops and clears away what runs, in this order of orders.
//! Everything that may block or fail for one instance happens here, so that none holds up another.

use std::{
    os::fd::OwnedFd,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use rustix::process::{PidfdFlags, pidfd_open};
use sinew_model::{Limits, Restart, Stop};
use sinew_workload::{
    Event, ExitRecord, LaunchSpec, Shims, Supervised,
    cgroup::{self, Watch},
    reconnect, start,
    tree::{self, GivenBack},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    adopt::{Above, Adopting, Adoption, Foreign, Releasing, Seen, Target, check_user},
    attach::Joiner,
    bus::now_ms,
    core::{Ended, Input, Process},
    key::Key,
    pollable::{self, Pollable},
    record::Record,
    refusal::Refusal,
    rights::Caller,
};

/// Time beyond the grace after which a supervisor that does not stop its workload is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for attached processes to end after SIGTERM.
const ATTACHED_GRACE: Duration = Duration::from_secs(10);

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Order {
    /// Write the record and start the supervisor.
    Launch {
        /// What is written beside it.
        record: Box<Record>,
        /// What is started.
        spec: Box<LaunchSpec>,
    },
    /// Let a process in.
    Join {
        /// What is written beside it.
        record: Box<Record>,
        /// The process.
        joiner: Box<Joiner>,
    },
    /// Take in what was adopted.
    Adopt {
        /// What is written beside it.
        record: Box<Record>,
        /// What it is.
        adoption: Box<Adoption>,
        /// Who adopted it, with what the policy allows.
        owner: Box<Caller>,
        /// The cgroup that carries its programs, when it is not the members'.
        hooked: Option<u64>,
        /// Who waits for it.
        answer: Option<Adopting>,
    },
    /// Take up what was found running.
    Resume(Box<Resumed>),
    /// Tell the supervisor what changed.
    Adjust {
        /// What is written beside it.
        record: Box<Record>,
        /// What it may use.
        limits: Limits,
        /// What follows its exit.
        restart: Restart,
        /// How it is stopped.
        stop: Stop,
    },
    /// Stop what runs.
    Stop {
        /// Time that the supervisor gives it.
        grace: Duration,
    },
    /// Remove what is left; what was moved in goes back to where it came from.
    Clean {
        /// Who waits for it.
        answer: Option<Releasing>,
    },
}

/// What was found running.
#[derive(Debug)]
pub(crate) enum Resumed {
    /// A workload under its supervisor.
    Supervised(Box<Supervised>),
    /// A cgroup with processes that joined by themselves.
    Cgroup(Watch),
    /// A cgroup of somebody else.
    Foreign(Foreign),
}

/// Where the things of one instance lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: Key,
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: PathBuf,
    pub(crate) shims: Shims,
    pub(crate) above: Arc<Above>,
}

/// What a worker watches.
enum Watched {
    Nothing,
    Supervised(Box<Supervised>),
    Cgroup(AsyncFd<Pollable<Watch>>),
    Foreign(Foreign),
}

/// Carries out orders until there can be none any more.
pub(crate) async fn run(
    place: Place,
    mut orders: mpsc::UnboundedReceiver<Order>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let watched = Watched::Nothing;
    let mut worker = Worker { place, watched, main: None, policy: None, inputs };
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => worker.obey(order).await,
                None => return,
            },
            () = worker.watch() => {}
        }
    }
}

/// A process and what tells its end.
struct Main {
    pid: u32,
    end: AsyncFd<OwnedFd>,
}

impl Main {
    /// `None` when it has ended already: its supervisor will say so.
    fn of(pid: u32, cgroup: &Path) -> Option<Self> {
        let handle = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)?;
        let end = pollable::readable(pidfd_open(handle, PidfdFlags::empty()).ok()?).ok()?;
        // Looked at when the handle is open: it is no stranger who has the number now.
        cgroup::processes(cgroup).ok()?.contains(&pid).then_some(Self { pid, end })
    }
}

struct Worker {
    place: Place,
    watched: Watched,
    /// The main process under the supervisor: the kernel tells of its end before anybody else does.
    main: Option<Main>,
    /// What the supervisor was told after the launch; a successor has to be told again.
    policy: Option<(Restart, Stop)>,
    inputs: mpsc::UnboundedSender<Input>,
}

impl Worker {
    fn tell(&self, input: Input) {
        // The runtime is gone only when the agent ends.
        let _ = self.inputs.send(input);
    }

    /// A panic in one action is a failure of that action.
    async fn obey(&mut self, order: Order) {
        let failed = match &order {
            Order::Launch { .. } | Order::Join { .. } | Order::Adopt { .. } => {
                Some(Input::Launched as fn(Key, Result<(), String>) -> Input)
            }
            Order::Clean { .. } => Some(Input::Cleaned as fn(Key, Result<(), String>) -> Input),
            Order::Resume(_) | Order::Adjust { .. } | Order::Stop { .. } => None,
        };
        let done = AssertUnwindSafe(self.carry_out(order)).catch_unwind().await;
        if done.is_err() {
            let key = self.place.key.clone();
            tracing::error!("an action for {key} panicked; this is a fault of sinew");
            match failed {
                Some(input) => self.tell(input(key, Err("a fault of sinew, see its log".into()))),
                None => self.tell(Input::Stopped(key)),
            }
        }
    }

    async fn carry_out(&mut self, order: Order) {
        let key = self.place.key.clone();
        match order {
            Order::Launch { record, spec } => {
                self.policy = None;
                let result = self.launch(&record, &spec).await;
                self.tell(Input::Launched(key, result));
            }
            Order::Join { record, joiner } => {
                let result = self.join(&record, &joiner);
                joiner.answer(&result);
                self.tell(Input::Launched(key, result));
            }
            Order::Adopt { record, adoption, owner, hooked, answer } => {
                let result = self.adopt(&record, &adoption, &owner, hooked);
                if let Some(answer) = answer {
                    let what =
                        |what: &String| Refusal::NotMoved { key: key.clone(), what: what.clone() };
                    // Who asked may have gone.
                    let _ = answer.send(result.as_ref().copied().map_err(what));
                }
                self.tell(Input::Launched(key, result.map(drop)));
            }
            Order::Resume(resumed) => self.resume(*resumed),
            Order::Adjust { record, limits, restart, stop } => {
                self.adjust(&record, &limits, restart, stop).await;
            }
            Order::Stop { grace } => {
                self.stop(grace).await;
                self.tell(Input::Stopped(key));
            }
            Order::Clean { answer } => {
                self.watched = Watched::Nothing;
                let result = self.clean().await;
                if let Some(answer) = answer {
                    let what = |what: &String| Refusal::NotReleased {
                        key: key.clone(),
                        what: what.clone(),
                    };
                    let _ = answer.send(result.clone().map_err(|error| what(&error)));
                }
                self.tell(Input::Cleaned(key, result.map(drop)));
            }
        }
    }

    async fn launch(&mut self, record: &Record, spec: &LaunchSpec) -> Result<(), String> {
        let directory = &self.place.directory;
        record
            .write(directory)
            .map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
        if let Some(logs) = spec.log.parent() {
            tokio::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(logs)
                .await
                .map_err(|error| format!("cannot make {}: {error}", logs.display()))?;
        }
        let started = start(&self.place.shims, directory, spec).await;
        let supervised = started.map_err(|error| describe(&error))?;
        self.watched = Watched::Supervised(Box::new(supervised));
        Ok(())
    }

    fn join(&mut self, record: &Record, joiner: &Joiner) -> Result<(), String> {
        let directory = &self.place.directory;
        record
            .write(directory)
            .map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
        joiner.enter(&self.place.cgroup)?;
        let watch = Watch::new(&self.place.cgroup).map_err(|error| error.to_string())?;
        self.watch_cgroup(watch);
        Ok(())
    }

    /// Answers how many processes it has.
    fn adopt(
        &mut self,
        record: &Record,
        adoption: &Adoption,
        owner: &Caller,
        hooked: Option<u64>,
    ) -> Result<usize, String> {
        let directory = &self.place.directory;
        record
            .write(directory)
            .map_err(|error| format!("cannot write {}: {error}", directory.display()))?;
        let (process, from) = match &adoption.target {
            Target::Process { process, from } => (*process, from),
            Target::Unit { cgroup: path, .. } | Target::Cgroup { path } => {
                let pids = cgroup::processes(path).unwrap_or_default();
                self.watched =
                    Watched::Foreign(Foreign::new(path.clone(), hooked, self.place.above.clone()));
                return Ok(pids.len());
            }
        };
        let may = |pid| check_user(owner, pid).map_err(|refusal| refusal.to_string());
        let moved = tree::move_tree(process, from, &self.place.cgroup, &may)
            .map_err(|error| error.to_string())?;
        let watch = Watch::new(&self.place.cgroup).map_err(|error| error.to_string())?;
        self.watch_cgroup(watch);
        let (pid, at_ms) = (process.pid, adoption.at_ms);
        self.tell(Input::Started(self.place.key.clone(), Process { pid, at_ms, restarts: 0 }));
        Ok(moved)
    }

    fn resume(&mut self, resumed: Resumed) {
        match resumed {
            Resumed::Foreign(foreign) => self.watched = Watched::Foreign(foreign),
            Resumed::Supervised(supervised) => self.watched = Watched::Supervised(supervised),
            Resumed::Cgroup(watch) => self.watch_cgroup(watch),
        }
    }

    fn watch_cgroup(&mut self, watch: Watch) {
        match pollable::watch(watch) {
            Ok(watch) => self.watched = Watched::Cgroup(watch),
            Err(error) => {
                tracing::error!("cannot watch the cgroup of {}: {error}", self.place.key);
                self.tell(Input::Stopped(self.place.key.clone()));
            }
        }
    }

    async fn adjust(&mut self, record: &Record, limits: &Limits, restart: Restart, stop: Stop) {
        self.policy = Some((restart, stop));
        let limited = cgroup::apply_limits(&self.place.cgroup, limits)
            .map_err(|error| format!("keeps its former limits: {error}"));
        let told = self.tell_policy().await;
        // Written last: a successor that finds the old record does all of it again.
        let written = limited.and(told).and_then(|()| {
            let directory = &self.place.directory;
            record
                .write(directory)
                .map_err(|error| format!("cannot write {}: {error}", directory.display()))
        });
        if let Err(what) = written {
            self.tell(Input::Trouble(self.place.key.clone(), what));
        }
    }

    async fn tell_policy(&self) -> Result<(), String> {
        let (Watched::Supervised(supervised), Some((restart, stop))) =
            (&self.watched, self.policy.clone())
        else {
            return Ok(());
        };
        supervised
            .update_policy(restart, stop)
            .await
            .map_err(|error| format!("keeps its former way to restart and stop: {error}"))
    }

    /// Returns when nothing of it runs, or nobody can tell.
    async fn stop(&mut self, grace: Duration) {
        match std::mem::replace(&mut self.watched, Watched::Nothing) {
            // What was adopted goes on.
            Watched::Nothing | Watched::Foreign(_) => {}
            Watched::Cgroup(_) if tree::origin(&self.place.cgroup).is_some() => {}
            Watched::Supervised(supervised) => self.stop_supervised(supervised, grace).await,
            Watched::Cgroup(watch) => self.stop_cgroup(watch).await,
        }
    }

    async fn stop_supervised(&self, mut supervised: Box<Supervised>, grace: Duration) {
        let deadline = Instant::now() + grace + PATIENCE;
        let stopped = timeout_at(deadline, async {
            loop {
                if let Err(error) = supervised.stop().await {
                    tracing::debug!("{} is not stopped by its supervisor: {error}", self.place.key);
                }
                loop {
                    match supervised.next().await {
                        Event::Ended { .. } => return,
                        Event::Lost => break,
                        _ => {}
                    }
                }
                match reconnect(&self.place.shims, &self.place.directory).await {
                    Ok(again) => *supervised = again,
                    Err(_) => return,
                }
            }
        });
        if stopped.await.is_err() {
            tracing::warn!("{} did not stop in time and is killed", self.place.key);
        }
    }

    async fn stop_cgroup(&self, mut watch: AsyncFd<Pollable<Watch>>) {
        for pid in cgroup::processes(&self.place.cgroup).unwrap_or_default() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        let deadline = Instant::now() + ATTACHED_GRACE;
        // What is left after that is killed when its cgroup is removed.
        let _ = timeout_at(deadline, empty(&mut watch)).await;
    }

    async fn clean(&self) -> Result<Option<GivenBack>, String> {
        let Place { cgroup, directory, shims, key, .. } = self.place.clone();
        let removed = tokio::task::spawn_blocking(move || {
            let back = tree::give_back(&cgroup).map_err(|error| error.to_string())?;
            // The supervisor first: it would start again what is killed.
            for cgroup in [&shims.cgroup, &cgroup] {
                cgroup::remove_all(cgroup).map_err(|error| error.to_string())?;
            }
            // The service's, when this was its last instance.
            if let Some(service) = cgroup.parent().filter(|_| key.service.is_some()) {
                cgroup::remove_empty(service).map_err(|error| error.to_string())?;
            }
            match std::fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(format!("cannot remove {}: {error}", directory.display()))
                }
                _ => Ok(back),
            }
        });
        removed.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Waits for something to happen, and tells it. May be dropped at any time.
    async fn watch(&mut self) {
        let key = self.place.key.clone();
        match &mut self.watched {
            Watched::Nothing => std::future::pending().await,
            Watched::Foreign(foreign) => {
                let seen = foreign.next().await;
                self.tell(foreign_input(key, &seen));
            }
            Watched::Cgroup(watch) => {
                empty(watch).await;
                self.watched = Watched::Nothing;
                self.tell(Input::Stopped(key));
            }
            Watched::Supervised(supervised) => {
                let event = tokio::select! {
                    event = supervised.next() => event,
                    pid = end_of(&mut self.main) => return self.tell(Input::Gone(key, pid)),
                };
                match event {
                    Event::Lost => self.find_again().await,
                    event => self.pass_on(key, event),
                }
            }
        }
    }

    async fn find_again(&mut self) {
        let key = self.place.key.clone();
        match reconnect(&self.place.shims, &self.place.directory).await {
            Ok(supervised) => {
                tracing::info!("the supervisor of {key} was gone and has a successor");
                self.watched = Watched::Supervised(Box::new(supervised));
                if let Err(what) = self.tell_policy().await {
                    self.tell(Input::Trouble(key, what));
                }
            }
            Err(error) => {
                tracing::warn!("{key} has lost its supervisor and starts again: {error}");
                self.watched = Watched::Nothing;
                self.tell(Input::Stopped(key));
            }
        }
    }

    fn pass_on(&mut self, key: Key, event: Event) {
        match event {
            Event::Started { pid, at_ms, restarts } => {
                self.main = Main::of(pid, &self.place.cgroup);
                self.tell(Input::Started(key, Process { pid, at_ms, restarts }));
            }
            Event::Exited { exit } => self.tell(Input::Exited(key, ended(Some(&exit), true))),
            Event::BackingOff { exit, .. } => {
                self.tell(Input::Exited(key, ended(exit.as_ref(), true)));
            }
            Event::Ended { exit, asked: false } => {
                self.tell(Input::Exited(key, ended(exit.as_ref(), false)));
            }
            Event::Ended { asked: true, .. } => {
                self.watched = Watched::Nothing;
                self.tell(Input::Stopped(key));
            }
            Event::Lost => {}
        }
    }
}

fn foreign_input(key: Key, seen: &Seen) -> Input {
    match seen {
        Seen::Filled(pid) => {
            Input::Started(key, Process { pid: *pid, at_ms: now_ms(), restarts: 0 })
        }
        Seen::Emptied => Input::Exited(key, nobody_there()),
        Seen::Replaced => Input::Replaced(key),
    }
}

/// An adopted cgroup is without processes.
pub(crate) fn nobody_there() -> Ended {
    let reason = "its processes have ended; what comes in their place is taken in".to_owned();
    Ended { reason, success: false, returns: false }
}

/// The process whose end the kernel tells, once.
async fn end_of(main: &mut Option<Main>) -> u32 {
    let Some(Main { pid, end }) = main else { return std::future::pending().await };
    let pid = *pid;
    // A handle that cannot be waited for is no better than none.
    let told = end.readable().await.is_ok();
    *main = None;
    if told { pid } else { std::future::pending().await }
}

async fn empty(watch: &mut AsyncFd<Pollable<Watch>>) {
    loop {
        if !watch.get_mut().0.is_populated() {
            return;
        }
        match watch.ready(Interest::PRIORITY).await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => return,
        }
    }
}

/// An end, as the core takes it.
pub(crate) fn ended(exit: Option<&ExitRecord>, returns: bool) -> Ended {
    let Some(record) = exit else {
        return Ended { reason: "it never ran".to_owned(), success: false, returns };
    };
    let mut reason = record.exit.to_string();
    if record.out_of_memory {
        reason.push_str(" (out of memory: see limits.memory)");
    }
    if record.left_behind > 0 {
        reason.push_str(" and left processes behind; a service must stay in the foreground");
    }
    Ended { reason, success: !record.exit.is_failure(), returns }
}

/// With what it was caused by.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
