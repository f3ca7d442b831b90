//! What can be said on the command line.

use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use sinew_api::FlowVerdict;
use sinew_model::{NodeName, ProjectName, ServiceName, ZoneName};

mod actions;
mod control;
mod help;
mod value;

pub(crate) use actions::{
    DryRun, Evacuate, History, Limits, LimitsAction, Pause, Place, Resume, Return, Rollback,
    Unplace,
};
pub(crate) use control::{
    Control, ControlAction, Nodes, NodesAction, Run as RunControl, StoreAt, Token, TokenAction,
};
pub(crate) use value::{Adoptable, Callee, Caller, Endpoint, PortSpec, ScaleTo, Source};

/// Binds ordinary Linux programs into one service network.
#[derive(Debug, Parser)]
#[command(name = "sinew", version, long_about = help::SINEW, after_long_help = help::SINEW_AFTER)]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What any subcommand takes stands behind its own options.
const GLOBAL: &str = "For every subcommand";

/// Said to any subcommand.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The agent's socket [default: api.sock in the run directory]
    #[arg(long, global = true, value_name = "PATH", env = "SINEW_SOCKET", hide_env_values = true)]
    #[arg(help_heading = GLOBAL)]
    pub(crate) socket: Option<PathBuf>,
    /// The socket of a replica of control [default: control.sock in the run directory]
    #[arg(id = "control_socket", long = "control", global = true, value_name = "PATH")]
    #[arg(env = "SINEW_CONTROL", hide_env_values = true, help_heading = GLOBAL)]
    pub(crate) control: Option<PathBuf>,
    /// How to print
    #[arg(long, short, global = true, value_name = "FORMAT", default_value = "text")]
    #[arg(help_heading = GLOBAL)]
    pub(crate) output: Format,
    /// No colour, as when NO_COLOR is set or the output is no terminal
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(crate) no_color: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: tables, times as "3m ago".
    Text,
    /// For programs: the API's own types; streams are one value a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the services of a file and show what they write
    #[command(long_about = help::UP, after_long_help = help::UP_EXAMPLES)]
    Up(Up),
    /// Show what `up` would change
    #[command(long_about = help::PLAN, after_long_help = help::PLAN_EXAMPLES)]
    Plan(FileArg),
    /// Stop services
    #[command(long_about = help::DOWN, after_long_help = help::DOWN_EXAMPLES)]
    Down(Down),
    /// Run one command as an instance of a service
    #[command(long_about = help::RUN, after_long_help = help::RUN_EXAMPLES)]
    Run(Run),
    /// Run one command that can call the services
    #[command(long_about = help::EXEC, after_long_help = help::EXEC_EXAMPLES)]
    Exec(Exec),
    /// Make what runs already an endpoint of a service
    #[command(long_about = help::ADOPT, after_long_help = help::ADOPT_EXAMPLES)]
    Adopt(Adopt),
    /// Let an adopted endpoint go
    #[command(long_about = help::RELEASE, after_long_help = help::RELEASE_EXAMPLES)]
    Release(Release),
    /// List workloads
    #[command(long_about = help::PS, after_long_help = help::PS_EXAMPLES)]
    Ps,
    /// List services, or show one with its endpoints
    #[command(long_about = help::SERVICES, after_long_help = help::SERVICES_EXAMPLES)]
    Services(Services),
    /// Show how this host is: its place among others, and what to look at
    #[command(long_about = help::STATUS, after_long_help = help::STATUS_EXAMPLES)]
    Status,
    /// Show what workloads write
    #[command(long_about = help::LOGS, after_long_help = help::LOGS_EXAMPLES)]
    Logs(Logs),
    /// Tell which backend a call would get, and why
    #[command(long_about = help::EXPLAIN, after_long_help = help::EXPLAIN_EXAMPLES)]
    Explain(Explain),
    /// Show connections one by one
    #[command(long_about = help::FLOWS, after_long_help = help::FLOWS_EXAMPLES)]
    Flows(Flows),
    /// Show who calls whom, live
    #[command(long_about = help::TOP, after_long_help = help::TOP_EXAMPLES)]
    Top(Top),
    /// Change how many instances a service has
    #[command(long_about = help::SCALE, after_long_help = help::SCALE_EXAMPLES)]
    Scale(Scale),
    /// Take an instance out of its service's choice
    #[command(long_about = help::DRAIN, after_long_help = help::DRAIN_EXAMPLES)]
    Drain(Drain),
    /// Restart a service, one instance at a time
    #[command(long_about = help::RESTART, after_long_help = help::RESTART_EXAMPLES)]
    Restart(Restart),
    /// Tell whether this machine can run Sinew, and what to do if not
    #[command(long_about = help::DOCTOR, after_long_help = help::DOCTOR_EXAMPLES)]
    Doctor,
    /// Print completions for a shell
    #[command(long_about = help::COMPLETIONS, after_long_help = help::COMPLETIONS_EXAMPLES)]
    Completions(Completions),
    /// Be the agent of this host
    #[command(long_about = help::AGENT, after_long_help = help::AGENT_EXAMPLES)]
    Agent(Box<Agent>),
    /// Take this host out of the network of many hosts; what runs on it goes on
    #[command(long_about = help::LEAVE, after_long_help = help::LEAVE_EXAMPLES)]
    Leave(Leave),
    /// Be a replica of the control plane, which many hosts share
    #[command(long_about = help::CONTROL, after_long_help = help::CONTROL_EXAMPLES)]
    Control(Box<Control>),
    /// Make, list and revoke the tokens that hosts join with
    #[command(long_about = help::TOKEN, after_long_help = help::TOKEN_EXAMPLES)]
    Token(Token),
    /// List the hosts of the network, or take one out
    #[command(long_about = help::NODES, after_long_help = help::NODES_EXAMPLES)]
    Nodes(Nodes),
    /// Show what was done to the network: by whom, why, and what it changed
    #[command(long_about = help::HISTORY, after_long_help = help::HISTORY_EXAMPLES)]
    History(History),
    /// Undo what was set after a generation
    #[command(long_about = help::ROLLBACK, after_long_help = help::ROLLBACK_EXAMPLES)]
    Rollback(Rollback),
    /// Have the control plane leave something undone
    #[command(long_about = help::PAUSE, after_long_help = help::PAUSE_EXAMPLES)]
    Pause(Pause),
    /// End a pause
    #[command(long_about = help::RESUME, after_long_help = help::RESUME_EXAMPLES)]
    Resume(Resume),
    /// Send a zone no new connections, and let those drain that it has
    #[command(long_about = help::EVACUATE, after_long_help = help::EVACUATE_EXAMPLES)]
    Evacuate(Evacuate),
    /// Bring a zone back, step by step
    #[command(long_about = help::RETURN, after_long_help = help::RETURN_EXAMPLES)]
    Return(Return),
    /// Have the services of a file run on any hosts of the network
    #[command(long_about = help::PLACE, after_long_help = help::PLACE_EXAMPLES)]
    Place(Place),
    /// Have the services of a placed file run nowhere
    #[command(long_about = help::UNPLACE, after_long_help = help::UNPLACE_EXAMPLES)]
    Unplace(Unplace),
    /// Show what is placed, and on which hosts
    #[command(long_about = help::PLACEMENT, after_long_help = help::PLACEMENT_EXAMPLES)]
    Placement,
    /// Show or change the limits of the network
    #[command(long_about = help::LIMITS, after_long_help = help::LIMITS_EXAMPLES)]
    Limits(Limits),
}

