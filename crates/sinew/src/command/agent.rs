//! `sinew agent`.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use sinew_agent::{AgentOptions, DatapathSource, JoinOptions, Members, Paths};
use sinew_identity::Token;
use sinew_workload::cgroup;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Agent, Join},
    context::Context,
    error::Error,
};

pub(super) fn agent(mut args: Agent, context: &Context) -> Result<(), Error> {
    log(&args.log, context.json)?;
    let metrics = args.metrics;
    let members = if args.members_call { Members::Call } else { Members::Refused };
    let policy = args.policy.clone();
    let reach = args.reach.iter().map(|named| reached(named)).collect::<Result<_, _>>()?;
    let join = join(std::mem::take(&mut args.join))?;
    let options = AgentOptions {
        paths: paths(args)?,
        exe: own_path()?,
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
        datapath: DatapathSource::Kernel,
        metrics,
        policy,
        members,
        reach,
        join,
    };
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::system("start the runtime"))?;
    Ok(runtime.block_on(sinew_agent::serve(options))?)
}

fn join(args: Join) -> Result<JoinOptions, Error> {
    let Join { join: control, token, node, zone, labels, addresses, placement } = args;
    // Not by the parser of arguments, which would show what it cannot read.
    let token = token.map(|text| text.parse::<Token>()).transpose();
    let token = token.map_err(|error| Error::Usage {
        what: format!("--token: {error}"),
        help: "give the whole of what `sinew token create` printed".to_owned(),
    })?;
    let labels = labels.into_iter().collect();
    Ok(JoinOptions { control, token, node, zone, labels, addresses, placement })
}

/// The cgroup that is named; `host` is the root of those that this agent sees.
fn reached(named: &Path) -> Result<PathBuf, Error> {
    if named == "host" {
        return Ok(cgroup::find_root().map_err(sinew_agent::Error::from)?);
    }
    Ok(named.to_owned())
}

/// The usual places, but for those that are given.
fn paths(args: Agent) -> Result<Paths, Error> {
    let usual = |part: fn(Paths) -> PathBuf| {
        let paths = Paths::from_env().map_err(sinew_agent::Error::from)?;
        Ok::<_, Error>(part(paths))
    };
    Ok(Paths {
        run: args.run.map_or_else(|| usual(|paths| paths.run), Ok)?,
        state: args.state.map_or_else(|| usual(|paths| paths.state), Ok)?,
        pins: args.pins.map_or_else(|| usual(|paths| paths.pins), Ok)?,
        cgroup: args.cgroup.map_or_else(|| usual(|paths| paths.cgroup), Ok)?,
    })
}

/// Where this program is: a newer one that takes its place there is what starts next.
fn own_path() -> Result<PathBuf, Error> {
    const DELETED: &[u8] = b" (deleted)";
    let path = env::current_exe().map_err(Error::system("find this program's file"))?;
    let bytes = path.as_os_str().as_bytes();
    Ok(bytes
        .strip_suffix(DELETED)
        .map_or_else(|| path.clone(), |path| OsStr::from_bytes(path).into()))
}

/// Logs to standard error: for people, or a JSON value a line.
pub(super) fn log(filter: &str, json: bool) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).map_err(|error| Error::Usage {
        what: format!("--log {filter:?}: {error}"),
        help: "give a level, as debug, or directives, as sinew_agent=debug".to_owned(),
    })?;
    let colour = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let log = log.with_ansi(colour).with_target(false);
    // The journal has a clock of its own.
    match (json, is_journal()) {
        (true, _) => log.with_target(true).json().init(),
        (false, true) => log.without_time().init(),
        (false, false) => log.init(),
    }
    Ok(())
}

/// Whether standard error is the journal's: see `JOURNAL_STREAM` in systemd.exec(5).
fn is_journal() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|is| stream == OsStr::new(&format!("{}:{}", is.st_dev, is.st_ino)))
}

/// The same for people to read in a file, whatever was asked of the agent.
pub(crate) fn log_of_helper() {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_target(false).init();
}
