//! Short connections that ask which process answers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::MESSAGE_BYTES;
use crate::bench::server::request;

/// Options of `xtask internal load who`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    #[arg(long)]
    connections: usize,
}

/// What the client found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Answers by process.
    pub(crate) answers: BTreeMap<String, u64>,
    pub(crate) failures: u64,
}

/// Runs the client.
pub(crate) fn run(args: &Args) -> Result<Found> {
    let target = super::first_address(&args.target)?;
    let mut found = Found::default();
    for _ in 0..args.connections {
        match ask(target) {
            Ok(process) => *found.answers.entry(process).or_default() += 1,
            Err(_) => found.failures += 1,
        }
    }
    Ok(found)
}

fn ask(target: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(target)?;
    let mut message = [request::WHO; MESSAGE_BYTES];
    stream.write_all(&message)?;
    stream.read_exact(&mut message)?;
    Ok(String::from_utf8_lossy(&message).trim().to_owned())
}
