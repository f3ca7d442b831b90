//! Rules that hold for a project however it arrives: from a file or over the API.

use std::{collections::BTreeSet, fmt};

use super::{alternatives, quoted};
use crate::{Protocol, ServiceName};

/// The most ports of a service.
pub const MAX_PORTS: usize = 16;

/// A rule that a project breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Nothing to run.
    #[error("the project has no service")]
    NoServices,
    /// A name that Sinew keeps for itself.
    #[error("the name {0} is reserved")]
    Reserved(ServiceName),
    /// A number, duration or size beyond what is taken.
    #[error("{value} is out of range")]
    Range {
        /// The value.
        value: String,
        /// The least.
        least: String,
        /// The most.
        most: String,
    },
    /// A command without a program.
    #[error("the command is empty")]
    EmptyCommand,
    /// Text that cannot be passed to a program.
    #[error("{} has a NUL character", quoted(.0))]
    Nul(String),
    /// A path that is not absolute.
    #[error("{} is not an absolute path", quoted(.0))]
    Relative(String),
    /// What cannot be the name of a variable.
    #[error("{} cannot name a variable", quoted(.0))]
    VariableName(String),
    /// What cannot be a user or group.
    #[error("{} cannot be a user or group", quoted(.0))]
    Account(String),
    /// What cannot be a zone.
    #[error("{} cannot be a zone", quoted(.0))]
    Zone(String),
    /// What cannot be the key of a label.
    #[error("{} is not a short word", quoted(.0))]
    Word(String),
    /// A port's name that reads as a number.
    #[error("port name {0:?} has no letter")]
    PortNameDigits(String),
    /// Two ports of one name.
    #[error("port name {name:?} is already that of {first}")]
    PortNameTwice {
        /// The name.
        name: String,
        /// Field of the first.
        first: String,
    },
    /// One port twice.
    #[error("port {number}/{protocol} is already that of {first}")]
    PortTwice {
        /// The number.
        number: u16,
        /// The protocol.
        protocol: Protocol,
        /// Field of the first.
        first: String,
    },
    /// More ports than a service may have.
    #[error("{0} ports are more than a service may have")]
    TooManyPorts(usize),
    /// A port that the service does not have.
    #[error("the service has no port {}", quoted(name))]
    NoSuchPort {
        /// What was asked for.
        name: String,
        /// The ports it has.
        known: Vec<String>,
    },
    /// A health check of a TCP port on a service without one.
    #[error("the check needs a TCP port, and the service has none")]
    NoTcpPort,
    /// A host port is published twice.
    #[error("host port {host} is already published by {first}")]
    PublishedTwice {
        /// Address and port of the host.
        host: String,
        /// Field of the first.
        first: String,
    },
    /// A published port that is not TCP.
    #[error("{0} is a UDP port, whose answers would not come from the address that was asked")]
    PublishedUdp(String),
    /// What cannot be asked for in a GET.
    #[error("{} is not a path", quoted(.0))]
    HttpPath(String),
    /// A dependency that is not in the project.
    #[error("the project has no service {name}")]
    NoSuchService {
        /// What was asked for.
        name: ServiceName,
        /// What was probably meant.
        suggestion: Option<ServiceName>,
    },
    /// A dependency given twice.
    #[error("{0} is given twice")]
    DependencyTwice(ServiceName),
    /// Services that wait for each other; the first one stands at the end again.
    #[error("dependency cycle: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<ServiceName>),
    /// The first ejection is longer than the longest.
    #[error("base {base} is longer than max {max}")]
    OutlierOrder {
        /// The first ejection.
        base: String,
        /// The longest.
        max: String,
    },
    /// A signal that cannot stop a workload.
    #[error("{} is not a signal that stops a workload", quoted(value))]
    Signal {
        /// The text.
        value: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
    /// What is not a capability.
    #[error("{} is not a capability of Linux", quoted(value))]
    Capability {
        /// The text.
        value: String,
        /// What was probably meant.
        suggestion: Option<&'static str>,
    },
}

impl Rule {
    pub(crate) fn range(
        value: impl fmt::Display,
        least: impl fmt::Display,
        most: impl fmt::Display,
    ) -> Self {
        Self::Range { value: value.to_string(), least: least.to_string(), most: most.to_string() }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let did_you_mean = |word: &dyn fmt::Display| format!("did you mean {word}?");
        match self {
            Self::Range { least, most, .. } => format!("use {least} to {most}"),
            Self::NoSuchPort { known, .. } if !known.is_empty() => {
                let known: BTreeSet<&String> = known.iter().collect();
                let known: Vec<_> = known.into_iter().collect();
                format!("use {}, or declare it under ports", alternatives(&known))
            }
            Self::NoSuchService { suggestion: Some(name), .. } => did_you_mean(name),
            Self::Signal { suggestion: Some(word), .. }
            | Self::Capability { suggestion: Some(word), .. } => did_you_mean(word),
            Self::TooManyPorts(_) => format!("keep it to {MAX_PORTS}"),
            _ => self.fixed_remedy().to_owned(),
        }
    }

    fn fixed_remedy(&self) -> &'static str {
        match self {
            Self::NoServices => "describe at least one under services",
            Self::Reserved(_) => {
                "choose another: exec, agent, localhost and outside have a meaning already"
            }
            Self::Range { .. } | Self::TooManyPorts(_) => "choose another value",
            Self::EmptyCommand => "say which program to run",
            Self::Nul(_) => "remove it: Linux ends text there",
            Self::Relative(_) => "write it from / on",
            Self::VariableName(_) => "use a name without = and without spaces",
            Self::Account(_) => "use a name or number of /etc/passwd or /etc/group",
            Self::Zone(_) => "use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
            Self::Word(_) => "use 1 to 63 visible ASCII characters without spaces",
            Self::PortNameDigits(_) => "use a name with a letter, such as http",
            Self::PortNameTwice { .. } => "give each port its own name",
            Self::PortTwice { .. } => "remove one",
            Self::NoSuchPort { .. } | Self::NoTcpPort => "declare it under ports",
            Self::PublishedUdp(_) => "publish TCP ports only",
            Self::PublishedTwice { .. } => "choose another port of the host",
            Self::HttpPath(_) => "begin it with / and leave out spaces",
            Self::NoSuchService { .. } => "name a service of this project, or remove it",
            Self::DependencyTwice(_) => "remove one",
            Self::Cycle(_) => "remove one of these dependencies",
            Self::OutlierOrder { .. } => "raise max or lower base",
            Self::Signal { .. } => "use SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 or the like",
            Self::Capability { .. } => "use a name of capabilities(7), such as CAP_NET_ADMIN",
        }
    }
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, as `services.api.replicas`.
    pub field: String,
    /// The rule.
    pub rule: Rule,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.rule, self.rule.remedy())
    }
}

impl std::error::Error for Invalid {}

/// Every rule that a project breaks; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidProject {
    /// The fields at fault.
    pub fields: Vec<Invalid>,
}

impl fmt::Display for InvalidProject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, field) in self.fields.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{field}")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidProject {}
