//! The network and both ends of an exchange. What may be done when, and how many bytes go at once,
//! is a matter of chance.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sinew_http::Limits;
use sinew_http::connection::Close;
use sinew_proxy::exchange::{Action, Context, Event, Exchange, Peer, Ready, Side, Work};
use sinew_proxy::route::{Backend, Backends, Outcome, Route};
use sinew_resilience::Time;
use sinew_resilience::draw::Draws;
use sinew_resilience::retry::{Budget, BudgetSettings};

/// All that an upstream has sent when it has heard this, and whether it has closed.
pub(crate) type Answers<'a> = &'a dyn Fn(&Told<'_>) -> Said;

pub(crate) struct Told<'a> {
    /// Number of the connection, in the order they were made.
    pub(crate) connection: usize,
    pub(crate) heard: &'a [u8],
    pub(crate) ended: bool,
}

#[derive(Default)]
pub(crate) struct Said {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) enum End {
    #[default]
    Open,
    Ended,
    Reset,
    /// It takes no connection at all.
    Refuses,
}

/// One backend, and what it was told of tries.
#[derive(Debug, Default)]
pub(crate) struct One {
    pub(crate) under_way: Mutex<i32>,
    pub(crate) outcomes: Mutex<Vec<Option<Outcome>>>,
}

impl Backends for One {
    fn choose(&self, _: Time, _: u64, _: Option<u32>) -> Option<Backend> {
        *self.under_way.lock().unwrap() += 1;
        Some(Backend { number: 0, address: ([127, 0, 0, 1], 80).into() })
    }

    fn ended(&self, _: u32, outcome: Option<Outcome>) {
        *self.under_way.lock().unwrap() -= 1;
        self.outcomes.lock().unwrap().push(outcome);
    }
}

pub(crate) fn route(one: &Arc<One>) -> Route {
    let backends: Arc<dyn Backends> = Arc::<One>::clone(one);
    Route::to(backends, Budget::new(BudgetSettings::default()).unwrap())
}

pub(crate) struct Client<'a> {
    pub(crate) sends: &'a [u8],
    /// It shuts its connection down behind what it sends.
    pub(crate) ends: bool,
    /// How much of it may be sent when so much was received: all, unless it waits for something.
    pub(crate) may: &'a dyn Fn(&[u8]) -> usize,
}

impl<'a> Client<'a> {
    pub(crate) fn of(sends: &'a [u8]) -> Self {
        Self { sends, ends: false, may: &|_| usize::MAX }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// By connection.
    pub(crate) upstream: Vec<Vec<u8>>,
    pub(crate) client: Vec<u8>,
    pub(crate) closed: Option<Close>,
    /// Of the client's bytes.
    pub(crate) read: usize,
    pub(crate) finished_client: bool,
    pub(crate) pooled: usize,
}

/// Of one upstream connection.
#[derive(Default)]
struct Upstream {
    connection: usize,
    sent: usize,
    finished: bool,
}

pub(crate) struct Sim<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) answers: Answers<'a>,
    pub(crate) route: Arc<Route>,
    pub(crate) draws: Draws,
    /// The most bytes that go at once; without bound all go that are there.
    pub(crate) piece: usize,
    pub(crate) now: Time,
    /// What an upstream that waits in the pool is told of, so that it can be used again.
    pooled: Option<Upstream>,
    open: Option<Upstream>,
    client_ended: bool,
    seen: Seen,
    /// What was said when so much was heard.
    last: RefCell<((usize, usize, bool), Rc<Said>)>,
}

pub(crate) fn peer() -> Peer {
    Peer { client: ([10, 1, 2, 3], 4567).into(), local: ([127, 64, 0, 9], 80).into() }
}

impl<'a> Sim<'a> {
    pub(crate) fn new(client: Client<'a>, answers: Answers<'a>, seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let piece = [1, 2, 7, 100, 5000, usize::MAX][(draws.draw() % 6) as usize];
        Self {
            client,
            answers,
            route: Arc::new(route(&Arc::default())),
            draws,
            piece,
            now: Time::ORIGIN,
            pooled: None,
            open: None,
            client_ended: false,
            seen: Seen::default(),
            last: RefCell::new(((usize::MAX, 0, false), Rc::default())),
        }
    }

    /// Until nothing happens any more. Time goes by only where nothing else does, if `late`.
    pub(crate) fn run(mut self, late: bool) -> Seen {
        let route = Arc::clone(&self.route);
        let mut chance = self.draws.clone();
        let mut exchange =
            Exchange::new(peer(), &Context { now: self.now, draws: &mut chance, route: &route });
        for _ in 0..2_000_000 {
            let draw = self.draws.draw();
            let may = self.may();
            let now = if draw.is_multiple_of(3) { may } else { some(may, draw >> 8) };
            let mut cx = Context { now: self.now, draws: &mut chance, route: &route };
            let action = exchange.next(now, &cx);
            if let (Action::Read(Side::Client), true) = (action, exchange.is_idle()) {
                exchange.begin(Box::new(Work::new(Limits::default())));
            }
            if let Action::Wait = action {
                drop(exchange.rest());
                if now != may {
                    continue;
                }
                let due = exchange.deadline();
                if !late || self.seen.closed.is_some() || due == Time::NEVER {
                    return self.seen;
                }
                self.now = due;
                cx.now = due;
                exchange.on(Event::Timer, &mut cx);
                continue;
            }
            if let Some(event) = self.act(action, &mut exchange) {
                exchange.on(event, &mut cx);
            }
        }
        panic!("it never ends: {:?}", self.seen);
    }

