//! Short connections: connect, one request, its response, close.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{MESSAGE_BYTES, Quantiles, Tally};

/// Options of `xtask internal load short`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT[,HOST:PORT…]`; several are taken in turn
    targets: String,
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// How long; without it the client says `ready` and goes on until standard input ends
    #[arg(long)]
    milliseconds: Option<u64>,
    /// Wait for a response at most this long
    #[arg(long, default_value_t = PATIENCE.as_millis() as u64)]
    patience_ms: u64,
}

/// How long a response is waited for, if nothing else is said.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What the client found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Connections that got their response.
    pub(crate) connections: u64,
    pub(crate) seconds: f64,
    pub(crate) connect: Quantiles,
    pub(crate) total: Quantiles,
    /// Failures before the first byte of the request was sent, by kind.
    pub(crate) before_request: BTreeMap<String, u64>,
    /// Failures after that, by kind.
    pub(crate) after_request: BTreeMap<String, u64>,
}

impl Found {
    pub(crate) fn per_second(&self) -> f64 {
        self.connections as f64 / self.seconds
    }

    pub(crate) fn failures(&self) -> u64 {
        self.before_request.values().chain(self.after_request.values()).sum()
    }
}

/// Runs the client.
pub(crate) fn run(args: &Args) -> Result<Found> {
    let targets = super::resolve(&args.targets)?;
    let patience = Duration::from_millis(args.patience_ms);
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let tally = std::thread::scope(|scope| {
        let (targets, stop) = (&targets, &stop);
        // They begin apart: side by side they would find each server warm from one another.
        let first = |thread| thread * targets.len() / args.threads;
        let work = |thread| scope.spawn(move || repeat(targets, first(thread), patience, stop));
        let threads: Vec<_> = (0..args.threads).map(work).collect();
        let waited = wait(args.milliseconds);
        stop.store(true, Ordering::Relaxed);
        let mut sum = Tally::default();
        for thread in threads {
            sum.add(thread.join().map_err(|_| anyhow!("a thread of the client panicked"))?);
        }
        waited.map(|()| sum).map_err(anyhow::Error::from)
    })?;
    Ok(found(tally, start.elapsed()))
}

fn found(mut tally: Tally, elapsed: Duration) -> Found {
    Found {
        connections: tally.total_ns.len() as u64,
        seconds: elapsed.as_secs_f64(),
        connect: Quantiles::of(&mut tally.connect_ns),
        total: Quantiles::of(&mut tally.total_ns),
        before_request: tally.before_request,
        after_request: tally.after_request,
    }
}

fn wait(milliseconds: Option<u64>) -> io::Result<()> {
    if let Some(milliseconds) = milliseconds {
        std::thread::sleep(Duration::from_millis(milliseconds));
        return Ok(());
    }
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}

fn repeat(targets: &[SocketAddr], first: usize, patience: Duration, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    for target in targets.iter().cycle().skip(first) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        one(*target, patience, &mut tally);
    }
    tally
}

pub(super) fn one(target: SocketAddr, patience: Duration, tally: &mut Tally) {
    let start = Instant::now();
    let mut stream = match TcpStream::connect(target) {
        Ok(stream) => stream,
        Err(error) => return tally.failed_before("connect", &error),
    };
    let connect = start.elapsed();
    let mut message = [7; MESSAGE_BYTES];
    let prepared = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(patience)));
    if let Err(error) = prepared.and_then(|()| stream.write_all(&message)) {
        return tally.failed_before("write", &error);
    }
    if let Err(error) = stream.read_exact(&mut message) {
        return tally.failed_after("read", &error);
    }
    drop(stream);
    tally.succeeded(connect, start.elapsed());
}
