//! What Sinew is told: projects, services and their policies. Parsed, validated, compared; no IO.

mod command;
mod field;
pub mod fleet;
mod name;
mod order;
mod parse;
mod plan;
mod policy;
mod port;
mod problem;
mod service;
#[cfg(test)]
mod testing;
mod units;
mod validate;
mod words;

pub use name::{
    ControlName, NameError, NetworkName, NodeName, PortName, ProjectName, ServiceName, ZoneName,
};
pub use order::start_order;
pub use parse::{FileSource, ParseError, ParseErrors, Position, parse, parse_policy};
pub use plan::{Action, Effect, FieldChange, Plan, Step};
pub use policy::{Allowed, Grant, Grantee, Policy};
pub use problem::{
    EnvFileError, Expected, Found, Invalid, InvalidProject, KeyError, MAX_PORTS, Problem, Rule,
    SyntaxError, ValueError, VariableError,
};
pub use service::{
    Balance, Check, Command, Health, Limits, Outlier, Placement, Port, Privileges, Project,
    Protocol, Publish, Restart, Service, Stop,
};
pub use units::{
    MAX_DURATION, format_cpu, format_duration, format_size, parse_cpu, parse_duration, parse_size,
};
pub use validate::MAX_REPLICAS;
pub use words::{CAPABILITIES, SIGNALS, nearest, signal_number};