    fn said(&self, upstream: &Upstream) -> Rc<Said> {
        let heard = &self.seen.upstream[upstream.connection];
        let Upstream { connection, finished, .. } = *upstream;
        let now = (connection, heard.len(), finished);
        let mut last = self.last.borrow_mut();
        if last.0 != now {
            let said = (self.answers)(&Told { connection, heard, ended: finished });
            *last = (now, Rc::new(said));
        }
        Rc::clone(&last.1)
    }

    fn may_send(&self) -> usize {
        (self.client.may)(&self.seen.client).min(self.client.sends.len())
    }

    fn may(&self) -> Ready {
        let all = self.seen.read == self.client.sends.len();
        let upstream_readable = self.open.as_ref().is_some_and(|upstream| {
            let said = self.said(upstream);
            upstream.sent < said.bytes.len() || said.end != End::Open
        });
        Ready {
            client_readable: self.seen.read < self.may_send()
                || (all && self.client.ends && !self.client_ended),
            client_writable: true,
            upstream_readable,
            upstream_writable: self.open.is_some(),
        }
    }

    fn piece(&mut self, most: usize) -> usize {
        if self.piece == usize::MAX {
            return most;
        }
        let piece = self.piece.min(most);
        1 + (self.draws.draw() % piece as u64) as usize
    }

    fn act(&mut self, action: Action, exchange: &mut Exchange) -> Option<Event> {
        match action {
            Action::Read(Side::Client) => Some(self.read_client(exchange)),
            Action::Read(Side::Upstream) => Some(self.read_upstream(exchange)),
            Action::Write(side) => {
                let all: Vec<u8> = exchange.parts(side).flatten().copied().collect();
                assert!(!all.is_empty(), "there is something to write");
                let bytes = self.piece(all.len());
                match side {
                    Side::Client => self.seen.client.extend(&all[..bytes]),
                    Side::Upstream => {
                        let upstream = self.open.as_ref().unwrap();
                        if self.said(upstream).end == End::Reset {
                            return Some(Event::Unwritable(side));
                        }
                        self.seen.upstream[upstream.connection].extend(&all[..bytes]);
                    }
                }
                Some(Event::Wrote(side, bytes))
            }
            Action::Connect { fresh, .. } => Some(self.connect(fresh)),
            Action::Pool => {
                self.seen.pooled += 1;
                self.pooled = self.open.take();
                assert!(self.pooled.is_some());
                None
            }
            Action::Close(Side::Upstream, _) => {
                self.open = None;
                None
            }
            Action::Close(Side::Client, how) => {
                assert!(self.open.is_none(), "the upstream goes first");
                self.seen.closed = Some(how);
                None
            }
            Action::Finish(Side::Client) => {
                self.seen.finished_client = true;
                None
            }
            Action::Finish(Side::Upstream) => {
                self.open.as_mut().unwrap().finished = true;
                None
            }
            Action::Wait => None,
        }
    }

    fn read_client(&mut self, exchange: &mut Exchange) -> Event {
        let left = self.may_send() - self.seen.read;
        if left == 0 {
            self.client_ended = true;
            return Event::Ended(Side::Client);
        }
        let bytes = self.piece(left);
        let space = exchange.space(Side::Client);
        let bytes = bytes.min(space.len());
        assert!(bytes > 0, "there is space");
        let read = self.seen.read;
        space[..bytes].copy_from_slice(&self.client.sends[read..read + bytes]);
        self.seen.read += bytes;
        Event::Received(Side::Client, bytes)
    }

    fn read_upstream(&mut self, exchange: &mut Exchange) -> Event {
        let upstream = self.open.as_ref().unwrap();
        let said = self.said(upstream);
        let sent = upstream.sent;
        if sent == said.bytes.len() {
            return match said.end {
                End::Reset => Event::Broke(Side::Upstream),
                _ => Event::Ended(Side::Upstream),
            };
        }
        let bytes = self.piece(said.bytes.len() - sent);
        let space = exchange.space(Side::Upstream);
        let bytes = bytes.min(space.len());
        assert!(bytes > 0, "there is space");
        space[..bytes].copy_from_slice(&said.bytes[sent..sent + bytes]);
        self.open.as_mut().unwrap().sent += bytes;
        Event::Received(Side::Upstream, bytes)
    }

    fn connect(&mut self, fresh: bool) -> Event {
        assert!(self.open.is_none(), "one at a time");
        // One that has more to say than it was asked is not kept.
        let clean = |pooled: &Upstream| pooled.sent == self.said(pooled).bytes.len();
        let clean = self.pooled.as_ref().is_some_and(clean);
        if let Some(pooled) = self.pooled.take_if(|_| !fresh && clean) {
            self.open = Some(pooled);
            return Event::Connected { reused: true };
        }
        let connection = self.seen.upstream.len();
        self.seen.upstream.push(Vec::new());
        let upstream = Upstream { connection, ..Upstream::default() };
        if self.said(&upstream).end == End::Refuses {
            return Event::NotConnected;
        }
        self.open = Some(upstream);
        Event::Connected { reused: false }
    }
}

fn some(may: Ready, draw: u64) -> Ready {
    Ready {
        client_readable: may.client_readable && draw & 1 > 0,
        client_writable: may.client_writable && draw & 2 > 0,
        upstream_readable: may.upstream_readable && draw & 4 > 0,
        upstream_writable: may.upstream_writable && draw & 8 > 0,
    }
}

/// What an upstream says at once.
pub(crate) fn says(bytes: impl Into<Vec<u8>>) -> Said {
    Said { bytes: bytes.into(), end: End::Open }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
