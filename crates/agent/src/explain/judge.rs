//! What is found of one endpoint: the kernel's examination, from what can be read of it, or the
//! agent's reason for keeping it out of the choice.

use std::time::Duration;

use sinew_api::{Finding, WorkloadState};
use sinew_datapath::{BackendStats, HUNG_AFTER};
use sinew_model::{Port, Protocol};

use super::Endpoint;
use crate::core::Instance;

/// Why an instance is not in the choice.
pub(super) fn out(instance: &Instance) -> Finding {
    match instance.state() {
        WorkloadState::Up if instance.is_gone() => Finding::ProcessGone,
        state => out_elsewhere(state),
    }
}

/// The same of one that only its state is known of.
pub(super) fn out_elsewhere(state: WorkloadState) -> Finding {
    match state {
        WorkloadState::Waiting => Finding::Waiting,
        WorkloadState::Starting => Finding::Starting,
        WorkloadState::Up => Finding::NotListening,
        WorkloadState::Unhealthy => Finding::Unhealthy,
        WorkloadState::Draining => Finding::Draining,
        WorkloadState::BackingOff => Finding::BackingOff,
        WorkloadState::Exited => Finding::Exited,
        WorkloadState::Stopped => Finding::Stopped,
    }
}

/// The kernel's examination, in its order.
pub(super) fn examine(
    stats: &BackendStats,
    protocol: Protocol,
    queue: Option<u32>,
    outside: bool,
) -> Finding {
    // Of an endpoint elsewhere, whose listener nobody here can look at.
    if stats.suspect {
        return Finding::Suspect;
    }
    if protocol == Protocol::Tcp {
        let Some(queue) = queue else { return Finding::NoListener };
        if stats.dying {
            return Finding::Dying;
        }
        let unseen = stats.queue_empty_ago_ms.map(Duration::from_millis);
        if queue > 0 && unseen.is_some_and(|unseen| unseen > HUNG_AFTER) {
            return Finding::Hung;
        }
    }
    if stats.ejected_now {
        return Finding::Ejected;
    }
    // Outside callers take no probes: they go by the time alone.
    match stats.awaits_probe && !outside {
        true if stats.probed_now => Finding::Probing,
        true => Finding::ProbeDue,
        false => Finding::Fit,
    }
}

/// What was found, in words.
pub(super) fn reason(
    code: Finding,
    endpoint: &Endpoint,
    stats: &BackendStats,
    port: &Port,
    queue: Option<u32>,
) -> String {
    let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
    let out = match code {
        Finding::Fit => return "listens, keeps up, not ejected".to_owned(),
        Finding::ProbeDue => {
            return "its ejection ended: the next caller that comes to it probes it".to_owned();
        }
        Finding::Hung => {
            return format!(
                "hung: {} in its accept queue, last seen empty {:.1} s ago",
                queue.unwrap_or(0),
                seconds(stats.queue_empty_ago_ms.unwrap_or(0))
            );
        }
        Finding::Dying => {
            return "the process that listens was killed or exits".to_owned();
        }
        Finding::Ejected => {
            let (left, failures) = (seconds(stats.ejected_for_ms), stats.failures_in_a_row);
            return format!("ejected for {left:.1} s more: {failures} failures in a row");
        }
        Finding::Probing => {
            return "its ejection ended: one caller probes it, the others pass it by".to_owned();
        }
        Finding::Suspect => {
            return "its host has left calls without an answer: one caller at a time tries it"
                .to_owned();
        }
        Finding::NoListener => return format!("nothing listens on port {}", port.number),
        Finding::MultipathListener => return MULTIPATH.to_owned(),
        Finding::Waiting => "it waits to be started",
        Finding::Starting => "it is starting",
        Finding::NotListening => "it has not been seen to listen on this port",
        // The kernel has told that its process is gone, and not yet how it ended.
        Finding::ProcessGone => "its process is gone",
        Finding::Unhealthy => "its health check fails",
        Finding::Draining => "it is draining",
        Finding::BackingOff => "it waits to be started again",
        Finding::Exited => "it has exited",
        Finding::Stopped => "it is stopped",
    };
    match &endpoint.reason {
        Some(reason) => format!("not in the choice: {out} ({reason})"),
        None => format!("not in the choice: {out}"),
    }
}

/// What a published port cannot do.
const MULTIPATH: &str = "listens on an MPTCP socket, to which the kernel hands no packets of \
                         published ports; for Go programs set GODEBUG=multipathtcp=0 in env";
