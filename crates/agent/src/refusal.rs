//! Why a request is refused: what is wrong, whose fault it is, what to do.

use sinew_api::{ErrorBody, ErrorCode};
use sinew_model::{ProjectName, ServiceName};

use crate::{key::Key, store::StoreError};

/// Why a request is refused. Nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such project.
    #[error("there is no project {project}")]
    NoProject {
        /// Asked for.
        project: ProjectName,
    },
    /// No such service.
    #[error("no project that is up has a service {service}")]
    NoService {
        /// Asked for.
        service: ServiceName,
        /// The one that was probably meant.
        meant: Option<String>,
    },
    /// No such replica.
    #[error("there is no {key}: the service has {replicas} replicas, numbered from 0")]
    NoReplica {
        /// Asked for.
        key: Key,
        /// How many there are.
        replicas: u16,
    },
    /// The path names nothing.
    #[error("there is no {path}")]
    NoRoute {
        /// Asked for.
        path: String,
    },
    /// Another project has the name.
    #[error("the service name {service} is taken by the project {project}")]
    NameTaken {
        /// The name.
        service: ServiceName,
        /// Who has it.
        project: ProjectName,
    },
    /// Attached processes hold the name.
    #[error("the service name {service} is held by a process that `sinew run` or `adopt` brought")]
    NameAttached {
        /// The name.
        service: ServiceName,
    },
    /// Sinew itself uses the name.
    #[error("the service name {service} is reserved")]
    NameReserved {
        /// The name.
        service: ServiceName,
    },
    /// The user holds as many names as one may.
    #[error(
        "{service} would be one name more than the {} that user {uid} may hold at a time",
        crate::intent::NAMES_PER_USER
    )]
    TooManyNames {
        /// The name.
        service: ServiceName,
        /// Who.
        uid: u32,
    },
    /// More instances than a service may have.
    #[error("{replicas} replicas of {service} are more than {}", crate::intent::MAX_REPLICAS)]
    TooManyReplicas {
        /// Of which service.
        service: ServiceName,
        /// How many.
        replicas: u16,
    },
    /// More ports than an instance may have.
    #[error("{service} has {ports} ports, more than {}", sinew_abi::capacity::DECLARED_PORTS)]
    TooManyPorts {
        /// Of which service.
        service: ServiceName,
        /// How many.
        ports: usize,
    },
    /// Port 0.
    #[error("0 is not a port number that {service} can listen on")]
    PortZero {
        /// Of which service.
        service: ServiceName,
    },
    /// The same port again.
    #[error("{service} has the port {number} twice")]
    PortTwice {
        /// Of which service.
        service: ServiceName,
        /// The port.
        number: u16,
    },
    /// Other instances of the service listen on other ports.
    #[error("{service} has other instances, and they have other ports")]
    PortsDiffer {
        /// The service.
        service: ServiceName,
    },
    /// A map of the kernel programs would overflow.
    #[error("{wanted} {what} are more than the {holds} that the kernel maps hold")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        wanted: usize,
        /// How many there may be.
        holds: usize,
    },
    /// No address is left in the range.
    #[error("every address of the range is taken")]
    NoAddressLeft,
    /// This machine cannot enforce a limit.
    #[error("{field}: {what}")]
    Limits {
        /// Which field asked for it.
        field: String,
        /// What stands in the way.
        what: String,
    },
    /// A field has a value that cannot be.
    #[error("{field}: {what}")]
    Invalid {
        /// Which one.
        field: String,
        /// What is wrong with it.
        what: String,
        /// What it could be.
        remedy: String,
    },
    /// A project that breaks a rule of the file's format.
    #[error("{faults}")]
    InvalidProject {
        /// The first field at fault.
        field: String,
        /// All of them, and why.
        faults: String,
    },
    /// A port of the host that somebody has.
    #[error("{field}: {what}")]
    HostPortTaken {
        /// Which one.
        field: String,
        /// Who has it.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The body or the query is not what the call takes.
    #[error("the request cannot be read: {what}")]
    Unreadable {
        /// What is wrong with it.
        what: String,
    },
    /// The caller may not do that.
    #[error("{what}")]
    Forbidden {
        /// Which field asked for it.
        field: Option<String>,
        /// What is not allowed.
        what: String,
        /// Who may.
        remedy: String,
    },
    /// A program that Sinew runs or has adopted calls.
    #[error("a member of Sinew's network may not call its API")]
    Member,
    /// A user has as many connections as one may have.
    #[error("user {uid} has {most} connections to the API already, which is the most")]
    TooManyCalls {
        /// Who.
        uid: u32,
        /// How many one may have.
        most: usize,
    },
    /// The process cannot be attached.
    #[error("the process {pid} cannot be attached: {what}")]
    Attach {
        /// The process.
        pid: u32,
        /// Why.
        what: String,
    },
    /// What is to be adopted cannot be.
    #[error("{what}")]
    Target {
        /// Why not.
        what: String,
        /// What to name instead.
        remedy: &'static str,
    },
    /// It would be two endpoints at once.
    #[error("{what}")]
    AdoptedTwice {
        /// Both of them.
        what: String,
        /// The endpoint that there is.
        by: Key,
    },
    /// Nothing of that name was adopted.
    #[error("{key} is no adopted endpoint")]
    NotAdopted {
        /// Asked for.
        key: Key,
    },
    /// Sinew did not start it.
    #[error("{service} is adopted: Sinew did not start it and cannot {doing}")]
    IsAdopted {
        /// The service.
        service: ServiceName,
        /// What was asked for.
        doing: &'static str,
    },
    /// The kernel does not let the programs be attached.
    #[error("{what}")]
    Hook {
        /// Why.
        what: String,
    },
    /// The processes cannot be moved.
    #[error("{key} is not adopted: {what}")]
    NotMoved {
        /// The endpoint that it would have been.
        key: Key,
        /// Why.
        what: String,
    },
    /// The processes cannot be moved back.
    #[error("{key} is not released yet: {what}")]
    NotReleased {
        /// The endpoint.
        key: Key,
        /// Why.
        what: String,
    },
    /// The kernel's programs and maps could not be read or changed.
    #[error("the data path does not answer: {what}")]
    Datapath {
        /// What it said.
        what: String,
    },
    /// It is in no network that it could leave.
    #[error("this host is in no network of many hosts")]
    Alone,
    /// Somebody else takes it out at the moment.
    #[error("this host is leaving its network already")]
    Leaving,
    /// The change cannot be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The agent is on its way out.
    #[error("the agent is stopping")]
    Stopping,
}

