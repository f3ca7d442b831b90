//! What goes over a shim's control socket: one JSON value a line, both ways.

use serde::{Deserialize, Serialize};
use sinew_model::{Restart, Stop};

use crate::status::Status;

/// A request longer than this is none.
pub(crate) const MAX_REQUEST_BYTES: usize = 4096;

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub(crate) enum Request {
    /// Answered with the status.
    Status,
    /// Answered with the status, now and at each change.
    Subscribe,
    /// Signal, grace, kill; it stays down.
    Stop,
    /// Kill; it stays down.
    Kill,
    /// Stop and start.
    Restart,
    /// Another policy from now on.
    UpdatePolicy {
        /// What follows its exit.
        restart: Restart,
        /// How it is stopped.
        stop: Stop,
    },
}

/// From the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Message {
    /// What the shim knows. Statuses that a slow client did not take are replaced by newer ones.
    Status {
        /// See there.
        status: Box<Status>,
    },
    /// A request was taken on.
    Accepted,
    /// A request was not.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Message {
    /// The line for it.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// What a new shim tells who started it, before it lets go of its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Greeting {
    /// The workload runs, or is being looked after.
    Ready,
    /// Another shim looks after it.
    Busy {
        /// Its number.
        pid: u32,
    },
    /// The first start failed; the shim has ended.
    NotLaunched {
        /// Why.
        error: crate::LaunchError,
    },
    /// The shim cannot work.
    Failed {
        /// What it tried.
        step: String,
        /// Why not.
        errno: crate::Errno,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{spec::Order, status::Status};

    #[test]
    fn broken_lines_and_files_are_no_values() {
        let right: [&[u8]; 6] = [
            br#"{"do":"status"}"#,
            br#"{"do":"update-policy","restart":"on-failure","stop":{"signal":"SIGTERM","grace_ms":5000}}"#,
            br#"{"is":"refused","reason":"it has ended"}"#,
            br#"{"is":"not-launched","error":{"error":"exec","program":"x","errno":13}}"#,
            br#"{"is":"busy","pid":7}"#,
            br#"{"is":"failed","step":"take its lock","errno":11}"#,
        ];
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let mut read = 0;
        sinew_fuzz::each(&right, |bytes| {
            let request = serde_json::from_slice::<Request>(bytes);
            read += u32::from(request.is_ok());
            if let Ok(request) = request {
                let line = serde_json::to_vec(&request).unwrap();
                assert_eq!(serde_json::from_slice::<Request>(&line).unwrap(), request);
            }
            if let Ok(message) = serde_json::from_slice::<Message>(bytes) {
                assert!(message.line().ends_with(b"\n"));
            }
            let _ = serde_json::from_slice::<Greeting>(bytes);
            std::fs::write(at.join("state.json"), bytes).unwrap();
            std::fs::write(at.join("spec.json"), bytes).unwrap();
            assert!(Status::read(at).is_ok(), "what cannot be understood is as good as none");
            let _ = Order::read(at);
        });
        assert!(read > 10, "some are whole: {read}");
    }
}
