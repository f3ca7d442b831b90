//! Why a subcommand failed: what, whose fault, the remedy and the exit status.

use std::{io, path::PathBuf};

use sinew_api::{ClientError, control};
use sinew_model::ParseErrors;

use crate::render::style::{Style, Tint};

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error("{what}")]
    ControlStart { what: String },
    #[error("cannot read {}: {source}", path.display())]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    BadFile(Box<ParseErrors>),
    #[error("{what}")]
    Usage { what: String, help: String },
    #[error("cannot {action}: {source}")]
    System { action: String, source: io::Error },
    #[error("standard output: {0}")]
    Output(io::Error),
    #[error("the agent did not start: {why}")]
    AgentStart { why: String, log: PathBuf, last_lines: Vec<String> },
    #[error("the agent ended {times} times within a minute")]
    AgentUnstable { times: usize, log: PathBuf },
    #[error("only root can start the agent, and no agent answers at {}", socket.display())]
    NotRoot { socket: PathBuf },
    #[error(transparent)]
    Agent(#[from] sinew_agent::Error),
    #[error(transparent)]
    Rights(#[from] sinew_workload::rights::RightsError),
    #[error("cannot run {program:?}: {source}")]
    Exec { program: String, source: io::Error },
    #[error("project {project} is not up after {seconds} s")]
    NotReady { project: String, seconds: f64, details: Vec<String> },
    #[error("there is no {of}, and nothing that it wrote")]
    NoOutput { of: crate::args::Source },
    #[error("left before project {project} was up")]
    LeftStarting { project: String },
    #[error("project {project} was not stopped to the end; still there: {}", names.join(", "))]
    LeftRunning { project: String, names: Vec<String> },
    #[error("the agent went away before {} stopped", names.join(", "))]
    LostStopping { names: Vec<String> },
    #[error("not done after {seconds} s: {}", left.join(", "))]
    NotDone { seconds: f64, left: Vec<String> },
    #[error("the agent went away before it was done")]
    LostChange,
    #[error("not all of Sinew could be removed; still there: {}", join(left))]
    NotPurged { left: Vec<PathBuf> },
    #[error("this machine cannot run Sinew as it is")]
    DoctorBlocks,
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Runs as `sinew run` and `sinew exec`: Sinew itself failed.
pub(crate) const STATUS_SINEW: u8 = 125;
/// The command is there but cannot be run.
const STATUS_CANNOT_RUN: u8 = 126;
/// There is no such command.
const STATUS_NOT_FOUND: u8 = 127;

impl Error {
    /// Puts what was tried before the kernel's word.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> Option<String> {
        let help = match self {
            Self::Client(error) => return error.remedy(),
            Self::Control(error) => return error.remedy(),
            Self::Agent(error) => return error.remedy().map(str::to_owned),
            Self::Usage { help, .. } => help,
            Self::ReadFile { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name the file with -f FILE, or change to its directory"
            }
            Self::NotRoot { .. } => {
                "use sudo, or have a service manager start `sinew agent` and join the group sinew"
            }
            Self::AgentStart { log, .. } | Self::AgentUnstable { log, .. } => {
                return Some(format!("see {} and `sinew doctor`", log.display()));
            }
            Self::System { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free some space on that disk, then repeat"
            }
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "give its path, or put its directory into PATH"
            }
            Self::NotReady { project, .. } => {
                return Some(format!(
                    "it goes on: see `sinew ps` and `sinew logs`, wait longer with --timeout, or \
                     stop it with `sinew down {project}`"
                ));
            }
            Self::LeftStarting { project } => {
                return Some(format!(
                    "it goes on: see `sinew ps`, stop it with `sinew down {project}`"
                ));
            }
            Self::LeftRunning { project, .. } => {
                return Some(format!("see `sinew ps`; stop them with `sinew down {project}`"));
            }
            Self::NoOutput { .. } => "see what there is with `sinew ps`",
            Self::LostStopping { .. } => "run `sinew down` again when the agent is back",
            Self::NotDone { .. } => {
                "it goes on: see `sinew ps` and `sinew logs`, or wait longer with --timeout"
            }
            Self::NotPurged { .. } => "the agent's log says why; run it again",
            Self::LostChange => "it goes on when the agent is back: see `sinew ps`",
            Self::DoctorBlocks => "follow the remedies above, those that block first",
            Self::ReadFile { .. }
            | Self::BadFile(_)
            | Self::ControlStart { .. }
            | Self::System { .. }
            | Self::Output(_)
            | Self::Rights(_)
            | Self::Exec { .. } => return None,
        };
        Some(help.to_owned())
    }

    /// What a terminal shows of it: an `error:` and a `help:` line, after what explains it.
    pub(crate) fn report(&self, style: Style) -> String {
        if let Self::BadFile(errors) = self {
            return bad_file(errors, style);
        }
        let refused = match self {
            Self::Client(ClientError::Api(body)) => Some(&**body),
            Self::Control(error) => error.body(),
            _ => None,
        };
        // Who refuses names the field; the message may do so already.
        let field = refused.and_then(|body| {
            let field = body.field.as_deref().filter(|field| !field.is_empty())?;
            (!body.message.starts_with(field)).then(|| format!("{field}: "))
        });
        let field = field.unwrap_or_default();
        let mut text: String = self.details().iter().map(|line| format!("  {line}\n")).collect();
        text.push_str(&error_line(&format!("{field}{self}"), style));
        text.extend(self.help().map(|help| help_line(&help, style)));
        text
    }

    fn details(&self) -> &[String] {
        match self {
            Self::AgentStart { last_lines, .. } => last_lines,
            Self::NotReady { details, .. } => details,
            _ => &[],
        }
    }

    /// 2 for wrong usage, else 1.
    pub(crate) fn exit_status(&self) -> u8 {
        if matches!(self, Self::Usage { .. }) { 2 } else { 1 }
    }

    /// The status of `sinew run` and `sinew exec`, apart from every one of an ordinary command.
    pub(crate) fn run_exit_status(&self) -> u8 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                STATUS_NOT_FOUND
            }
            Self::Exec { .. } => STATUS_CANNOT_RUN,
            _ => STATUS_SINEW,
        }
    }

    /// Whether nobody reads the output any more (`sinew logs | head`): the end, but no failure.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn bad_file(errors: &ParseErrors, style: Style) -> String {
    let mut text = String::new();
    for error in &errors.errors {
        let (file, at) = (errors.file.display(), error.position);
        let field = error.field();
        let separator = if field.is_empty() { "" } else { ": " };
        let line = format!("{file}:{}:{}: {field}{separator}{}", at.line, at.column, error.problem);
        text.push_str(&error_line(&line, style));
        text.push_str(&help_line(&error.problem.remedy(), style));
    }
    text
}

