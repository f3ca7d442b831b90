//! Does what exchanges say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, EventData};
use sinew_http::connection::Close;
use sinew_resilience::Time;

use super::{CHANGES, KEPT, Key, UPSTREAM, Worker, token};
use crate::engine::socket::{self, Read, Socket, Wrote};
use crate::exchange::{Action, Context, Event, Exchange, Ready, Side, Work};
use crate::route::Route;

/// What one connection may do before others get their turn.
const TURN: usize = 64;
/// How long the rest of what a client sends is read, so that it can read the answer.
const LINGER: Duration = Duration::from_secs(2);
/// How much of it.
const LINGER_READS: u32 = 64;

pub(super) struct Client {
    pub(super) socket: Socket,
    exchange: Exchange,
    upstream: Option<Key>,
    /// When its timer fires.
    pub(super) armed: Time,
    /// It was told that nothing follows, so that its end is none of a broken connection.
    pub(super) finished: bool,
    /// Nothing is done any more but to read, until then.
    lingers: Option<(Time, u32)>,
}

pub(super) struct Upstream {
    pub(super) socket: Socket,
    pub(super) address: SocketAddr,
    /// Whose request it carries; it is in the pool without.
    pub(super) owner: Option<Key>,
    pub(super) connecting: bool,
}

impl Client {
    pub(super) fn new(socket: Socket, exchange: Exchange) -> Self {
        let (upstream, armed, finished) = (None, Time::NEVER, false);
        Self { socket, exchange, upstream, armed, finished, lingers: None }
    }
}

/// What is to be done with a client after one action.
enum Then {
    Tell(Event),
    GoOn,
    Wait,
    Gone,
}

impl Worker {
    /// Tells an exchange what happened, and does what it says until it waits.
    pub(super) fn drive(&mut self, key: Key, event: Option<Event>, route: &Arc<Route>) {
        // Its place stays its own: nobody else gets the key meanwhile.
        let Some(mut client) = self.clients.take(key) else { return };
        let stays = match client.lingers {
            Some(_) => self.linger(&mut client),
            None => self.exchange(key, &mut client, event, route),
        };
        if !stays {
            self.close_upstream(&mut client);
            self.clients.remove(key);
            return;
        }
        let due = client.lingers.map_or(client.exchange.deadline(), |(until, _)| until);
        if due < client.armed {
            client.armed = self.wheel.arm(key, due);
        }
        self.clients.put(key, client);
    }

    fn exchange(
        &mut self,
        key: Key,
        client: &mut Client,
        event: Option<Event>,
        route: &Arc<Route>,
    ) -> bool {
        let mut event = event;
        for _ in 0..TURN {
            let mut cx = Context { now: self.now, draws: &mut self.draws, route };
            if let Some(event) = event.take() {
                client.exchange.on(event, &mut cx);
            }
            let upstream = client.upstream.and_then(|key| self.upstreams.get(key));
            let ready = ready(&client.socket, upstream.map(|upstream| &upstream.socket));
            let action = client.exchange.next(ready, &cx);
            match self.act(key, client, action) {
                Then::Tell(told) => event = Some(told),
                Then::GoOn => {}
                Then::Wait => {
                    self.rest(client);
                    return true;
                }
                Then::Gone => {
                    self.rest(client);
                    return client.lingers.is_some();
                }
            }
        }
        if let Some(event) = event {
            let mut cx = Context { now: self.now, draws: &mut self.draws, route };
            client.exchange.on(event, &mut cx);
        }
        self.again.push(key);
        true
    }

    fn act(&mut self, key: Key, client: &mut Client, action: Action) -> Then {
        match action {
            Action::Wait => Then::Wait,
            Action::Read(side) => self.read(client, side),
            Action::Write(side) => self.write(client, side),
            Action::Connect { backend, fresh } => {
                self.connect(key, client, &backend.address, fresh)
            }
            Action::Pool => {
                self.keep_upstream(client);
                Then::GoOn
            }
            Action::Finish(Side::Client) => {
                client.finished = true;
                client.socket.finish();
                Then::GoOn
            }
            Action::Finish(Side::Upstream) => {
                if let Some(upstream) = client.upstream.and_then(|key| self.upstreams.get(key)) {
                    upstream.socket.finish();
                }
                Then::GoOn
            }
            Action::Close(Side::Upstream, _) => {
                self.close_upstream(client);
                Then::GoOn
            }
            Action::Close(Side::Client, how) => {
                self.close_client(client, how);
                Then::Gone
            }
        }
    }

