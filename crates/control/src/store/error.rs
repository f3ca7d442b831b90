//! What can go wrong: whose fault it is, whether it had an effect, and whether a retry helps.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{LeaseId, Revision};

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store is not reached, has no leader, or is going down.
    #[error("the store is not available: {why}; {applied}")]
    Unavailable {
        /// Who was asked, and what came of it.
        why: String,
        /// Whether a write may be in effect.
        applied: Applied,
    },
    /// No answer in time.
    #[error("the store did not answer {call} within {after:?}; {applied}")]
    Timeout {
        /// The method and whom it was sent to.
        call: String,
        /// How long it was waited for.
        after: Duration,
        /// Whether a write may be in effect.
        applied: Applied,
    },
    /// The store takes no more data. Nothing is lost; compaction works, and transactions without
    /// comparisons that delete one span.
    #[error("the store is full: {why}")]
    NoSpace {
        /// What is full, and what to do.
        why: String,
    },
    /// User and password are wrong, or missing.
    #[error("the store does not accept who asks: {why}")]
    Unauthenticated {
        /// What was presented and the store's words.
        why: String,
    },
    /// The user may not do that.
    #[error("the store does not allow {call}: {why}; grant the user's role the keys it needs")]
    PermissionDenied {
        /// The method.
        call: &'static str,
        /// The store's words.
        why: String,
    },
    /// The history that was asked for is gone.
    #[error("the history asked for is gone{}: list anew", up_to(*compacted_revision))]
    Compacted {
        /// Revisions before this are gone, where the store says it: etcd does to a watch only.
        compacted_revision: Option<Revision>,
    },
    /// The revision has not been yet.
    #[error("revision {asked} has not been yet")]
    FutureRevision {
        /// The revision that was asked for.
        asked: Revision,
    },
    /// The lease has ended, or never was.
    #[error("lease {lease} has ended")]
    LeaseNotFound {
        /// The lease that was named.
        lease: LeaseId,
    },
    /// More bytes than a transaction may have.
    #[error("a transaction of {bytes} bytes: at most {most_bytes} are taken")]
    TooLarge {
        /// Of its keys and values.
        bytes: usize,
        /// What is taken.
        most_bytes: usize,
    },
    /// What no store takes.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Data are damaged. They are left as they are.
    #[error("{place} is damaged: {why}; it is left as it is: {remedy}")]
    Corrupt {
        /// The file, or the member.
        place: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// etcd answers what its documentation does not lead to expect: it is configured otherwise, or
    /// is no etcd.
    #[error("the store refuses {call}: {why}")]
    Refused {
        /// The method.
        call: &'static str,
        /// The store's words.
        why: String,
    },
    /// An option is wrong.
    #[error("{option} {value}: {why}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given; nothing of secrets.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store's file is of another format.
    #[error("{} has format {found}, and this program knows {known}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Of the file.
        found: u64,
        /// Of this program.
        known: u64,
    },
    /// Another process has the store's file open.
    #[error("{} is in use by another process: one store has one file", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// The store went back: it was restored from a backup, or replaced. What was computed from
    /// it before may have been undone.
    #[error(
        "the store was at revision {seen} and is at {found}: it was restored from a backup or \
         replaced; open it anew and list everything"
    )]
    Rewound {
        /// The newest revision seen.
        seen: Revision,
        /// The revision it has now.
        found: Revision,
    },
}

fn up_to(compacted: Option<Revision>) -> String {
    compacted.map_or_else(String::new, |revision| format!(" before revision {revision}"))
}

/// A request that no store takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Keys have at least a byte.
    #[error("a key is empty")]
    EmptyKey,
    /// No key can be in the span.
    #[error("the span from key {} ends before it starts", text(start))]
    EmptySpan {
        /// Its first key.
        start: Bytes,
    },
    /// A list of operations changes a key more than once.
    #[error("a transaction changes key {} twice: once is allowed", text(key))]
    ChangedTwice {
        /// The key.
        key: Bytes,
    },
    /// Too much at once.
    #[error("a transaction has {number} operations or comparisons: at most {most}")]
    Operations {
        /// What it has.
        number: usize,
        /// What is taken.
        most: usize,
    },
}

/// Bytes as people read them.
pub(super) fn text(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// Whether a call that failed had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It had none, and will have none.
    No,
    /// It may have had one, or have one later: read before writing again.
    Unknown,
}

impl std::fmt::Display for Applied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "nothing was changed",
            Self::Unknown => "whether something was changed is unknown",
        })
    }
}

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The code that called.
    Caller,
    /// The store or the way to it.
    Store,
    /// The people who run it: its configuration, its disk, its users.
    Operator,
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call again, after a while.
    Later,
    /// Reading anew, then a call made from that.
    Anew,
    /// Nothing but a change by whose fault it is.
    No,
}

impl Error {
    /// Who has to do something about it.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Unavailable { .. } | Self::Timeout { .. } => Fault::Store,
            Self::Compacted { .. }
            | Self::FutureRevision { .. }
            | Self::LeaseNotFound { .. }
            | Self::TooLarge { .. }
            | Self::Invalid(_) => Fault::Caller,
            Self::NoSpace { .. }
            | Self::Unauthenticated { .. }
            | Self::PermissionDenied { .. }
            | Self::Corrupt { .. }
            | Self::Refused { .. }
            | Self::Option { .. }
            | Self::Format { .. }
            | Self::Locked { .. }
            | Self::Io { .. }
            | Self::Rewound { .. } => Fault::Operator,
        }
    }

    /// Whether the failed call may have had an effect.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        match self {
            Self::Unavailable { applied, .. } | Self::Timeout { applied, .. } => *applied,
            _ => Applied::No,
        }
    }

    /// What helps.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unavailable { applied, .. } | Self::Timeout { applied, .. } => match applied {
                Applied::No => Retry::Later,
                Applied::Unknown => Retry::Anew,
            },
            Self::NoSpace { .. } | Self::Io { .. } => Retry::Later,
            Self::Compacted { .. } | Self::LeaseNotFound { .. } | Self::Rewound { .. } => {
                Retry::Anew
            }
            _ => Retry::No,
        }
    }
}
