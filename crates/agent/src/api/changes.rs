//! Calls that change something.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
};
use sinew_api::{Accepted, Attach, Attached, Scale, ServiceStatus, Shutdown};
use sinew_model::{InvalidProject, Plan, Project};

use super::{
    answer::{Answer, Body, Failure, named},
    state,
};
use crate::{limits, peer::Peer, refusal::Refusal, runtime::Handle};

const ACCEPTED: Json<Accepted> = Json(Accepted {});

type Caller = Extension<Arc<Peer>>;

pub(super) async fn apply(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    Body(project): Body<Project>,
) -> Answer<Plan> {
    if project.name.as_str() != name {
        return Err(Failure::from(Refusal::Invalid {
            field: "name".to_owned(),
            what: format!("the project is called {}, and the path says {name}", project.name),
            remedy: "use one name".to_owned(),
        }));
    }
    let dry_run = dry_run(query.as_deref())?;
    project.validate().map_err(|invalid| refuse(&invalid))?;
    let (checked, members) = (peer.clone(), handle.paths.members());
    // Looks into the user database and tries limits on a cgroup.
    let project = blocking(move || {
        checked.caller.may_apply(&project)?;
        limits::check(&project, &members)?;
        Ok::<_, Refusal>(project)
    })
    .await??;
    let plan = handle.call(move |runtime| runtime.apply(&peer.caller, project, dry_run)).await??;
    Ok(Json(plan))
}

fn dry_run(query: Option<&str>) -> Result<bool, Failure> {
    let wrong = |what: String| {
        Failure::from(Refusal::Invalid {
            field: "dry_run".to_owned(),
            what,
            remedy: "use dry_run=true or dry_run=false, or nothing".to_owned(),
        })
    };
    match query.unwrap_or_default() {
        "" | "dry_run=false" | "dry_run=0" => Ok(false),
        "dry_run" | "dry_run=" | "dry_run=true" | "dry_run=1" => Ok(true),
        other => Err(wrong(format!("{other:?} is not understood"))),
    }
}

/// The first field at fault is named; all of them are told.
fn refuse(invalid: &InvalidProject) -> Failure {
    let field = invalid.fields.first().map(|at| at.field.to_string()).unwrap_or_default();
    let faults: Vec<String> = invalid.fields.iter().map(ToString::to_string).collect();
    Failure::from(Refusal::InvalidProject { field, faults: faults.join("; ") })
}

pub(super) async fn remove(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Path(name): Path<String>,
) -> Answer<Accepted> {
    let name = named(&name)?;
    handle.call(move |runtime| runtime.remove(&peer.caller, &name)).await??;
    Ok(ACCEPTED)
}

pub(super) async fn scale(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Path(name): Path<String>,
    Body(scale): Body<Scale>,
) -> Answer<ServiceStatus> {
    let service = named(&name)?;
    handle.call(move |runtime| runtime.scale(&peer.caller, &service, scale.replicas)).await??;
    state::service(State(handle), Path(name)).await
}

pub(super) async fn restart(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Path(name): Path<String>,
) -> Answer<Accepted> {
    let service = named(&name)?;
    handle.call(move |runtime| runtime.restart(&peer.caller, &service)).await??;
    Ok(ACCEPTED)
}

pub(super) async fn drain(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Path((service, replica)): Path<(String, String)>,
) -> Answer<Accepted> {
    let name = named(&service)?;
    let replica = replica.parse().map_err(|_| Refusal::Invalid {
        field: "path".to_owned(),
        what: format!("{replica:?} is not the number of a replica"),
        remedy: "see `sinew ps`".to_owned(),
    })?;
    handle.call(move |runtime| runtime.drain(&peer.caller, &name, replica)).await??;
    Ok(ACCEPTED)
}

pub(super) async fn attach(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Body(attach): Body<Attach>,
) -> Answer<Attached> {
    let pid = peer.caller.pid;
    let gone = || Refusal::Attach { pid, what: "it has ended".to_owned() };
    let pidfd = peer.pidfd.as_ref().ok_or_else(gone)?;
    let pidfd =
        pidfd.try_clone().map_err(|error| Refusal::Attach { pid, what: error.to_string() })?;
    let joining = handle.call(move |runtime| runtime.attach(&peer.caller, pidfd, attach)).await??;
    let attached = joining.await.map_err(|_| Refusal::Attach {
        pid,
        what: "it could not be given a place among the members".to_owned(),
    })??;
    Ok(Json(attached))
}

pub(super) async fn shutdown(
    State(handle): State<Handle>,
    Extension(peer): Caller,
    Body(how): Body<Shutdown>,
) -> Answer<Accepted> {
    handle.call(move |runtime| runtime.shut_down(&peer.caller, how)).await??;
    Ok(ACCEPTED)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Stopping)
}
