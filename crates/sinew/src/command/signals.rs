//! The signals that ask a command in the foreground to end.

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::error::Error;

/// Ctrl-C, a request to end, and the end of the terminal.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, Error> {
        let catch = |kind| signal(kind).map_err(Error::system("catch signals"));
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}
