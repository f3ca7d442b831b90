//! What follows a workload's exit, and how it is stopped: a state machine without clock, randomness
//! or processes. The shim feeds it what happened and does what it answers; it is stored in the
//! status file as it is, so that a new shim goes on where a dead one stopped.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sinew_model::Restart;

use crate::spec::millis;

/// How long a workload that keeps failing waits before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// Wait after the first failure; each further one doubles it.
    #[serde(with = "millis", rename = "base_ms")]
    pub base: Duration,
    /// The longest wait.
    #[serde(with = "millis", rename = "cap_ms")]
    pub cap: Duration,
    /// A run that took so long was healthy: the next failure counts as the first.
    #[serde(with = "millis", rename = "healthy_after_ms")]
    pub healthy_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(30),
            healthy_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row before this one: between half of the doubled base
    /// and all of it, so that workloads that failed together do not come back together.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        let full = self.base.saturating_mul(factor).min(self.cap);
        let half_ns = u64::try_from((full / 2).as_nanos()).unwrap_or(u64::MAX);
        let spread_ns = (u128::from(half_ns) * u128::from(random)) >> 64;
        full / 2 + Duration::from_nanos(u64::try_from(spread_ns).unwrap_or(half_ns))
    }
}

/// What the machine goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which exits are followed by a start.
    pub restart: Restart,
    /// Time from the stop signal to the kill.
    #[serde(with = "millis", rename = "grace_ms")]
    pub grace: Duration,
    /// Waits between starts.
    pub backoff: Backoff,
}

/// Where a workload stands. Times are since boot: they mean the same to the next shim, and no
/// change of the wall clock moves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "phase")]
pub enum Phase {
    /// What is left in the cgroup is being killed.
    Clearing {
        /// What follows when the cgroup is empty.
        then: Then,
    },
    /// A process exists that has not become the program yet.
    Launching,
    /// The program runs.
    Running {
        /// Since when.
        #[serde(with = "millis", rename = "since_ms")]
        since: Duration,
    },
    /// The stop signal was sent.
    Stopping {
        /// When what is left is killed.
        #[serde(with = "millis", rename = "kill_at_ms")]
        kill_at: Duration,
        /// What follows.
        then: Then,
    },
    /// Nothing runs; a start will follow.
    BackingOff {
        /// When.
        #[serde(with = "millis", rename = "until_ms")]
        until: Duration,
    },
    /// Nothing runs and nothing follows.
    Down {
        /// Whether it was asked for (stop, kill) rather than the policy's answer to an exit.
        asked: bool,
    },
}

/// What follows when a cgroup is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "then")]
pub enum Then {
    /// A start.
    Launch,
    /// A start, later.
    BackOff {
        /// When.
        #[serde(with = "millis", rename = "until_ms")]
        until: Duration,
    },
    /// Nothing.
    Down {
        /// As in [`Phase::Down`].
        asked: bool,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// No process is left in the cgroup and the main process has been waited for.
    Empty,
    /// The process became the program.
    Launched,
    /// It could not; `fatal`: trying again is not wanted.
    NotLaunched {
        /// See above.
        fatal: bool,
    },
    /// The main process ended.
    Exited {
        /// Whether it counts as a failure.
        failure: bool,
    },
    /// Time passed.
    Tick,
    /// Stop is asked for.
    Stop,
    /// Stop without grace is asked for.
    Kill,
    /// Another start is asked for, with a stop before it.
    Restart,
    /// No start of the policy's own before this time.
    Hold(Duration),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the program.
    Launch,
    /// Send the stop signal to the main process.
    Signal,
    /// Send the stop signal to every process of the cgroup: the main process is gone.
    SignalRest,
    /// Kill every process of the cgroup.
    KillAll,
}

/// The state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    failures: u32,
    #[serde(with = "millis", rename = "hold_until_ms")]
    hold_until: Duration,
}

impl Machine {
    /// A workload that is to be started. The first action is always to kill what an earlier life
    /// left in the cgroup.
    #[must_use]
    pub fn new(policy: Policy) -> (Self, Action) {
        let phase = Phase::Clearing { then: Then::Launch };
        (Self { policy, phase, failures: 0, hold_until: Duration::ZERO }, Action::KillAll)
    }

