//! Which services of other hosts are looked up: the resolver tells the agent by datagrams at a socket
//! in the directory that they share. What is lost, since no agent is there, is told again with one of
//! the next lookups.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sinew_model::ServiceName;

/// In the directory of the resolver.
const SOCKET: &str = "lookups.sock";
/// A service that is looked up all the time is told again so often.
const AGAIN: Duration = Duration::from_secs(60);
/// And one that cannot be called yet, so often.
const AGAIN_SOON: Duration = Duration::from_millis(200);
/// Names that are remembered as told; beyond that all are forgotten.
const REMEMBERED: usize = 65_536;

/// The agent's end.
#[derive(Debug)]
pub(crate) struct Lookups(tokio::net::UnixDatagram);

impl Lookups {
    pub(super) fn listen(directory: &Path, group: Option<u32>) -> io::Result<Self> {
        let path = directory.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        chown(&path, Some(0), group)?;
        let mode = if group.is_some() { 0o620 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(Self(tokio::net::UnixDatagram::from_std(socket)?))
    }

    /// The next service that was looked up.
    pub(crate) async fn next(&self) -> ServiceName {
        let mut buffer = [0; 256];
        loop {
            let length = match self.0.recv(&mut buffer).await {
                Ok(length) => length,
                Err(error) => {
                    tracing::warn!("lookups are not heard of any more: {error}");
                    return std::future::pending().await;
                }
            };
            let name = str::from_utf8(&buffer[..length]).ok();
            if let Some(name) = name.and_then(|name| ServiceName::new(name).ok()) {
                return name;
            }
        }
    }
}

/// The resolver's end. Its working directory is the one that it shares with the agent: it may have no
/// right to the directories above.
#[derive(Debug)]
pub(super) struct Told {
    socket: UnixDatagram,
    at: Mutex<HashMap<Box<str>, Instant>>,
}

impl Told {
    /// # Errors
    /// When there is no socket to be had.
    pub(super) fn new() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, at: Mutex::default() })
    }
}

impl sinew_dns::Lookups for Told {
    fn looked_up(&self, service: &str, ready: bool) {
        let (now, again) = (Instant::now(), if ready { AGAIN } else { AGAIN_SOON });
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.get(service).is_some_and(|at| now.saturating_duration_since(*at) < again) {
            return;
        }
        // Nobody may be there, or be too slow: the next lookup is told.
        if self.socket.send_to(service.as_bytes(), SOCKET).is_ok() {
            if at.len() >= REMEMBERED {
                at.clear();
            }
            at.insert(service.into(), now);
        }
    }
}
