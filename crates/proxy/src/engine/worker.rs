//! One thread: it waits, and does what its connections can do.

mod drive;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::Cache;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use sinew_resilience::Time;
use sinew_resilience::draw::Draws;

use super::pool::Pool;
use super::slab::{Key, Slab};
use super::socket::{self, Socket};
use super::wheel::Wheel;
use super::{Phase, Shared, Told};
use crate::exchange::{Context, Event, Exchange, Peer, Side, Work};
use crate::route::Route;
use drive::{Client, Upstream};

/// Of what the kernel tells at once.
const EVENTS: usize = 256;
/// Clients that are accepted at once, before others get their turn.
const ACCEPTS: usize = 64;
/// How often a thread without anything to do shows that it lives.
const BEAT: Duration = Duration::from_millis(100);
/// How long nobody is accepted when the process can open no more.
const REST: Duration = Duration::from_millis(100);
/// Works that are kept for the next requests: 32 KiB each, or up to 128 KiB.
const KEPT: usize = 256;

const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
/// Tells an upstream's key from a client's.
const UPSTREAM: u64 = 1 << 63;

fn token(key: Key, kind: u64) -> u64 {
    kind | u64::from(key.generation) << 32 | u64::from(key.place)
}

fn key(token: u64) -> Key {
    Key { place: token as u32, generation: (token >> 32) as u32 & Key::GENERATIONS }
}

/// Told of each change once.
const CHANGES: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

