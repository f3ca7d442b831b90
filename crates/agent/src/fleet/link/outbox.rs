//! What control is still to be told, in the order in which it matters: of this host first, since
//! others wait for it.

use std::{collections::BTreeMap, time::Instant};

use sinew_model::ServiceName;
use sinew_proto::{FromAgent, Placed};

use super::{reports::Reports, subscriptions::Subscriptions};
use crate::fleet::mirror::{Answer, Refused};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) reports: Reports,
    pub(super) subscriptions: Subscriptions,
    /// The last one of each service.
    answers: BTreeMap<ServiceName, Answer>,
    /// What became of what control has this host run.
    pub(super) placed: Option<Placed>,
}

impl Outbox {
    pub(super) fn begin(&mut self) {
        self.reports.begin();
        self.subscriptions.begin();
        self.answers.clear();
        // Control says again what is to run.
        self.placed = None;
    }

    pub(super) fn answered(&mut self, service: &ServiceName, answer: Answer) {
        match &answer {
            Answer::Ack { generation } => self.subscriptions.applied(service, *generation),
            // Control goes on from what it told; only all of it again mends that. Of what is refused
            // for what it is, the same would come again.
            Answer::Nack { reason: Refused::Gap { .. }, .. } => self.subscriptions.ask(service),
            Answer::Nack { .. } => {}
        }
        self.answers.insert(service.clone(), answer);
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<FromAgent> {
        if let Some(report) = self.reports.next() {
            return Some(FromAgent::Report(report));
        }
        if let Some(placed) = self.placed.take() {
            return Some(FromAgent::Placed(placed));
        }
        let Some((service, answer)) = self.answers.pop_first() else {
            return self.subscriptions.next(now);
        };
        Some(match answer {
            Answer::Ack { generation } => FromAgent::Ack { service, generation },
            Answer::Nack { generation, reason } => {
                FromAgent::Nack { service, generation, reason: reason.to_string() }
            }
        })
    }
}
