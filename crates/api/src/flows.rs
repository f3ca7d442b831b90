//! Connections, one by one, and what `GET /v1/flows` is asked for.

use std::{
    fmt::{self, Write as _},
    net::IpAddr,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sinew_model::{Protocol, ServiceName};

use crate::{
    ErrorBody,
    query::{flag, invalid, pairs},
};

/// A connection that ended, or a call that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// When it began, milliseconds since 1970; from outside: when it ended.
    pub at_ms: u64,
    /// Service of the caller; `exec`: a caller of none; `outside`: one who came by a published port.
    pub source: String,
    /// Service called; `None` when the address is no service's.
    pub destination: Option<ServiceName>,
    /// Address asked for; from outside: the host's.
    pub address: IpAddr,
    /// Port asked for.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Instance that was taken, as `orders/2`.
    pub backend: Option<String>,
    /// How it went.
    pub verdict: FlowVerdict,
    /// Why, in words.
    pub reason: String,
    /// Time of the handshake; `None` when there was none.
    pub connect_us: Option<u32>,
    /// From connect() to the last packet; `None` when that is not known.
    pub duration_us: Option<u64>,
    /// Sent by the caller and acknowledged.
    pub sent_bytes: u64,
    /// Received by the caller.
    pub received_bytes: u64,
    /// It stands for so many: the kernel told one of that many. 1 for failures of members.
    pub one_of: u32,
}

/// How a connection went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowVerdict {
    /// Closed after it was established.
    Closed,
    /// The backend refused it.
    Refused,
    /// The backend reset it.
    Reset,
    /// No answer.
    TimedOut,
    /// The caller gave up first.
    Cancelled,
    /// The service had no backend that listens.
    NoBackend,
    /// The service has no such port.
    NoSuchPort,
    /// A bind to somebody else's address.
    BindDenied,
}

impl FlowVerdict {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Closed,
        Self::Refused,
        Self::Reset,
        Self::TimedOut,
        Self::Cancelled,
        Self::NoBackend,
        Self::NoSuchPort,
        Self::BindDenied,
    ];

    /// Its fixed word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed-out",
            Self::Cancelled => "cancelled",
            Self::NoBackend => "no-backend",
            Self::NoSuchPort => "no-such-port",
            Self::BindDenied => "bind-denied",
        }
    }

    /// What it means.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Closed => "closed after it was established",
            Self::Refused => "the backend refused it",
            Self::Reset => "the backend reset it",
            Self::TimedOut => "the backend did not answer",
            Self::Cancelled => "the caller gave up before an answer",
            Self::NoBackend => "no backend of the service listens",
            Self::NoSuchPort => "the service has no such port",
            Self::BindDenied => "bind to an address of somebody else",
        }
    }
}

impl fmt::Display for FlowVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for FlowVerdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|verdict| verdict.word() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|verdict| verdict.word()).collect();
            format!("{text:?} is no verdict: use one of {}", words.join(", "))
        })
    }
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FlowItem {
    /// A connection.
    Flow(Flow),
    /// Some were lost before this place.
    Lost {
        /// How many.
        flows: u64,
        /// Where, in words.
        reason: String,
    },
}

/// Which connections are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowQuery {
    /// Not what is kept but what comes, until the caller leaves.
    pub follow: bool,
    /// Of this caller: a service, `exec` or `outside`.
    pub from: Option<String>,
    /// To this service.
    pub to: Option<ServiceName>,
    /// That went so.
    pub verdict: Option<FlowVerdict>,
}

impl FlowQuery {
    /// The query string, without `?`.
    pub fn to_query(&self) -> String {
        let mut query = format!("follow={}", self.follow);
        // Writing to a `String` does not fail; names and verdicts need no encoding.
        if let Some(from) = &self.from {
            let _ = write!(query, "&from={from}");
        }
        if let Some(to) = &self.to {
            let _ = write!(query, "&to={to}");
        }
        if let Some(verdict) = self.verdict {
            let _ = write!(query, "&verdict={verdict}");
        }
        query
    }

