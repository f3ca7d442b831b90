//! Finds the agent, or starts it: detached from the terminal, with its log in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use sinew_api::{Client, ClientError};
use tokio::process::{Child, Command};

use crate::{context::Context, error::Error};

use watch::Watch;

mod watch;

/// An agent that answers.
pub(crate) struct Reached {
    pub(crate) client: Client,
    /// Its process, when it was started here.
    pub(crate) child: Option<Child>,
}

/// The agent that answers at the socket, else, for root, a new one.
pub(crate) async fn reach(context: &Context) -> Result<Reached, Error> {
    match Client::connect(&context.socket).await {
        Ok(client) => Ok(Reached { client, child: None }),
        Err(ClientError::Unreachable { .. }) if !context.socket_given => {
            if !rustix::process::geteuid().is_root() {
                return Err(Error::NotRoot { socket: context.socket.clone() });
            }
            start(context).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts an agent and waits until it answers.
async fn start(context: &Context) -> Result<Reached, Error> {
    let path = context.agent_log();
    let log = open_log(&path)?;
    let begin = log.metadata().map_or(0, |metadata| metadata.len());
    let mut child = spawn(&log).map_err(Error::system("start the agent"))?;
    tokio::select! {
        client = wait_for(&context.socket) => Ok(Reached { client: client?, child: Some(child) }),
        status = child.wait() => {
            // Another one may have been first.
            if let Ok(client) = Client::connect(&context.socket).await {
                return Ok(Reached { client, child: None });
            }
            let why = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let last_lines = last_lines(&path, begin);
            if last_lines.is_empty() {
                // Where it cannot write, nobody can, and that is why.
                (&log).write_all(b"\n").map_err(Error::system(format!("write {}", path.display())))?;
            }
            Err(Error::AgentStart { why, log: path, last_lines })
        }
    }
}

fn open_log(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::System { action: format!("open {}", path.display()), source };
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)
}

fn spawn(log: &File) -> io::Result<Child> {
    // By this path it is the very binary that runs, also when its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sinew").arg("agent").stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?).current_dir("/");
    // In the other directory, relative paths would be others.
    for variable in ["SINEW_RUN", "SINEW_STATE", "SINEW_PINS", "SINEW_CGROUP"] {
        if let Some(path) = std::env::var_os(variable) {
            command.env(variable, std::path::absolute(path)?);
        }
    }
    // SAFETY: runs between fork and exec; setsid is a system call alone and touches no memory.
    unsafe {
        command.pre_exec(|| {
            // Without the terminal: its Ctrl-C and its end are not for the agent.
            rustix::process::setsid()?;
            Ok(())
        });
    }
    command.spawn()
}

/// Waits until an agent answers at `socket`, for as long as it takes. That somebody listens is not
/// enough: a new agent listens before it knows that it can work, and one that was killed listens a
/// little longer than its connections live.
pub(crate) async fn wait_for(socket: &Path) -> Result<Client, Error> {
    loop {
        let client = wait_for_listener(socket).await?;
        match client.agent().await {
            Ok(_) => return Ok(client),
            Err(error) if error.agent_is_away() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn wait_for_listener(socket: &Path) -> Result<Client, Error> {
    const FIRST_PAUSE: Duration = Duration::from_millis(5);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);
    let mut pause = FIRST_PAUSE;
    loop {
        // Watched before it is tried, so that no change between the two goes unseen.
        let watch = Watch::near(socket)
            .map_err(Error::system(format!("watch for the agent's socket {}", socket.display())))?;
        match Client::connect(socket).await {
            Ok(client) => return Ok(client),
            // Bound, but not listening yet or no more: nothing tells of the former.
            Err(ClientError::Unreachable { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused =>
            {
                let _ = tokio::time::timeout(pause, watch.changed()).await;
                pause = LONGEST_PAUSE.min(pause * 2);
            }
            Err(ClientError::Unreachable { .. } | ClientError::Denied { .. }) => {
                watch.changed().await.map_err(Error::system("watch for the agent's socket"))?;
                pause = FIRST_PAUSE;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The last lines that were written to the log behind `begin`.
fn last_lines(path: &Path, begin: u64) -> Vec<String> {
    const LINES: usize = 10;
    const LONGEST: u64 = 64 * 1024;
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(begin.max(end.saturating_sub(LONGEST))))?;
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|&line| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_new_lines_of_a_log_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/agent.log");
        let mut log = open_log(&path).unwrap();
        writeln!(log, "of yesterday").unwrap();
        let begin = log.metadata().unwrap().len();
        assert_eq!(last_lines(&path, begin), Vec::<String>::new());
        for line in 0..20 {
            writeln!(log, "line {line}").unwrap();
        }
        let lines = last_lines(&path, begin);
        assert_eq!((lines.len(), lines[0].as_str(), lines[9].as_str()), (10, "line 10", "line 19"));
        assert_eq!(last_lines(Path::new("/nonexistent"), 0), Vec::<String>::new());
    }

    #[tokio::test]
    async fn an_agent_is_seen_when_its_socket_appears() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/deep/api.sock");
        let waiting = tokio::spawn({
            let socket = socket.clone();
            async move { wait_for_listener(&socket).await.map(|client| client.socket().to_owned()) }
        });
        tokio::task::yield_now().await;
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        // A socket that nobody serves any more is not an agent.
        drop(tokio::net::UnixListener::bind(&socket).unwrap());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        fs::remove_file(&socket).unwrap();
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), socket);
    }
}
