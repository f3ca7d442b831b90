//! Sees to it that a resolver answers, and that it is of the agent's own version. The process lives
//! on without the agent; a new agent finds it by what it wrote down.

use std::{
    fs::{self, OpenOptions},
    io,
    net::SocketAddrV4,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sinew_workload::cgroup;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, unix::AsyncFd},
    process::Command,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    files::{self, Greeting, Spec, Start, State},
    process::DRAIN,
    query,
};
use crate::pollable;

/// How long a new one may take to answer, on a loaded machine.
const START: Duration = Duration::from_secs(30);
/// How long one that is there may take.
const ANSWER: Duration = Duration::from_secs(2);
/// The first pause between two starts that fail; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// From question to question whether the one that is there still answers.
const PROBE: Duration = Duration::from_secs(1);
/// So many in a row without an answer, and it is replaced. The kernel passes it by long before: it
/// shows no life while it does not answer itself.
const MISSES: u32 = 5;
/// One that lived so long did not fail to start.
const SETTLED: Duration = Duration::from_secs(10);

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot {doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    #[error("{reason}")]
    Failed { reason: String },
    #[error("{} said {said:?}; is it the sinew program?", exe.display())]
    Strange { exe: PathBuf, said: String },
    #[error("the resolver at {address} does not answer")]
    Silent { address: SocketAddrV4 },
}

impl Error {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }
}

/// How resolvers are started.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The program that has [`resolver_main`](super::resolver_main) behind `resolver <directory>`.
    pub(super) exe: PathBuf,
    /// What they share with agents.
    pub(super) directory: PathBuf,
    /// Where they log.
    pub(super) log: PathBuf,
    /// What they are started with.
    pub(super) spec: Spec,
}

/// What the supervisor says, and hears.
pub(super) struct Channels {
    /// The one that answers; `None`: none does, and queries are better left alone.
    pub(super) bound: watch::Sender<Option<State>>,
    /// Why there is none.
    pub(super) trouble: watch::Sender<Option<String>>,
    /// The generation that is to be served.
    pub(super) published: watch::Receiver<u32>,
    /// The one that is.
    pub(super) served: watch::Sender<u32>,
    /// Where queries are led.
    pub(super) led: watch::Receiver<Option<SocketAddrV4>>,
}

/// A resolver that answered.
struct Living {
    state: State,
    end: AsyncFd<OwnedFd>,
    since: Instant,
}

pub(super) struct Supervisor {
    plan: Plan,
    channels: Channels,
    living: Option<Living>,
    failures: u32,
}

impl Supervisor {
    pub(super) fn new(plan: Plan, channels: Channels) -> Self {
        Self { plan, channels, living: None, failures: 0 }
    }

    /// Takes up the resolver that is there, or starts one; says which.
    pub(super) async fn begin(&mut self) {
        match self.plan.find().await {
            Some(living) => self.take(Ok(living)),
            None => self.start().await,
        }
    }

    /// Keeps one there.
    pub(super) async fn run(mut self) {
        loop {
            if let Some(living) = &self.living {
                let pid = living.state.process.pid;
                tokio::select! {
                    _ = living.end.readable() => {
                        tracing::warn!("the resolver, process {pid}, has ended; another is started");
                    }
                    () = living.hangs() => {
                        tracing::warn!("the resolver, process {pid}, hangs; another is started");
                        living.kill().await;
                    }
                    () = self.confirm(&living.state) => {}
                    () = self.relieve(&living.state) => {}
                }
                self.failures =
                    if living.since.elapsed() < SETTLED { self.failures + 1 } else { 0 };
                self.living = None;
            }
            sleep(pause(self.failures)).await;
            self.start().await;
        }
    }

    async fn start(&mut self) {
        let before = self.channels.bound.borrow().as_ref().map(|state| state.address4.port());
        let started = self.plan.start(before).await;
        self.take(started);
    }

    fn take(&mut self, found: Result<Living, Error>) {
        let (living, trouble) = match found {
            Ok(living) => (Some(living), None),
            Err(error) => {
                self.failures += 1;
                let trouble = format!("services cannot be reached by name: {error}");
                tracing::warn!("{trouble}");
                (None, Some(trouble))
            }
        };
        self.channels.trouble.send_replace(trouble);
        let state = living.as_ref().map(|living| living.state.clone());
        self.channels
            .bound
            .send_if_modified(|bound| std::mem::replace(bound, state.clone()) != state);
        self.living = living;
    }

    /// Asks for what was published until it is served. Never ends.
    async fn confirm(&self, state: &State) {
        const FIRST_PAUSE: Duration = Duration::from_millis(1);
        const LONGEST_PAUSE: Duration = Duration::from_millis(200);
        let mut published = self.channels.published.clone();
        loop {
            let wanted = *published.borrow_and_update();
            let mut pause = FIRST_PAUSE;
            // The kernel leads nobody to it while it does not answer, so this may take its time.
            while query::ask(state.address4, &state.spec.domain, 1).await.ok() != Some(wanted) {
                sleep(pause).await;
                pause = LONGEST_PAUSE.min(pause * 2);
                if published.has_changed().unwrap_or(false) {
                    break;
                }
            }
            if !published.has_changed().unwrap_or(false) {
                self.channels.served.send_replace(wanted);
            }
            if published.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Ends the others once nobody is led to them any more. Never ends.
    async fn relieve(&self, state: &State) {
        let mut led = self.channels.led.clone();
        if led.wait_for(|led| *led == Some(state.address4)).await.is_ok() {
            self.plan.end_others(state).await;
        }
        std::future::pending::<()>().await;
    }
}

/// From a start that failed to the next.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ => PAUSE.saturating_mul(1 << (failures - 1).min(10)).min(PAUSE_MAX),
    }
}

