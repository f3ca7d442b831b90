//! The command against a fake agent: what it asks, what it prints, how it exits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use fake::{Fake, World};

mod fake;
mod json;
mod lists;
mod logs;
mod rights;
mod run;
mod up;

/// A directory with the agent's socket in it.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("api.sock")
    }

    fn agent(&self, world: World) -> Fake {
        Fake::start(self.socket(), Arc::new(Mutex::new(world)))
    }

    /// `sinew` with these arguments, which asks the agent of this host and starts none.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command.args(arguments).current_dir(self.path()).kill_on_drop(true);
        command.env("SINEW_SOCKET", self.socket()).env_remove("SINEW_RUN");
        command.env("SINEW_STATE", self.path().join("state"));
        command.stdin(Stdio::null());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        Ended(self.command(arguments).output().await.unwrap())
    }

    fn follow(&self, arguments: &[&str]) -> Following {
        let mut child =
            self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Following { child, stdout }
    }
}

struct Ended(Output);

impl Ended {
    fn status(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn stdout(&self) -> &str {
        std::str::from_utf8(&self.0.stdout).unwrap()
    }

    fn stderr(&self) -> &str {
        std::str::from_utf8(&self.0.stderr).unwrap()
    }
}

/// A command that runs while the test goes on.
struct Following {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Following {
    async fn line(&mut self) -> String {
        self.stdout.next_line().await.unwrap().unwrap_or_default()
    }

    /// Expects these lines next.
    async fn says(&mut self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line().await, *line);
        }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    async fn ends(self) -> Ended {
        Ended(self.child.wait_with_output().await.unwrap())
    }
}
