//! The resolver: a process of its own, which answers while agents come and go.
//!
//! It is root only until it is bound and has said where. Then it keeps:
//!
//! - its sockets, bound already, and the right of everybody to make others: queries to the host's
//!   name servers leave from ports that nobody has to allow;
//! - the directory that it follows, open: reading the zone there is the one right of its group, and
//!   the directories above are closed to it;
//! - the memory of the data path's settings, in which it beats: opening that takes root;
//! - the lock, and the log as standard error.
//!
//! It loses everything else: it is `nobody`, without capabilities, and no program can give it new
//! privileges. Having been root it cannot be traced by others of that user.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::{Ipv6Addr, SocketAddrV4},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use sinew_datapath::Heartbeat;
use sinew_dns::{HostConfig, Load, Resolver, Upstream, Zone, follow_host};
use sinew_model::Privileges;
use sinew_workload::{
    ProcessId,
    daemon::{Side, close_inherited, detach, enter_cgroup},
    rights::{Rights, RightsError, drop_rights},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    FOLLOW,
    files::{Greeting, Spec, Start, State, ZONE},
    follow::{Home, follow},
    lookups::Told,
    query,
};

/// From heartbeat to heartbeat.
const BEAT: Duration = Duration::from_millis(200);
/// Who was led here a moment ago asks within this time.
const QUIET: Duration = Duration::from_millis(500);
/// Whom the host's name servers keep waiting for longer asks again, elsewhere.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// From look to look while it drains.
const LOOK: Duration = Duration::from_millis(100);

/// The main function of `sinew resolver <dir>`.
///
/// Call it first in `main`, before any thread, runtime or file exists: it forks. The calling process
/// ends as soon as the resolver is on its own; the agent reads from its standard output whether it
/// answers. It logs to standard error.
#[must_use]
pub fn resolver_main(directory: &Path) -> ExitCode {
    match work(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(greeting) => {
            if let Greeting::Failed { reason } = &greeting {
                tracing::error!("{reason}");
            }
            greet(&greeting);
            ExitCode::FAILURE
        }
    }
}

fn work(directory: &Path) -> Result<(), Greeting> {
    let start = Start::read(directory).map_err(failed("read spec.json"))?;
    close_inherited();
    enter_cgroup(&start.spec.cgroup).map_err(failed("enter its cgroup"))?;
    if detach(c"sinew-resolver").map_err(failed("detach"))? == Side::Parent {
        return Ok(());
    }
    ignore_signals();
    let _lock = lock(directory, &start.version)?;
    let heartbeat = start.spec.pins.as_deref().map(Heartbeat::open).transpose();
    let heartbeat = heartbeat.map_err(failed("open the data path"))?;
    let (home, changes) = Home::open(directory).map_err(failed("watch its directory"))?;
    // Where it is told of lookups; what is above is closed to it soon.
    home.enter().map_err(failed("enter its directory"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed("start the runtime"))?;
    runtime.block_on(serve(directory, start, (home, changes), heartbeat))
}

/// Binds, says where, becomes nobody, answers.
async fn serve(
    directory: &Path,
    start: Start,
    (home, changes): (Home, OwnedFd),
    heartbeat: Option<Heartbeat>,
) -> Result<(), Greeting> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("wait for signals"))?;
    let Start { spec, port, version } = start;
    let names = home.names().unwrap_or_else(|error| {
        tracing::warn!("there are no names until {ZONE} can be read: {error}");
        None
    });
    let first = names.unwrap_or_default().zone(&spec.domain).map_err(failed("make the zone"))?;
    let (zone, zones) = watch::channel(Arc::new(first));
    let (host, follow_host) = follow_host(&spec.resolv_conf, FOLLOW);
    let bound = bind(&spec, port, &host, &zones).await;
    let (resolver, address6) = bound.map_err(failed("be reached"))?;
    let address4 = resolver.local_addr();
    let process = ProcessId::own().map_err(failed("read /proc/self/stat"))?;
    let domain = spec.domain.clone();
    let state = State { process, address4, address6, version, spec };
    state.write(directory).map_err(failed("write state.json"))?;
    let user = become_nobody().map_err(failed("give up root"))?;
    tracing::info!("process {} answers at {address4} as {user}", process.pid);
    greet(&Greeting::Ready(Box::new(state)));
    let resolver = match Told::new() {
        Ok(told) => resolver.telling(Arc::new(told)),
        Err(error) => {
            tracing::warn!("the agent is not told of lookups: {error}");
            resolver
        }
    };
    let load = resolver.load();
    let end = async {
        let why = tokio::select! {
            _ = terminate.recv() => "it is told to".to_owned(),
            why = live(&home, heartbeat, address4, &domain) => why.to_owned(),
            error = follow(&home, changes, &domain, &zone) => format!("it cannot follow: {error}"),
            () = follow_host => "nobody asks for the host's name servers".to_owned(),
        };
        tracing::info!("process {} ends: {why}", process.pid);
        drain(&load).await;
    };
    resolver.serve(end).await;
    Ok(())
}