    /// Reads a query string, percent-encoded or not. What is empty is not asked for.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`](crate::ErrorCode::Invalid) with the parameter at fault.
    pub fn parse(query: &str) -> Result<Self, ErrorBody> {
        let mut wanted = Self::default();
        for pair in pairs(query) {
            let (key, value) = pair?;
            wanted.set(key, &value)?;
        }
        Ok(wanted)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), ErrorBody> {
        let named = || {
            let remedy = "name a service of `GET /v1/services`";
            ServiceName::new(value).map_err(|error| invalid(key, value, &error.to_string(), remedy))
        };
        match key {
            "follow" => self.follow = flag(key, value)?,
            "from" | "to" | "verdict" if value.is_empty() => {}
            "from" if value == "exec" => self.from = Some(value.to_owned()),
            "from" => self.from = Some(named()?.to_string()),
            "to" => self.to = Some(named()?),
            "verdict" => {
                let words: Vec<_> = FlowVerdict::ALL.iter().map(|v| v.word()).collect();
                let remedy = format!("use one of {}", words.join(", "));
                let verdict = value.parse();
                self.verdict =
                    Some(verdict.map_err(|_| invalid(key, value, "is no verdict", &remedy))?);
            }
            _ => {
                let remedy = "use follow, from, to and verdict";
                return Err(invalid(key, value, "is no parameter of this call", remedy));
            }
        }
        Ok(())
    }

    /// Whether `flow` is wanted.
    pub fn takes(&self, flow: &Flow) -> bool {
        self.from.as_ref().is_none_or(|from| *from == flow.source)
            && self.to.as_ref().is_none_or(|to| Some(to) == flow.destination.as_ref())
            && self.verdict.is_none_or(|verdict| verdict == flow.verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn flow(source: &str, destination: Option<&str>, verdict: FlowVerdict) -> Flow {
        Flow {
            at_ms: 1,
            source: source.to_owned(),
            destination: destination.map(name),
            address: [127, 64, 0, 1].into(),
            port: 80,
            protocol: Protocol::Tcp,
            backend: None,
            verdict,
            reason: verdict.reason().to_owned(),
            connect_us: None,
            duration_us: None,
            sent_bytes: 0,
            received_bytes: 0,
            one_of: 1,
        }
    }

    #[test]
    fn a_query_survives_the_way() {
        let query = FlowQuery {
            follow: true,
            from: Some("exec".to_owned()),
            to: Some(name("web")),
            verdict: Some(FlowVerdict::TimedOut),
        };
        assert_eq!(FlowQuery::parse(&query.to_query()).unwrap(), query);
        assert_eq!(FlowQuery::parse("from=&to=&verdict=").unwrap(), FlowQuery::default());
    }

    #[test]
    fn faults_name_the_parameter_and_the_value() {
        for (query, message) in [
            ("verdict=lost", "verdict: \"lost\" is no verdict"),
            ("follow=maybe", "follow: \"maybe\" is not true or false"),
            ("since=1", "since: \"1\" is no parameter of this call"),
        ] {
            assert_eq!(FlowQuery::parse(query).unwrap_err().message, message);
        }
        assert_eq!(FlowQuery::parse("to=No!").unwrap_err().field.as_deref(), Some("to"));
    }

    #[test]
    fn filters_take_what_they_name() {
        let closed = flow("web", Some("api"), FlowVerdict::Closed);
        let denied = flow("exec", None, FlowVerdict::BindDenied);
        let takes = |query: &str| {
            let query = FlowQuery::parse(query).unwrap();
            (query.takes(&closed), query.takes(&denied))
        };
        assert_eq!(takes(""), (true, true));
        assert_eq!(takes("from=web"), (true, false));
        assert_eq!(takes("from=exec"), (false, true));
        assert_eq!(takes("to=api"), (true, false));
        assert_eq!(takes("to=db"), (false, false));
        assert_eq!(takes("verdict=bind-denied"), (false, true));
        assert_eq!(takes("from=web&verdict=reset"), (false, false));
    }

    #[test]
    fn the_word_of_a_verdict_is_the_one_on_the_wire() {
        for verdict in FlowVerdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.word());
            assert_eq!(verdict.word().parse(), Ok(verdict));
        }
        let item = FlowItem::Flow(flow("web", Some("api"), FlowVerdict::Closed));
        let json = serde_json::to_string(&item).unwrap();
        assert!(json.starts_with("{\"kind\":\"flow\",\"at_ms\":1"), "{json}");
        assert_eq!(serde_json::from_str::<FlowItem>(&json).unwrap(), item);
    }
}
