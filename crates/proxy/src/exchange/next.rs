//! What to do next.

use sinew_http::connection::{Close, Reading, Writing};

use super::link::{GiveBack, State};
use super::{Action, Context, Exchange, Ready, Side, Work};

impl Exchange {
    /// What to do now. Of what can be done without waiting, what makes room comes first.
    pub fn next(&mut self, ready: Ready, cx: &Context<'_>) -> Action {
        let Some(mut work) = self.work.take() else { return self.next_idle(ready) };
        let action = self.choose_action(&mut work, ready, cx);
        self.work = Some(work);
        action
    }

    fn next_idle(&mut self, ready: Ready) -> Action {
        match self.server.writing() {
            _ if self.closed => Action::Wait,
            Writing::Close(how) => self.close(how),
            _ if ready.client_readable => Action::Read(Side::Client),
            _ => Action::Wait,
        }
    }

    fn close(&mut self, how: Close) -> Action {
        self.closed = true;
        Action::Close(Side::Client, how)
    }

    fn choose_action(&mut self, work: &mut Work, ready: Ready, cx: &Context<'_>) -> Action {
        match work.link.give_back.take() {
            Some(GiveBack::Pool) => return Action::Pool,
            Some(GiveBack::Close) => return Action::Close(Side::Upstream, Close::Now),
            None if self.closed => return Action::Wait,
            None => {}
        }
        if let State::Wanted { backend, fresh } = work.link.state {
            let times = work.call.as_ref().map_or(cx.route.times, |call| call.route.times);
            work.link.state = State::Connecting(cx.now + times.connect);
            self.deadline = self.next_deadline(work, cx);
            return Action::Connect { backend, fresh };
        }
        let open = work.link.state == State::Open;
        if open && ready.upstream_writable && self.has_for_upstream(work) {
            return Action::Write(Side::Upstream);
        }
        if ready.client_writable && !work.down.output.is_flushed() {
            return Action::Write(Side::Client);
        }
        if let Some(action) = self.close_or_finish(work) {
            return action;
        }
        if ready.upstream_readable && open && !work.link.ended && work.down.input.has_space() {
            return Action::Read(Side::Upstream);
        }
        if ready.client_readable && self.wants_client(work) {
            return Action::Read(Side::Client);
        }
        Action::Wait
    }

    fn has_for_upstream(&self, work: &Work) -> bool {
        !work.link.unwritable && !work.up.output.is_flushed()
    }

    fn close_or_finish(&mut self, work: &mut Work) -> Option<Action> {
        match self.server.writing() {
            Writing::Close(how) if how == Close::Reset || work.down.output.is_flushed() => {
                work.up.drop_output();
                work.down.drop_output();
                work.up.input.forget();
                work.call = None;
                return Some(self.close(how));
            }
            Writing::Tunnel => {}
            _ => return None,
        }
        let ends = [
            (self.client_ended, &mut work.up, Side::Upstream),
            (work.link.ended, &mut work.down, Side::Client),
        ];
        for (ended, flow, to) in ends {
            if ended && !flow.finished && flow.input.is_empty() && flow.output.is_empty() {
                flow.finished = true;
                return Some(Action::Finish(to));
            }
        }
        if !(work.up.finished && work.down.finished) {
            return None;
        }
        work.call = None;
        work.drop_link();
        match work.link.give_back.take() {
            Some(_) => Some(Action::Close(Side::Upstream, Close::Now)),
            None => Some(self.close(Close::Now)),
        }
    }

    fn wants_client(&self, work: &Work) -> bool {
        if self.client_ended || !work.up.input.has_space() {
            return false;
        }
        match self.server.reading() {
            Reading::Head => self.server.writing() == Writing::Idle && work.call.is_none(),
            Reading::Body => !work.up.whole && work.link.state != State::None,
            Reading::Discard => self.server.writing() == Writing::Done,
            Reading::Tunnel => true,
            Reading::Wait => false,
        }
    }
}