impl Plan {
    /// The one that answers as this agent would have it.
    async fn find(&self) -> Option<Living> {
        let state = State::read(&self.directory).ok()?;
        let version = files::version(&self.exe).ok()?;
        if state.version != version || state.spec != self.spec {
            tracing::info!("the resolver, process {}, is of another version", state.process.pid);
            return None;
        }
        let living = Living::of(state).ok()?;
        if let Err(error) = living.answers(ANSWER).await {
            tracing::warn!("{error}; another is started");
            return None;
        }
        tracing::info!("the resolver, process {}, goes on", living.state.process.pid);
        Some(living)
    }

    /// A new one, at `port` if that is free.
    async fn start(&self, port: Option<u16>) -> Result<Living, Error> {
        let known = || State::read(&self.directory).map(|state| state.address4.port());
        let port = port.or_else(|| known().ok()).unwrap_or(0);
        let version = files::version(&self.exe)
            .map_err(Error::io(format!("look at {}", self.exe.display())))?;
        let start = Start { spec: self.spec.clone(), port, version };
        start.write(&self.directory).map_err(Error::io("write the resolver's spec.json"))?;
        let greeting = match self.spawn().await? {
            // One that an agent started which did not live to see it, or one that hangs.
            Greeting::Busy => {
                let cgroup = self.spec.cgroup.clone();
                let emptied = tokio::task::spawn_blocking(move || cgroup::remove_all(&cgroup));
                emptied.await.map_err(|e| Error::io("end the one that is there")(e.into()))??;
                self.spawn().await?
            }
            greeting => greeting,
        };
        match greeting {
            Greeting::Ready(state) => {
                let living = Living::of(*state).map_err(Error::io("watch the resolver"))?;
                living.answers(START).await?;
                tracing::info!(
                    "the resolver, process {}, answers at {}",
                    living.state.process.pid,
                    living.state.address4
                );
                Ok(living)
            }
            Greeting::Failed { reason } => Err(Error::Failed { reason }),
            Greeting::Busy => {
                Err(Error::Failed { reason: "another resolver does not end".to_owned() })
            }
        }
    }

    async fn spawn(&self) -> Result<Greeting, Error> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        let log = log.map_err(Error::io(format!("open {}", self.log.display())))?;
        let mut command = Command::new(&self.exe);
        command.arg0("sinew").arg("resolver").arg(&self.directory).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let doing = || Error::io(format!("start {}", self.exe.display()));
        let mut child = command.spawn().map_err(doing())?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = BufReader::new(stdout);
            let line = timeout(START, stdout.read_line(&mut said)).await;
            line.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(doing())?;
        }
        child.wait().await.map_err(doing())?;
        serde_json::from_str(&said).map_err(|_| Error::Strange { exe: self.exe.clone(), said })
    }

    /// Ends every resolver but this one, and removes what they held.
    async fn end_others(&self, but: &State) {
        let others = self.others(Some(but.process.pid));
        for other in &others {
            let _ = pidfd_send_signal(other, Signal::TERM);
        }
        for other in others {
            let Ok(other) = pollable::readable(other) else { continue };
            if timeout(DRAIN * 2, other.readable()).await.is_err() {
                tracing::warn!("a resolver that was replaced does not end; it is killed");
                let _ = pidfd_send_signal(other.get_ref(), Signal::KILL);
            }
        }
        remove_locks(&self.directory, &but.version);
    }

    /// Tells every resolver to end.
    pub(super) fn end_all(&self) {
        for resolver in self.others(None) {
            let _ = pidfd_send_signal(resolver, Signal::TERM);
        }
    }

    fn others(&self, but: Option<u32>) -> Vec<OwnedFd> {
        let pids = cgroup::processes(&self.spec.cgroup).unwrap_or_default();
        let others = pids.into_iter().filter(|pid| Some(*pid) != but);
        others
            .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            .collect()
    }
}

/// Of versions that nobody runs any more.
fn remove_locks(directory: &Path, but: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let version = name.to_str().and_then(|name| name.strip_suffix(".lock"));
        if version.is_some_and(|version| version != but) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Living {
    fn of(state: State) -> io::Result<Self> {
        let pidfd = state.process.open().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { state, end: pollable::readable(pidfd)?, since: Instant::now() })
    }

    /// Returns when it has not answered for a while.
    async fn hangs(&self) {
        let mut misses = 0;
        while misses < MISSES {
            sleep(PROBE).await;
            let answer = query::ask(self.state.address4, &self.state.spec.domain, 2).await;
            misses = if answer.is_ok() { 0 } else { misses + 1 };
        }
    }

    async fn kill(&self) {
        let _ = pidfd_send_signal(self.end.get_ref(), Signal::KILL);
        // Whoever comes after it finds the rest, should it not end.
        let _ = timeout(ANSWER, self.end.readable()).await;
    }

    async fn answers(&self, within: Duration) -> Result<(), Error> {
        let address = self.state.address4;
        let ask = async {
            while query::ask(address, &self.state.spec.domain, 0).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = ask => Ok(()),
            _ = self.end.readable() => Err(Error::Silent { address }),
            () = sleep(within) => Err(Error::Silent { address }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<_> = (0..12).map(|n| pause(n).as_millis()).collect();
        let expected = [0, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000];
        assert_eq!(pauses, expected);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
    }

    #[test]
    fn locks_of_the_current_version_stay() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name| directory.path().join(name);
        for name in ["a.lock", "b.lock", "zone.json"] {
            fs::write(file(name), "").unwrap();
        }
        remove_locks(directory.path(), "b");
        assert!(!file("a.lock").exists());
        assert!(file("b.lock").exists() && file("zone.json").exists());
    }
}
