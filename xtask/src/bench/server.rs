//! The server of every bench: answers each request with the same bytes, at once unless the
//! request asks for something else.

pub(crate) mod last_words;

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, SocketFlags};
use rustix::time::Timespec;

use super::load::{MESSAGE_BYTES, now_ns};
use super::prompt::Prompt;

/// Options of `xtask internal server`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address to listen on
    listen: SocketAddr,
    /// Write to a file of this directory when it listened and when it was first connected to
    #[arg(long)]
    times: Option<PathBuf>,
    /// Write to a file of this directory when it listened, at once
    #[arg(long, conflicts_with = "times")]
    listened: Option<PathBuf>,
    /// On SIGUSR1, write to a file of this directory when it is, and die
    #[arg(long)]
    last_words: Option<PathBuf>,
}

/// The first byte of a request says how it wants to be answered; any other: with itself, at once.
pub(crate) mod request {
    /// After [`super::LONG_POLL`].
    pub(crate) const LATE: u8 = b'L';
    /// Not at all.
    pub(crate) const NEVER: u8 = b'N';
    /// With the number of the server's process, in ASCII.
    pub(crate) const WHO: u8 = b'W';
}

/// How long a request for a late answer waits.
pub(crate) const LONG_POLL: Duration = Duration::from_secs(30);
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;

/// Says `ready` when it listens, then serves until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(directory) = &args.last_words {
        last_words::prepare(directory)?;
    }
    if let Some(directory) = &args.listened {
        let listened_ns = now_ns();
        let server = begin(args.listen)?;
        fs::write(directory.join(std::process::id().to_string()), format!("{listened_ns}\n"))?;
        return server.serve();
    }
    match &args.times {
        None => begin(args.listen)?.serve(),
        Some(directory) => {
            let (server, times) = timed(args.listen)?;
            fs::write(directory.join(std::process::id().to_string()), times)?;
            server.serve()
        }
    }
}

fn begin(listen: SocketAddr) -> Result<Server> {
    let listener =
        TcpListener::bind(listen).with_context(|| format!("{listen} cannot be listened on"))?;
    listener.set_nonblocking(true)?;
    net::listen(&listener, BACKLOG)?;
    println!("ready");
    // Whoever started the server may not read on.
    std::io::stdout().flush()?;
    Server::new(listener)
}

/// Before it serves: when it began to listen and when the first connection had been made.
fn timed(listen: SocketAddr) -> Result<(Server, String)> {
    let _prompt = Prompt::become_so();
    let listened_ns = now_ns();
    let server = begin(listen)?;
    server.await_first()?;
    Ok((server, format!("{listened_ns} {}", now_ns())))
}

struct Server {
    listener: TcpListener,
    epoll: OwnedFd,
    /// Connections by the number of their descriptor.
    connections: Vec<Option<OwnedFd>>,
    /// Connections that wait for a late answer, soonest first.
    late: VecDeque<(Instant, usize)>,
}

impl Server {
    fn new(listener: TcpListener) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(Self { listener, epoll, connections: Vec::new(), late: VecDeque::new() })
    }

    /// Returns when somebody connects.
    fn await_first(&self) -> Result<()> {
        let mut events = Vec::with_capacity(1);
        while events.is_empty() {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn serve(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            events.clear();
            let wait = self.answer_late();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept_all(),
                    number => self.answer(number as usize),
                }
            }
        }
    }

    fn accept_all(&mut self) {
        while let Ok(socket) = net::accept_with(&self.listener, SocketFlags::NONBLOCK) {
            let number = socket.as_raw_fd() as usize;
            let data = epoll::EventData::new_u64(number as u64);
            let registered = net::sockopt::set_tcp_nodelay(&socket, true)
                .and_then(|()| epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN));
            if registered.is_err() {
                continue;
            }
            if self.connections.len() <= number {
                self.connections.resize_with(number + 1, || None);
            }
            self.connections[number] = Some(socket);
        }
    }

    fn answer(&mut self, number: usize) {
        let Some(socket) = self.connections.get(number).and_then(Option::as_ref) else { return };
        let mut buffer = [0; 4096];
        let goes_on = match rustix::io::read(socket.as_fd(), &mut buffer) {
            Ok(0) => false,
            Ok(length) => match buffer[0] {
                request::LATE => {
                    self.late.push_back((Instant::now() + LONG_POLL, number));
                    true
                }
                request::NEVER => true,
                request::WHO => {
                    let own = format!("{:<length$}", std::process::id());
                    rustix::io::write(socket, own.as_bytes()).is_ok()
                }
                _ => rustix::io::write(socket, &buffer[..length]).is_ok(),
            },
            Err(error) => error == Errno::AGAIN,
        };
        if !goes_on {
            self.connections[number] = None;
            self.late.retain(|&(_, waiting)| waiting != number);
        }
    }

    /// Answers what has waited long enough; returns how long the next one still has to wait.
    fn answer_late(&mut self) -> Option<Timespec> {
        while let Some(&(due, number)) = self.late.front() {
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Timespec::try_from(left).ok();
            }
            self.late.pop_front();
            if let Some(socket) = self.connections.get(number).and_then(Option::as_ref) {
                // Who has gone away meanwhile is seen at the next read.
                let _ = rustix::io::write(socket, &[request::LATE; MESSAGE_BYTES]);
            }
        }
        None
    }
}