    /// Where the workload stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Stopping { kill_at, .. } => Some(kill_at),
            Phase::BackingOff { until } => Some(until),
            _ => None,
        }
    }

    /// Takes another policy; it holds from the next exit or stop on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Takes in what happened and answers what to do.
    pub fn step(&mut self, now: Duration, random: u64, input: Input) -> Option<Action> {
        match input {
            Input::Empty => self.empty(),
            Input::Launched => self.launched(now),
            Input::NotLaunched { fatal: true } => self.clear(Then::Down { asked: false }),
            Input::NotLaunched { fatal: false } => self.exited(now, random, true),
            Input::Exited { failure } => self.exited(now, random, failure),
            Input::Tick => self.tick(now),
            Input::Stop => self.stop(now),
            Input::Kill => self.kill(),
            Input::Restart => self.restart(now),
            Input::Hold(until) => {
                self.hold(until);
                None
            }
        }
    }

    fn empty(&mut self) -> Option<Action> {
        match self.phase {
            Phase::Clearing { then } | Phase::Stopping { then, .. } => self.follow(then),
            _ => None,
        }
    }

    fn follow(&mut self, then: Then) -> Option<Action> {
        match then {
            Then::Launch => return self.launch(),
            Then::BackOff { until } => self.phase = Phase::BackingOff { until },
            Then::Down { asked } => self.phase = Phase::Down { asked },
        }
        None
    }

    fn launch(&mut self) -> Option<Action> {
        self.phase = Phase::Launching;
        Some(Action::Launch)
    }

    fn launched(&mut self, now: Duration) -> Option<Action> {
        if self.phase == Phase::Launching {
            self.phase = Phase::Running { since: now };
        }
        None
    }

    fn clear(&mut self, then: Then) -> Option<Action> {
        self.phase = Phase::Clearing { then };
        Some(Action::KillAll)
    }

    fn exited(&mut self, now: Duration, random: u64, failure: bool) -> Option<Action> {
        let ran = match self.phase {
            Phase::Launching => Duration::ZERO,
            Phase::Running { since } => now.saturating_sub(since),
            Phase::Stopping { .. } => return Some(Action::SignalRest),
            Phase::Clearing { .. } | Phase::BackingOff { .. } | Phase::Down { .. } => return None,
        };
        let again = match self.policy.restart {
            Restart::Always => true,
            Restart::OnFailure => failure,
            Restart::Never => false,
        };
        if !again {
            return self.clear(Then::Down { asked: false });
        }
        if ran >= self.policy.backoff.healthy_after {
            self.failures = 0;
        }
        let delay = self.policy.backoff.delay(self.failures, random);
        self.failures = self.failures.saturating_add(1);
        self.clear(Then::BackOff { until: (now + delay).max(self.hold_until) })
    }

    fn tick(&mut self, now: Duration) -> Option<Action> {
        match self.phase {
            Phase::Stopping { kill_at, then } if now >= kill_at => self.clear(then),
            Phase::BackingOff { until } if now >= until => self.launch(),
            _ => None,
        }
    }

    fn stop(&mut self, now: Duration) -> Option<Action> {
        let then = Then::Down { asked: true };
        match self.phase {
            Phase::Running { .. } => self.signal(now, then),
            Phase::Stopping { kill_at, .. } => {
                self.phase = Phase::Stopping { kill_at, then };
                None
            }
            Phase::Launching => self.clear(then),
            Phase::Clearing { .. } => {
                self.phase = Phase::Clearing { then };
                None
            }
            Phase::BackingOff { .. } => self.follow(then),
            Phase::Down { .. } => None,
        }
    }

    fn signal(&mut self, now: Duration, then: Then) -> Option<Action> {
        self.phase = Phase::Stopping { kill_at: now + self.policy.grace, then };
        Some(Action::Signal)
    }

    fn kill(&mut self) -> Option<Action> {
        let then = Then::Down { asked: true };
        match self.phase {
            Phase::BackingOff { .. } => self.follow(then),
            Phase::Down { .. } => None,
            _ => self.clear(then),
        }
    }

    fn restart(&mut self, now: Duration) -> Option<Action> {
        self.failures = 0;
        match self.phase {
            Phase::Running { .. } => self.signal(now, Then::Launch),
            Phase::Stopping { kill_at, .. } => {
                self.phase = Phase::Stopping { kill_at, then: Then::Launch };
                None
            }
            Phase::Clearing { .. } => {
                self.phase = Phase::Clearing { then: Then::Launch };
                None
            }
            Phase::BackingOff { .. } => self.launch(),
            Phase::Launching | Phase::Down { .. } => None,
        }
    }

    fn hold(&mut self, until: Duration) {
        self.hold_until = self.hold_until.max(until);
        match &mut self.phase {
            Phase::BackingOff { until: at }
            | Phase::Clearing { then: Then::BackOff { until: at } } => *at = (*at).max(until),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "restart/tests.rs"]
mod tests;
