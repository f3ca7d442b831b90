//! What every subcommand needs: where the agent is, and how to print.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use serde::Serialize;
use sinew_api::{Client, control};

use crate::{
    args::{Format, Global},
    error::Error,
    render::style::Style,
};

/// Directory of what lasts on this host.
pub(crate) fn state() -> PathBuf {
    directory("SINEW_STATE", "/var/lib/sinew")
}

fn directory(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
}

/// Where the agent is, and how to print.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// Whether the user named the socket itself, so that it belongs to an agent started elsewhere.
    pub(crate) socket_given: bool,
    /// The socket of a replica of control.
    pub(crate) control: PathBuf,
    /// Directory of the agent's state, if it is to be started here.
    pub(crate) state: PathBuf,
    /// Whether to print for programs.
    pub(crate) json: bool,
    /// Colours of the output.
    pub(crate) style: Style,
    /// Colours of errors.
    pub(crate) error_style: Style,
    /// Columns of the terminal, if the output is one.
    pub(crate) width: Option<usize>,
}

impl Context {
    pub(crate) fn new(global: &Global) -> Self {
        let run = directory("SINEW_RUN", "/run/sinew");
        Self {
            socket: global.socket.clone().unwrap_or_else(|| run.join("api.sock")),
            socket_given: global.socket.is_some(),
            control: global.control.clone().unwrap_or_else(|| run.join("control.sock")),
            state: state(),
            json: global.output == Format::Json,
            style: Style::of(&io::stdout(), global.no_color),
            error_style: Style::of(&io::stderr(), global.no_color),
            width: terminal_width(),
        }
    }

    /// A client of the agent that is there.
    pub(crate) async fn client(&self) -> Result<Client, Error> {
        Ok(Client::connect(&self.socket).await?)
    }

    /// A client of the replica of control that is there.
    pub(crate) async fn control(&self) -> Result<control::Client, Error> {
        Ok(control::Client::connect(&self.control).await?)
    }

    /// Log of an agent that `up` started.
    pub(crate) fn agent_log(&self) -> PathBuf {
        self.state.join("agent.log")
    }

    /// Prints `text` as it stands.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
    }

    /// Prints a line.
    pub(crate) fn print_line(&self, line: &str) -> Result<(), Error> {
        self.print(&format!("{line}\n"))
    }

    /// Prints a value as one line of JSON.
    pub(crate) fn print_json_line(&self, value: &impl Serialize) -> Result<(), Error> {
        let line = serde_json::to_string(value).map_err(|error| Error::Output(error.into()))?;
        self.print_line(&line)
    }

    /// Prints `value` for programs, or `text` of it for people.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Error> {
        if self.json {
            let json = serde_json::to_string_pretty(value).map_err(|e| Error::Output(e.into()))?;
            self.print_line(&json)
        } else {
            self.print(&text(value))
        }
    }
}

fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_col > 0).then(|| usize::from(size.ws_col))
}
