//! One client's connection and the upstream connections that its requests go to, one at a time.
//!
//! No socket is touched here. The caller asks [`Exchange::next`] what to do, does it, and tells
//! with [`Exchange::on`] what came of it. Bytes are received into [`Exchange::space`] and written
//! from where they lie ([`Exchange::parts`]): bodies are not copied, and of each direction there is
//! one buffer, so who sends faster than the other side reads waits. The buffers are in a [`Work`],
//! which a connection has only while it has something to do.

mod call;
mod flow;
mod link;
mod next;
mod request;
mod response;
mod times;

use std::sync::Arc;

use sinew_http::Limits;
use sinew_http::connection::{Client, Close, Reading, Server, Writing};
use sinew_http::head::{Request, Response};
use sinew_resilience::Time;
use sinew_resilience::draw::Draws;

use crate::fault::Fault;
pub use crate::onward::Peer;
use crate::route::{Backend, Route};
use call::Call;
use flow::Flow;
pub use flow::{BUFFER_BYTES, WIDE_BYTES};
use link::{Link, State};

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that requests come from.
    Client,
    /// The one that they go to.
    Upstream,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes were read into [`Exchange::space`]; more than none.
    Received(Side, usize),
    /// It sends nothing any more.
    Ended(Side),
    /// So many bytes of [`Exchange::parts`] were written.
    Wrote(Side, usize),
    /// It takes nothing any more. What it sent before may still be read.
    Unwritable(Side),
    /// It was reset.
    Broke(Side),
    /// The connection that was asked for is there.
    Connected {
        /// It has carried requests before.
        reused: bool,
    },
    /// It could not be made.
    NotConnected,
    /// Time has gone by: [`Exchange::deadline`] may have come.
    Timer,
    /// No further request is wanted.
    Drain,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read into [`Exchange::space`].
    Read(Side),
    /// Write [`Exchange::parts`].
    Write(Side),
    /// Shut it down for writing.
    Finish(Side),
    /// Get a connection to a backend.
    Connect {
        /// To this one.
        backend: Backend,
        /// Not one that was used before: those may have been closed by now.
        fresh: bool,
    },
    /// The upstream's connection can carry another request: keep it.
    Pool,
    /// End a connection. That of the client is the end of the exchange.
    Close(Side, Close),
    /// Nothing, until something is ready or [`Exchange::deadline`] has come.
    Wait,
}

/// What may be done without waiting, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they say what they are")]
pub struct Ready {
    pub client_readable: bool,
    pub client_writable: bool,
    pub upstream_readable: bool,
    pub upstream_writable: bool,
}

/// What an exchange is told with each event.
#[derive(Debug)]
pub struct Context<'a> {
    /// What time it is.
    pub now: Time,
    /// Chance.
    pub draws: &'a mut Draws,
    /// What holds for requests that begin now.
    pub route: &'a Arc<Route>,
}

/// What an exchange needs while a request is under way: buffers, and readers of heads.
#[derive(Debug)]
pub struct Work {
    limits: Limits,
    request: Request,
    response: Response,
    /// From the client to the upstream.
    up: Flow,
    /// From the upstream to the client.
    down: Flow,
    client: Client,
    link: Link,
    call: Option<Call>,
    /// Since when a head is being read.
    head_since: Option<Time>,
}

impl Work {
    /// With these limits of heads.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            request: Request::new(limits),
            response: Response::new(limits),
            up: Flow::new(),
            down: Flow::new(),
            client: Client::new(),
            link: Link::default(),
            call: None,
            head_since: None,
        }
    }
}

/// The state of a client's connection.
#[derive(Debug)]
pub struct Exchange {
    server: Server,
    peer: Peer,
    client_ended: bool,
    draining: bool,
    closed: bool,
    /// When a byte was moved last.
    last: Time,
    deadline: Time,
    work: Option<Box<Work>>,
}

impl Exchange {
    /// For a connection that was just accepted.
    #[must_use]
    pub fn new(peer: Peer, cx: &Context<'_>) -> Self {
        Self {
            server: Server::new(),
            peer,
            client_ended: false,
            draining: false,
            closed: false,
            last: cx.now,
            deadline: cx.now + cx.route.times.idle,
            work: None,
        }
    }

