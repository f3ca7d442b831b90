//! `sinew down`.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    os::fd::OwnedFd,
    path::PathBuf,
};

use futures_util::StreamExt as _;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use sinew_api::{Client, EventKind, Shutdown};
use sinew_model::ProjectName;
use tokio::{io::unix::AsyncFd, process::Child};

use crate::{
    args::Down,
    command::printer::{Printer, source},
    context::Context,
    error::Error,
    file,
    readable::readable,
    render::style::{Tint, state_tint, state_word},
    spawn,
};

pub(super) async fn down(args: &Down, context: &Context) -> Result<(), Error> {
    if args.purge {
        return purge(args, context).await;
    }
    let client = context.client().await?;
    let named = match (&args.project, &args.file) {
        (Some(project), _) => Some(project.clone()),
        (None, Some(path)) => Some(file::read(path)?.name),
        (None, None) => None,
    };
    let projects = match named {
        Some(name) => vec![name],
        None => {
            let all = client.projects().await?;
            let all: Vec<ProjectName> = all.into_iter().map(|project| project.name).collect();
            if all.len() > 1 {
                let names = all.iter().map(ProjectName::as_str).collect::<Vec<_>>().join(", ");
                confirm(args.yes, &format!("stop {} projects ({names})", all.len()))?;
            }
            all
        }
    };
    if !projects.is_empty() {
        stop(&client, &projects, context).await?;
    }
    context.show(&Stopped { projects }, |stopped| match stopped.projects.as_slice() {
        [] => "no project is up\n".to_owned(),
        _ => "all stopped\n".to_owned(),
    })
}

/// What `down` did.
#[derive(Serialize)]
struct Stopped {
    projects: Vec<ProjectName>,
}

/// Stops these projects, and tells how it goes on until all are gone.
async fn stop(client: &Client, projects: &[ProjectName], context: &Context) -> Result<(), Error> {
    let services = client.services().await?;
    let names = services.iter().map(|service| (&service.name, service.replicas));
    let printer = Printer::new(context, names);
    // Before anything is stopped, so that no event of it is missed.
    let mut events = client.events().await?;
    let mut left: BTreeSet<&ProjectName> = projects.iter().collect();
    for project in projects {
        client.remove(project).await?;
    }
    while !left.is_empty() {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) if !error.agent_is_away() => return Err(error.into()),
            None | Some(Err(_)) => {
                let names = left.into_iter().map(ToString::to_string).collect();
                return Err(Error::LostStopping { names });
            }
        };
        let Some(project) = event.project.filter(|project| left.contains(project)) else {
            continue;
        };
        match event.kind {
            EventKind::Workload { service, replica, state, reason } => {
                let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                let text = format!("{} {}{reason}", source(&service, replica), state_word(state));
                printer.tell(state_tint(state), &text)?;
            }
            EventKind::Project { change } if change == "removed" => {
                left.remove(&project);
                printer.tell(Tint::Bold, &format!("project {project} is down"))?;
            }
            EventKind::Project { .. } | EventKind::Warning { .. } => {}
        }
    }
    Ok(())
}

/// What `down --purge` did.
#[derive(Serialize)]
struct Purged {
    purged: bool,
}

async fn purge(args: &Down, context: &Context) -> Result<(), Error> {
    confirm(args.yes, "stop everything and remove all that Sinew made on this host")?;
    // What an agent that is gone left behind, only an agent can find and remove.
    let reached = spawn::reach(context).await?;
    let agent = reached.client.agent().await?;
    let end = match reached.child {
        Some(child) => AgentEnd::Child(child),
        None => AgentEnd::of(agent.pid)?,
    };
    reached.client.shutdown(Shutdown { stop_workloads: true, purge: true }).await?;
    end.wait().await?;
    // It cannot be asked any more how it went.
    let own = [agent.pins, agent.cgroup, context.socket.clone()];
    let left: Vec<PathBuf> = own.into_iter().filter(|path| path.exists()).collect();
    if !left.is_empty() {
        return Err(Error::NotPurged { left });
    }
    context.show(&Purged { purged: true }, |_| "nothing of Sinew is left on this host\n".to_owned())
}

/// The end of an agent's process.
enum AgentEnd {
    Child(Child),
    Other(AsyncFd<OwnedFd>),
    Gone,
}

impl AgentEnd {
    fn of(pid: u32) -> Result<Self, Error> {
        let failed = || Error::system(format!("watch the agent, process {pid}"));
        let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return Ok(Self::Gone) };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self::Other(readable(pidfd).map_err(failed())?)),
            Err(rustix::io::Errno::SRCH) => Ok(Self::Gone),
            Err(error) => Err(failed()(error.into())),
        }
    }

    async fn wait(self) -> Result<(), Error> {
        match self {
            Self::Child(mut child) => {
                child.wait().await.map_err(Error::system("wait for the agent"))?;
            }
            Self::Other(pidfd) => {
                // Readable once the process has ended.
                let ready = pidfd.readable().await;
                ready.map_err(Error::system("wait for the agent")).map(drop)?;
            }
            Self::Gone => {}
        }
        Ok(())
    }
}

/// Asks on the terminal whether to do `what`; without one, refuses.
pub(super) fn confirm(yes: bool, what: &str) -> Result<(), Error> {
    if yes {
        return Ok(());
    }
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Err(Error::Usage {
            what: format!("this would {what}, and there is no terminal to ask on"),
            help: "give --yes to do it without being asked".to_owned(),
        });
    }
    let mut answer = String::new();
    write!(stderr, "{what}? [y/N] ")
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(Error::system("ask on the terminal"))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Error::Usage {
        what: "nothing was changed".to_owned(),
        help: "answer y to go on".to_owned(),
    })
}
