//! What happened between one status and the next: shims send states, agents want events.

use std::{collections::VecDeque, time::Duration};

use crate::{
    process::since_boot,
    restart::Phase,
    status::{Exit, ExitRecord, Run, Status},
};

/// What happened to a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program runs.
    Started {
        /// Its main process.
        pid: u32,
        /// When it started, milliseconds since 1970.
        at_ms: u64,
        /// Times it was started before.
        restarts: u32,
    },
    /// The main process ended, or a start failed.
    Exited {
        /// How.
        exit: ExitRecord,
    },
    /// It will be started again.
    BackingOff {
        /// When, from now.
        delay: Duration,
        /// The end that it follows.
        exit: Option<ExitRecord>,
    },
    /// It stays down.
    Ended {
        /// The last end; `None` when it was stopped before it ever ran.
        exit: Option<ExitRecord>,
        /// Whether that was asked for.
        asked: bool,
    },
    /// The shim died; the program may run on. [`reconnect`](crate::reconnect) takes it up again.
    Lost,
}

/// Turns statuses into events.
#[derive(Clone, Debug)]
pub(super) struct Events {
    /// Whether the first status tells of the present only.
    from_here: bool,
    runs: u32,
    ends: u64,
    /// The number of ends at which a back-off was told.
    backing_off: Option<u64>,
    over: bool,
    queue: VecDeque<Event>,
}

impl Events {
    /// Tells all from the first run on.
    pub(super) fn from_start() -> Self {
        let queue = VecDeque::new();
        Self { from_here: false, runs: 0, ends: 0, backing_off: None, over: false, queue }
    }

    /// Tells where the workload stands, then what happens.
    pub(super) fn from_here() -> Self {
        Self { from_here: true, ..Self::from_start() }
    }

    pub(super) fn next(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    /// Whether nothing can happen any more.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn lose(&mut self) {
        self.over = true;
        self.queue.push_back(Event::Lost);
    }

    pub(super) fn take_in(&mut self, status: &Status) {
        if std::mem::take(&mut self.from_here) {
            self.ends = status.ends;
            self.runs = status.run.map_or(status.runs, |run| run.number - 1);
        }
        self.tell_ends(status);
        self.tell_phase(status);
    }

    fn tell_ends(&mut self, status: &Status) {
        let new = usize::try_from(status.ends.saturating_sub(self.ends)).unwrap_or(usize::MAX);
        let known = status.exits.len().saturating_sub(new);
        for record in status.exits.iter().skip(known) {
            match (record.run, &record.exit) {
                (Some(run), Exit::NotLaunched { .. }) => self.runs = self.runs.max(run.number),
                (Some(run), _) => self.tell_run(run),
                (None, _) => {}
            }
            self.queue.push_back(Event::Exited { exit: record.clone() });
        }
        self.ends = status.ends;
    }

    fn tell_run(&mut self, run: Run) {
        if run.number > self.runs {
            self.runs = run.number;
            self.queue.push_back(Event::Started {
                pid: run.process.pid,
                at_ms: run.started_at_ms,
                restarts: run.number - 1,
            });
        }
    }

    fn tell_phase(&mut self, status: &Status) {
        let exit = status.last_exit().cloned();
        match status.phase() {
            Phase::Running { .. } | Phase::Stopping { .. } => {
                if let Some(run) = status.run {
                    self.tell_run(run);
                }
            }
            Phase::BackingOff { until } if self.backing_off != Some(status.ends) => {
                self.backing_off = Some(status.ends);
                let delay = until.saturating_sub(since_boot());
                self.queue.push_back(Event::BackingOff { delay, exit });
            }
            Phase::Down { asked } if !self.over => {
                self.over = true;
                self.queue.push_back(Event::Ended { exit, asked });
            }
            _ => {}
        }
    }
}
