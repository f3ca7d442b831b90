//! Connections that stay open for long while nothing, or nothing yet, comes back.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::MESSAGE_BYTES;
use crate::bench::server::request;

/// Options of `xtask internal load patient`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    #[arg(long)]
    connections: usize,
    manner: Manner,
}

/// What the connections do.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manner {
    /// One request and its response, then nothing, as a pool of a database's clients.
    Idle,
    /// A request that is answered after 30 s, as a long poll.
    LongPoll,
    /// Messages that want no answer, as a WebSocket may carry.
    OneWay,
}

/// What the client found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Connections that were broken, or whose late answer was wrong.
    pub(crate) broken: usize,
}

/// Opens the connections, says `ready`, and holds them until standard input ends. Long polls end
/// with their answers.
pub(crate) fn run(args: &Args) -> Result<Found> {
    let target = super::first_address(&args.target)?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        begin(&mut stream, args.manner)?;
        connections.push(stream);
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    let broken = connections.iter_mut().filter_map(|open| end(open, args.manner).err()).count();
    Ok(Found { broken })
}

fn begin(stream: &mut TcpStream, manner: Manner) -> io::Result<()> {
    match manner {
        Manner::Idle => exchange(stream),
        Manner::LongPoll => stream.write_all(&[request::LATE; MESSAGE_BYTES]),
        Manner::OneWay => {
            exchange(stream)?;
            stream.write_all(&[request::NEVER; MESSAGE_BYTES])
        }
    }
}

fn end(stream: &mut TcpStream, manner: Manner) -> io::Result<()> {
    match manner {
        Manner::Idle | Manner::OneWay => exchange(stream),
        Manner::LongPoll => stream.read_exact(&mut [0; MESSAGE_BYTES]),
    }
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[7; MESSAGE_BYTES])?;
    stream.read_exact(&mut [0; MESSAGE_BYTES])
}