/// Which file.
#[derive(Debug, Args)]
pub(crate) struct FileArg {
    /// The file; `-`: standard input
    #[arg(long, short, value_name = "FILE", default_value = "sinew.yaml")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) file: FileArg,
    /// Wait until every instance is up, then leave them to the agent
    #[arg(long, short)]
    pub(crate) detach: bool,
    /// With --detach: fail when they are not up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = value::seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Down {
    /// The project; without it and without --file: all of them
    #[arg(conflicts_with = "file")]
    pub(crate) project: Option<ProjectName>,
    /// The project of this file
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Stop everything, end the agent, remove all that Sinew made on this host
    #[arg(long, conflicts_with_all = ["project", "file"])]
    pub(crate) purge: bool,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// How long connections from other hosts may end by themselves
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = value::seconds)]
    pub(crate) grace: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The service to be an instance of
    #[arg(long, short, value_name = "NAME")]
    pub(crate) service: ServiceName,
    /// A port that the command listens on; may be repeated
    #[arg(long, short, value_name = "PORT[/udp][:NAME]", required = true)]
    pub(crate) port: Vec<PortSpec>,
    /// How many of them to run
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) replicas: u16,
    /// Print the instance's number in a line of its own before the command runs
    #[arg(long, hide = true)]
    pub(crate) announce: bool,
    #[command(flatten)]
    pub(crate) exec: Exec,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// As root: keep the capabilities that workloads lose
    #[arg(long)]
    pub(crate) keep_privileges: bool,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub(crate) argv: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// A systemd unit by its name, a process by its number, or a cgroup by its path
    #[arg(value_name = "UNIT|PID|CGROUP")]
    pub(crate) target: Adoptable,
    /// The service to be an endpoint of
    #[arg(long, short, value_name = "NAME")]
    pub(crate) service: ServiceName,
    /// A port that it listens on, or will; may be repeated
    #[arg(long, short, value_name = "PORT[/udp][:NAME]", required = true)]
    pub(crate) port: Vec<PortSpec>,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The endpoint, as `sinew ps` shows it
    #[arg(value_name = "SERVICE/REPLICA")]
    pub(crate) endpoint: Endpoint,
}

