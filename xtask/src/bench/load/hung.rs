//! Connections that are open and quiet, and when each of them breaks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{MESSAGE_BYTES, now_ns};
use crate::bench::server::request;

/// Options of `xtask internal load hung`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    #[arg(long)]
    connections: usize,
}

/// What the client found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// `CLOCK_MONOTONIC` at the end of each connection that broke.
    pub(crate) broken_ns: Vec<u64>,
}

/// Opens the connections, asks each what is never answered, says `ready`, and waits until standard
/// input ends.
pub(crate) fn run(args: &Args) -> Result<Found> {
    let target = super::first_address(&args.target)?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        let mut stream = TcpStream::connect(target)?;
        let mut message = [7; MESSAGE_BYTES];
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        stream.write_all(&[request::NEVER; MESSAGE_BYTES])?;
        connections.push(stream);
    }
    println!("ready");
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for stream in &connections {
            scope.spawn(|| {
                // Nothing comes but the end.
                let _ = (&mut &*stream).read(&mut [0; 1]);
                let now_ns = now_ns();
                // No other holder panics.
                broken.lock().unwrap_or_else(PoisonError::into_inner).push(now_ns);
            });
        }
        let waited = io::stdin().read_to_end(&mut Vec::new());
        let found = std::mem::take(&mut *broken.lock().unwrap_or_else(PoisonError::into_inner));
        for stream in &connections {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        waited?;
        Ok(Found { broken_ns: found })
    })
}
