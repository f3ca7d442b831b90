//! What is found of an endpoint when a call is explained: the kernel's own examination of what is
//! in the choice, and the agent's reason for what is not.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What becomes of an endpoint when the kernel looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fitness {
    /// Would be taken.
    Fit,
    /// Dying, hung, ejected or on a suspected host: taken only when no fit one is left.
    Sick,
    /// Nothing listens there.
    Gone,
    /// Not in the choice: the kernel does not look at it.
    Out,
}

/// Why an endpoint would be taken or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Listens, keeps up, is not ejected.
    Fit,
    /// Its ejection ended, and nobody tries it: the next caller that comes to it does.
    ProbeDue,
    /// The process that listens was killed or exits.
    Dying,
    /// Its accept queue has not been empty for too long.
    Hung,
    /// Too many failures in a row, and its time is not over.
    Ejected,
    /// Its ejection ended, and one caller tries it: the others pass it by.
    Probing,
    /// Its host has left calls without an answer.
    Suspect,
    /// In the choice, and nothing listens.
    NoListener,
    /// Called by a published port, and listens on an MPTCP socket only.
    MultipathListener,
    /// Waits for services it depends on, or for its turn.
    Waiting,
    /// Its process is not there or not ready yet.
    Starting,
    /// Runs, and has not been seen to listen on this port.
    NotListening,
    /// The kernel has told that its process is gone, and nobody yet how it ended.
    ProcessGone,
    /// Its health check fails.
    Unhealthy,
    /// Takes no new connections; those that it has may end.
    Draining,
    /// Ended, and waits to be started again.
    BackingOff,
    /// Ended, and stays down.
    Exited,
    /// Held down by hand.
    Stopped,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Fit,
        Self::ProbeDue,
        Self::Dying,
        Self::Hung,
        Self::Ejected,
        Self::Probing,
        Self::Suspect,
        Self::NoListener,
        Self::MultipathListener,
        Self::Waiting,
        Self::Starting,
        Self::NotListening,
        Self::ProcessGone,
        Self::Unhealthy,
        Self::Draining,
        Self::BackingOff,
        Self::Exited,
        Self::Stopped,
    ];

    /// Its fixed word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::ProbeDue => "probe-due",
            Self::Dying => "dying",
            Self::Hung => "hung",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Suspect => "suspect",
            Self::NoListener => "no-listener",
            Self::MultipathListener => "multipath-listener",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::NotListening => "not-listening",
            Self::ProcessGone => "process-gone",
            Self::Unhealthy => "unhealthy",
            Self::Draining => "draining",
            Self::BackingOff => "backing-off",
            Self::Exited => "exited",
            Self::Stopped => "stopped",
        }
    }

    /// What it means for the endpoint.
    pub fn fitness(self) -> Fitness {
        match self {
            Self::Fit | Self::ProbeDue => Fitness::Fit,
            Self::Dying | Self::Hung | Self::Ejected | Self::Probing | Self::Suspect => {
                Fitness::Sick
            }
            Self::NoListener | Self::MultipathListener => Fitness::Gone,
            Self::Waiting
            | Self::Starting
            | Self::NotListening
            | Self::ProcessGone
            | Self::Unhealthy
            | Self::Draining
            | Self::BackingOff
            | Self::Exited
            | Self::Stopped => Fitness::Out,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_finding_is_the_one_on_the_wire() {
        for finding in Finding::ALL {
            assert_eq!(serde_json::to_value(finding).unwrap(), finding.word());
            assert_eq!(finding.to_string(), finding.word());
        }
        assert!(Finding::ALL.is_sorted_by_key(|finding| finding.fitness()), "best first");
    }
}
