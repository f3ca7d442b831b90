//! Short connections begun at a fixed rate, whatever becomes of those begun before.
//!
//! A closed loop stops asking when a server hangs and so hides how often it would have been
//! chosen; this client goes on. It tells what was begun when, so that events can be laid beside.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use super::{MESSAGE_BYTES, now_ns};

/// Options of `xtask internal load open`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    /// Connections begun a second
    #[arg(long)]
    rate: u32,
    #[arg(long)]
    milliseconds: u64,
    /// Give a connection up after this long
    #[arg(long, default_value_t = 100)]
    patience_ms: u64,
}

/// What the client found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// `CLOCK_MONOTONIC` at the start.
    pub(crate) start_ns: u64,
    /// Connections begun, by slice of time.
    pub(crate) begun: Vec<u32>,
    /// Of these, the ones that got no response in time.
    pub(crate) unanswered: Vec<u32>,
    /// Of these, the ones that failed otherwise.
    pub(crate) failed: Vec<u32>,
}

/// What became of connections begun in some time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) begun: u64,
    /// Without an answer in time, or otherwise.
    pub(crate) failed: u64,
}

impl Found {
    /// Those begun within `first` after that moment, and those begun later.
    pub(crate) fn since(&self, moment_ns: u64, first: Duration) -> (Sum, Sum) {
        let mut sums = (Sum::default(), Sum::default());
        for slice in 0..self.begun.len() {
            let at_ns = self.start_ns + (SLICE * slice as u32).as_nanos() as u64;
            let Some(after_ns) = at_ns.checked_sub(moment_ns) else { continue };
            let sum =
                if u128::from(after_ns) < first.as_nanos() { &mut sums.0 } else { &mut sums.1 };
            sum.begun += u64::from(self.begun[slice]);
            sum.failed += u64::from(self.unanswered[slice]) + u64::from(self.failed[slice]);
        }
        sums
    }
}

/// Length of a slice of time.
pub(crate) const SLICE: Duration = Duration::from_millis(10);
/// So many begun in one go at most, when the client fell behind.
const BURST: usize = 16;

/// Runs the client.
pub(crate) fn run(args: &Args) -> Result<Found> {
    let target = super::first_address(&args.target)?;
    let length = Duration::from_millis(args.milliseconds);
    let patience = Duration::from_millis(args.patience_ms);
    let mut client = Client::new(target, length, patience)?;
    let mut begun = 0_u64;
    loop {
        let elapsed = client.start.elapsed();
        if elapsed >= length && client.open.is_empty() {
            return Ok(client.found);
        }
        let due = (elapsed.min(length).as_secs_f64() * f64::from(args.rate)) as u64;
        for _ in 0..due.saturating_sub(begun).min(BURST as u64) {
            client.begin();
            begun += 1;
        }
        client.progress(if begun < due { Duration::ZERO } else { Duration::from_millis(1) })?;
        client.give_up();
    }
}

struct Client {
    target: SocketAddr,
    patience: Duration,
    epoll: OwnedFd,
    start: Instant,
    /// By the number of its descriptor.
    connections: Vec<Option<Connection>>,
    /// Begun and perhaps not over yet, oldest first.
    open: VecDeque<(usize, Instant)>,
    found: Found,
}

struct Connection {
    socket: OwnedFd,
    begun: Instant,
    asked: bool,
}

impl Client {
    fn new(target: SocketAddr, length: Duration, patience: Duration) -> Result<Self> {
        let slices = length.as_millis().div_ceil(SLICE.as_millis()) as usize + 1;
        let found = Found {
            start_ns: now_ns(),
            begun: vec![0; slices],
            unanswered: vec![0; slices],
            failed: vec![0; slices],
        };
        Ok(Self {
            target,
            patience,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            start: Instant::now(),
            connections: Vec::new(),
            open: VecDeque::new(),
            found,
        })
    }

    fn begin(&mut self) {
        let begun = Instant::now();
        let slice = self.slice(begun);
        self.found.begun[slice] += 1;
        let Ok(socket) = self.connect() else {
            self.found.failed[slice] += 1;
            return;
        };
        let number = socket.as_raw_fd() as usize;
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        self.connections[number] = Some(Connection { socket, begun, asked: false });
        self.open.push_back((number, begun));
    }

    fn connect(&self) -> io::Result<OwnedFd> {
        let family = match self.target {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        net::sockopt::set_tcp_nodelay(&socket, true)?;
        match net::connect(&socket, &self.target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let data = epoll::EventData::new_u64(socket.as_raw_fd() as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::OUT)?;
        Ok(socket)
    }

    fn progress(&mut self, wait: Duration) -> Result<()> {
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut events = Vec::with_capacity(256);
        let buffer = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, buffer, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            self.advance(event.data.u64() as usize);
        }
        Ok(())
    }

    fn advance(&mut self, number: usize) {
        let Some(connection) = self.connections.get_mut(number).and_then(Option::as_mut) else {
            return;
        };
        let begun = connection.begun;
        let step = if connection.asked { hear(connection) } else { ask(&self.epoll, connection) };
        if let Ok(Step::Waits) = step {
            return;
        }
        self.connections[number] = None;
        if step.is_err() {
            let slice = self.slice(begun);
            self.found.failed[slice] += 1;
        }
    }

    /// Closes what has waited too long.
    fn give_up(&mut self) {
        while let Some(&(number, begun)) = self.open.front() {
            let slot = self.connections.get_mut(number);
            // The descriptor's number may have gone to a younger connection.
            let same = slot.filter(|slot| slot.as_ref().is_some_and(|open| open.begun == begun));
            if let Some(slot) = same {
                if begun.elapsed() < self.patience {
                    return;
                }
                *slot = None;
                let slice = self.slice(begun);
                self.found.unanswered[slice] += 1;
            }
            self.open.pop_front();
        }
    }

    fn slice(&self, begun: Instant) -> usize {
        let slice = begun.duration_since(self.start).as_nanos() / SLICE.as_nanos();
        (slice as usize).min(self.found.begun.len() - 1)
    }
}

enum Step {
    Waits,
    Over,
}

fn ask(epoll: &OwnedFd, connection: &mut Connection) -> io::Result<Step> {
    net::sockopt::socket_error(&connection.socket)??;
    rustix::io::write(&connection.socket, &[7; MESSAGE_BYTES])?;
    connection.asked = true;
    let data = epoll::EventData::new_u64(connection.socket.as_raw_fd() as u64);
    epoll::modify(epoll, &connection.socket, data, epoll::EventFlags::IN)?;
    Ok(Step::Waits)
}

fn hear(connection: &Connection) -> io::Result<Step> {
    match rustix::io::read(&connection.socket, &mut [0; MESSAGE_BYTES]) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Ok(Step::Over),
        Err(Errno::AGAIN) => Ok(Step::Waits),
        Err(error) => Err(error.into()),
    }
}
