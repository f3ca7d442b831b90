//! etcd's errors in the words of the store.
//!
//! etcd names errors by text (its `api/v3rpc/rpctypes`); codes alone do not tell them apart.

use std::{error::Error as _, fmt::Write as _};

use tonic::{Code, ConnectError, Status};

use super::super::{Applied, Error, Revision};

/// What to do about a failed call.
pub(super) enum Failure {
    /// Ask another member: this one cannot now, and did nothing.
    Elsewhere(Error),
    /// Ask another member only if asking twice does no harm: it may have done it.
    Perhaps(Error),
    /// Present a new token.
    Token(Error),
    /// What it asked for is gone; who called knows its name.
    NotFound,
    /// No member will do it.
    Refused(Error),
}

/// The message of `status` and what caused it.
fn words(status: &Status) -> String {
    let mut words = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            let _infallible = write!(words, ": {text}");
        }
        cause = error.source();
    }
    words
}

fn was_not_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Tells what a status of `call` to `member` means.
pub(super) fn judge(status: &Status, call: &'static str, member: &str) -> Failure {
    let words = words(status);
    let text = status.message().trim_start_matches("etcdserver: ");
    let why = format!("{call} at {member}: {words}");
    let unavailable = |applied| Error::Unavailable { why: why.clone(), applied };
    if words.contains("invalid peer certificate") || words.contains("received fatal alert") {
        let why = format!("{why}; check the CA, the client's certificate and their times");
        return Failure::Elsewhere(Error::Unauthenticated { why });
    }
    if was_not_sent(status) {
        return Failure::Elsewhere(unavailable(Applied::No));
    }
    match text {
        "mvcc: database space exceeded" => Failure::Refused(Error::NoSpace {
            why: format!("{why}; compact and defragment it, or raise its quota, then disarm"),
        }),
        "requested lease not found" => Failure::NotFound,
        "mvcc: required revision has been compacted" => {
            Failure::Refused(Error::Compacted { compacted_revision: None })
        }
        "mvcc: required revision is a future revision" => {
            Failure::Refused(Error::FutureRevision { asked: Revision(0) })
        }
        "invalid auth token" | "revision of auth store is old" | "user name is empty" => {
            Failure::Token(Error::Unauthenticated { why })
        }
        "authentication failed, invalid user ID or password" => {
            Failure::Refused(Error::Unauthenticated { why })
        }
        "permission denied" => Failure::Refused(Error::PermissionDenied { call, why }),
        "no leader" | "raft proposal dropped" | "too many requests" | "not capable" => {
            Failure::Elsewhere(unavailable(Applied::No))
        }
        "corrupt cluster" => Failure::Refused(Error::Corrupt {
            place: member.to_owned(),
            why,
            remedy: "replace the member whose data differ, or restore a snapshot",
        }),
        _ => by_code(status.code(), call, why),
    }
}

fn by_code(code: Code, call: &'static str, why: String) -> Failure {
    match code {
        Code::Unavailable
        | Code::Unknown
        | Code::Internal
        | Code::Cancelled
        | Code::Aborted
        | Code::DeadlineExceeded
        | Code::ResourceExhausted => {
            Failure::Perhaps(Error::Unavailable { why, applied: Applied::Unknown })
        }
        _ => Failure::Refused(Error::Refused { call, why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_not_called_undone() {
        let judged = |code, text: &str| judge(&Status::new(code, text), "commit", "a:2379");
        let applied = |failure| match failure {
            Failure::Elsewhere(error) => ("elsewhere", error.applied()),
            Failure::Perhaps(error) => ("perhaps", error.applied()),
            Failure::Token(error) => ("token", error.applied()),
            Failure::NotFound => ("not found", Applied::No),
            Failure::Refused(error) => ("refused", error.applied()),
        };
        for (code, text, expected) in [
            (Code::Unavailable, "etcdserver: request timed out", ("perhaps", Applied::Unknown)),
            (Code::Unavailable, "etcdserver: leader changed", ("perhaps", Applied::Unknown)),
            (Code::Unavailable, "etcdserver: no leader", ("elsewhere", Applied::No)),
            (Code::Unauthenticated, "etcdserver: invalid auth token", ("token", Applied::No)),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                ("refused", Applied::No),
            ),
            (Code::Unknown, "h2 protocol error", ("perhaps", Applied::Unknown)),
            (Code::Unimplemented, "unknown service", ("refused", Applied::No)),
            (Code::NotFound, "etcdserver: requested lease not found", ("not found", Applied::No)),
        ] {
            assert_eq!(applied(judged(code, text)), expected, "{text}");
        }
    }
}