    /// Whether it has to be given a [`Work`] before anything is read.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.work.is_none()
    }

    /// Takes what is needed while a request is under way.
    pub fn begin(&mut self, work: Box<Work>) {
        self.work = Some(work);
    }

    /// Gives it back, once nothing is under way.
    pub fn rest(&mut self) -> Option<Box<Work>> {
        let idle = |work: &mut Box<Work>| {
            work.call.is_none()
                && work.link.state == State::None
                && work.link.give_back.is_none()
                && work.up.input.is_empty()
                && work.down.output.is_empty()
        };
        let resting = self.closed || self.server.writing() == Writing::Idle;
        let mut work = self.work.take_if(|work| resting && idle(work))?;
        work.up.shrink();
        work.down.shrink();
        work.request.restart();
        (work.head_since, work.link, work.call) = (None, Link::default(), None);
        Some(work)
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Where bytes of a side go.
    pub fn space(&mut self, side: Side) -> &mut [u8] {
        match (&mut self.work, side) {
            (Some(work), Side::Client) => work.up.input.space(),
            (Some(work), Side::Upstream) => work.down.input.space(),
            (None, _) => &mut [],
        }
    }

    /// What is to be written to a side, in order.
    pub fn parts(&self, side: Side) -> impl Iterator<Item = &[u8]> {
        let flow = self.work.as_ref().map(|work| match side {
            Side::Client => &work.down,
            Side::Upstream => &work.up,
        });
        flow.into_iter().flat_map(Flow::parts)
    }

    /// Something happened.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) {
        if self.closed {
            return;
        }
        let Some(mut work) = self.work.take() else { return self.on_idle(event, cx) };
        self.heard(&mut work, event, cx);
        self.advance(&mut work, cx);
        self.deadline = self.next_deadline(&work, cx);
        self.work = Some(work);
    }

    fn on_idle(&mut self, event: Event, cx: &Context<'_>) {
        match event {
            // What an idle connection cannot be is refused; it has nothing to be refused.
            Event::Ended(Side::Client) => drop(self.server.input_closed(false)),
            Event::Broke(Side::Client) | Event::Unwritable(Side::Client) => self.server.cut_short(),
            Event::Drain => self.server.drain(),
            Event::Timer if cx.now >= self.deadline => self.server.drain(),
            _ => {}
        }
    }

    fn heard(&mut self, work: &mut Work, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Received(side, bytes) => {
                self.last = cx.now;
                match side {
                    Side::Client => work.up.input.received(bytes),
                    Side::Upstream => work.down.input.received(bytes),
                }
            }
            Event::Wrote(side, bytes) => {
                self.last = cx.now;
                match side {
                    Side::Client => work.down.output.wrote(bytes),
                    Side::Upstream => {
                        work.up.output.wrote(bytes);
                        work.link.wrote = true;
                    }
                }
            }
            Event::Ended(Side::Client) => self.client_ended = true,
            Event::Ended(Side::Upstream) => work.link.ended = true,
            Event::Unwritable(Side::Upstream) => work.link.unwritable = true,
            Event::Broke(Side::Upstream) => {
                (work.link.ended, work.link.reset, work.link.unwritable) = (true, true, true);
            }
            Event::Unwritable(Side::Client) | Event::Broke(Side::Client) => {
                self.cut_short(work);
                work.down.drop_output();
            }
            Event::Connected { reused } => {
                self.last = cx.now;
                self.connected(work, reused);
            }
            Event::NotConnected => self.failed(work, Fault::NotConnected, true, cx),
            Event::Timer => self.timer(work, cx),
            // A request whose head has begun to come is answered.
            Event::Drain if work.call.is_none() && !work.up.input.is_empty() => {
                self.draining = true;
            }
            Event::Drain => self.server.drain(),
        }
    }

    /// As far as it goes with what is there.
    fn advance(&mut self, work: &mut Work, cx: &mut Context<'_>) {
        loop {
            let moved = self.flush(work)
                | self.take_request(work, cx)
                | self.pass_up(work, cx)
                | self.take_response(work, cx)
                | self.pass_down(work, cx)
                | self.tunnel(work)
                | self.discard(work)
                | self.client_end(work, cx);
            if !moved {
                break;
            }
        }
    }

    /// What was to be written is written.
    fn flush(&mut self, work: &mut Work) -> bool {
        let mut moved = false;
        let (up, down) = (&mut work.up, &mut work.down);
        if up.output.is_flushed() && !up.output.is_empty() {
            let kept = work.call.as_ref().is_some_and(|call| call.repeatable);
            if up.whole && work.link.state == State::Open {
                work.client.body_sent();
            }
            if !kept {
                up.drop_output();
                moved = true;
            }
        }
        if down.output.is_flushed() && (down.whole || !down.output.is_empty()) {
            down.drop_output();
            if down.whole {
                down.whole = false;
                self.server.body_written();
                work.call = None;
            }
            moved = true;
        }
        moved
    }

    /// Bytes both ways.
    fn tunnel(&mut self, work: &mut Work) -> bool {
        self.server.writing() == Writing::Tunnel && (work.up.tunnel() | work.down.tunnel())
    }

    /// The client sends nothing any more, and all that it sent was looked at.
    fn client_end(&mut self, work: &mut Work, cx: &mut Context<'_>) -> bool {
        if !self.client_ended || !work.down.output.is_empty() {
            return false;
        }
        let due = match self.server.reading() {
            Reading::Head => work.call.is_none() && self.server.writing() == Writing::Idle,
            Reading::Body => {
                let reached = work.link.state == State::Open && !work.link.unwritable;
                !work.up.whole && reached && work.up.output.is_flushed()
            }
            Reading::Discard => self.server.writing() == Writing::Done,
            Reading::Wait | Reading::Tunnel => false,
        };
        if !due {
            return false;
        }
        if let Err(refused) = self.server.input_closed(!work.up.input.is_empty()) {
            self.answer(work, Fault::Request(refused), cx);
        }
        work.up.input.forget();
        true
    }

    /// A response that has begun cannot be ended.
    fn cut_short(&mut self, work: &mut Work) {
        self.server.cut_short();
        work.end_link();
    }
}
