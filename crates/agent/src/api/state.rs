//! Calls that only look.

use std::sync::{Arc, PoisonError};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use sinew_api::{
    Agent, EdgeStatus, ExplainQuery, Explanation, FleetStatus, ProjectStatus, ServiceStatus,
    Shadowed, Status, WorkloadStatus,
};
use sinew_datapath::{Carrier, Datapath};
use sinew_model::{Project, ServiceName};
use tokio::sync::oneshot;

use super::answer::{Answer, Failure, blocking, named};
use crate::{
    explain::Question,
    metrics, occupied,
    publish::Occupancy,
    refusal::Refusal,
    runtime::{Handle, filling},
    status::{self, Counts},
};

pub(super) async fn openapi() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (headers, include_str!("openapi.json")).into_response()
}

pub(super) async fn agent(State(handle): State<Handle>) -> Answer<Agent> {
    let paths = handle.paths.clone();
    let agent = handle.call(move |runtime| Agent {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi_version: sinew_abi::ABI_VERSION,
        pid: std::process::id(),
        started_at_ms: runtime.started_at_ms,
        cgroup: paths.members(),
        pins: paths.pins.clone(),
        metrics: runtime.metrics_at,
        missing: runtime.missing(Carrier::Members),
        reach: runtime.reached(),
        adopted: runtime.adopted(),
        shadowed: Vec::new(),
        warnings: runtime.warnings(),
    });
    let mut agent = agent.await?;
    agent.shadowed = shadowed(&handle).await?;
    let datapath = handle.datapath.clone();
    agent.warnings.extend(blocking(move || filling(&datapath)).await?);
    let policy = handle.policy.clone();
    agent.warnings.extend(blocking(move || policy.warnings()).await?);
    Ok(Json(agent))
}

pub(super) async fn status(State(handle): State<Handle>) -> Answer<Status> {
    let (started_at_ms, mut warnings, asked) = handle
        .call(|runtime| (runtime.started_at_ms, runtime.warnings(), runtime.ask_others()))
        .await?;
    let mut fleet = answered(asked).await?;
    if let Some(fleet) = &mut fleet {
        let notices = look_plainly(&handle, |datapath| datapath.notices()).await?;
        fleet.notices.extend(notices.iter().map(ToString::to_string));
        warnings.extend(fleet.certificate.iter().filter_map(|c| c.alarm.clone()));
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Json(Status { version, started_at_ms, fleet, warnings }))
}

/// What the task that owns this host's membership says; `None`: there is none.
async fn answered(
    asked: Option<oneshot::Receiver<FleetStatus>>,
) -> Result<Option<FleetStatus>, Refusal> {
    match asked {
        // When it has ended, so does the agent.
        Some(answer) => answer.await.map(Some).map_err(|_| Refusal::Stopping),
        None => Ok(None),
    }
}

async fn look_plainly<T: Send + 'static>(
    handle: &Handle,
    work: impl FnOnce(&dyn Datapath) -> T + Send + 'static,
) -> Result<T, Refusal> {
    let datapath = handle.datapath.clone();
    blocking(move || work(&**datapath.lock())).await
}

pub(super) async fn projects(State(handle): State<Handle>) -> Answer<Vec<ProjectStatus>> {
    Ok(Json(handle.call(|runtime| status::projects(&runtime.core)).await?))
}

pub(super) async fn project(
    State(handle): State<Handle>,
    Path(name): Path<String>,
) -> Answer<Project> {
    let name = named(&name)?;
    let found = handle
        .call(move |runtime| {
            let owned = runtime.core.intent().projects.get(&name).cloned();
            owned.ok_or(Refusal::NoProject { project: name })
        })
        .await??;
    Ok(Json(found.project.clone()))
}

pub(super) async fn services(State(handle): State<Handle>) -> Answer<Vec<ServiceStatus>> {
    let counts = counts(&handle).await?;
    let mut all = handle.call(move |runtime| status::services(&runtime.core, &counts)).await?;
    for shadowed in shadowed(&handle).await? {
        if let Some(service) = all.iter_mut().find(|service| service.name == shadowed.service) {
            service.shadowed.push(shadowed);
        }
    }
    Ok(Json(all))
}