pub(super) struct Worker {
    shared: Arc<Shared>,
    told: Arc<Told>,
    epoll: OwnedFd,
    listener: Option<OwnedFd>,
    /// Whether the listener is waited for; until when it is not, where the process was full.
    accepts: bool,
    /// Somebody waits to be accepted.
    knocks: bool,
    rests_until: Option<Time>,
    wake: Arc<OwnedFd>,
    phase: Phase,
    now: Time,
    draws: Draws,
    clients: Slab<Box<Client>>,
    upstreams: Slab<Upstream>,
    pool: Pool,
    #[expect(clippy::vec_box, reason = "they are handed over as they are")]
    works: Vec<Box<Work>>,
    working: usize,
    wheel: Wheel<Key>,
    /// Those that had more to do than one turn allows.
    again: Vec<Key>,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        told: Arc<Told>,
        listener: OwnedFd,
        wake: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let now = shared.clock.now();
        told.beat_ns.store(now.as_ns(), Ordering::Relaxed);
        let mut seed = [0; 8];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        Ok(Self {
            shared,
            told,
            epoll,
            listener: Some(listener),
            accepts: true,
            knocks: false,
            rests_until: None,
            wake,
            phase: Phase::Runs,
            now,
            draws: Draws::new(u64::from_ne_bytes(seed)),
            clients: Slab::new(),
            upstreams: Slab::new(),
            pool: Pool::default(),
            works: Vec::new(),
            working: 0,
            wheel: Wheel::new(now),
            again: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut routes = Cache::new(&shared.route);
        let mut events = Vec::with_capacity(EVENTS);
        let (mut due, mut swept) = (Vec::new(), self.now);
        loop {
            self.beat();
            let idle = self.clients.len() == 0;
            if self.phase == Phase::Ends || (self.phase == Phase::Drains && idle) {
                return;
            }
            events.clear();
            let timeout = self.timeout();
            // What is wrong with a wait is wrong with its arguments, but for signals.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout));
            self.now = shared.clock.now();
            let route = Arc::clone(routes.load());
            for epoll::Event { flags, data } in events.drain(..) {
                self.event(data.u64(), flags, &route);
            }
            for key in std::mem::take(&mut self.again) {
                self.drive(key, None, &route);
            }
            self.wheel.expire(self.now, &mut due);
            for key in due.drain(..) {
                self.timer(key, &route);
            }
            if self.now - swept >= Duration::from_secs(1) {
                swept = self.now;
                let old = self.pool.old(self.now);
                old.into_iter().for_each(|key| drop(self.upstreams.remove(key)));
            }
            self.accept(&route);
        }
    }

    /// It goes on, and with how much.
    fn beat(&self) {
        let Told { beat_ns, connections, working, pooled } = &*self.told;
        beat_ns.store(self.now.as_ns(), Ordering::Relaxed);
        connections.store(self.clients.len(), Ordering::Relaxed);
        working.store(self.working, Ordering::Relaxed);
        pooled.store(self.pool.len(), Ordering::Relaxed);
    }

    fn timeout(&self) -> Timespec {
        let wait = if self.again.is_empty() {
            self.wheel.next(self.now).map_or(BEAT, |next| next.min(BEAT))
        } else {
            Duration::ZERO
        };
        Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) }
    }

    fn event(&mut self, token: u64, flags: EventFlags, route: &Arc<Route>) {
        let broken = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        let change = |socket: &mut Socket| {
            socket.ended |= broken || flags.contains(EventFlags::RDHUP);
            socket.readable |= socket.ended || flags.contains(EventFlags::IN);
            socket.writable |= broken || flags.contains(EventFlags::OUT);
        };
        match token {
            LISTENER => self.knocks = true,
            WAKE => self.woken(route),
            _ if token & UPSTREAM == 0 => {
                let key = key(token);
                let Some(client) = self.clients.get(key) else { return };
                change(&mut client.socket);
                // Nothing can be written to one that is gone, and what it still sent is of no use.
                let gone = broken && !client.finished;
                self.drive(key, gone.then_some(Event::Broke(Side::Client)), route);
            }
            _ => {
                let key = key(token);
                let Some(upstream) = self.upstreams.get(key) else { return };
                change(&mut upstream.socket);
                match upstream.owner {
                    Some(owner) => {
                        let event =
                            std::mem::take(&mut upstream.connecting).then(|| {
                                match upstream.socket.is_connected() {
                                    true => Event::Connected { reused: false },
                                    false => Event::NotConnected,
                                }
                            });
                        self.drive(owner, event, route);
                    }
                    None if upstream.socket.readable => {
                        // It has nothing to say that was asked for: it is closing, mostly.
                        let address = upstream.address;
                        self.pool.forget(&address, key);
                        self.upstreams.remove(key);
                    }
                    None => {}
                }
            }
        }
    }

    /// Somebody wants something else.
    fn woken(&mut self, route: &Arc<Route>) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.wake, &mut count);
        let phase = self.shared.phase();
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        // Who has been accepted by the kernel is not turned away.
        while let (true, Some(listener)) = (phase == Phase::Drains, &self.listener) {
            match socket::accept(listener) {
                Ok(Some((fd, client, local))) => self.add(fd, Peer { client, local }, route),
                _ => break,
            }
        }
        self.listener = None;
        for key in self.clients.keys() {
            self.drive(key, Some(Event::Drain), route);
        }
    }

    fn timer(&mut self, key: Key, route: &Arc<Route>) {
        let Some(client) = self.clients.get(key) else { return };
        if self.now >= client.armed {
            client.armed = Time::NEVER;
            self.drive(key, Some(Event::Timer), route);
        }
    }

    /// Clients that wait, but for those that are too many.
    fn accept(&mut self, route: &Arc<Route>) {
        let full = self.clients.len() >= self.shared.options.connections;
        let rests = self.rests_until.is_some_and(|until| self.now < until);
        self.wait_for_clients(!full && !rests);
        for _ in 0..ACCEPTS {
            if !self.accepts
                || !self.knocks
                || self.clients.len() >= self.shared.options.connections
            {
                return;
            }
            let Some(listener) = &self.listener else { return };
            match socket::accept(listener) {
                Ok(Some((fd, client, local))) => self.add(fd, Peer { client, local }, route),
                Ok(None) => self.knocks = false,
                // Mostly the process has as many files as it may have.
                Err(_) => {
                    self.rests_until = Some(self.now + REST);
                    return self.wait_for_clients(false);
                }
            }
        }
    }

    fn wait_for_clients(&mut self, wait: bool) {
        let Some(listener) = self.listener.as_ref().filter(|_| wait != self.accepts) else {
            return;
        };
        let changed = if wait {
            epoll::add(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)
        } else {
            epoll::delete(&self.epoll, listener)
        };
        if changed.is_ok() {
            self.accepts = wait;
        }
    }

    fn add(&mut self, fd: OwnedFd, peer: Peer, route: &Arc<Route>) {
        let cx = Context { now: self.now, draws: &mut self.draws, route };
        let client = Box::new(Client::new(Socket::new(fd), Exchange::new(peer, &cx)));
        let key = self.clients.insert(client);
        let Some(client) = self.clients.get(key) else { return };
        let data = EventData::new_u64(token(key, 0));
        if epoll::add(&self.epoll, &client.socket.fd, data, CHANGES).is_err() {
            self.clients.remove(key);
            return;
        }
        let event = (self.phase == Phase::Drains).then_some(Event::Drain);
        self.drive(key, event, route);
    }
}
