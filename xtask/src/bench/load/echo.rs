//! One established connection, one request after another.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::{MESSAGE_BYTES, Quantiles};

/// Options of `xtask internal load echo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`
    target: String,
    #[arg(long, default_value_t = 1000)]
    milliseconds: u64,
    /// Stay on this CPU
    #[arg(long)]
    cpu: Option<usize>,
}

/// Runs the client and returns the quantiles of the round trip.
pub(crate) fn run(args: &Args) -> Result<Quantiles> {
    if let Some(cpu) = args.cpu {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
    }
    let mut stream = TcpStream::connect(super::first_address(&args.target)?)?;
    stream.set_nodelay(true)?;
    let mut message = [7; MESSAGE_BYTES];
    let mut samples = Vec::new();
    let end = Instant::now() + Duration::from_millis(args.milliseconds);
    loop {
        let start = Instant::now();
        if start > end {
            return Ok(Quantiles::of(&mut samples));
        }
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        samples.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
}