fn error_line(text: &str, style: Style) -> String {
    format!("{} {text}\n", style.paint(Tint::Bad, "error:"))
}

fn help_line(text: &str, style: Style) -> String {
    format!("{} {text}\n", style.paint(Tint::Good, "help:"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sinew_api::{ErrorBody, ErrorCode};
    use sinew_model::FileSource;

    use super::*;

    const PLAIN: Style = Style { colour: false };

    fn api(field: Option<&str>, message: &str) -> Error {
        Error::Client(ClientError::Api(Box::new(ErrorBody {
            code: ErrorCode::Invalid,
            message: message.to_owned(),
            remedy: Some("use 0 to 1024".to_owned()),
            field: field.map(str::to_owned),
            retryable: false,
        })))
    }

    #[test]
    fn an_error_names_the_field_once_and_the_remedy() {
        let expected = "error: replicas: 2000 is too many\nhelp: use 0 to 1024\n";
        assert_eq!(api(Some("replicas"), "2000 is too many").report(PLAIN), expected);
        assert_eq!(api(Some("replicas"), "replicas: 2000 is too many").report(PLAIN), expected);
        assert_eq!(
            api(None, "2000 is too many").report(PLAIN),
            "error: 2000 is too many\nhelp: use 0 to 1024\n"
        );
    }

    #[test]
    fn faults_of_a_file_name_line_and_column() {
        let text = "name: shop\nservices:\n  web:\n    command: run\n    replicsa: 2\n";
        let source = FileSource { path: Path::new("sinew.yaml"), directory: Path::new("/shop") };
        let errors = sinew_model::parse(
            text,
            &source,
            &mut |_| Err(io::ErrorKind::NotFound.into()),
            &|_| None,
        )
        .unwrap_err();
        let report = Error::BadFile(Box::new(errors)).report(PLAIN);
        assert!(
            report.starts_with("error: sinew.yaml:5:5: services.web.replicsa: unknown key"),
            "{report}"
        );
        assert!(report.contains("\nhelp: did you mean \"replicas\""), "{report}");
    }

    #[test]
    fn exit_statuses() {
        let exec =
            |kind: io::ErrorKind| Error::Exec { program: "x".to_owned(), source: kind.into() };
        assert_eq!(exec(io::ErrorKind::NotFound).run_exit_status(), 127);
        assert_eq!(exec(io::ErrorKind::PermissionDenied).run_exit_status(), 126);
        assert_eq!(api(None, "no").run_exit_status(), 125);
        assert_eq!(api(None, "no").exit_status(), 1);
        let usage = Error::Usage { what: String::new(), help: String::new() };
        assert_eq!(usage.exit_status(), 2);
    }
}
