//! From the upstream to the client.

use sinew_http::Refused;
use sinew_http::connection::{Closed, Options, Received, Writing};
use sinew_http::framing::{Asked, Framing};
use sinew_http::head::Progress;
use sinew_resilience::balance::Answer;
use sinew_resilience::breaker;

use super::link::State;
use super::{Context, Exchange, Work};
use crate::fault::Fault;
use crate::onward;

impl Exchange {
    /// Heads, interim ones too.
    pub(super) fn take_response(&mut self, work: &mut Work, cx: &mut Context<'_>) -> bool {
        let waits = work.call.as_ref().is_some_and(|call| call.reply.is_none());
        let due = waits && work.link.state == State::Open && work.down.output.is_empty();
        if !due {
            return false;
        }
        match work.response.read(work.down.input.filled()) {
            Ok(Progress::More) if work.link.ended => self.ended_before_head(work, cx),
            Ok(Progress::More) => {
                work.down.input.grow(&work.limits);
                return false;
            }
            Ok(Progress::Done(len)) => {
                let bytes = work.down.input.filled();
                match work.client.response(&work.response, bytes) {
                    Ok(Received::Interim) => self.interim(work, len),
                    Ok(Received::Final(framing, options)) => {
                        self.respond(work, framing, options, len, cx);
                    }
                    Err(refused) => self.failed(work, Fault::Response(refused), false, cx),
                }
            }
            Err(refused) => self.failed(work, Fault::Response(refused), false, cx),
        }
        true
    }

    fn ended_before_head(&mut self, work: &mut Work, cx: &mut Context<'_>) {
        match work.client.closed(!work.down.input.is_empty()) {
            Ok(Closed::Unanswered) => self.failed(work, Fault::Unanswered, true, cx),
            Ok(_) => self.failed(work, Fault::Response(Refused::CutShort), false, cx),
            Err(refused) => self.failed(work, Fault::Response(refused), false, cx),
        }
    }

    fn interim(&mut self, work: &mut Work, len: usize) {
        let Some(call) = &mut work.call else { return };
        call.repeatable = false;
        let status = work.response.status();
        // A 100 is for who waits for it.
        let wanted = status != 100 || call.expects_continue;
        if wanted && self.server.interim(status) {
            let bytes = work.down.input.filled();
            let options = Options::of(work.response.fields(), bytes).unwrap_or_default();
            let out = &mut work.down.output.before;
            // One that cannot be written is left out: nothing depends on it.
            let _ = onward::interim(out, &work.response, bytes, options);
        }
        work.down.input.skip(len);
        work.response.restart();
    }

    fn respond(
        &mut self,
        work: &mut Work,
        framing: Framing,
        options: Options,
        len: usize,
        cx: &mut Context<'_>,
    ) {
        let Some(call) = &mut work.call else { return };
        let Ok(reply) = self.server.respond(framing) else {
            return self.failed(work, Fault::Response(Refused::UnwantedSwitch), false, cx);
        };
        let bytes = work.down.input.filled();
        let to_head = (call.asked == Asked::Head).then_some(call.version);
        let out = &mut work.down.output.before;
        if onward::response(out, &work.response, bytes, options, reply, to_head).is_err() {
            return self.cut_short(work);
        }
        call.repeatable = false;
        call.reply = Some(reply.framing);
        let (answer, outcome) = judge(work.response.status());
        call.record(cx.now, outcome);
        if let Some(attempt) = &mut call.attempt {
            attempt.answered(cx.now, answer);
        }
        work.down.input.skip(len);
        work.down.begin(framing, work.limits);
        if work.down.whole {
            work.finish_link();
        }
    }

    /// As much of the body as is there, and one write takes.
    pub(super) fn pass_down(&mut self, work: &mut Work, cx: &Context<'_>) -> bool {
        let Some(call) = &mut work.call else { return false };
        let (Some(framing), State::Open) = (call.reply, work.link.state) else { return false };
        let may = self.server.writing() == Writing::Body && work.down.output.takes_more();
        if !may || work.down.whole {
            return false;
        }
        let Ok(moved) = work.down.pass(framing, &work.limits) else {
            return self.broken_off(work, cx);
        };
        if work.down.whole {
            work.client.body_read();
            work.finish_link();
        } else if work.down.input.is_empty() && work.link.ended {
            let whole = matches!(work.client.closed(false), Ok(Closed::Whole));
            if !whole || work.link.reset || work.down.decoder.closed().is_err() {
                return self.broken_off(work, cx);
            }
            work.down.end(framing);
            work.finish_link();
        } else if !moved && work.link.ended {
            return self.broken_off(work, cx);
        }
        moved || work.down.whole
    }

    /// A response that had begun is not whole. What came of it may have been passed on.
    fn broken_off(&mut self, work: &mut Work, cx: &Context<'_>) -> bool {
        if let Some(attempt) = work.call.as_mut().and_then(|call| call.attempt.as_mut()) {
            attempt.answered(cx.now, Answer::GatewayError);
        }
        self.cut_short(work);
        true
    }
}

/// What a status says of who answered.
fn judge(status: u16) -> (Answer, breaker::Outcome) {
    match status {
        502..=504 => (Answer::GatewayError, breaker::Outcome::Failure),
        500..600 => (Answer::Error, breaker::Outcome::Failure),
        _ => (Answer::Success, breaker::Outcome::Success),
    }
}
