//! The connection to an upstream that a request goes to.

use sinew_http::connection::Client;
use sinew_resilience::Time;

use super::{Exchange, Work};
use crate::route::Backend;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is none.
    #[default]
    None,
    /// Before another try.
    Pausing(Time),
    /// It is to be made.
    Wanted {
        backend: Backend,
        fresh: bool,
    },
    /// It is being made, until then.
    Connecting(Time),
    Open,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GiveBack {
    Pool,
    Close,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    pub(super) state: State,
    pub(super) give_back: Option<GiveBack>,
    /// It was used before.
    pub(super) reused: bool,
    /// It sends nothing any more.
    pub(super) ended: bool,
    /// Its end does not end what it sent.
    pub(super) reset: bool,
    /// It takes nothing any more.
    pub(super) unwritable: bool,
    /// Something was written to it.
    pub(super) wrote: bool,
}

impl Exchange {
    pub(super) fn connected(&mut self, work: &mut Work, reused: bool) {
        let (State::Connecting(_), Some(call)) = (work.link.state, &mut work.call) else { return };
        work.link = Link { state: State::Open, reused, ..Link::default() };
        work.client = Client::new();
        work.response.restart();
        // A client that has not waited for a 100 is not kept waiting.
        let hold_back = call.expects_continue && !call.body_begun;
        let sent = work.client.send(call.asked, call.framing, hold_back);
        debug_assert!(sent.is_ok(), "a new connection takes a request");
    }
}

impl Work {
    /// The response was read to its end: the connection is kept where it can be.
    pub(super) fn finish_link(&mut self) {
        let sound = !self.link.ended && !self.link.unwritable;
        // What was sent behind a response could be taken for the next one.
        let clean = self.down.input.is_empty();
        let keep = sound && clean && self.client.is_reusable();
        self.drop_link();
        self.up.drop_output();
        if keep {
            self.link.give_back = Some(GiveBack::Pool);
        }
    }

    /// The connection is of no further use, nor is what was to be written to it.
    pub(super) fn drop_link(&mut self) {
        if matches!(self.link.state, State::Open | State::Connecting(_)) {
            self.link.give_back = Some(GiveBack::Close);
        }
        self.link.state = State::None;
        self.down.input.forget();
    }

    /// The same for good: no other try is made.
    pub(super) fn end_link(&mut self) {
        self.drop_link();
        self.up.drop_output();
        if let Some(call) = &mut self.call {
            call.repeatable = false;
            call.attempt = None;
        }
    }
}
