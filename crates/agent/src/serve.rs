//! The composition root: options in, everything bound at once or refused, then run until told to
//! end.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use sinew_datapath::{Datapath, Event, Kernel, loopback};
use sinew_door::{READY, STOPPING, notify};
use sinew_workload::{cgroup, socket};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use crate::{
    alloc::Network6,
    api,
    bus::{Bus, now_ms},
    dns,
    fleet::{self, EnterError, JoinOptions},
    flows::{self, Flows},
    intent::Intent,
    lock::{Lock, LockError},
    memory,
    occupied::{self, Occupied},
    paths::Paths,
    policy::PolicyFile,
    prompt, random,
    record::rebuild,
    runtime::{Discovered, Ending, EventSource, Parts, Runtime, SharedDatapath, discover},
    store::{Loaded, Store, StoreError},
};

/// How an agent is run.
pub struct AgentOptions {
    /// Where it keeps its things.
    pub paths: Paths,
    /// The program that is started as `<exe> shim <directory>` beside each workload, and as
    /// `<exe> resolver <directory>`.
    pub exe: PathBuf,
    /// The host's name servers.
    pub resolv_conf: PathBuf,
    /// What carries the connections.
    pub datapath: DatapathSource,
    /// Where the metrics are served to whoever reaches that address, besides the API.
    pub metrics: Option<SocketAddr>,
    /// What callers who are not root may do besides; absent: nothing.
    pub policy: PathBuf,
    /// Whether members may call the API.
    pub members: api::Members,
    /// Cgroups whose processes call services without being members.
    pub reach: Vec<PathBuf>,
    /// The network of many hosts to be a member of.
    pub join: JoinOptions,
}

/// What carries the connections.
pub enum DatapathSource {
    /// The kernel, with its programs pinned where the paths say.
    Kernel,
    /// Another one, with its events.
    Given(Box<dyn Datapath>, mpsc::UnboundedReceiver<Event>),
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("the agent needs root: it makes cgroups, loads kernel programs and changes users")]
    NotRoot,
    /// Another one runs, or the run directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cgroups cannot be made.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// The kernel does not take the programs.
    #[error(transparent)]
    Datapath(#[from] sinew_datapath::Error),
    /// Somebody else has an address of the network's.
    #[error(transparent)]
    Occupied(#[from] Occupied),
    /// The host cannot be where it is told to be.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// Something of the system.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A part of the agent ended by a fault of sinew.
    #[error("the agent failed: {0}")]
    Failed(tokio::task::JoinError),
}

impl Error {
    fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }

    /// What to do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::NotRoot => Some("use sudo"),
            Self::Lock(LockError::Held { .. }) => {
                Some("use that one, or end it first; SINEW_RUN names another directory")
            }
            Self::Store(error) => Some(error.remedy()),
            Self::Cgroup(_) => Some("see `sinew doctor`, or name a cgroup with SINEW_CGROUP"),
            Self::Datapath(_) => Some("see `sinew doctor`"),
            Self::Occupied(_) => Some(
                "have it listen elsewhere (`ss -lntup` shows who does); a second agent needs a network \
                 namespace of its own",
            ),
            Self::Enter(error) => error.remedy(),
            Self::Lock(_) | Self::Io { .. } | Self::Failed(_) => None,
        }
    }
}

