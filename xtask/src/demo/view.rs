//! The live view: what the users count, beside where each replica stands.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::shop::Shop;
use super::shoppers::{self, Count};

const TARGET: &str = "web:8080";
const FRAME: Duration = Duration::from_millis(500);

/// What users had counted at some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    /// Since the last time this was asked.
    pub(crate) slowest: Duration,
}

impl Moment {
    pub(crate) fn since(mut self, before: &Self) -> Self {
        self.requests -= before.requests;
        self.failed -= before.failed;
        for (kind, count) in &before.failures {
            if let Some(later) = self.failures.get_mut(kind) {
                *later -= count;
            }
        }
        self.failures.retain(|_, count| *count > 0);
        self
    }
}

/// The users at work and the picture of them.
pub(crate) struct View<'a> {
    shop: &'a Shop,
    users: Child,
    seen: Arc<Mutex<Seen>>,
    start: Instant,
    on_terminal: bool,
}

#[derive(Default)]
struct Seen {
    requests: u64,
    failures: BTreeMap<String, u64>,
    /// Slowest since [`View::moment`] was asked last.
    slowest_us: u32,
    /// Times of the last second, by interval.
    recent: Vec<Vec<u32>>,
}

impl<'a> View<'a> {
    /// Sends the users in.
    pub(crate) fn start(shop: &'a Shop) -> Result<Self> {
        let mut command = shop.sinew();
        command.args(["exec", "--"]).arg(std::env::current_exe()?);
        command.args(["internal", "shoppers", TARGET]);
        let mut users = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(users.stdout.take().context("the users cannot be heard")?);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let heard = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(io::Result::ok) {
                if let Ok(count) = serde_json::from_str(&line) {
                    locked(&heard).hear(count);
                }
            }
        });
        let on_terminal = io::stdout().is_terminal();
        Ok(Self { shop, users, seen, start: Instant::now(), on_terminal })
    }

    pub(crate) fn moment(&self) -> Moment {
        let mut seen = locked(&self.seen);
        let slowest = Duration::from_micros(std::mem::take(&mut seen.slowest_us).into());
        let failures = seen.failures.clone();
        Moment { requests: seen.requests, failed: failures.values().sum(), failures, slowest }
    }

    /// Shows what happens for a while.
    pub(crate) fn show(&self, what: &str, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        let mut height = 0;
        while Instant::now() < end {
            let frame = self.frame(what);
            if self.on_terminal {
                erase(height)?;
                println!("{frame}");
                height = frame.lines().count();
            }
            std::thread::sleep(FRAME.min(end.saturating_duration_since(Instant::now())));
        }
        if self.on_terminal {
            erase(height)?;
        }
        println!("{}", self.frame(what));
        if locked(&self.seen).requests == 0 {
            bail!("the users got no answer at all; the shop's own words: `sinew logs`");
        }
        Ok(())
    }

    /// Sends the users home.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.users.kill()?;
        self.users.wait()?;
        Ok(())
    }

    fn frame(&self, what: &str) -> String {
        let replicas = self.replicas();
        let seen = locked(&self.seen);
        let mut times: Vec<u32> = seen.recent.concat();
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len() as f64 * share) as usize;
            times.get(index).map_or(0.0, |&time| f64::from(time) / 1e3)
        };
        let window = seen.recent.len().max(1) as f64 * shoppers::INTERVAL.as_secs_f64();
        format!(
            "{:>5.1} s  {what}\n         {} requests, {} failed; now {:.0}/s, p50 {:.1} ms, p99 \
             {:.1} ms\n{replicas}",
            self.start.elapsed().as_secs_f64(),
            seen.requests,
            seen.failures.values().sum::<u64>(),
            times.len() as f64 / window,
            at(0.5),
            at(0.99),
        )
    }

    /// One line a replica, as the agent tells it.
    fn replicas(&self) -> String {
        let Ok(workloads) = self.shop.ask(&["ps"]) else {
            return "         the agent does not answer; the kernel goes on\n".to_owned();
        };
        let line = |workload: &Value| {
            let word = |key: &str| workload[key].as_str().unwrap_or("-").to_owned();
            format!(
                "         {:<12} {:<12} process {:<8} {} restarts\n",
                format!("{}/{}", word("service"), workload["replica"]),
                word("state"),
                workload["pid"].to_string().replace("null", "-"),
                workload["restarts"],
            )
        };
        let workloads = workloads.as_array().map(Vec::as_slice).unwrap_or_default();
        // Sessions of `sinew exec`, the users among them, belong to no service.
        workloads.iter().filter(|workload| !workload["service"].is_null()).map(line).collect()
    }
}

impl Seen {
    fn hear(&mut self, count: Count) {
        const SECOND: usize = 10;
        self.requests = count.requests;
        self.failures = count.failures;
        let slowest = count.times_us.iter().copied().max().unwrap_or(0);
        self.slowest_us = self.slowest_us.max(slowest);
        self.recent.push(count.times_us);
        if self.recent.len() > SECOND {
            self.recent.remove(0);
        }
    }
}

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes back the lines of the last frame.
fn erase(lines: usize) -> io::Result<()> {
    if lines > 0 {
        print!("\x1b[{}A\x1b[J", lines + 1);
    }
    io::stdout().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_since_another_counts_only_what_came_between() {
        let moment = |requests, kinds: &[(&str, u64)]| Moment {
            requests,
            failed: kinds.iter().map(|(_, count)| count).sum(),
            failures: kinds.iter().map(|&(kind, count)| (kind.to_owned(), count)).collect(),
            slowest: Duration::ZERO,
        };
        let between = moment(50, &[("502", 3), ("reset", 2)]).since(&moment(20, &[("502", 3)]));
        assert_eq!((between.requests, between.failed), (30, 2));
        assert_eq!(between.failures, BTreeMap::from([("reset".to_owned(), 2)]));
    }
}
