//! How long an exchange waits for what is due, and whose fault it is that it did not come.

use sinew_http::connection::{Reading, Writing};
use sinew_resilience::Time;

use super::link::State;
use super::{Context, Exchange, Work};
use crate::fault::Fault;

impl Exchange {
    pub(super) fn next_deadline(&self, work: &Work, cx: &Context<'_>) -> Time {
        let times = work.call.as_ref().map_or(cx.route.times, |call| call.route.times);
        let Some(call) = &work.call else {
            let idle = self.last + times.idle;
            return work.head_since.map_or(idle, |since| since + times.head);
        };
        if self.server.writing() == Writing::Tunnel {
            return self.last + times.tunnel;
        }
        let until = call.until.filter(|_| call.reply.is_none()).unwrap_or(Time::NEVER);
        match work.link.state {
            State::Pausing(until) => until,
            State::Connecting(late) => late.min(until),
            _ => (self.last + times.stall).min(until),
        }
    }

    pub(super) fn timer(&mut self, work: &mut Work, cx: &mut Context<'_>) {
        if cx.now < self.deadline {
            return;
        }
        if work.call.is_none() {
            return match self.server.writing() {
                // What is written here ends the connection in any case.
                _ if !work.down.output.is_empty() => self.cut_short(work),
                Writing::Idle if work.head_since.is_some() => self.answer(work, Fault::Slow, cx),
                Writing::Done => drop(self.server.refuse()),
                _ => self.server.drain(),
            };
        }
        match work.link.state {
            State::Pausing(_) => self.choose(work, cx),
            State::Connecting(_) => self.failed(work, Fault::ConnectLate, true, cx),
            _ if self.server.writing() == Writing::Tunnel => self.cut_short(work),
            State::Open if !work.down.output.is_empty() => self.cut_short(work),
            State::Open => self.stalled(work, cx),
            State::None | State::Wanted { .. } => self.cut_short(work),
        }
    }

    /// Nothing has moved between both sides.
    fn stalled(&mut self, work: &mut Work, cx: &mut Context<'_>) {
        let Some(call) = &work.call else { return };
        let waits_for_100 = call.expects_continue && !call.body_begun;
        let client_owes = self.server.reading() == Reading::Body
            && work.up.output.is_flushed()
            && !work.link.unwritable
            && !waits_for_100;
        let late = call.until.is_some_and(|until| cx.now >= until);
        match call.reply {
            None if client_owes && !late => {
                self.answer(work, Fault::Slow, cx);
            }
            None => self.failed(work, Fault::Late, work.down.input.is_empty(), cx),
            Some(_) => self.cut_short(work),
        }
    }
}
