//! What Sinew is told: projects, services and their policies. Parsed, validated, compared; no IO.

mod name;
mod service;

pub use name::{NameError, PortName, ProjectName, ServiceName};
pub use service::{
    Balance, Check, Command, Health, Limits, Outlier, Port, Privileges, Project, Protocol, Publish,
    Restart, Service, Stop,
};