/// Runs an agent until SIGTERM, SIGINT or a call ends it. Workloads and data path go on, unless the
/// call said otherwise.
///
/// # Errors
/// When it cannot start; nothing that ran was touched then.
pub async fn serve(options: AgentOptions) -> Result<(), Error> {
    let AgentOptions { paths, exe, resolv_conf, datapath, metrics, policy, members, reach, join } =
        options;
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let started_at_ms = now_ms();
    let _lock = Lock::take(&paths.run)?;
    let mut occupied = Vec::new();
    if matches!(datapath, DatapathSource::Kernel) && !paths.pins.exists() {
        occupied = occupied::check(&sinew_datapath::listeners()?, &paths.cgroup)?;
    }
    let store = Store::open(&paths.state)?;
    let doors = Doors { api: bind(&paths)?, members, metrics: bind_metrics(metrics).await? };
    for cgroup in [paths.members(), paths.shims()] {
        cgroup::create(&cgroup)?;
    }
    for cgroup in &reach {
        cgroup::check(cgroup)?;
    }
    let discovered = discover(&paths, &exe).await;
    let (intent, mut warnings) = load(&store, &discovered, started_at_ms)?;
    let fleet = fleet::enter(&paths.state, join, started_at_ms).await?;
    warnings.extend(fleet.iter().flat_map(|fleet| fleet.warnings.iter().cloned()));
    let pins = matches!(datapath, DatapathSource::Kernel).then(|| paths.pins.clone());
    let (datapath, events) = open(datapath, &paths, intent.network6, &reach)?;
    let datapath = SharedDatapath::new(datapath);
    let mut tasks = JoinSet::new();
    let names = dns::start(&exe, &paths, &resolv_conf, pins, &mut tasks)
        .await
        .map_err(Error::io(format!("make {}", paths.resolver().display())))?;
    if sinew_door::group().is_none() {
        warnings.push(sinew_api::NO_GROUP.to_owned());
    }
    let policy = PolicyFile::new(policy);
    // Read once now: an operator who starts the agent looks at its log.
    policy.warnings();
    warnings.extend(occupied.iter().map(ToString::to_string));
    for warning in warnings.iter().cloned().chain(loopback_down()) {
        tracing::warn!("{warning}");
    }
    let (stop, stopped) = watch::channel(false);
    let (flows, raw_flows) = Flows::new(datapath.clone());
    let parts = Parts {
        paths: Arc::new(paths.clone()),
        policy: Arc::new(policy),
        store,
        network6: intent.network6,
        datapath,
        names,
        bus: Arc::new(Bus::new()),
        flows: flows.clone(),
        exe,
        warnings,
        started_at_ms,
        metrics_at: doors.metrics_at(),
        reach,
        fleet,
    };
    let (mut runtime, handle) = Runtime::new(parts, stopped);
    tasks.spawn(flows::run(flows, raw_flows, handle.clone()));
    let until = stop.subscribe();
    let running = prompt::run(move || {
        runtime.boot(intent, discovered);
        memory::give_back();
        runtime.run(events, until)
    });
    let running = running.map_err(Error::io("make an event loop"))?;
    tracing::info!("agent {} answers at {}", std::process::id(), paths.socket().display());
    if let Some(at) = doors.metrics_at() {
        tracing::info!("metrics are at http://{at}/metrics");
    }
    run(running, handle, doors, &paths, stop).await
}

/// Runs what was built, and ends it in order: callers, runtime, socket.
async fn run(
    mut running: JoinHandle<io::Result<(Ending, Runtime)>>,
    handle: crate::runtime::Handle,
    doors: Doors,
    paths: &Paths,
    stop: watch::Sender<bool>,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("wait for signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("wait for signals"))?;
    let (datapath, flows) = (handle.datapath.clone(), handle.flows.clone());
    let mut callers = JoinSet::new();
    if let Some(listener) = doors.metrics {
        callers.spawn(api::serve_metrics(listener, handle.clone(), stop.subscribe()));
    }
    callers.spawn(api::serve(doors.api, handle, doors.members, stop.subscribe()));
    notify(READY);
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = terminate.recv() => { stop.send_replace(true); (&mut running).await }
        _ = interrupt.recv() => { stop.send_replace(true); (&mut running).await }
    };
    notify(STOPPING);
    let ended = ended.map_err(Error::Failed)?;
    let (ending, runtime) = ended.map_err(Error::io("wait for the kernel's events"))?;
    runtime.end(ending != Ending::Leave).await;
    stop.send_replace(true);
    while callers.join_next().await.is_some() {}
    flows.end().await;
    let _ = fs::remove_file(paths.socket());
    match ending {
        Ending::Leave => tracing::info!("the agent ends; workloads and data path go on"),
        Ending::Stopped => tracing::info!("every workload has stopped; the agent ends"),
        Ending::Purge => {
            purge(paths, &datapath).await?;
            tracing::info!("nothing of sinew is left; the agent ends");
        }
    }
    Ok(())
}

