//! Values of the wrong kind: what stands there, and what belongs there.

use std::fmt;

use super::{alternatives, quoted};

/// What stands where something else belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A scalar, as it is written.
    Scalar(String),
    /// A key without a value.
    Nothing,
    /// A list.
    List,
    /// A mapping.
    Mapping,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(text) => f.write_str(&quoted(text)),
            Self::Nothing => f.write_str("nothing"),
            Self::List => f.write_str("a list"),
            Self::Mapping => f.write_str("a mapping"),
        }
    }
}

/// What belongs somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// `services:` at the top.
    File,
    /// The services.
    Services,
    /// One service.
    Service,
    /// `rules:` at the top of a policy.
    Policy,
    /// The rules of a policy.
    Rules,
    /// Ports of the host that are root's.
    LowPorts,
    /// Keys and values, with the keys that are known.
    Mapping(&'static [&'static str]),
    /// Text.
    Text,
    /// Text or a list of it.
    Texts,
    /// What to run.
    Command,
    /// `true` or `false`.
    Boolean,
    /// A whole number between two others.
    Whole {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A duration.
    Duration,
    /// A number of bytes.
    Size,
    /// A number of processors.
    Cpu,
    /// A port.
    Port,
    /// Name or number of a port.
    PortReference,
    /// A port of the host and a port of the service.
    Publish,
    /// Variables or labels.
    Pairs,
    /// `KEY=VALUE`.
    Pair,
    /// A health check.
    Health,
    /// One of some words.
    Word(&'static [&'static str]),
}

impl Expected {
    fn what(self) -> &'static str {
        match self {
            Self::File | Self::Services => "a mapping of services",
            Self::Service => "a service",
            Self::Policy => "a policy",
            Self::Rules => "a list of rules",
            Self::LowPorts => "true or ports below 1024",
            Self::Mapping(_) => "a mapping",
            Self::Text => "text",
            Self::Texts => "text or a list of it",
            Self::Command => "a command",
            Self::Boolean => "true or false",
            Self::Whole { .. } => "a whole number in range",
            Self::Duration => "a duration",
            Self::Size => "a size",
            Self::Cpu => "a number of processors",
            Self::Port => "a port",
            Self::PortReference => "the name or number of a port",
            Self::Publish => "a published port",
            Self::Pairs => "a mapping or a list of KEY=VALUE",
            Self::Pair => "KEY=VALUE",
            Self::Health => "a health check",
            Self::Word(_) => "known here",
        }
    }

    fn remedy(self) -> String {
        match self {
            Self::File => "begin with services: and describe one a key".into(),
            Self::Services => "write each service's name and a colon, and indent its keys".into(),
            Self::Service => "indent its keys below its name, command: first".into(),
            Self::Policy => "begin with rules: and put a - before each".into(),
            Self::Rules => "put a - before each, such as - user: alice".into(),
            Self::LowPorts => "write true, or a list such as [80, 443]".into(),
            Self::Mapping(known) => format!("write key: value for {}", known.join(", ")),
            Self::Text => "write one word or a quoted line".into(),
            Self::Texts => "write one, or a list with - before each".into(),
            Self::Command => {
                "write a line for the shell, or a list of program and arguments".into()
            }
            Self::Boolean => "write true or false".into(),
            Self::Whole { least, most } => format!("use {least} to {most}"),
            Self::Duration => "write it with units, such as 500ms, 2s or 1m30s".into(),
            Self::Size => "write bytes or use K, M, G, T (powers of 1024), such as 256MiB".into(),
            Self::Cpu => "write processors, such as 0.5, or thousandths, such as 500m".into(),
            Self::Port => "write 8080, 53/udp, http:8080 or {name: http, number: 8080}".into(),
            Self::PortReference => "use one that the service declares under ports".into(),
            Self::Publish => "write PORT:NAME or HOST_IP:PORT:NAME, such as 8080:http".into(),
            Self::Pairs => "write KEY: value lines, or - KEY=VALUE items".into(),
            Self::Pair => "put a name before the =".into(),
            Self::Health => "write none, tcp, or a mapping with tcp:, http: or exec:".into(),
            Self::Word(words) => format!("use {}", alternatives(words)),
        }
    }
}

/// A value that is not what belongs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What stands there.
    pub found: Found,
    /// What belongs there.
    pub expected: Expected,
    /// What was probably meant.
    pub suggestion: Option<&'static str>,
}

impl ValueError {
    /// Text that is not what belongs there.
    pub(crate) fn new(text: &str, expected: Expected) -> Self {
        Self { found: Found::Scalar(text.to_owned()), expected, suggestion: None }
    }

    /// The problem alone, without the remedy.
    pub(crate) fn what(&self) -> String {
        match self.found {
            Found::Nothing => "the value is missing".to_owned(),
            _ => format!("{} is not {}", self.found, self.expected.what()),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self.suggestion {
            Some(word) => format!("did you mean {word:?}?"),
            None => self.expected.remedy(),
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.remedy())
    }
}

impl std::error::Error for ValueError {}
