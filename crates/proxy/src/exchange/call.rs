//! A request on its way: the rules are asked whether it may go on, who gets it, and, when a try
//! has failed, whether there is another one.

use std::sync::Arc;
use std::time::Duration;

use sinew_http::connection::Writing;
use sinew_http::framing::{Asked, Framing};
use sinew_http::head::{Method, Version};
use sinew_resilience::Time;
use sinew_resilience::balance::Answer;
use sinew_resilience::breaker;
use sinew_resilience::retry::{Decision, Failure, Reached};

use super::link::{Link, State};
use super::{Context, Exchange, Work};
use crate::fault::{Fault, Whose};
use crate::onward;
use crate::route::{Admitted, Backend, Outcome, Route};

/// A request that was admitted, or one that is being refused.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) route: Arc<Route>,
    pub(super) asked: Asked,
    pub(super) framing: Framing,
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) expects_continue: bool,
    /// A part of the body was passed on.
    pub(super) body_begun: bool,
    /// All that was written of the request is still there, and nothing of a response has come.
    pub(super) repeatable: bool,
    /// The response's head has come, and its body is passed on with this framing.
    pub(super) reply: Option<Framing>,
    /// When the head of the answer has to be there.
    pub(super) until: Option<Time>,
    pub(super) attempt: Option<Attempt>,
    pub(super) admitted: Option<Admitted>,
    deadline: Option<Time>,
    tried: u32,
    /// A connection that had been closed was replaced once.
    renewed: bool,
}

/// A try at one backend, which hears of its end in any case.
#[derive(Debug)]
pub(super) struct Attempt {
    route: Arc<Route>,
    backend: Backend,
    since: Time,
    outcome: Option<Outcome>,
}

impl Attempt {
    pub(super) fn answered(&mut self, now: Time, answer: Answer) {
        self.outcome = Some(Outcome { at: now, latency: now - self.since, answer });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.route.backends.ended(self.backend.number, self.outcome);
    }
}

impl Call {
    pub(super) fn new(route: &Arc<Route>, now: Time) -> Self {
        Self {
            route: Arc::clone(route),
            asked: Asked::Body,
            framing: Framing::None,
            method: Method::Get,
            version: Version::Http11,
            expects_continue: false,
            body_begun: false,
            repeatable: true,
            reply: None,
            until: None,
            attempt: None,
            admitted: None,
            deadline: route.times.answer.map(|answer| now + answer),
            tried: 0,
            renewed: false,
        }
    }

    /// RFC 9110 section 9.2.2.
    fn is_idempotent(&self) -> bool {
        !matches!(self.method, Method::Post | Method::Patch | Method::Connect | Method::Other)
            && self.asked != Asked::Upgrade
    }

    pub(super) fn record(&mut self, now: Time, outcome: breaker::Outcome) {
        if let Some(admitted) = &mut self.admitted {
            self.route.record(admitted, now, outcome);
        }
    }
}

impl Exchange {
    /// A backend gets the request, if there is one.
    pub(super) fn choose(&mut self, work: &mut Work, cx: &mut Context<'_>) {
        let Some(call) = &mut work.call else { return };
        let last = call.attempt.take().map(|attempt| attempt.backend.number);
        let Some(backend) = call.route.backends.choose(cx.now, cx.draws.draw(), last) else {
            return self.answer(work, Fault::NoBackend, cx);
        };
        let route = Arc::clone(&call.route);
        call.attempt = Some(Attempt { route, backend, since: cx.now, outcome: None });
        call.tried += 1;
        call.until = call.route.retry.until(cx.now, call.deadline);
        work.link.state = State::Wanted { backend, fresh: false };
        self.last = cx.now;
    }

    /// A try has failed. `unanswered`: nothing of a response has come.
    pub(super) fn failed(
        &mut self,
        work: &mut Work,
        fault: Fault,
        unanswered: bool,
        cx: &mut Context<'_>,
    ) {
        let Link { reused, wrote, .. } = work.link;
        work.drop_link();
        let Some(call) = &mut work.call else { return };
        let repeatable = call.repeatable && unanswered;
        let safe = !wrote || call.is_idempotent();
        if reused && repeatable && safe && fault == Fault::Unanswered && !call.renewed {
            call.renewed = true;
            return Self::renew(work);
        }
        if let Some(attempt) = &mut call.attempt {
            attempt.answered(cx.now, Answer::GatewayError);
        }
        let failure = Failure {
            reached: match (repeatable, wrote) {
                (false, _) => Reached::Answered,
                (true, true) => Reached::Perhaps,
                (true, false) => Reached::Nobody,
            },
            idempotent: call.is_idempotent(),
            transient: true,
            retry_after: None,
        };
        let (policy, budget) = (&call.route.retry, &call.route.budget);
        let draw = cx.draws.draw();
        match policy.decide(call.tried, &failure, call.deadline, budget, cx.now, draw) {
            Decision::GiveUp(_) => self.answer(work, fault, cx),
            Decision::Retry { pause, .. } => {
                work.up.output.rewind();
                work.link = Link { give_back: work.link.give_back, ..Link::default() };
                work.link.state = State::Pausing(cx.now + pause);
                if pause == Duration::ZERO {
                    self.choose(work, cx);
                }
            }
        }
    }

    /// A server closes connections that nobody uses, and may do so just when a request is on its
    /// way: that is no failure. The same backend is asked on a new one.
    fn renew(work: &mut Work) {
        work.up.output.rewind();
        work.link = Link { give_back: work.link.give_back, ..Link::default() };
        let Some(Attempt { backend, .. }) =
            work.call.as_ref().and_then(|call| call.attempt.as_ref())
        else {
            return;
        };
        let backend = *backend;
        work.link.state = State::Wanted { backend, fresh: true };
    }

    /// The client is told what no upstream told it; where a response has begun, that it ends.
    pub(super) fn answer(&mut self, work: &mut Work, fault: Fault, cx: &mut Context<'_>) {
        work.end_link();
        let of_client = fault.whose() == Whose::Client;
        if let Some(call) = &mut work.call {
            call.record(
                cx.now,
                match fault.whose() {
                    Whose::Upstream => breaker::Outcome::Failure,
                    Whose::Client | Whose::Route => breaker::Outcome::Ignored,
                },
            );
        }
        if of_client && !self.server.refuse() {
            return;
        }
        if self.server.writing() != Writing::Head {
            return self.server.cut_short();
        }
        let text = format!("{fault}\n");
        let to_head = work.call.as_ref().is_some_and(|call| call.method == Method::Head);
        let Ok(reply) = self.server.respond(Framing::Length(text.len() as u64)) else {
            return self.server.cut_short();
        };
        let output = &mut work.down.output;
        if onward::fault(&mut output.before, fault, reply, text.len() as u64).is_err() {
            return self.server.cut_short();
        }
        if !to_head {
            output.after.extend_from_slice(text.as_bytes());
        }
        work.down.whole = true;
    }
}
