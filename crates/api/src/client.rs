//! A client of the agent's socket: one method a call. Each call has a connection of its own, so a
//! client outlives any number of agents and a stream never holds up another call.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use sinew_model::{Plan, Project, ProjectName, ServiceName};
use tokio::net::UnixStream;

use crate::{
    Accepted, Adopt, Adopted, Agent, Attach, Attached, ClientError, EdgeStatus, ErrorBody, Events,
    ExplainQuery, Explanation, FlowQuery, Flows, Leave, Left, LogLines, LogPosition, LogQuery,
    ProjectStatus, ProtocolFault, Released, Scale, ServiceStatus, Shutdown, Status, WorkloadStatus,
    decode::Framing, stream::collect,
};

/// Speaks to the agent.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

type Answer<T> = Result<T, ClientError>;

impl Client {
    /// A client of the agent that answers at `socket`.
    ///
    /// # Errors
    /// When nobody answers there, or the caller may not open it.
    pub async fn connect(socket: impl Into<PathBuf>) -> Answer<Self> {
        let client = Self { socket: socket.into() };
        client.open().await?;
        Ok(client)
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The agent and what it found.
    ///
    /// # Errors
    /// See [`ClientError`], for every call below too.
    pub async fn agent(&self) -> Answer<Agent> {
        self.get("/v1/agent").await
    }

    /// How this host is, among others too.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Answer<Status> {
        self.get("/v1/status").await
    }

    /// The projects that are up.
    pub async fn projects(&self) -> Answer<Vec<ProjectStatus>> {
        self.get("/v1/projects").await
    }

    /// A project as it was applied.
    pub async fn project(&self, name: &ProjectName) -> Answer<Project> {
        self.get(&format!("/v1/projects/{name}")).await
    }

    /// Applies a project and tells what changes.
    pub async fn apply(&self, project: &Project) -> Answer<Plan> {
        self.put_project(project, false).await
    }

    /// What [`Client::apply`] would change. Nothing is changed.
    pub async fn plan(&self, project: &Project) -> Answer<Plan> {
        self.put_project(project, true).await
    }

    async fn put_project(&self, project: &Project, dry_run: bool) -> Answer<Plan> {
        let path = format!("/v1/projects/{}?dry_run={dry_run}", project.name);
        self.call(Method::PUT, &path, Some(project)).await
    }

    /// Stops a project; the event `removed` tells when that is done.
    pub async fn remove(&self, project: &ProjectName) -> Answer<Accepted> {
        self.call(Method::DELETE, &format!("/v1/projects/{project}"), None::<&()>).await
    }

    /// All services.
    pub async fn services(&self) -> Answer<Vec<ServiceStatus>> {
        self.get("/v1/services").await
    }

    /// One service.
    pub async fn service(&self, name: &ServiceName) -> Answer<ServiceStatus> {
        self.get(&format!("/v1/services/{name}")).await
    }

    /// Sets how many instances a service shall have.
    pub async fn scale(&self, service: &ServiceName, replicas: u16) -> Answer<ServiceStatus> {
        let path = format!("/v1/services/{service}");
        self.call(Method::PATCH, &path, Some(&Scale { replicas })).await
    }

    /// Restarts a service, one instance at a time; events tell how it goes on.
    pub async fn restart(&self, service: &ServiceName) -> Answer<Accepted> {
        self.post(&format!("/v1/services/{service}/restart"), &()).await
    }

    /// All workloads.
    pub async fn workloads(&self) -> Answer<Vec<WorkloadStatus>> {
        self.get("/v1/workloads").await
    }

    /// Takes an instance out of its service's choice; events tell when it has no connection left.
    pub async fn drain(&self, service: &ServiceName, replica: u32) -> Answer<Accepted> {
        self.post(&format!("/v1/workloads/{service}/{replica}/drain"), &()).await
    }

    /// Makes this very process a member.
    pub async fn attach(&self, attach: &Attach) -> Answer<Attached> {
        self.post("/v1/attachments", attach).await
    }

    /// Makes what runs already an endpoint.
    pub async fn adopt(&self, adopt: &Adopt) -> Answer<Adopted> {
        self.post("/v1/adoptions", adopt).await
    }

