//! Exchanges over sockets: one thread a processor, each with a listener and connections of its own.
//!
//! Nothing is shared on the way of a request but the rules of its route. A thread waits in one
//! place ([epoll](rustix::event::epoll), told of each change once), does what can be done, and goes
//! on to the next connection after a while, whatever is left. What an exchange does not want to
//! read stays in the kernel, where it slows the sender down.

mod pool;
mod slab;
mod socket;
mod wheel;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::event::{EventfdFlags, eventfd};
use sinew_http::Limits;
use sinew_resilience::{Clock, Time};

use crate::route::Route;
use worker::Worker;

/// How an [`Engine`] runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it listens; port 0: any that is free.
    pub listen: SocketAddr,
    /// Threads: as many as there are processors for it.
    pub threads: usize,
    /// Clients of a thread. Others wait to be accepted.
    pub connections: usize,
    /// Clients of a thread that wait to be accepted; more are turned away by the kernel.
    pub backlog: i32,
    /// Of heads.
    pub limits: Limits,
}

impl Options {
    /// At this address, with one thread and the usual bounds.
    #[must_use]
    pub fn at(listen: SocketAddr) -> Self {
        Self { listen, threads: 1, connections: 10_000, backlog: 1024, limits: Limits::default() }
    }
}

/// What a thread tells of itself.
#[derive(Debug, Default)]
struct Told {
    beat_ns: AtomicU64,
    connections: AtomicUsize,
    working: AtomicUsize,
    pooled: AtomicUsize,
}

/// What the threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Runs,
    Drains,
    Ends,
}

#[derive(Debug)]
struct Shared {
    route: ArcSwap<Route>,
    phase: AtomicU8,
    clock: Clock,
    options: Options,
}

impl Shared {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Runs,
            1 => Phase::Drains,
            _ => Phase::Ends,
        }
    }
}

#[derive(Debug)]
struct Thread {
    told: Arc<Told>,
    wake: Arc<OwnedFd>,
    handle: Option<JoinHandle<()>>,
}

/// What an [`Engine`] has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Clients that are connected.
    pub connections: usize,
    /// Those of them that have a request under way, and buffers for it.
    pub working: usize,
    /// Connections to upstreams that wait for a request.
    pub pooled: usize,
    /// How long ago the slowest thread was seen to go on. A thread without anything to do goes on
    /// ten times a second.
    pub slowest_beat: Duration,
}

/// A proxy that runs. Dropped, it ends at once.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    address: SocketAddr,
}

impl Engine {
    /// Listens, and sends requests on by this route.
    ///
    /// # Errors
    /// The address cannot be listened at, or no thread can be started.
    pub fn start(options: &Options, route: Arc<Route>) -> io::Result<Self> {
        let mut options = *options;
        let mut listeners = Vec::new();
        for _ in 0..options.threads.max(1) {
            let listener = socket::listen(&options.listen, options.backlog)?;
            // Where any port was asked for, all of them listen at the first one's.
            options.listen = rustix::net::getsockname(&listener)?.try_into()?;
            listeners.push(listener);
        }
        let route = ArcSwap::from(route);
        let shared = Shared { route, phase: AtomicU8::new(0), clock: Clock::start(), options };
        let shared = Arc::new(shared);
        let mut engine =
            Self { shared: Arc::clone(&shared), threads: Vec::new(), address: options.listen };
        for (number, listener) in listeners.into_iter().enumerate() {
            let told = Arc::<Told>::default();
            let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
            let worker =
                Worker::new(Arc::clone(&shared), Arc::clone(&told), listener, Arc::clone(&wake))?;
            let named = std::thread::Builder::new().name(format!("proxy-{number}"));
            let handle = named.spawn(move || worker.run())?;
            engine.threads.push(Thread { told, wake, handle: Some(handle) });
        }
        Ok(engine)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that begin from now on go by this route.
    pub fn set_route(&self, route: Arc<Route>) {
        self.shared.route.store(route);
    }

    /// What it has to do.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = self.shared.clock.now();
        let mut status = Status::default();
        for Thread { told, .. } in &self.threads {
            let beat = Time::from_ns(told.beat_ns.load(Ordering::Relaxed));
            status.connections += told.connections.load(Ordering::Relaxed);
            status.working += told.working.load(Ordering::Relaxed);
            status.pooled += told.pooled.load(Ordering::Relaxed);
            status.slowest_beat = status.slowest_beat.max(now - beat);
        }
        status
    }

    /// Accepts nobody any more. Requests that are under way are answered, and their connections
    /// closed; then the threads end.
    pub fn drain(&self) {
        self.tell(Phase::Drains);
    }

    /// Whether all threads have ended.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.threads.iter().all(|thread| thread.handle.as_ref().is_none_or(JoinHandle::is_finished))
    }

    /// Waits until the threads have ended. Without [`drain`](Self::drain) that is never.
    pub fn join(mut self) {
        self.join_all();
    }

    fn tell(&self, phase: Phase) {
        self.shared.phase.fetch_max(phase as u8, Ordering::Release);
        for thread in &self.threads {
            // It fails where it has been told often enough already.
            let _ = rustix::io::write(&*thread.wake, &1_u64.to_ne_bytes());
        }
    }

    fn join_all(&mut self) {
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // One that has panicked has ended too, and has said why.
                let _ = handle.join();
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.tell(Phase::Ends);
        self.join_all();
    }
}