#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Show this one
    pub(crate) name: Option<ServiceName>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Only of these services or replicas
    #[arg(value_name = "SERVICE[/REPLICA]")]
    pub(crate) sources: Vec<Source>,
    /// Go on as lines are written, through restarts of the agent too
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Start with the last N lines of each replica [default: all]
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) tail: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The caller: a service, a workload as web/0, `exec`, or `outside`
    #[arg(value_parser = value::caller)]
    pub(crate) from: String,
    /// The service called; its port, by number or name, when it has several
    #[arg(value_name = "TO[:PORT]")]
    pub(crate) to: Callee,
}

#[derive(Debug, Args)]
pub(crate) struct Flows {
    /// Show what comes from now on
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only of this calling service; `exec`: of callers that are of none; `outside`: of those who
    /// come by published ports
    #[arg(long, value_name = "SERVICE")]
    pub(crate) from: Option<Caller>,
    /// Only to this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) to: Option<ServiceName>,
    /// Only those that went so: closed, refused, reset, timed-out, cancelled, no-backend,
    /// no-such-port or bind-denied
    #[arg(long, value_name = "VERDICT")]
    pub(crate) verdict: Option<FlowVerdict>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Look for a second, print one table and leave
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Service and number of instances
    #[arg(value_name = "NAME=N", required = true)]
    pub(crate) to: Vec<ScaleTo>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

/// Whether to see a change to its end.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Ask for it and leave
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Fail when it is not done after so many seconds; it goes on
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = value::seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The instance, as `sinew ps` shows it
    #[arg(value_name = "SERVICE/REPLICA")]
    pub(crate) endpoint: Endpoint,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// The service
    pub(crate) name: ServiceName,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// Directory of the socket and of what does not outlive a boot
    #[arg(long, value_name = "DIR", env = "SINEW_RUN", hide_env_values = true)]
    pub(crate) run: Option<PathBuf>,
    /// Directory of logs and of what outlives a boot
    #[arg(long, value_name = "DIR", env = "SINEW_STATE", hide_env_values = true)]
    pub(crate) state: Option<PathBuf>,
    /// Directory of a bpf file system for programs and maps
    #[arg(long, value_name = "DIR", env = "SINEW_PINS", hide_env_values = true)]
    pub(crate) pins: Option<PathBuf>,
    /// The cgroup that will hold all members
    #[arg(long, value_name = "DIR", env = "SINEW_CGROUP", hide_env_values = true)]
    pub(crate) cgroup: Option<PathBuf>,
    /// Serve the metrics to whoever reaches this address, as `127.0.0.1:9090`; they hold names and
    /// counts of services
    #[arg(long, value_name = "IP:PORT", env = "SINEW_METRICS", hide_env_values = true)]
    pub(crate) metrics: Option<SocketAddr>,
    /// The policy: what members of the group sinew may do besides what is their own
    #[arg(
        long,
        value_name = "FILE",
        env = "SINEW_POLICY",
        hide_env_values = true,
        default_value = "/etc/sinew/policy.yaml"
    )]
    pub(crate) policy: PathBuf,
    /// Let members call the API: services, what was adopted, and what `sinew run` and `sinew exec`
    /// run
    #[arg(long, env = "SINEW_MEMBERS_CALL", hide_env_values = true)]
    pub(crate) members_call: bool,
    /// Let whatever runs in this cgroup or below call services by name, `host`: anything on this
    /// host; may be given several times, and then as `A,B` in the variable
    #[arg(
        long,
        value_name = "CGROUP",
        env = "SINEW_REACH",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub(crate) reach: Vec<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives as `sinew_agent=debug`
    #[arg(
        long,
        value_name = "FILTER",
        env = "SINEW_LOG",
        hide_env_values = true,
        default_value = "info"
    )]
    pub(crate) log: String,
    #[command(flatten)]
    pub(crate) join: Join,
}

/// The network of many hosts. What is left out stays as it was said last.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Many hosts")]
pub(crate) struct Join {
    /// Join the network whose control plane listens there; any of its replicas will do
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        env = "SINEW_JOIN",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = value::control
    )]
    pub(crate) join: Vec<String>,
    /// What allows this host to join, of `sinew token create`; needed once
    #[arg(long, value_name = "TOKEN", env = "SINEW_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Name of this host in the network [default: the first label of its own name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// Where this host is: hosts of a zone fail together [default: default]
    #[arg(long, value_name = "ZONE")]
    pub(crate) zone: Option<ZoneName>,
    /// A word that placement goes by; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = value::label)]
    pub(crate) labels: Vec<(String, String)>,
    /// An address of this host that leads to its instances, of each family at most one [default: that
    /// of its connection to control]
    #[arg(long = "address", value_name = "IP")]
    pub(crate) addresses: Vec<IpAddr>,
    /// Run what `sinew place` puts on this host, as root where it names no user
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true")]
    pub(crate) placement: Option<bool>,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests;
