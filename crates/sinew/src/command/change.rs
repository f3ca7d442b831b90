//! `sinew scale`, `sinew drain` and `sinew restart`: ask for a change, then follow it to its end.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use sinew_api::{Client, EventKind, WorkloadState, WorkloadStatus};
use sinew_model::ServiceName;

use crate::{
    args::{Drain, Restart, Scale, Wait},
    command::{
        last_words::LastWords,
        printer::{Printer, source},
    },
    context::Context,
    error::Error,
    render::style::{state_tint, state_word},
};

mod goal;

use goal::Goal;

pub(super) async fn scale(args: &Scale, context: &Context) -> Result<(), Error> {
    let change = Change::begin(context).await?;
    let mut goals = Vec::new();
    for to in &args.to {
        change.client.scale(&to.service, to.replicas).await?;
        goals.push(Goal::scaled(to.service.clone(), to.replicas));
    }
    change.follow(&goals, &args.wait).await
}

pub(super) async fn drain(args: &Drain, context: &Context) -> Result<(), Error> {
    let endpoint = &args.endpoint;
    let change = Change::begin(context).await?;
    change.client.drain(&endpoint.service, endpoint.replica).await?;
    let goal = Goal::drained(endpoint.service.clone(), endpoint.replica);
    change.follow(&[goal], &args.wait).await
}

pub(super) async fn restart(args: &Restart, context: &Context) -> Result<(), Error> {
    let change = Change::begin(context).await?;
    let before = change.client.workloads().await?;
    change.client.restart(&args.name).await?;
    let goal = Goal::restarted(args.name.clone(), &before);
    change.follow(&[goal], &args.wait).await
}

/// A change that is under way.
struct Change<'a> {
    context: &'a Context,
    client: Client,
    events: sinew_api::Events,
    last_words: LastWords,
}

impl<'a> Change<'a> {
    /// Listens before anything is asked for, so that no event of the change is missed.
    async fn begin(context: &'a Context) -> Result<Self, Error> {
        let client = context.client().await?;
        let events = client.events().await?;
        Ok(Self { context, client, events, last_words: LastWords::default() })
    }

    /// Tells how it goes on until every goal is reached.
    async fn follow(mut self, goals: &[Goal], wait: &Wait) -> Result<(), Error> {
        if wait.no_wait {
            let workloads = self.client.workloads().await?;
            return self.end(goals, workloads, Goal::asked);
        }
        let names = goals.iter().map(|goal| (goal.service(), goal.instances()));
        let mut printer = Printer::new(self.context, names);
        let followed = tokio::time::timeout(wait.timeout, self.reach(goals, &mut printer)).await;
        match followed {
            Ok(Ok(workloads)) => self.end(goals, workloads, Goal::reached),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let workloads = self.client.workloads().await?;
                let left = goals.iter().flat_map(|goal| goal.left(&workloads)).collect();
                Err(Error::NotDone { seconds: wait.timeout.as_secs_f64(), left })
            }
        }
    }

    async fn reach(
        &mut self,
        goals: &[Goal],
        printer: &mut Printer<'_>,
    ) -> Result<Vec<WorkloadStatus>, Error> {
        loop {
            let workloads = self.client.workloads().await?;
            if goals.iter().all(|goal| goal.left(&workloads).is_empty()) {
                return Ok(workloads);
            }
            self.next_move(goals, printer).await?;
        }
    }

    /// Waits until something happens to an instance that a goal is about.
    async fn next_move(&mut self, goals: &[Goal], printer: &mut Printer<'_>) -> Result<(), Error> {
        loop {
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(error)) if !error.agent_is_away() => return Err(error.into()),
                None | Some(Err(_)) => return Err(Error::LostChange),
            };
            let EventKind::Workload { service, replica, state, reason } = event.kind else {
                continue;
            };
            if !goals.iter().any(|goal| *goal.service() == service) {
                continue;
            }
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let text = format!("{} {}{reason}", source(&service, replica), state_word(state));
            printer.tell(state_tint(state), &text)?;
            if state == WorkloadState::BackingOff && !self.context.json {
                self.last_words.tell(&self.client, printer, &service, replica).await?;
            }
            return Ok(());
        }
    }

    /// Shows the instances that it was about, or words.
    fn end(
        &self,
        goals: &[Goal],
        mut workloads: Vec<WorkloadStatus>,
        words: impl Fn(&Goal, &[WorkloadStatus]) -> String,
    ) -> Result<(), Error> {
        let services: BTreeSet<&ServiceName> = goals.iter().map(Goal::service).collect();
        workloads.retain(|w| w.service.as_ref().is_some_and(|name| services.contains(name)));
        let text =
            |shown: &Vec<_>| goals.iter().map(|goal| format!("{}\n", words(goal, shown))).collect();
        self.context.show(&workloads, text)
    }
}
