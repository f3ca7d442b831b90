//! The life of one `sinew up`: apply, follow, and stop or leave. It outlives agents: each connection
//! to one is a round of its own, and the next round begins behind the last line shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt as _;
use sinew_api::{
    Client, ClientError, Event, EventKind, LogLine, LogLines, LogPosition, LogQuery, WorkloadState,
};
use sinew_model::{Project, ServiceName};
use tokio::time::Instant;

use crate::{
    command::{
        last_words::{LastWords, last_lines},
        printer::Printer,
        signals::Signals,
    },
    context::Context,
    error::Error,
    render::style::Tint,
    spawn::Reached,
};

use super::{
    next_agent::NextAgent,
    progress::{Progress, Standing, how_to_call},
};

/// How long to stay.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    /// Until Ctrl-C, which stops the project.
    Foreground,
    /// Until the project is ready.
    Detached { deadline: Instant, timeout: Duration },
}

/// How a round ends.
enum End {
    /// The agent went away.
    Away,
    /// The project is ready, and that is all that was wanted.
    Ready,
    /// The project is gone.
    Removed,
    /// The user does not want to wait.
    Left,
}

/// One `sinew up`.
pub(super) struct Session<'a> {
    context: &'a Context,
    project: &'a Project,
    mode: Mode,
    client: Client,
    next_agent: NextAgent,
    printer: Printer<'a>,
    progress: Progress<'a>,
    last_words_of: LastWords,
    /// Behind the last line shown, of each replica.
    positions: BTreeMap<(ServiceName, u32), u64>,
    applied: bool,
    ready: bool,
    told_how_to_call: bool,
    stopping: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        context: &'a Context,
        project: &'a Project,
        reached: Reached,
        mode: Mode,
    ) -> Self {
        let replicas = project.services.iter().map(|(name, service)| (name, service.replicas));
        Self {
            context,
            project,
            mode,
            client: reached.client,
            next_agent: NextAgent::after(reached.child),
            printer: Printer::new(context, replicas),
            progress: Progress::new(project),
            last_words_of: LastWords::default(),
            positions: BTreeMap::new(),
            applied: false,
            ready: false,
            told_how_to_call: false,
            stopping: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut signals = Signals::catch()?;
        loop {
            let end = match self.round(&mut signals).await {
                // Before the first answer there is nothing to come back to.
                Err(Error::Client(error)) if error.agent_is_away() && self.applied => End::Away,
                end => end?,
            };
            match end {
                End::Ready | End::Removed => return Ok(()),
                End::Left => return self.leave().await,
                End::Away if !self.find_agent(&mut signals).await? => return self.leave().await,
                End::Away => {}
            }
        }
    }

    /// One connection to an agent.
    async fn round(&mut self, signals: &mut Signals) -> Result<End, Error> {
        // Before anything is changed, so that no event of the change is missed.
        let mut events = self.client.events().await?;
        let mut logs = self.follow_logs().await?;
        if let Some(end) = self.submit(signals).await? {
            return Ok(end);
        }
        let mut end = self.look().await?;
        let end = loop {
            if let Some(end) = end {
                break end;
            }
            end = tokio::select! {
                event = events.next() => self.on_event(event).await?,
                line = next_line(&mut logs) => self.on_line(line, &mut logs)?,
                _ = signals.next() => self.on_signal(signals).await?,
                () = deadline(self.mode) => return Err(self.not_ready().await),
            };
        };
        if matches!(end, End::Removed) {
            self.last_words(&mut logs).await?;
            let text = if self.stopping { "all stopped" } else { "stopped by somebody else" };
            self.printer.say(Tint::Bold, text)?;
        }
        Ok(end)
    }

    /// Lines from now on; in a later round, from behind the last one shown.
    async fn follow_logs(&mut self) -> Result<Option<LogLines>, Error> {
        if matches!(self.mode, Mode::Detached { .. }) {
            return Ok(None);
        }
        if !self.applied {
            let ends = self.client.log_positions().await?;
            let end = |at: LogPosition| ((at.service, at.replica), at.offset);
            self.positions = ends.into_iter().map(end).collect();
        }
        let position = |((service, replica), offset): (&(ServiceName, u32), &u64)| LogPosition {
            service: service.clone(),
            replica: *replica,
            offset: *offset,
        };
        let ours = self.positions.iter().filter(|((service, _), _)| self.owns(service));
        let query =
            LogQuery { follow: true, from: ours.map(position).collect(), ..LogQuery::default() };
        Ok(Some(self.client.logs(&query).await?))
    }

    fn owns(&self, service: &ServiceName) -> bool {
        self.project.services.contains_key(service)
    }

    /// Tells the agent what is wanted, unless an agent before it knew.
    async fn submit(&mut self, signals: &mut Signals) -> Result<Option<End>, Error> {
        let projects = self.client.projects().await?;
        let known = projects.iter().any(|project| project.name == self.project.name);
        if self.stopping {
            return if known { self.stop(signals).await } else { Ok(None) };
        }
        if known && self.applied {
            return Ok(None);
        }
        let plan = self.client.apply(self.project).await?;
        if !self.applied {
            self.printer.plan(&plan)?;
        }
        self.applied = true;
        Ok(None)
    }

    /// Takes note of where everything stands.
    async fn look(&mut self) -> Result<Option<End>, Error> {
        let workloads = self.client.workloads().await?;
        let mut present = BTreeSet::new();
        for workload in workloads {
            if let Some(service) = workload.service.filter(|service| self.owns(service)) {
                let standing = Standing { state: workload.state, reason: workload.reason };
                self.note(&service, workload.replica, standing).await?;
                present.insert((service, workload.replica));
            }
        }
        self.progress.keep_only(&present);
        let projects = self.client.projects().await?;
        match projects.iter().find(|project| project.name == self.project.name) {
            Some(status) if status.ready => self.on_ready(),
            None if self.stopping && present.is_empty() => Ok(Some(End::Removed)),
            _ => Ok(None),
        }
    }

    async fn note(
        &mut self,
        service: &ServiceName,
        replica: u32,
        standing: Standing,
    ) -> Result<(), Error> {
        let state = standing.state;
        let Some((tint, text)) = self.progress.note(service, replica, standing) else {
            return Ok(());
        };
        self.printer.tell(tint, &text)?;
        // In the foreground they are shown as they come.
        if state == WorkloadState::BackingOff && matches!(self.mode, Mode::Detached { .. }) {
            self.last_words_of.tell(&self.client, &mut self.printer, service, replica).await?;
        }
        Ok(())
    }

    async fn on_event(
        &mut self,
        event: Option<Result<Event, ClientError>>,
    ) -> Result<Option<End>, Error> {
        let event = match event {
            None => return Ok(Some(End::Away)),
            Some(event) => event?,
        };
        let of_ours = event.project.as_ref().is_none_or(|project| *project == self.project.name);
        if of_ours {
            self.printer.event(&event)?;
        }
        match event.kind {
            EventKind::Workload { service, replica, state, reason } => {
                self.ready &= state == WorkloadState::Up || !self.owns(&service);
                self.note(&service, replica, Standing { state, reason }).await?;
            }
            EventKind::Project { change } if event.project.as_ref() == Some(&self.project.name) => {
                match change.as_str() {
                    // It may be about what was before this change: only a look tells.
                    "ready" => return self.look().await,
                    "removed" => return Ok(Some(End::Removed)),
                    _ => {}
                }
            }
            EventKind::Warning { message } => {
                self.printer.tell(Tint::Busy, &format!("warning: {message}"))?;
            }
            EventKind::Project { .. } => {}
        }
        Ok(None)
    }

    fn on_ready(&mut self) -> Result<Option<End>, Error> {
        if self.stopping {
            return Ok(None);
        }
        if !self.told_how_to_call {
            for line in how_to_call(self.project) {
                self.printer.say(Tint::Good, &line)?;
            }
        } else if !self.ready {
            self.printer.say(Tint::Good, "ready")?;
        }
        if !self.ready {
            for drained in self.progress.drained() {
                self.printer.say(Tint::Busy, &drained)?;
            }
        }
        (self.ready, self.told_how_to_call) = (true, true);
        Ok(matches!(self.mode, Mode::Detached { .. }).then_some(End::Ready))
    }

    fn on_line(
        &mut self,
        line: Option<Result<LogLine, ClientError>>,
        logs: &mut Option<LogLines>,
    ) -> Result<Option<End>, Error> {
        match line {
            // The end of the events tells why.
            None => *logs = None,
            Some(line) => self.show(line?)?,
        }
        Ok(None)
    }

    fn show(&mut self, line: LogLine) -> Result<(), Error> {
        if self.owns(&line.service) {
            self.printer.log(&line)?;
            self.positions.insert((line.service, line.replica), line.offset);
        }
        Ok(())
    }

    /// Shows what was written before the end but is still on its way.
    async fn last_words(&mut self, logs: &mut Option<LogLines>) -> Result<(), Error> {
        const LONGEST: Duration = Duration::from_secs(2);
        if logs.is_none() {
            return Ok(());
        }
        let deadline = Instant::now() + LONGEST;
        // An agent that ends with its last project has told what it could.
        let ends = self.client.log_positions().await.unwrap_or_default();
        let is_missing = |this: &Self, end: &LogPosition| {
            let shown = this.positions.get(&(end.service.clone(), end.replica));
            this.owns(&end.service) && shown.is_none_or(|shown| *shown < end.offset)
        };
        while ends.iter().any(|end| is_missing(self, end)) {
            match tokio::time::timeout_at(deadline, next_line(logs)).await {
                Ok(Some(Ok(line))) => self.show(line)?,
                Ok(None | Some(Err(_))) | Err(_) => break,
            }
        }
        Ok(())
    }

    async fn on_signal(&mut self, signals: &mut Signals) -> Result<Option<End>, Error> {
        if self.stopping || matches!(self.mode, Mode::Detached { .. }) {
            return Ok(Some(End::Left));
        }
        self.stopping = true;
        self.printer.say(Tint::Bold, "stopping; Ctrl-C again leaves at once")?;
        self.stop(signals).await
    }

    async fn stop(&mut self, signals: &mut Signals) -> Result<Option<End>, Error> {
        tokio::select! {
            accepted = self.client.remove(&self.project.name) => accepted.map(|_| None).map_err(Into::into),
            _ = signals.next() => Ok(Some(End::Left)),
        }
    }

    /// Waits for an agent, or starts it again; `false` when the user does not want to wait.
    async fn find_agent(&mut self, signals: &mut Signals) -> Result<bool, Error> {
        self.printer.say(Tint::Busy, "the agent is gone; the services go on without it")?;
        let late = deadline(self.mode);
        tokio::select! {
            client = self.next_agent.wait(self.context) => {
                self.client = client?;
                self.printer.say(Tint::Good, "the agent is back")?;
                Ok(true)
            }
            _ = signals.next() => Ok(false),
            () = late => Err(self.not_ready().await),
        }
    }

    /// Says what goes on. After a Ctrl-C that should have stopped it, that is a failure.
    async fn leave(&mut self) -> Result<(), Error> {
        if matches!(self.mode, Mode::Detached { .. }) {
            return Err(Error::LeftStarting { project: self.project.name.to_string() });
        }
        // What is known already is told when the agent cannot say it any more, or takes long.
        let look = tokio::time::timeout(Duration::from_secs(1), self.client.workloads()).await;
        let names = match look {
            Ok(Ok(workloads)) => {
                let of_ours = workloads.iter().filter(|workload| {
                    workload.pid.is_some()
                        && workload.service.as_ref().is_some_and(|service| self.owns(service))
                });
                of_ours.map(crate::render::workload::name).collect()
            }
            _ => self.progress.running(),
        };
        Err(Error::LeftRunning { project: self.project.name.to_string(), names })
    }

    /// Who is not up, and the last that each of them wrote.
    async fn not_ready(&self) -> Error {
        let seconds = match self.mode {
            Mode::Detached { timeout, .. } => timeout.as_secs_f64(),
            Mode::Foreground => 0.0,
        };
        let mut details = Vec::new();
        for laggard in self.progress.laggards() {
            details.push(laggard.to_string());
            if laggard.ran() {
                // Without them the reasons alone must do.
                let lines = last_lines(&self.client, &laggard.service, laggard.replica).await;
                let lines = lines.unwrap_or_default().into_iter();
                details.extend(lines.map(|line| format!("  | {}", line.text)));
            }
        }
        Error::NotReady { project: self.project.name.to_string(), seconds, details }
    }
}

/// The next line, if lines are followed at all.
async fn next_line(logs: &mut Option<LogLines>) -> Option<Result<LogLine, ClientError>> {
    match logs {
        Some(logs) => logs.next().await,
        None => std::future::pending().await,
    }
}

async fn deadline(mode: Mode) {
    match mode {
        Mode::Detached { deadline, .. } => tokio::time::sleep_until(deadline).await,
        Mode::Foreground => std::future::pending().await,
    }
}