/// Nobody reaches anything then.
pub(crate) fn loopback_down() -> Option<String> {
    (!loopback::is_up()).then(|| {
        format!(
            "the interface lo of this network namespace is down: nobody reaches anything; {}",
            loopback::REMEDY
        )
    })
}

/// What was wanted, as the state says, or else what runs.
fn load(
    store: &Store,
    discovered: &Discovered,
    now_ms: u64,
) -> Result<(Intent, Vec<String>), Error> {
    let records = discovered.records();
    match store.load(now_ms)? {
        Loaded::Intact(intent) => Ok((*intent, Vec::new())),
        Loaded::Nothing if records.is_empty() => {
            let intent = Intent::new(random::network6());
            store.save(&intent)?;
            Ok((intent, Vec::new()))
        }
        Loaded::Nothing => {
            let warning = "the state was gone; it is rebuilt from what runs".to_owned();
            Ok((rebuilt(store, discovered)?, vec![warning]))
        }
        Loaded::Corrupt { aside, fault } => {
            let warning = format!(
                "the state could not be read ({fault}); it lies in {} and is rebuilt from what runs",
                aside.display()
            );
            Ok((rebuilt(store, discovered)?, vec![warning]))
        }
    }
}

fn rebuilt(store: &Store, discovered: &Discovered) -> Result<Intent, Error> {
    let intent = rebuild(&discovered.records(), random::network6());
    store.save(&intent)?;
    Ok(intent)
}

/// Binds the socket, in place of one that is there: the lock is held, so it is nobody's.
fn bind(paths: &Paths) -> Result<UnixListener, Error> {
    let group = sinew_door::group();
    let restrict = || Error::io(format!("restrict {}", paths.run.display()));
    chown(&paths.run, None, group).map_err(restrict())?;
    fs::set_permissions(&paths.run, fs::Permissions::from_mode(0o750)).map_err(restrict())?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(paths.workloads())
        .map_err(Error::io(format!("make {}", paths.workloads().display())))?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    socket::listen(&paths.socket(), mode, group)
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        })
        .map_err(Error::io(format!("listen at {}", paths.socket().display())))
}

async fn bind_metrics(at: Option<SocketAddr>) -> Result<Option<TcpListener>, Error> {
    let Some(at) = at else { return Ok(None) };
    let listener = TcpListener::bind(at).await;
    listener.map(Some).map_err(Error::io(format!("serve metrics at {at} (--metrics)")))
}

/// Where callers come in.
struct Doors {
    api: UnixListener,
    members: api::Members,
    metrics: Option<TcpListener>,
}

impl Doors {
    fn metrics_at(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }
}

fn open(
    source: DatapathSource,
    paths: &Paths,
    network6: Network6,
    reach: &[PathBuf],
) -> Result<(Box<dyn Datapath>, EventSource), Error> {
    match source {
        DatapathSource::Given(datapath, events) => Ok((datapath, EventSource::Given(events))),
        DatapathSource::Kernel => {
            let options = sinew_datapath::Options {
                pins: paths.pins.clone(),
                cgroup: paths.members(),
                network6,
                reach: sinew_datapath::Reach {
                    cgroups: reach.to_vec(),
                    resolver: paths.resolver_cgroup(),
                },
                types: sinew_datapath::TYPES.into(),
            };
            let (kernel, events) = Kernel::open(&options)?;
            Ok((Box::new(kernel), EventSource::Kernel(events)))
        }
    }
}

/// Removes all that Sinew made.
async fn purge(paths: &Paths, datapath: &SharedDatapath) -> Result<(), Error> {
    let detached = datapath.clone();
    let (cgroup, pins) = (paths.cgroup.clone(), paths.pins.clone());
    let done = tokio::task::spawn_blocking(move || {
        detached.lock().detach()?;
        cgroup::remove_all(&cgroup)?;
        match fs::remove_dir_all(&pins) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", pins.display()))(error))
            }
            _ => Ok(()),
        }
    });
    done.await.map_err(Error::Failed)??;
    for directory in [&paths.run, &paths.state] {
        remove(directory)?;
    }
    Ok(())
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}
