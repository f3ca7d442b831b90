//! `GET /v1/logs`: what workloads wrote, each line once, in the order of its replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use sinew_api::{LogLine, LogPosition, LogQuery};
use sinew_model::ServiceName;
use sinew_workload::logs::{Follow, Record, start_of_last, tail};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::answer::{Answer, Failure};
use crate::{
    paths::Paths,
    runtime::{Handle, Runtime},
};

/// From look to look for logs of replicas that are new.
const LOOK_FOR_NEW: Duration = Duration::from_millis(200);
/// Lines that wait for a slow reader; then the log file does.
const AHEAD: usize = 256;

/// A replica with a log.
type Replica = (ServiceName, u32);

pub(super) async fn positions(State(handle): State<Handle>) -> Answer<Vec<LogPosition>> {
    let paths = handle.paths.clone();
    let ends = replicas(&paths, &BTreeSet::new())
        .into_iter()
        .filter_map(|((service, replica), path)| {
            // A line that has no end yet is still to come.
            let offset = tail(&path, 0).ok()?.end;
            Some(LogPosition { service, replica, offset })
        })
        .collect();
    Ok(Json(ends))
}

pub(super) async fn lines(
    State(handle): State<Handle>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = LogQuery::parse(query.as_deref().unwrap_or_default())?;
    let named = query.services.clone();
    let check = |service: &ServiceName, runtime: &Runtime| {
        runtime.check_not_adopted(service, "show its output")
    };
    handle.call(move |runtime| named.iter().try_for_each(|name| check(name, runtime))).await??;
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::spawn(read_all(handle.paths.clone(), query, sender));
    let begin = (receiver, handle.ending());
    let body = futures_util::stream::unfold(begin, |(mut receiver, mut ending)| async move {
        let line = tokio::select! {
            biased;
            line = receiver.recv() => line?,
            _ = ending.wait_for(|ending| *ending) => return None,
        };
        Some((Ok::<_, Infallible>(line), (receiver, ending)))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Ends when all is read, or when nobody reads any more.
async fn read_all(paths: Arc<Paths>, query: LogQuery, lines: mpsc::Sender<Bytes>) {
    let only: BTreeSet<ServiceName> = query.services.iter().cloned().collect();
    let mut known = BTreeSet::new();
    let mut readers = JoinSet::new();
    for (replica, path) in replicas(&paths, &only) {
        known.insert(replica.clone());
        let from = begin(&query, &replica, &path);
        if query.follow {
            readers.spawn(follow(replica, path, from, lines.clone()));
        } else {
            read(replica, path, from, &lines).await;
        }
    }
    if !query.follow {
        return;
    }
    let mut looks = tokio::time::interval(LOOK_FOR_NEW);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = lines.closed() => return,
            Some(ended) = readers.join_next() => {
                // A log that was removed may be made again.
                if let Ok(replica) = ended {
                    known.remove(&replica);
                }
            }
        }
        for (replica, path) in replicas(&paths, &only) {
            if known.insert(replica.clone()) {
                readers.spawn(follow(replica, path, 0, lines.clone()));
            }
        }
    }
}

fn begin(query: &LogQuery, (service, replica): &Replica, path: &std::path::Path) -> u64 {
    let resumed = query.from.iter().find(|p| p.service == *service && p.replica == *replica);
    match (resumed, query.tail) {
        (Some(position), _) => position.offset,
        (None, Some(count)) => {
            start_of_last(path, usize::try_from(count).unwrap_or(usize::MAX)).unwrap_or(0)
        }
        (None, None) => 0,
    }
}

async fn follow(replica: Replica, path: PathBuf, from: u64, lines: mpsc::Sender<Bytes>) -> Replica {
    let Ok(mut log) = Follow::open(&path, from) else { return replica };
    loop {
        let record = tokio::select! {
            record = log.next() => record,
            () = lines.closed() => return replica,
        };
        let text = match record {
            Ok(Record::Line(text)) => text,
            Ok(Record::Dropped { .. }) => continue,
            Ok(Record::Removed) | Err(_) => return replica,
        };
        if lines.send(encode(&replica, text, log.position())).await.is_err() {
            return replica;
        }
    }
}

/// What is there now, its last line too when it has no end yet.
async fn read(replica: Replica, path: PathBuf, from: u64, lines: &mpsc::Sender<Bytes>) {
    let Ok(last) = tail(&path, 0) else { return };
    let Ok(mut log) = Follow::open(&path, from) else { return };
    while log.position() < last.end {
        match log.next().await {
            Ok(Record::Line(text)) => {
                if lines.send(encode(&replica, text, log.position())).await.is_err() {
                    return;
                }
            }
            Ok(Record::Dropped { .. }) => {}
            Ok(Record::Removed) | Err(_) => return,
        }
    }
    if let Some(text) = last.partial {
        // It will be told again, whole, to who goes on from here.
        let _ = lines.send(encode(&replica, text, last.end)).await;
    }
}

fn encode((service, replica): &Replica, text: String, offset: u64) -> Bytes {
    let line = LogLine { service: service.clone(), replica: *replica, text, offset };
    let mut json = serde_json::to_vec(&line).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

/// The logs that there are: of the services in `only`, or of all.
fn replicas(paths: &Paths, only: &BTreeSet<ServiceName>) -> BTreeMap<Replica, PathBuf> {
    let mut found = BTreeMap::new();
    for service in list(&paths.logs()) {
        let Ok(name) = ServiceName::new(&service) else { continue };
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        for file in list(&paths.logs().join(&service)) {
            let number = file.strip_suffix(".log").and_then(|number| number.parse().ok());
            if let Some(replica) = number {
                found.insert((name.clone(), replica), paths.log(&service, replica));
            }
        }
    }
    found
}

fn list(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
