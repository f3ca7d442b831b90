//! From the client to the upstream.

use sinew_http::Refused;
use sinew_http::connection::{Begun, Reading, Writing};
use sinew_http::framing::{Asked, Framing};
use sinew_http::head::Progress;

use super::call::Call;
use super::link::State;
use super::{Context, Exchange, Work};
use crate::fault::Fault;
use crate::onward::{self, Additions, may_upgrade};

/// What is read of a body that nobody wants, so that its connection can go on. More than that
/// costs more than a new connection.
const DISCARD_MOST: u64 = 256 * 1024;

impl Exchange {
    /// The head of the next request. One that was sent ahead waits until the last one is answered.
    pub(super) fn take_request(&mut self, work: &mut Work, cx: &mut Context<'_>) -> bool {
        let due = self.server.reading() == Reading::Head
            && self.server.writing() == Writing::Idle
            && work.call.is_none()
            && work.down.output.is_empty();
        if !due || work.up.input.is_empty() {
            return false;
        }
        match work.request.read(work.up.input.filled()) {
            Ok(Progress::More) => {
                work.head_since.get_or_insert(cx.now);
                work.up.input.grow(&work.limits);
                return false;
            }
            Ok(Progress::Done(len)) => {
                let bytes = work.up.input.filled();
                match self.server.request(&work.request, bytes) {
                    Ok(begun) => self.begin_call(work, begun, len, cx),
                    Err(refused) => self.answer(work, Fault::Request(refused), cx),
                }
            }
            Err(refused) => self.answer(work, Fault::Request(refused), cx),
        }
        work.head_since = None;
        work.request.restart();
        true
    }

    fn begin_call(&mut self, work: &mut Work, begun: Begun, len: usize, cx: &mut Context<'_>) {
        if self.draining {
            self.server.drain();
        }
        let mut call = Call::new(cx.route, cx.now);
        let bytes = work.up.input.filled();
        let upgrades = may_upgrade(&work.request, &begun, bytes).is_some();
        call.method = work.request.method();
        call.version = work.request.version();
        call.framing = begun.framing;
        call.expects_continue = begun.expects_continue;
        call.asked =
            if begun.asked == Asked::Upgrade && !upgrades { Asked::Body } else { begun.asked };
        let mut more =
            Additions { peer: self.peer, forwarded: cx.route.forwarded, draws: &mut *cx.draws };
        let output = &mut work.up.output;
        let written = onward::request(&mut output.before, &work.request, bytes, &begun, &mut more);
        work.up.input.skip(len);
        work.up.begin(begun.framing, work.limits);
        work.call = Some(call);
        if written.is_err() {
            // Nothing that was read is refused by who writes it.
            return self.answer(work, Fault::Request(Refused::Control), cx);
        }
        match cx.route.admit(cx.now) {
            _ if matches!(begun.framing, Framing::Length(len) if len > cx.route.body_bytes) => {
                self.answer(work, Fault::BodyTooLong, cx);
            }
            Err(fault) => self.answer(work, fault, cx),
            Ok(admitted) => {
                if let Some(call) = &mut work.call {
                    call.admitted = Some(admitted);
                }
                self.choose(work, cx);
            }
        }
    }

    /// As much of the body as is there, and one write takes.
    pub(super) fn pass_up(&mut self, work: &mut Work, cx: &mut Context<'_>) -> bool {
        let (Reading::Body, Some(call)) = (self.server.reading(), &mut work.call) else {
            return false;
        };
        let up = &mut work.up;
        let on_its_way = work.link.state != State::None && !work.link.unwritable;
        if up.whole || !on_its_way {
            return false;
        }
        let more = !up.input.is_empty();
        let room = if more { up.output.takes_more() } else { up.input.has_space() };
        if !room && up.output.is_flushed() {
            // There is no room to keep all of a long body for another try.
            call.repeatable = false;
            up.drop_output();
        }
        if !more || !up.output.takes_more() {
            return false;
        }
        // A client that does not wait for a 100 sends its body.
        call.body_begun = true;
        work.client.release();
        let passed = up.pass(call.framing, &work.limits);
        let most = call.route.body_bytes;
        match passed {
            Err(refused) => self.answer(work, Fault::Request(refused), cx),
            Ok(_) if up.body_bytes > most => self.answer(work, Fault::BodyTooLong, cx),
            Ok(moved) => {
                if up.whole {
                    self.server.body_read();
                }
                return moved;
            }
        }
        true
    }

    /// The rest of a body that came too late for its response.
    pub(super) fn discard(&mut self, work: &mut Work) -> bool {
        let due = self.server.reading() == Reading::Discard
            && self.server.writing() == Writing::Done
            && work.down.output.is_empty();
        if !due {
            return false;
        }
        match work.up.discard(&work.limits) {
            Ok(_) if work.up.whole => self.server.body_read(),
            Ok(moved) if work.up.body_bytes <= DISCARD_MOST => return moved,
            _ => drop(self.server.refuse()),
        }
        true
    }
}
