//! The shop's users: each asks for a page on a connection of its own, and counts what it gets.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Options of `xtask internal shoppers`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    #[arg(long, default_value_t = 8)]
    users: usize,
}

/// What all users counted, from the start on but for the times.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) requests: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    /// Times of the successes since the last count.
    pub(crate) times_us: Vec<u32>,
}

/// From one count that is told to the next.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Who waits longer leaves the shop.
const PATIENCE: Duration = Duration::from_secs(15);
/// Every so many visits somebody looks at the orders.
const ORDERS: u64 = 10;

/// Prints a count as a line of JSON again and again, until nobody reads on.
pub(crate) fn run(args: &Args) -> Result<()> {
    let target = args.target.to_socket_addrs().ok().and_then(|mut found| found.next());
    let target = target.with_context(|| format!("{} has no address", args.target))?;
    let count = Mutex::new(Count::default());
    std::thread::scope(|scope| {
        for _ in 0..args.users {
            scope.spawn(|| visit_for_ever(target, &args.target, &count));
        }
        loop {
            std::thread::sleep(INTERVAL);
            let told = {
                let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
                let times_us = std::mem::take(&mut count.times_us);
                Count { times_us, ..count.clone() }
            };
            if writeln!(io::stdout(), "{}", serde_json::to_string(&told)?).is_err() {
                // The users run for ever; the end of the process is their end.
                std::process::exit(0);
            }
        }
    })
}

fn visit_for_ever(target: SocketAddr, host: &str, count: &Mutex<Count>) {
    for visit in 1_u64.. {
        let page = if visit.is_multiple_of(ORDERS) { "/orders" } else { "/" };
        let start = Instant::now();
        let outcome = get(target, host, page);
        let time = start.elapsed();
        let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
        count.requests += 1;
        match outcome {
            Ok(()) => {
                count.times_us.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
            }
            Err(kind) => *count.failures.entry(kind).or_default() += 1,
        }
    }
}

/// One request; what failed in words.
fn get(target: SocketAddr, host: &str, page: &str) -> Result<(), String> {
    let mut stream =
        TcpStream::connect(target).map_err(|error| format!("connect: {}", error.kind()))?;
    let answer = exchange(&mut stream, host, page).map_err(|error| error.kind().to_string())?;
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => Err(format!("answered with {status}")),
        None => Err("closed without an answer".to_owned()),
    }
}

fn exchange(stream: &mut TcpStream, host: &str, page: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
