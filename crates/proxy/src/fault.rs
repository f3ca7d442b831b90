//! Why a request got no answer of an upstream, and what its client is told instead.

use std::fmt;
use std::time::Duration;

use sinew_http::Refused;

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whoever sent the request.
    Client,
    /// The backend that the request was for.
    Upstream,
    /// The rules of the route: too many fail, or too many are under way.
    Route,
}

impl Whose {
    /// As the reason header has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Route => "route",
        }
    }
}

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request breaks the protocol.
    Request(Refused),
    /// The request did not come in time.
    Slow,
    /// The body is longer than the route takes.
    BodyTooLong,
    /// No connection could be made.
    NotConnected,
    /// No connection was made in time.
    ConnectLate,
    /// The upstream closed its connection and answered nothing.
    Unanswered,
    /// What the upstream answered breaks the protocol.
    Response(Refused),
    /// The upstream did not answer in time.
    Late,
    /// There is no backend that could be asked.
    NoBackend,
    /// The circuit is open, for so much longer; none: nobody knows.
    Open(Option<Duration>),
    /// As many requests are under way as may be.
    Full,
}

impl Fault {
    /// The status that tells it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Request(refused) => refused.status(),
            Self::Slow => 408,
            Self::BodyTooLong => 413,
            Self::NotConnected | Self::Unanswered | Self::Response(_) => 502,
            Self::NoBackend | Self::Open(_) | Self::Full => 503,
            Self::ConnectLate | Self::Late => 504,
        }
    }

    /// A short name that does not change: for counters, logs and the header that tells it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Request(refused) | Self::Response(refused) => refused.code(),
            Self::Slow => "slow",
            Self::BodyTooLong => "body-too-long",
            Self::NotConnected => "not-connected",
            Self::ConnectLate => "connect-late",
            Self::Unanswered => "unanswered",
            Self::Late => "late",
            Self::NoBackend => "no-backend",
            Self::Open(_) => "circuit-open",
            Self::Full => "full",
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn whose(self) -> Whose {
        match self {
            Self::Request(_) | Self::Slow | Self::BodyTooLong => Whose::Client,
            Self::NotConnected
            | Self::ConnectLate
            | Self::Unanswered
            | Self::Response(_)
            | Self::Late => Whose::Upstream,
            Self::NoBackend | Self::Open(_) | Self::Full => Whose::Route,
        }
    }

    /// The words beside the status.
    pub(crate) const fn reason(self) -> &'static str {
        match self.status() {
            408 => "Request Timeout",
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(refused) => write!(f, "the request is not taken: {refused}"),
            Self::Slow => f.write_str("the request did not come in time"),
            Self::BodyTooLong => f.write_str("the body is longer than is taken here"),
            Self::NotConnected => f.write_str("the backend takes no connection"),
            Self::ConnectLate => f.write_str("no connection to the backend was made in time"),
            Self::Unanswered => f.write_str("the backend closed the connection without an answer"),
            Self::Response(refused) => write!(f, "the backend's answer is not taken: {refused}"),
            Self::Late => f.write_str("the backend did not answer in time"),
            Self::NoBackend => f.write_str("there is no backend"),
            Self::Open(Some(left)) => {
                write!(f, "too many requests failed: the circuit is open for {left:?}")
            }
            Self::Open(None) => f.write_str("too many requests failed: the circuit is open"),
            Self::Full => f.write_str("as many requests are under way as may be"),
        }
    }
}

impl std::error::Error for Fault {}