impl Refusal {
    /// What is to be adopted cannot be.
    pub(crate) fn target(what: impl Into<String>, remedy: &'static str) -> Self {
        Self::Target { what: what.into(), remedy }
    }

    /// A word for machines.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::NoProject { .. }
            | Self::NoService { .. }
            | Self::NoReplica { .. }
            | Self::NotAdopted { .. }
            | Self::NoRoute { .. } => ErrorCode::NotFound,
            Self::NameTaken { .. }
            | Self::NameAttached { .. }
            | Self::PortsDiffer { .. }
            | Self::HostPortTaken { .. }
            | Self::AdoptedTwice { .. }
            | Self::IsAdopted { .. }
            | Self::Hook { .. }
            | Self::NotMoved { .. }
            | Self::NotReleased { .. }
            | Self::Leaving
            | Self::Alone => ErrorCode::Conflict,
            Self::NameReserved { .. }
            | Self::TooManyReplicas { .. }
            | Self::TooManyPorts { .. }
            | Self::PortZero { .. }
            | Self::PortTwice { .. }
            | Self::Invalid { .. }
            | Self::Target { .. }
            | Self::InvalidProject { .. }
            | Self::Unreadable { .. } => ErrorCode::Invalid,
            Self::Full { .. } | Self::NoAddressLeft | Self::TooManyNames { .. } => {
                ErrorCode::Exhausted
            }
            Self::Limits { .. } => ErrorCode::Unsupported,
            Self::Forbidden { .. } | Self::Member => ErrorCode::Forbidden,
            Self::Datapath { .. } | Self::Stopping | Self::TooManyCalls { .. } => {
                ErrorCode::Unavailable
            }
            Self::Store(error) if error.is_full() => ErrorCode::Exhausted,
            Self::Attach { .. } | Self::Store(_) => ErrorCode::Internal,
        }
    }

    fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NoProject { .. } => "see what is up with `sinew ps`".into(),
            Self::NoService { meant: Some(meant), .. } => {
                format!("did you mean {meant}? see what there is with `sinew services`")
            }
            Self::NoService { meant: None, .. } | Self::NoReplica { .. } => {
                "see what there is with `sinew services` and `sinew ps`".into()
            }
            Self::NoRoute { .. } => "GET /v1/openapi.json describes the API".into(),
            Self::NameTaken { project, .. } => {
                format!("choose another name, or take it down first: `sinew down {project}`")
            }
            Self::NameAttached { .. } => {
                "choose another name, or end that process or release it first".into()
            }
            Self::Target { remedy, .. } => (*remedy).to_owned(),
            Self::AdoptedTwice { by, .. } => format!("`sinew release {by}` lets it go"),
            Self::NotAdopted { .. } => "see what is adopted with `sinew ps`".into(),
            Self::IsAdopted { .. } => {
                "use what started it; `sinew drain` takes it out of the choice, `sinew release` \
                 lets it go"
                    .into()
            }
            Self::Hook { .. } => "`sinew doctor` looks for other users of the hooks".into(),
            Self::NotMoved { .. } | Self::NotReleased { .. } => {
                "see `sinew doctor` and the agent's log".into()
            }
            Self::Leaving => "wait until that is done; `sinew status` shows it".into(),
            Self::Alone => "`sinew agent --join HOST --token TOKEN` makes it one of many".into(),
            Self::NameReserved { .. } => "choose another name".into(),
            Self::TooManyNames { .. } => {
                "use one of your names again, or wait: a name is free 10 to \
                 20 minutes after its last use"
                    .into()
            }
            Self::TooManyReplicas { .. } => {
                format!("use 0 to {}", crate::intent::MAX_REPLICAS)
            }
            Self::TooManyPorts { .. } => "declare only ports that other services call".into(),
            Self::PortZero { .. } => "use 1 to 65535".into(),
            Self::PortTwice { .. } => "declare it once".into(),
            Self::PortsDiffer { .. } => "use the same `--port`s for every instance".into(),
            Self::Full { .. } | Self::NoAddressLeft => "run less on this host".into(),
            Self::Limits { .. } => {
                "remove the limit, or have the machine enable its controller".into()
            }
            Self::Forbidden { remedy, .. }
            | Self::Invalid { remedy, .. }
            | Self::HostPortTaken { remedy, .. } => remedy.clone(),
            Self::InvalidProject { .. } => "correct these fields".into(),
            Self::Unreadable { .. } => "GET /v1/openapi.json describes what each call takes".into(),
            Self::Member => "call from outside of services, what was adopted, `sinew run` and \
                 `sinew exec`; `sinew agent --members-call` lets members call"
                .into(),
            Self::Attach { .. } => "see the agent's log".into(),
            Self::Datapath { .. } => "`sinew doctor` looks for the cause".into(),
            Self::Store(error) => error.remedy().into(),
            Self::TooManyCalls { .. } => {
                "end some that follow logs, flows or events, then repeat".into()
            }
            Self::Stopping => "start it again, then repeat".into(),
        })
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::TooManyReplicas { service, .. } => Some(format!("services.{service}.replicas")),
            Self::TooManyPorts { service, .. }
            | Self::PortZero { service }
            | Self::PortTwice { service, .. }
            | Self::PortsDiffer { service } => Some(format!("services.{service}.ports")),
            Self::NameTaken { service, .. }
            | Self::NameAttached { service }
            | Self::TooManyNames { service, .. }
            | Self::NameReserved { service } => Some(format!("services.{service}")),
            Self::Limits { field, .. }
            | Self::Invalid { field, .. }
            | Self::HostPortTaken { field, .. }
            | Self::InvalidProject { field, .. } => Some(field.clone()),
            Self::Forbidden { field, .. } => field.clone(),
            Self::Target { .. } | Self::AdoptedTwice { .. } | Self::Hook { .. } => {
                Some("target".to_owned())
            }
            _ => None,
        }
    }

    /// As the API answers it.
    pub(crate) fn body(&self) -> ErrorBody {
        ErrorBody {
            code: self.code(),
            message: self.to_string(),
            remedy: self.remedy(),
            field: self.field(),
            retryable: matches!(self.code(), ErrorCode::Unavailable | ErrorCode::Exhausted),
        }
    }
}
