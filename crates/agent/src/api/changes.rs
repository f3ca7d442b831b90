//! Calls that change something.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use sinew_api::{
    Accepted, Adopt, Adopted, Attach, Attached, Released, Scale, ServiceStatus, Shutdown,
};
use sinew_model::{InvalidProject, Plan, Port, Project, ServiceName};

use super::{
    answer::{Answer, Body, Failure, blocking, named},
    asking::Asking,
    state,
};
use crate::{
    adopt::{Surroundings, inspect},
    key::Key,
    limits, publish,
    refusal::Refusal,
    runtime::{Handle, Runtime},
};

const ACCEPTED: Json<Accepted> = Json(Accepted {});

pub(super) async fn apply(
    State(handle): State<Handle>,
    asking: Asking,
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
    let (checked, members) = (asking.caller.clone(), handle.paths.members());
    // Looks into the user database and tries limits on a cgroup.
    let project = blocking(move || {
        checked.may_apply(&project)?;
        limits::check(&project, &members)?;
        Ok::<_, Refusal>(project)
    })
    .await??;
    let project = compare(&handle, &asking, project).await?;
    let plan =
        handle.call(move |runtime| runtime.apply(&asking.caller, project, dry_run)).await??;
    Ok(Json(plan))
}

/// Compares what a project publishes anew with what listens on the host.
async fn compare(handle: &Handle, asking: &Asking, project: Project) -> Result<Project, Refusal> {
    let caller = asking.caller.clone();
    let look = move |runtime: &mut Runtime| {
        let intent = runtime.to_compare(&caller, &project)?;
        Ok::<_, Refusal>((intent, project))
    };
    let (intent, project) = handle.call(look).await??;
    let Some(intent) = intent else { return Ok(project) };
    let datapath = handle.datapath.clone();
    let compared = blocking(move || {
        let listeners = datapath.lock().listeners();
        let listeners = listeners.map_err(|error| Refusal::Datapath { what: error.to_string() })?;
        publish::check_host(&intent, &project, &listeners)?;
        Ok(project)
    });
    compared.await?
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
    asking: Asking,
    Path(name): Path<String>,
) -> Answer<Accepted> {
    let name = named(&name)?;
    handle.call(move |runtime| runtime.remove(&asking.caller, &name)).await??;
    Ok(ACCEPTED)
}

pub(super) async fn scale(
    State(handle): State<Handle>,
    asking: Asking,
    Path(name): Path<String>,
    Body(scale): Body<Scale>,
) -> Answer<ServiceStatus> {
    let service = named(&name)?;
    handle.call(move |runtime| runtime.scale(&asking.caller, &service, scale.replicas)).await??;
    state::service(State(handle), Path(name)).await
}

pub(super) async fn restart(
    State(handle): State<Handle>,
    asking: Asking,
    Path(name): Path<String>,
) -> Answer<Accepted> {
    let service = named(&name)?;
    handle.call(move |runtime| runtime.restart(&asking.caller, &service)).await??;
    Ok(ACCEPTED)
}

pub(super) async fn drain(
    State(handle): State<Handle>,
    asking: Asking,
    Path((service, replica)): Path<(String, String)>,
) -> Answer<Accepted> {
    let (name, replica) = endpoint(&service, &replica)?;
    handle.call(move |runtime| runtime.drain(&asking.caller, &name, replica)).await??;
    Ok(ACCEPTED)
}

/// The endpoint that a path names.
fn endpoint(service: &str, replica: &str) -> Result<(ServiceName, u32), Failure> {
    let replica = replica.parse().map_err(|_| Refusal::Invalid {
        field: "path".to_owned(),
        what: format!("{replica:?} is not the number of a replica"),
        remedy: "see `sinew ps`".to_owned(),
    })?;
    Ok((named(service)?, replica))
}

pub(super) async fn adopt(
    State(handle): State<Handle>,
    asking: Asking,
    Body(adopt): Body<Adopt>,
) -> Answer<Adopted> {
    let around = Surroundings { paths: handle.paths.clone(), datapath: handle.datapath.clone() };
    let (asked, target, ports) = (asking.caller.clone(), adopt.target.clone(), adopt.ports.clone());
    let subject = blocking(move || inspect(&target, &ports, &asked, &around)).await??;
    let (service, ports) = (adopt.service.clone(), adopt.ports.clone());
    let (adopted, from) = (subject.target.to_string(), subject.target.origin());
    let begun = handle.call(move |runtime| runtime.adopt(&asking.caller, adopt, subject)).await??;
    let processes = begun.done.await.map_err(|_| Refusal::NotMoved {
        key: begun.key.clone(),
        what: "it could not be given a place among the members".to_owned(),
    })??;
    let heard = |port: &Port| {
        begun
            .places
            .keys()
            .any(|(protocol, number, _)| (*protocol, *number) == (port.protocol, port.number))
    };
    Ok(Json(Adopted {
        service,
        replica: begun.key.replica,
        adopted,
        processes,
        endpoints: begun
            .places
            .iter()
            .map(|((_, port, _), place)| SocketAddr::new(place.address, *port))
            .collect(),
        silent: ports.into_iter().filter(|port| !heard(port)).collect(),
        moved_from: from,
    }))
}

pub(super) async fn release(
    State(handle): State<Handle>,
    asking: Asking,
    Path((service, replica)): Path<(String, String)>,
) -> Answer<Released> {
    let (service, replica) = endpoint(&service, &replica)?;
    let key = Key::of(&service, replica);
    let done = handle.call(move |runtime| runtime.release(&asking.caller, &key)).await??;
    let back = done.await.map_err(|_| Refusal::Stopping)??;
    Ok(Json(Released {
        service,
        replica,
        moved_to: back.as_ref().map(|back| back.to.clone()),
        origin_gone: back.and_then(|back| back.gone),
    }))
}

pub(super) async fn attach(
    State(handle): State<Handle>,
    asking: Asking,
    Body(attach): Body<Attach>,
) -> Answer<Attached> {
    let pid = asking.caller.pid;
    let gone = || Refusal::Attach { pid, what: "it has ended".to_owned() };
    let pidfd = asking.peer.pidfd.as_ref().ok_or_else(gone)?;
    let pidfd =
        pidfd.try_clone().map_err(|error| Refusal::Attach { pid, what: error.to_string() })?;
    let joining =
        handle.call(move |runtime| runtime.attach(&asking.caller, pidfd, attach)).await??;
    let attached = joining.await.map_err(|_| Refusal::Attach {
        pid,
        what: "it could not be given a place among the members".to_owned(),
    })??;
    Ok(Json(attached))
}

pub(super) async fn shutdown(
    State(handle): State<Handle>,
    asking: Asking,
    Body(how): Body<Shutdown>,
) -> Answer<Accepted> {
    handle.call(move |runtime| runtime.shut_down(&asking.caller, how)).await??;
    Ok(ACCEPTED)
}