fn failed<E: std::fmt::Display>(step: &str) -> impl FnOnce(E) -> Greeting {
    move |error| Greeting::Failed { reason: format!("the resolver cannot {step}: {error}") }
}

/// What a terminal or a lost reader may send is not for it.
fn ignore_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// One of a version at a time: while one replaces another, both answer.
fn lock(directory: &Path, version: &str) -> Result<File, Greeting> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let path = directory.join(format!("{version}.lock"));
    let file = options.open(path).map_err(failed("open its lock"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Greeting::Busy),
        Err(errno) => Err(failed("take its lock")(errno)),
    }
}

/// Where its predecessor was, or anywhere; on `::1` too where there is IPv6.
async fn bind(
    spec: &Spec,
    port: u16,
    host: &watch::Receiver<Arc<HostConfig>>,
    zones: &watch::Receiver<Arc<Zone>>,
) -> Result<(Resolver, Ipv6Addr), sinew_dns::Error> {
    let try_at = async |port, address6| {
        let address4 = SocketAddrV4::new(spec.address4, port);
        let upstream = Upstream::host(host.clone());
        Resolver::bind(address4, address6, upstream, zones.clone()).await
    };
    for port in [port, 0] {
        if let Ok(resolver) = try_at(port, Some(Ipv6Addr::LOCALHOST)).await {
            return Ok((resolver, Ipv6Addr::LOCALHOST));
        }
    }
    Ok((try_at(0, None).await?, Ipv6Addr::UNSPECIFIED))
}

/// The group that reads the zone; `None`: this machine has no `nobody`.
pub(super) fn group() -> Option<u32> {
    nobody().ok().map(|rights| rights.gid)
}

fn nobody() -> Result<Rights, RightsError> {
    Rights::resolve(Some("nobody"), None, (0, 0), &Privileges::default())
}

/// Who has no `nobody` stays root, without what reaches the kernel and other processes.
fn become_nobody() -> Result<String, RightsError> {
    let rights = match nobody() {
        Ok(rights) => rights,
        Err(_) => Rights::resolve(None, None, (0, 0), &Privileges::default())?,
    };
    // This is the only thread.
    drop_rights(&rights)?;
    Ok(rights.user_name.unwrap_or_else(|| rights.uid.to_string()))
}

/// Tells the agent, and lets go of what is shared with it but for the log.
fn greet(greeting: &Greeting) {
    if let Ok(mut line) = serde_json::to_vec(greeting) {
        line.push(b'\n');
        // The agent may be gone; others will find what is written in the directory.
        let _ = io::stdout().write_all(&line);
        let _ = io::stdout().flush();
    }
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for standard in 0..2 {
        // SAFETY: replaces what the descriptor stands for; the descriptor itself stays open.
        unsafe { libc::dup2(null.as_raw_fd(), standard) };
    }
}

/// Beats as long as queries are led here and answered. Ends with the reason to end.
async fn live(
    home: &Home,
    mut heartbeat: Option<Heartbeat>,
    address: SocketAddrV4,
    domain: &str,
) -> &'static str {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut id = 0u16;
    loop {
        ticks.tick().await;
        if home.is_gone() {
            return "its directory is gone";
        }
        let Some(heartbeat) = &mut heartbeat else { continue };
        if !heartbeat.pinned() {
            return "the data path is gone";
        }
        id = id.wrapping_add(1);
        if heartbeat.leads_to(address) && query::ask(address, domain, id).await.is_ok() {
            heartbeat.beat();
        }
    }
}

/// Goes on until nobody waits for an answer.
async fn drain(load: &Load) {
    let end = Instant::now() + DRAIN;
    let mut seen = (load.received(), Instant::now());
    while Instant::now() < end {
        sleep(LOOK).await;
        if load.received() != seen.0 {
            seen = (load.received(), Instant::now());
        } else if load.waiting() == 0 && seen.1.elapsed() >= QUIET {
            return;
        }
    }
}
