//! A client that stays and works in short slices, whenever it is told to.
//!
//! What is compared takes turns so often that the start of a process would weigh: the client of
//! each side lives as long as the bench and sleeps while the other side has its slice.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::{MESSAGE_BYTES, Tally, short};

/// Options of `xtask internal load slices`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT[,HOST:PORT…]`; several are taken in turn
    targets: String,
    #[arg(long, default_value_t = 4)]
    threads: usize,
}

/// What a slice is made of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Connect, one request, its response, close; as fast as the threads go.
    Short,
    /// One connection, one request after another, on this CPU.
    Echo { cpu: usize },
}

/// One slice of work.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) work: Work,
    /// Before anything is counted: what the slice before left behind fades, caches get warm.
    pub(crate) lead_in: Duration,
    pub(crate) length: Duration,
}

/// What one slice found, failures of the lead-in too.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Of each connection, or round trip, that was begun in time.
    pub(crate) total_ns: Vec<u32>,
    /// Failures by kind.
    pub(crate) failures: BTreeMap<String, u64>,
}

/// Runs the client: says `ready`, then answers each line that is an order with a line.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut worker = Worker::new(super::resolve(&args.targets)?, args.threads);
    println!("ready");
    for line in io::stdin().lines() {
        let found = worker.work(&serde_json::from_str(&line?)?)?;
        let mut answer = serde_json::to_vec(&found)?;
        answer.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&answer)?;
        output.flush()?;
    }
    Ok(())
}

struct Worker {
    targets: Vec<SocketAddr>,
    /// Of each thread: the target of its next connection.
    next: Vec<usize>,
    /// The target of the next echo.
    echo: usize,
}

/// When work is counted.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

impl Worker {
    fn new(targets: Vec<SocketAddr>, threads: usize) -> Self {
        // They begin apart: side by side they would find each server warm from one another.
        let next = (0..threads).map(|thread| thread * targets.len() / threads).collect();
        Self { targets, next, echo: 0 }
    }

    fn work(&mut self, order: &Order) -> Result<Slice> {
        let start = Instant::now() + order.lead_in;
        let window = Window { start, end: start + order.length };
        match order.work {
            Work::Short => self.short(window),
            Work::Echo { cpu } => {
                self.echo = (self.echo + 1) % self.targets.len();
                let target = self.targets[self.echo];
                // The CPU binds this thread alone.
                let echo = std::thread::spawn(move || echo(target, cpu, window));
                let total_ns = joined(echo.join())?.context("the echo failed")?;
                Ok(Slice { total_ns, failures: BTreeMap::new() })
            }
        }
    }

    fn short(&mut self, window: Window) -> Result<Slice> {
        let mut sum = Tally::default();
        std::thread::scope(|scope| -> Result<()> {
            let targets = &self.targets;
            let work = |next| scope.spawn(move || repeat(targets, next, window));
            let threads: Vec<_> = self.next.iter_mut().map(work).collect();
            for thread in threads {
                sum.add(joined(thread.join())?);
            }
            Ok(())
        })?;
        let mut failures = sum.before_request;
        for (kind, count) in sum.after_request {
            *failures.entry(kind).or_default() += count;
        }
        Ok(Slice { total_ns: sum.total_ns, failures })
    }
}

fn joined<T>(thread: std::thread::Result<T>) -> Result<T> {
    thread.map_err(|_| anyhow!("a thread of the client panicked"))
}

fn repeat(targets: &[SocketAddr], next: &mut usize, window: Window) -> Tally {
    let mut tally = Tally::default();
    let mut counted = false;
    loop {
        let now = Instant::now();
        if !counted && now >= window.start {
            tally.forget_successes();
            counted = true;
        }
        if now >= window.end {
            return tally;
        }
        short::one(targets[*next], short::PATIENCE, &mut tally);
        *next = (*next + 1) % targets.len();
    }
}

fn echo(target: SocketAddr, cpu: usize, window: Window) -> io::Result<Vec<u32>> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only)?;
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    let mut message = [7; MESSAGE_BYTES];
    let mut samples = Vec::new();
    loop {
        let start = Instant::now();
        if start >= window.end {
            return Ok(samples);
        }
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        if start >= window.start {
            samples.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

/// Such a client, seen from the bench. It ends with its standard input.
pub(crate) struct Client {
    _process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// Makes the given process such a client, and waits until it can be told what to do.
    pub(crate) fn start(mut process: Command, targets: &str, threads: usize) -> Result<Self> {
        process.args(["internal", "load", "slices", targets, "--threads", &threads.to_string()]);
        let mut process = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (orders, answers) = pipes.context("a client has no pipes")?;
        let mut client = Self { _process: process, orders, answers: BufReader::new(answers) };
        match client.answer()?.trim() {
            "ready" => Ok(client),
            other => bail!("a client is not ready: {other:?}"),
        }
    }

    /// Returns when the slice is over.
    pub(crate) fn work(&mut self, order: &Order) -> Result<Slice> {
        let order = serde_json::to_string(order)?;
        writeln!(self.orders, "{order}").context("a client is gone")?;
        let answer = self.answer()?;
        let slice: Slice = serde_json::from_str(&answer).context("a client ended in its slice")?;
        if !slice.failures.is_empty() {
            bail!("a slice had {} successes and {:?}", slice.total_ns.len(), slice.failures);
        }
        Ok(slice)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_successes_of_the_lead_in_are_forgotten() {
        let open = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = open.local_addr().unwrap();
        let answering = std::thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = open.accept()?;
            let mut message = [0; MESSAGE_BYTES];
            stream.read_exact(&mut message)?;
            stream.write_all(&message)
            // The listener ends here: all that follow fail.
        });
        let mut worker = Worker::new(vec![target], 1);
        let lead_in = Duration::from_millis(200);
        let order = Order { work: Work::Short, lead_in, length: Duration::ZERO };
        let slice = worker.work(&order).unwrap();
        answering.join().unwrap().unwrap();
        assert!(slice.total_ns.is_empty());
        assert!(!slice.failures.is_empty());
    }

    #[test]
    fn threads_begin_apart_and_go_on_where_they_were() {
        let target = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let worker = Worker::new((1..=8).map(target).collect(), 4);
        assert_eq!(worker.next, [0, 2, 4, 6]);
    }
}
