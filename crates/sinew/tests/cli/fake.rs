//! An agent that does nothing but answer: what a test tells it to, and what it was asked.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use sinew_api::{
    Accepted, Agent, Attached, ErrorBody, ErrorCode, Event, EventKind, LogLine, LogPosition,
    ProjectStatus, Scale, ServiceStatus, WorkloadState, WorkloadStatus,
};
use sinew_model::{Plan, Project, ProjectName, ServiceName};
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the agent knows. It outlives the agent's process, as on a real host.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) projects: Vec<ProjectStatus>,
    pub(crate) workloads: Vec<WorkloadStatus>,
    pub(crate) positions: Vec<LogPosition>,
    /// What a query gets that does not follow; nothing: lines as the test writes them.
    pub(crate) kept: Vec<LogLine>,
    pub(crate) refuse_attachments: bool,
    /// Method and path of every request, with its body behind it.
    pub(crate) asked: VecDeque<(String, String)>,
    pub(crate) events: Vec<mpsc::UnboundedSender<Bytes>>,
    pub(crate) logs: Vec<mpsc::UnboundedSender<Bytes>>,
    pub(crate) attached: HashMap<Option<ServiceName>, u32>,
}

/// A fake agent; it goes away when this is dropped.
pub(crate) struct Fake {
    pub(crate) world: Arc<Mutex<World>>,
    socket: PathBuf,
    asked: watch::Receiver<u64>,
    tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) fn start(socket: PathBuf, world: Arc<Mutex<World>>) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let (count, asked) = watch::channel(0);
        let count = Arc::new(count);
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&world);
        tasks.spawn(async move {
            // Connections end with the agent.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (world, count) = (Arc::clone(&shared), Arc::clone(&count));
                let service = service_fn(move |request| {
                    let (world, count) = (Arc::clone(&world), Arc::clone(&count));
                    async move { Ok::<_, Infallible>(answer(request, &world, &count).await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                let connection = server.serve_connection(TokioIo::new(stream), service);
                connections.spawn(async { drop(connection.await) });
            }
        });
        Self { world, socket, asked, tasks }
    }

    /// Ends as a killed process does: its connections break, its socket stays.
    pub(crate) async fn kill(mut self) -> Arc<Mutex<World>> {
        self.tasks.shutdown().await;
        std::fs::remove_file(&self.socket).unwrap();
        let mut world = self.world.lock().unwrap();
        world.events.clear();
        world.logs.clear();
        drop(world);
        self.world
    }

    /// Waits for a request that begins so, takes it out, and gives what it said and its body.
    pub(crate) async fn asked(&mut self, begin: &str) -> (String, String) {
        loop {
            self.asked.borrow_and_update();
            {
                let mut world = self.world.lock().unwrap();
                let found = world.asked.iter().position(|(asked, _)| asked.starts_with(begin));
                if let Some(asked) = found.and_then(|index| world.asked.remove(index)) {
                    return asked;
                }
            }
            self.asked.changed().await.unwrap();
        }
    }

    /// Whether a request that begins so waits to be looked at.
    pub(crate) fn was_asked(&self, begin: &str) -> bool {
        self.world.lock().unwrap().asked.iter().any(|(asked, _)| asked.starts_with(begin))
    }

    pub(crate) fn log(&self, service: &str, replica: u32, text: &str, offset: u64) {
        let service = ServiceName::new(service).unwrap();
        let line = LogLine { service, replica, text: text.to_owned(), offset };
        let json = Bytes::from(format!("{}\n", serde_json::to_string(&line).unwrap()));
        self.world.lock().unwrap().logs.iter().for_each(|follower| {
            let _ = follower.send(json.clone());
        });
    }

    /// Changes what it answers from here on.
    pub(crate) fn now(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.lock().unwrap());
    }

    pub(crate) fn project(&self, name: &str, change: &str) {
        for project in &mut self.world.lock().unwrap().projects {
            project.ready |= change == "ready" && project.name.as_str() == name;
        }
        self.event(name, EventKind::Project { change: change.to_owned() });
    }

    pub(crate) fn workload(
        &self,
        name: &str,
        replica: u32,
        state: WorkloadState,
        why: Option<&str>,
    ) {
        let service = ServiceName::new(name).unwrap();
        let reason = why.map(str::to_owned);
        self.event("shop", EventKind::Workload { service, replica, state, reason });
    }

    pub(crate) fn event(&self, project: &str, kind: EventKind) {
        let project = Some(ProjectName::new(project).unwrap());
        let event = Event { at_ms: 1, sequence: 1, project, kind };
        let json = Bytes::from(format!("data: {}\n\n", serde_json::to_string(&event).unwrap()));
        self.world.lock().unwrap().events.iter().for_each(|follower| {
            let _ = follower.send(json.clone());
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    world: &Mutex<World>,
    count: &watch::Sender<u64>,
) -> Response<Body> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut world = world.lock().unwrap();
    let answer = route(&method, uri.path(), &body, &mut world);
    world.asked.push_back((format!("{method} {uri}"), String::from_utf8(body.to_vec()).unwrap()));
    count.send_modify(|count| *count += 1);
    answer
}

fn route(method: &Method, path: &str, body: &[u8], world: &mut World) -> Response<Body> {
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["agent"]) => json(&Agent {
            version: "0.0.0".to_owned(),
            abi_version: 0,
            pid: std::process::id(),
            started_at_ms: 0,
            cgroup: PathBuf::new(),
            pins: PathBuf::new(),
            metrics: None,
            missing: Vec::new(),
            reach: Vec::new(),
            adopted: Vec::new(),
            shadowed: Vec::new(),
            warnings: Vec::new(),
        }),
        ("GET", ["projects"]) => json(&world.projects),
        ("PUT", ["projects", _]) => {
            let project: Project = serde_json::from_slice(body).unwrap();
            world.projects.push(ProjectStatus {
                name: project.name.clone(),
                generation: 1,
                services: project.services.keys().cloned().collect(),
                ready: false,
            });
            json(&Plan::between(None, Some(&project)))
        }
        ("DELETE", ["projects", name]) => {
            world.projects.retain(|project| project.name.as_str() != *name);
            json(&Accepted {})
        }
        ("GET", ["workloads"]) => json(&world.workloads),
        ("GET", ["services"]) => json(&Vec::<ServiceStatus>::new()),
        ("PATCH", ["services", name]) => scaled(name, body),
        ("POST", ["attachments"]) => attached(body, world),
        ("POST", _) => json(&Accepted {}),
        ("GET", ["logs", "positions"]) => json(&world.positions),
        ("GET", ["logs"]) if !world.kept.is_empty() => {
            let line = |line| serde_json::to_string(line).unwrap() + "\n";
            Response::new(whole(world.kept.iter().map(line).collect::<String>().into()))
        }
        ("GET", ["logs"]) => follow(&mut world.logs),
        ("GET", ["events"]) => follow(&mut world.events),
        _ => refusal(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is no such thing"),
    }
}

fn scaled(name: &str, body: &[u8]) -> Response<Body> {
    let scale: Scale = serde_json::from_slice(body).unwrap();
    if name == "nobody" {
        return refusal(StatusCode::NOT_FOUND, ErrorCode::NotFound, "there is no service nobody");
    }
    json(&ServiceStatus {
        name: ServiceName::new(name).unwrap(),
        project: None,
        address4: Ipv4Addr::new(127, 64, 0, 1),
        address6: Ipv6Addr::LOCALHOST,
        ports: Vec::new(),
        published: Vec::new(),
        shadowed: Vec::new(),
        replicas: scale.replicas,
        up: 0,
        endpoints: Vec::new(),
    })
}

fn attached(body: &[u8], world: &mut World) -> Response<Body> {
    if world.refuse_attachments {
        return refusal(StatusCode::CONFLICT, ErrorCode::Conflict, "somebody has that name");
    }
    let attach: sinew_api::Attach = serde_json::from_slice(body).unwrap();
    let replica = world.attached.entry(attach.service).and_modify(|count| *count += 1).or_default();
    json(&Attached {
        replica: *replica,
        address: Ipv4Addr::new(127, 80, 0, 1),
        env: [("LOCALDOMAIN".to_owned(), "sinew.internal".to_owned())].into(),
    })
}

fn json(value: &impl Serialize) -> Response<Body> {
    Response::new(whole(serde_json::to_vec(value).unwrap()))
}

fn refusal(status: StatusCode, code: ErrorCode, message: &str) -> Response<Body> {
    let remedy = Some("see `sinew services`".to_owned());
    let body =
        ErrorBody { code, message: message.to_owned(), remedy, field: None, retryable: false };
    let body = whole(serde_json::to_vec(&body).unwrap());
    Response::builder().status(status).body(body).unwrap()
}

fn whole(bytes: Vec<u8>) -> Body {
    BodyExt::boxed_unsync(Full::new(bytes.into()))
}

fn follow(followers: &mut Vec<mpsc::UnboundedSender<Bytes>>) -> Response<Body> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    followers.push(sender);
    let pieces = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let frames: BoxStream<'static, _> = pieces.map(|piece| Ok(Frame::data(piece))).boxed();
    Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)))
}
