//! What a replica of control costs, and how soon it tells, with many agents whose endpoints change all
//! the time; and how soon all of them are up to date after it was killed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::network::{Network, Store};
use super::plot::{Curves, Panel};
use super::report::Report;
use super::simulated::Simulated;
use super::{Args, command};
use crate::workspace;

const ENDPOINTS: usize = 100;
/// Of all endpoints, a second.
const CHURN: f64 = 0.01;
const AGENTS: [usize; 4] = [10, 100, 300, 1000];
/// What is drawn.
const PANELS: [Panel<'_>; 4] = [
    ("change_to_ack_p99_ms", "change heard of (p99), ms", Some(250.0)),
    ("control_rss_mib", "memory of control, MiB", Some(600.0)),
    ("control_cpu_s_per_s", "processors busy", None),
    ("recover_s", "all back after kill -9, s", Some(5.0)),
];
/// How long changes are measured with each number of agents.
const LENGTH: Duration = Duration::from_secs(30);
const QUICK: Duration = Duration::from_secs(5);

/// `USER_HZ` of include/asm-generic/param.h, in which /proc counts on every architecture that Sinew
/// runs on.
const TICKS_PER_S: f64 = 100.0;

/// Runs `cargo xtask bench fleet`; a round is all numbers of agents once.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(1, 1);
    let mut report = Report::new("fleet", command(), rounds);
    let agents = if args.quick { &AGENTS[..2] } else { &AGENTS[..] };
    for number in agents {
        let found = (0..rounds)
            .map(|_| measure(*number, if args.quick { QUICK } else { LENGTH }))
            .collect::<Result<Vec<_>>>()?;
        let of = |key: &str| format!("{key}{}", suffix(*number));
        let all = |value: fn(&Found) -> f64| found.iter().map(value).collect::<Vec<_>>();
        report.median(&of("change_to_ack_p50_ms"), &all(|it| it.p50_ms));
        report.median(&of("change_to_ack_p99_ms"), &all(|it| it.p99_ms));
        report.median(&of("changes_per_s"), &all(|it| it.changes_per_s));
        report.median(&of("control_rss_mib"), &all(|it| it.rss_mib));
        report.median(&of("control_cpu_s_per_s"), &all(|it| it.cpu));
        report.median(&of("recover_s"), &all(|it| it.recover_s));
        report.median(&of("endpoints_lost"), &all(|it| it.lost));
        report.median(&of("endpoints_stale"), &all(|it| it.stale));
    }
    let root = workspace::root();
    report.publish(&root)?;
    if !args.quick {
        let sizes = AGENTS.map(|agents| ((agents * ENDPOINTS).to_string(), suffix(agents)));
        let curves = Curves { panels: &PANELS, sizes: &sizes, of: "endpoints, 100 a host" };
        fs::write(root.join("docs/fleet.svg"), curves.draw(&serde_json::to_value(&report)?)?)?;
    }
    Ok(())
}

/// Of the keys of a size: the last one is what is promised, the others draw the curve.
fn suffix(agents: usize) -> String {
    match AGENTS.last() == Some(&agents) {
        true => String::new(),
        false => format!("_{}_endpoints", agents * ENDPOINTS),
    }
}

#[derive(Debug)]
struct Found {
    p50_ms: f64,
    p99_ms: f64,
    changes_per_s: f64,
    /// The most that it ever had.
    rss_mib: f64,
    /// Seconds of a processor, a second.
    cpu: f64,
    /// From its kill until all agents had everything from the next one.
    recover_s: f64,
    /// Endpoints that somebody does not know who should.
    lost: f64,
    /// Those that somebody knows otherwise than they are.
    stale: f64,
}

fn measure(agents: usize, length: Duration) -> Result<Found> {
    let churn = agents as f64 * ENDPOINTS as f64 * CHURN;
    let (quiet, cpu, rss_mib) = changes(agents, churn, length)?;
    // A network of its own, so that what waits during the restart is in no figure of the other.
    let mut network = Network::without_agents("fleet", 1, Store::Embedded)?;
    let mut simulated = Simulated::start(&network, 1, agents, ENDPOINTS, churn, None)?;
    let killed = Instant::now();
    network.kill_control()?;
    network.start_control()?;
    simulated.await_all()?;
    let recover_s = killed.elapsed().as_secs_f64();
    let restarted = simulated.finish()?;
    let number = |value: &serde_json::Value, key: &str| {
        value[key].as_f64().with_context(|| format!("no {key} in {value}"))
    };
    let found = Found {
        p50_ms: number(&quiet, "change_to_ack_p50_ms")?,
        p99_ms: number(&quiet, "change_to_ack_p99_ms")?,
        changes_per_s: number(&quiet, "changes")? / length.as_secs_f64(),
        rss_mib,
        cpu,
        recover_s,
        lost: number(&restarted, "endpoints_lost")?,
        stale: number(&restarted, "endpoints_stale")?,
    };
    println!("{agents} agents: {found:?}");
    Ok(found)
}

/// What the agents found, and what control took for it.
fn changes(agents: usize, churn: f64, length: Duration) -> Result<(serde_json::Value, f64, f64)> {
    let network = Network::without_agents("fleet", 1, Store::Embedded)?;
    let simulated = Simulated::start(&network, 1, agents, ENDPOINTS, churn, None)?;
    let control = network.control_processes().next().context("there is no control")?;
    let before = cpu_seconds(control)?;
    std::thread::sleep(length);
    let cpu = (cpu_seconds(control)? - before) / length.as_secs_f64();
    let rss_mib = peak_mib(control)?;
    Ok((simulated.finish()?, cpu, rss_mib))
}

/// Of a process, in user space and in the kernel.
fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name, which may hold anything: the 14th and 15th field of proc_pid_stat(5).
    let rest = stat.rsplit_once(')').context("the stat of a process is cut")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS_PER_S)
}

fn peak_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("the status of a process has no VmHWM")?;
    Ok(kib / 1024.0)
}
