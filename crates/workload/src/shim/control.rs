//! The control socket: many clients, none of which can make the shim wait or grow.
//!
//! A client has at most one line on its way out and one newer status behind it; a client that takes
//! nothing misses what is between, and every status tells enough to make up for that.

use std::{
    collections::VecDeque,
    fs,
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{event::PollFlags, net::sockopt::socket_peercred};

use crate::{
    protocol::{MAX_REQUEST_BYTES, Message, Request},
    socket,
    status::Status,
};

/// One more client makes the oldest go.
const MAX_CLIENTS: usize = 32;
/// A client that lets answers pile up to this much is let go.
const MAX_ANSWERS_BYTES: usize = 64 << 10;

/// The socket and those who are connected.
pub(super) struct Control {
    path: PathBuf,
    listener: UnixListener,
    clients: VecDeque<Client>,
}

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// A newer status than what `output` holds, to follow it.
    next: Option<Vec<u8>>,
    subscribed: bool,
    gone: bool,
}

impl Control {
    /// Makes the socket, in place of one that a dead shim left.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        let path = dir.join("ctl.sock");
        let listener = socket::listen(&path, 0o600, None)?;
        listener.set_nonblocking(true)?;
        Ok(Self { path, listener, clients: VecDeque::new() })
    }

    /// What to poll for: the listener, then each client.
    pub(super) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = (self.listener.as_fd(), PollFlags::IN);
        std::iter::once(listener).chain(self.clients.iter().map(|client| {
            let out = if client.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (client.stream.as_fd(), PollFlags::IN | out)
        }))
    }

    /// Reads and writes what can be without waiting, and answers requests by `answer`.
    pub(super) fn serve(&mut self, mut answer: impl FnMut(&Request) -> Message) {
        for client in &mut self.clients {
            client.read();
            while let Some(line) = client.take_line() {
                let message = match serde_json::from_slice(&line) {
                    Ok(request) => {
                        client.subscribed |= request == Request::Subscribe;
                        answer(&request)
                    }
                    Err(error) => Message::Refused { reason: format!("not a request: {error}") },
                };
                client.answer(&message);
            }
            client.write();
        }
        self.clients.retain(|client| !client.gone);
        self.accept();
    }

    /// Sends a status to those who subscribed.
    pub(super) fn publish(&mut self, status: &Status) {
        if !self.clients.iter().any(|client| client.subscribed) {
            return;
        }
        let line = Message::Status { status: Box::new(status.clone()) }.line();
        for client in self.clients.iter_mut().filter(|client| client.subscribed) {
            client.next = Some(line.clone());
            client.write();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if !is_allowed(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() == MAX_CLIENTS {
                let idle = self.clients.iter().position(|client| !client.subscribed);
                self.clients.remove(idle.unwrap_or(0));
            }
            self.clients.push_back(Client::new(stream));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Root and the shim's own user; the mode of the socket says the same, but a directory can be
/// opened up by hand.
fn is_allowed(stream: &UnixStream) -> bool {
    socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { stream, input, output, next: None, subscribed: false, gone: false }
    }

    fn read(&mut self) {
        let mut buffer = [0; 1024];
        while !self.gone && self.input.len() <= MAX_REQUEST_BYTES {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.gone = true,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    /// The next whole line. A line too long to be a request ends the conversation.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        match self.input.iter().position(|byte| *byte == b'\n') {
            Some(end) => Some(self.input.drain(..=end).collect()),
            None => {
                self.gone |= self.input.len() > MAX_REQUEST_BYTES;
                None
            }
        }
    }

    fn answer(&mut self, message: &Message) {
        self.output.extend(message.line());
        self.gone |= self.output.len() > MAX_ANSWERS_BYTES;
    }

    fn write(&mut self) {
        loop {
            if self.output.is_empty() {
                match self.next.take() {
                    Some(line) => self.output = line,
                    None => return,
                }
            }
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone |= error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }
}