pub(super) async fn service(
    State(handle): State<Handle>,
    Path(name): Path<String>,
) -> Answer<ServiceStatus> {
    let name: ServiceName = named(&name)?;
    let counts = counts(&handle).await?;
    let mut found = handle
        .call(move |runtime| {
            let found = status::service(&runtime.core, &name, &counts);
            found.ok_or_else(|| runtime.core.intent().no_service(&name))
        })
        .await??;
    found.shadowed = shadowed(&handle).await?;
    found.shadowed.retain(|shadowed| shadowed.service == found.name);
    Ok(Json(found))
}

/// Looked for when it is asked for: who binds a port of the host does not tell Sinew.
async fn shadowed(handle: &Handle) -> Result<Vec<Shadowed>, Refusal> {
    let published = handle.call(|runtime| Occupancy::of(runtime.core.intent())).await?;
    let Some(published) = published else { return Ok(Vec::new()) };
    let datapath = handle.datapath.clone();
    look(move || {
        let listeners = datapath.lock().listeners()?;
        Ok(published.shadows(&listeners, occupied::holder))
    })
    .await
}

pub(super) async fn workloads(State(handle): State<Handle>) -> Answer<Vec<WorkloadStatus>> {
    Ok(Json(handle.call(|runtime| runtime.workloads()).await?))
}

pub(super) async fn edges(State(handle): State<Handle>) -> Answer<Vec<EdgeStatus>> {
    let names = handle.call(|runtime| status::names(&runtime.core)).await?;
    let datapath = handle.datapath.clone();
    let edges = look(move || datapath.lock().edges()).await?;
    Ok(Json(status::edges(&edges, &names)))
}

pub(super) async fn explain(
    State(handle): State<Handle>,
    RawQuery(query): RawQuery,
) -> Answer<Explanation> {
    let query = ExplainQuery::parse(query.as_deref().unwrap_or_default())?;
    let question = handle.call(move |runtime| Question::of(&runtime.core, query)).await??;
    let datapath = handle.datapath.clone();
    let answer = look(move || {
        let seen = question.look(&**datapath.lock())?;
        Ok(question.answer(&seen))
    });
    Ok(Json(answer.await?))
}

pub(super) async fn metrics(State(handle): State<Handle>) -> Result<Response, Failure> {
    let names = handle.call(|runtime| status::names(&runtime.core)).await?;
    let counts = counts(&handle).await?;
    let services = handle.call(move |runtime| status::services(&runtime.core, &counts)).await?;
    let datapath = handle.datapath.clone();
    let (edges, totals, filling) = look(move || {
        let datapath = datapath.lock();
        Ok((datapath.edges()?, datapath.totals()?, datapath.filling()?))
    })
    .await?;
    let (workloads, usage, ended_unseen, started_at_ms, asked) = handle
        .call(|runtime| {
            let core = &runtime.core;
            let usage = core.usage(core.intent());
            let (unseen, started_at_ms) = (runtime.ended_unseen(), runtime.started_at_ms);
            (status::workloads(core), usage, unseen, started_at_ms, runtime.ask_others())
        })
        .await?;
    let fleet = answered(asked).await?;
    let maps = usage.maps().into_iter().chain(filling.into_iter().map(Into::into)).collect();
    let counted = metrics::Counted {
        names,
        services,
        workloads,
        edges,
        totals,
        ended_unseen,
        maps,
        started_at_ms,
        fleet,
    };
    let text = metrics::render(&counted);
    let headers = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
    Ok((headers, text).into_response())
}

async fn counts(handle: &Handle) -> Result<Counts, Refusal> {
    let (datapath, times) = (handle.datapath.clone(), Arc::clone(&handle.times));
    look(move || {
        // Held from reading to adding: an older reading than the last one would count as made anew.
        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
        let (stats, read) = {
            let datapath = datapath.lock();
            let stats = datapath.backends()?;
            let keys: Vec<u64> = stats.keys().copied().collect();
            let read = datapath.times(&keys)?;
            (stats, read)
        };
        Ok(Counts { stats, times: times.take(read) })
    })
    .await
}

/// The data path may be busy for a while with a large change.
async fn look<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, sinew_datapath::Error> + Send + 'static,
) -> Result<T, Refusal> {
    blocking(work).await?.map_err(|error| Refusal::Datapath { what: error.to_string() })
}