    fn read(&mut self, client: &mut Client, side: Side) -> Then {
        if client.exchange.is_idle() {
            let limits = self.shared.options.limits;
            let work = self.works.pop().unwrap_or_else(|| Box::new(Work::new(limits)));
            self.working += 1;
            client.exchange.begin(work);
        }
        let upstream = client.upstream.and_then(|key| self.upstreams.get(key));
        let upstream = upstream.map(|upstream| &mut upstream.socket);
        let Some(socket) = of_side(side, &mut client.socket, upstream) else { return Then::Wait };
        match socket.read(client.exchange.space(side)) {
            Read::Some(bytes) => Then::Tell(Event::Received(side, bytes)),
            Read::End => Then::Tell(Event::Ended(side)),
            Read::Nothing => Then::GoOn,
            Read::Broken => Then::Tell(Event::Broke(side)),
        }
    }

    fn write(&mut self, client: &mut Client, side: Side) -> Then {
        let upstream = client.upstream.and_then(|key| self.upstreams.get(key));
        let upstream = upstream.map(|upstream| &mut upstream.socket);
        let Some(socket) = of_side(side, &mut client.socket, upstream) else { return Then::Wait };
        match socket.write(client.exchange.parts(side)) {
            Wrote::Some(bytes) => Then::Tell(Event::Wrote(side, bytes)),
            Wrote::Nothing => Then::GoOn,
            Wrote::Broken => Then::Tell(Event::Unwritable(side)),
        }
    }

    fn connect(
        &mut self,
        owner: Key,
        client: &mut Client,
        address: &SocketAddr,
        fresh: bool,
    ) -> Then {
        let pooled = if fresh { None } else { self.pool.take(address) };
        if let Some((key, upstream)) =
            pooled.and_then(|key| self.upstreams.get(key).map(|upstream| (key, upstream)))
        {
            upstream.owner = Some(owner);
            client.upstream = Some(key);
            return Then::Tell(Event::Connected { reused: true });
        }
        let Ok(fd) = socket::connect(address) else { return Then::Tell(Event::NotConnected) };
        let key = self.upstreams.insert(Upstream {
            socket: Socket::new(fd),
            address: *address,
            owner: Some(owner),
            connecting: true,
        });
        let data = EventData::new_u64(token(key, UPSTREAM));
        let added = self.upstreams.get(key).is_some_and(|upstream| {
            epoll::add(&self.epoll, &upstream.socket.fd, data, CHANGES).is_ok()
        });
        if !added {
            self.upstreams.remove(key);
            return Then::Tell(Event::NotConnected);
        }
        client.upstream = Some(key);
        Then::GoOn
    }

    fn keep_upstream(&mut self, client: &mut Client) {
        let Some(key) = client.upstream.take() else { return };
        let Some(upstream) = self.upstreams.get(key) else { return };
        // There is more to read than was asked for, or its end.
        if upstream.socket.readable {
            self.upstreams.remove(key);
            return;
        }
        upstream.owner = None;
        let address = upstream.address;
        if let Some(goes) = self.pool.put(address, key, self.now) {
            self.upstreams.remove(goes);
        }
    }

    fn close_upstream(&mut self, client: &mut Client) {
        if let Some(key) = client.upstream.take() {
            self.upstreams.remove(key);
        }
    }

    fn close_client(&mut self, client: &mut Client, how: Close) {
        match how {
            Close::Reset => client.socket.reset_on_close(),
            // Closed with something unread, the kernel resets it, and the answer is lost with it.
            Close::Now if !client.socket.readable || client.socket.ended => {}
            Close::Now | Close::Linger => {
                client.socket.finish();
                client.lingers = Some((self.now + LINGER, 0));
                // What is there already is not told again.
                client.socket.readable = true;
                if !self.linger(client) {
                    client.lingers = None;
                }
            }
        }
    }

    /// Drops what a client still sends. Whether it goes on.
    fn linger(&mut self, client: &mut Client) -> bool {
        let Some((until, reads)) = &mut client.lingers else { return false };
        let mut space = [0; 4096];
        while client.socket.readable && *reads < LINGER_READS {
            *reads += 1;
            match client.socket.read(&mut space) {
                Read::Some(_) | Read::Nothing => {}
                Read::End | Read::Broken => return false,
            }
        }
        *reads < LINGER_READS && self.now < *until
    }

    /// A client without a request keeps no buffers.
    fn rest(&mut self, client: &mut Client) {
        if let Some(work) = client.exchange.rest() {
            self.working -= 1;
            if self.works.len() < KEPT {
                self.works.push(work);
            }
        }
    }
}

fn ready(client: &Socket, upstream: Option<&Socket>) -> Ready {
    Ready {
        client_readable: client.readable,
        client_writable: client.writable,
        upstream_readable: upstream.is_some_and(|socket| socket.readable),
        upstream_writable: upstream.is_some_and(|socket| socket.writable),
    }
}

/// The socket on one side; an upstream may not be there.
const fn of_side<'a>(
    side: Side,
    client: &'a mut Socket,
    upstream: Option<&'a mut Socket>,
) -> Option<&'a mut Socket> {
    match side {
        Side::Client => Some(client),
        Side::Upstream => upstream,
    }
}