    /// Lets an adopted endpoint go, once no new connection is sent there.
    pub async fn release(&self, service: &ServiceName, replica: u32) -> Answer<Released> {
        let path = format!("/v1/adoptions/{service}/{replica}");
        self.call(Method::DELETE, &path, None::<&()>).await
    }

    /// Lines that workloads wrote.
    pub async fn logs(&self, query: &LogQuery) -> Answer<LogLines> {
        let path = format!("/v1/logs?{}", query.to_query());
        let (call, answer) = self.send(Method::GET, &path, None::<&()>).await?;
        Ok(LogLines::new(call, answer.into_body(), Framing::Ndjson))
    }

    /// The present end of every log: what a follower of the lines to come starts from.
    pub async fn log_positions(&self) -> Answer<Vec<LogPosition>> {
        self.get("/v1/logs/positions").await
    }

    /// Who calls whom, and what was counted of it.
    pub async fn edges(&self) -> Answer<Vec<EdgeStatus>> {
        self.get("/v1/edges").await
    }

    /// What would become of a call now, and why.
    pub async fn explain(&self, query: &ExplainQuery) -> Answer<Explanation> {
        self.get(&format!("/v1/explain?{}", query.to_query())).await
    }

    /// Connections: those kept, or what comes from now on.
    pub async fn flows(&self, query: &FlowQuery) -> Answer<Flows> {
        let path = format!("/v1/flows?{}", query.to_query());
        let (call, answer) = self.send(Method::GET, &path, None::<&()>).await?;
        Ok(Flows::new(call, answer.into_body(), Framing::Ndjson))
    }

    /// Changes from now on.
    pub async fn events(&self) -> Answer<Events> {
        let (call, answer) = self.send(Method::GET, "/v1/events", None::<&()>).await?;
        Ok(Events::new(call, answer.into_body(), Framing::Sse(Vec::new())))
    }

    /// Figures in Prometheus' text format.
    pub async fn metrics(&self) -> Answer<String> {
        let (call, answer) = self.send(Method::GET, "/v1/metrics", None::<&()>).await?;
        let text = collect(&call, answer.into_body()).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Takes the host out of the network of many hosts; answered when that is done.
    pub async fn leave(&self, leave: Leave) -> Answer<Left> {
        self.post("/v1/leave", &leave).await
    }

    /// Ends the agent.
    pub async fn shutdown(&self, shutdown: Shutdown) -> Answer<Accepted> {
        self.post("/v1/shutdown", &shutdown).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.call(Method::GET, path, None::<&()>).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Answer<T> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Answer<T> {
        let (call, answer) = self.send(method, path, body).await?;
        let answer = collect(&call, answer.into_body()).await?;
        serde_json::from_slice(&answer).map_err(|e| ClientError::from_json(&call, e))
    }

    /// Sends a request; answers of failure become errors. Also returns what to call it in errors.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Answer<(String, Response<Incoming>)> {
        let call = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|e| ClientError::from_json(&call, e))?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "sinew")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| ClientError::Protocol {
                call: call.clone(),
                fault: ProtocolFault::Request(error),
            })?;

        let io = TokioIo::new(self.open().await?);
        let lost = |error| ClientError::from_hyper(&call, error);
        let (mut sender, connection) = http1::handshake(io).await.map_err(lost)?;
        // Ends with the answer's body, or with the agent; either way the answer tells.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(lost)?;
        let answer = refuse_failure(&call, answer).await?;
        Ok((call, answer))
    }

    async fn open(&self) -> Answer<UnixStream> {
        UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            if source.kind() == io::ErrorKind::PermissionDenied {
                ClientError::Denied { socket }
            } else {
                ClientError::Unreachable { socket, source }
            }
        })
    }
}

async fn refuse_failure(call: &str, answer: Response<Incoming>) -> Answer<Response<Incoming>> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = collect(call, answer.into_body()).await?;
    Err(match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => ClientError::Api(Box::new(body)),
        Err(_) => {
            ClientError::Protocol { call: call.to_owned(), fault: ProtocolFault::Status(status) }
        }
    })
}
