//! One slice: wrk against one proxy.

use anyhow::{Context, Result, ensure};

use super::contenders::{Contender, OTHER_CPU, pinned};
use crate::bench::contender::FRONT;
use crate::process;

/// What is asked.
#[derive(Clone, Copy)]
pub(super) enum Case {
    /// Thirty bytes, over connections that stay.
    Small,
    /// 64 KiB of a file, over connections that stay.
    Great,
    /// Thirty bytes, each over a connection of its own.
    New,
}

/// Connections that each have one request under way.
const CONNECTIONS: &str = "32";

/// What wrk found, on one line: it prints durations with units otherwise.
const SCRIPT: &str = "done = function(summary, latency, requests)\n  \
    local errors = summary.errors\n  \
    io.write(string.format('FOUND %d %d %d %d %d\\n', summary.requests, summary.duration, \
    latency:percentile(50), latency:percentile(99), errors.connect + errors.read + errors.write \
    + errors.status + errors.timeout))\nend\n";

pub(super) struct Slice {
    pub(super) rps: f64,
    pub(super) rps_per_cpu: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Case {
    pub(super) const ALL: [Self; 3] = [Self::Small, Self::Great, Self::New];

    /// The begin of its keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Great => "64k",
            Self::New => "new",
        }
    }

    fn path(self) -> &'static str {
        if let Self::Great = self { "great" } else { "small" }
    }
}

/// After a second that is not counted.
pub(super) fn slice(contender: &Contender, case: Case, seconds: u32) -> Result<Slice> {
    wrk(contender, case, 1)?;
    let before = contender.used_s()?;
    let found = wrk(contender, case, seconds)?;
    let used = contender.used_s()? - before;
    let [requests, duration_us, p50_us, p99_us, errors] = found;
    ensure!(errors == 0.0, "{} of {} requests failed at {}", errors, requests, contender.name);
    ensure!(requests > 0.0 && used > 0.0, "{} answered nothing", contender.name);
    let rps = requests / (duration_us / 1e6);
    Ok(Slice { rps, rps_per_cpu: requests / used, p50_us, p99_us })
}

fn wrk(contender: &Contender, case: Case, seconds: u32) -> Result<[f64; 5]> {
    let room = &contender.room;
    let script = room.write("found.lua", SCRIPT)?;
    let mut wrk = pinned(room, "client", OTHER_CPU, "wrk")?;
    wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "-s"]).arg(script);
    if let Case::New = case {
        wrk.args(["-H", "Connection: close"]);
    }
    wrk.arg(format!("http://{FRONT}/{}", case.path()));
    found(&process::output(&mut wrk)?)
}

/// Requests, microseconds, two percentiles of microseconds, errors.
fn found(said: &str) -> Result<[f64; 5]> {
    let line = said.lines().find_map(|line| line.strip_prefix("FOUND "));
    let numbers = line.context("wrk told nothing")?.split(' ').map(str::parse);
    let numbers: Vec<f64> = numbers.collect::<Result<_, _>>()?;
    numbers.try_into().ok().context("wrk told something else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_found_is_read() {
        let said = "Running 1s test @ http://127.2.0.1:8080/small\nFOUND 1000 1000000 50 99 0\n";
        assert_eq!(found(said).unwrap(), [1000.0, 1_000_000.0, 50.0, 99.0, 0.0]);
        assert!(found("Running").is_err() && found("FOUND 1 2").is_err());
    }
}
