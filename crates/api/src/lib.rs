//! The agent's API: HTTP/JSON over a unix socket. The CLI and every other client use these types.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /v1/agent` | | [`Agent`] |
//! | `GET /v1/status` | | [`Status`] |
//! | `GET /v1/projects` | | `[`[`ProjectStatus`]`]` |
//! | `GET /v1/projects/{name}` | | [`Project`](sinew_model::Project) |
//! | `PUT /v1/projects/{name}?dry_run=` | [`Project`](sinew_model::Project) | [`Plan`](sinew_model::Plan) |
//! | `DELETE /v1/projects/{name}` | | [`Accepted`] |
//! | `GET /v1/services` | | `[`[`ServiceStatus`]`]` |
//! | `GET /v1/services/{name}` | | [`ServiceStatus`] |
//! | `PATCH /v1/services/{name}` | [`Scale`] | [`ServiceStatus`] |
//! | `POST /v1/services/{name}/restart` | | [`Accepted`] |
//! | `GET /v1/workloads` | | `[`[`WorkloadStatus`]`]` |
//! | `POST /v1/workloads/{service}/{replica}/drain` | | [`Accepted`] |
//! | `POST /v1/attachments` | [`Attach`] | [`Attached`] |
//! | `POST /v1/adoptions` | [`Adopt`] | [`Adopted`] |
//! | `DELETE /v1/adoptions/{service}/{replica}` | | [`Released`] |
//! | `GET /v1/logs?service=&follow=&tail=&from=` ([`LogQuery`]) | | a [`LogLine`] a line |
//! | `GET /v1/logs/positions` | | `[`[`LogPosition`]`]`: the present end of every log |
//! | `GET /v1/edges` | | `[`[`EdgeStatus`]`]` |
//! | `GET /v1/explain?from=&to=` ([`ExplainQuery`]) | | [`Explanation`] |
//! | `GET /v1/flows?follow=&from=&to=&verdict=` ([`FlowQuery`]) | | a [`FlowItem`] a line |
//! | `GET /v1/events` | | server-sent [`Event`]s |
//! | `GET /v1/metrics` | | Prometheus text |
//! | `POST /v1/leave` | [`Leave`] | [`Left`] |
//! | `POST /v1/shutdown` | [`Shutdown`] | [`Accepted`] |
//!
//! Replicas of the control plane have an API of their own: [`control`].
//!
//! An error is an [`ErrorBody`] with a status of 400 to 599.

/// What [`Agent::warnings`] says when the host has no group `sinew`.
pub const NO_GROUP: &str = "there is no group sinew, so only root reaches the API";

mod client;
pub mod control;
mod decode;
mod error;
mod explain;
mod finding;
mod fleet;
mod flows;
mod logs;
mod query;
mod stream;
mod types;

pub use client::Client;
pub use error::{ClientError, ProtocolFault};
pub use explain::{Decision, ExplainQuery, ExplainedEndpoint, Explanation, KeptBackend};
pub use finding::{Finding, Fitness};
pub use fleet::{CertificateStatus, Doubtful, FleetStatus, RefusedService, SessionStatus, Status};
pub use flows::{Flow, FlowItem, FlowQuery, FlowVerdict};
pub use logs::{LogPosition, LogQuery};
pub use stream::{Events, Flows, Items, LogLines};
pub use types::{
    Accepted, Adopt, AdoptTarget, Adopted, AdoptedEndpoint, Agent, Attach, Attached, EdgeStatus,
    EndpointStatus, ErrorBody, ErrorCode, Event, EventKind, Leave, Left, LogLine, ProjectStatus,
    ReachedCgroup, Released, Scale, ServiceStatus, Shadowed, Shutdown, WorkloadState,
    WorkloadStatus,
};
