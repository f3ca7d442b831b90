//! Why a call goes where it goes, and what it is asked with.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sinew_model::{NodeName, Protocol, ServiceName, ZoneName};

use crate::{
    ErrorBody, Finding, Fitness, WorkloadState,
    query::{invalid, pairs},
};

/// What would become of a call now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Caller: a service, a workload or `exec`.
    pub from: String,
    /// Service called.
    pub to: ServiceName,
    /// Its port.
    pub port: u16,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// How one of several is chosen, in words.
    pub policy: String,
    /// What would be done with the call.
    pub decision: Decision,
    /// Instances one of which would get it, as `orders/2`; none: it is refused.
    pub takes: Vec<String>,
    /// What would become of the call, in words.
    pub outcome: String,
    /// Backends that callers have and keep, when the service balances by source.
    pub kept: Vec<KeptBackend>,
    /// Every endpoint.
    pub endpoints: Vec<ExplainedEndpoint>,
}

/// The backend that a caller has and keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBackend {
    /// The caller, as `web/0`.
    pub caller: String,
    /// Its backend, as `orders/2`.
    pub backend: String,
    /// Until it is forgotten, unless the caller calls again.
    pub left_ms: u64,
}

/// What would be done with the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It goes to a fit endpoint.
    Fit,
    /// It goes to the backend that the caller has.
    Kept,
    /// It goes to a sick endpoint, since no fit one is left.
    Panic,
    /// It is refused at once.
    NoBackend,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fit, Self::Kept, Self::Panic, Self::NoBackend];
}

/// An endpoint, and why it would be taken or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedEndpoint {
    /// Instance, as `orders/2`; on another host as `orders/2@NODE`.
    pub workload: String,
    /// The host that it is on; `None`: this one.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Where that host is.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// Where callers are connected to.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Where the agent says that it stands.
    pub state: WorkloadState,
    /// What the kernel makes of it.
    pub fitness: Fitness,
    /// Why.
    pub code: Finding,
    /// The same in words.
    pub reason: String,
    /// Open connections.
    pub active: u32,
    /// Relative capacity; 256 is usual.
    pub weight: u32,
    /// Smoothed connect time.
    pub connect_us: u32,
    /// Failures since its last success.
    pub failures_in_a_row: u32,
    /// Callers that wait in its accept queue; `None` when nothing listens.
    pub queue: Option<u32>,
    /// How long it stays ejected.
    pub ejected_for_ms: Option<u64>,
}

/// Which call is to be explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainQuery {
    /// A service, a workload as `web/0`, or `exec`.
    pub from: String,
    /// A service.
    pub to: ServiceName,
    /// Number or name of its port; needed when it has several.
    pub port: Option<String>,
}

impl ExplainQuery {
    /// The query string, without `?`.
    pub fn to_query(&self) -> String {
        let port = self.port.as_ref().map(|port| format!(":{port}")).unwrap_or_default();
        format!("from={}&to={}{port}", self.from, self.to)
    }

    /// Reads a query string, percent-encoded or not.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`](crate::ErrorCode::Invalid) with the parameter at fault.
    pub fn parse(query: &str) -> Result<Self, ErrorBody> {
        let (mut from, mut to) = (String::new(), String::new());
        for pair in pairs(query) {
            let (key, value) = pair?;
            match key {
                "from" => from = value,
                "to" => to = value,
                _ => return Err(invalid(key, &value, "is no parameter", "use from and to")),
            }
        }
        if from.is_empty() {
            let remedy = "give a service, a workload as web/0, or exec";
            return Err(invalid("from", "", "names no caller", remedy));
        }
        let (service, port) = match to.split_once(':') {
            Some((service, port)) => (service, Some(port.to_owned())),
            None => (to.as_str(), None),
        };
        let named = ServiceName::new(service);
        let remedy = "give a service, or SERVICE:PORT";
        let to = named.map_err(|error| invalid("to", service, &error.to_string(), remedy))?;
        Ok(Self { from, to, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_the_way() {
        for query in ["from=web/0&to=orders:http", "from=exec&to=orders"] {
            assert_eq!(ExplainQuery::parse(query).unwrap().to_query(), query);
        }
        let field = |query| ExplainQuery::parse(query).unwrap_err().field.unwrap();
        assert_eq!((field("to=orders"), field("from=a&to=B!")), ("from".into(), "to".into()));
    }
}
