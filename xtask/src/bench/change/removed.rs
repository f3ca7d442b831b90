//! From the death of a process to the moment when the kernel's set of backends is without it.
//!
//! Both are seen by a prompt observer. A killed process dies when it is next scheduled: its end is what
//! its pidfd tells.
//!
//! The kernel looks for the listener before it chooses, so a dead one is not chosen even before.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::json;
use sinew_abi::{ABI_VERSION, Service, ServiceKey4, protocol};

use crate::bench::bpf::Map;
use crate::bench::contender::sinew::{Host, PORT, echo};
use crate::bench::load::Quantiles;
use crate::bench::prompt::Prompt;
use crate::bench::report::Report;
use crate::process;

/// They stay dead: one that came back would hide that another one left.
const MORTAL: &str = "mortal";
/// Of these, one is left in the end.
const MORTALS: u16 = 11;
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(20);
/// From one kill to the next.
const CALM: Duration = Duration::from_millis(50);

pub(super) fn run(host: &Host, rounds: usize, report: &mut Report) -> Result<()> {
    let mut mortal = echo(MORTALS);
    mortal["restart"] = json!("never");
    let mut samples = Vec::new();
    let _prompt = Prompt::become_so();
    for _ in 0..rounds {
        host.up(&json!({"name": MORTAL, "services": {MORTAL: mortal}}))?;
        let set = Set::of(host, MORTAL)?;
        for victim in host.processes(MORTAL)?.into_iter().skip(1) {
            std::thread::sleep(CALM);
            let before = set.len()?;
            let process = pidfd_open(victim, PidfdFlags::empty())?;
            kill_process(victim, Signal::KILL)?;
            poll(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
            let start = Instant::now();
            while set.len()? >= before {
                if start.elapsed() > DEADLINE {
                    bail!("process {victim} was killed and is a backend still");
                }
                std::thread::sleep(PAUSE);
            }
            samples.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
        process::output(host.sinew()?.args(["down", MORTAL]))?;
    }
    let found = Quantiles::of(&mut samples);
    report.single("exit_to_removed_p50_ms", found.p50_ns / 1e6);
    report.single("exit_to_removed_p99_ms", found.p99_ns / 1e6);
    report.single("exit_to_removed_samples", samples.len() as f64);
    Ok(())
}

/// The kernel's set of backends of the service.
struct Set {
    services: Map,
    key: ServiceKey4,
}

impl Set {
    fn of(host: &Host, service: &str) -> Result<Self> {
        let map = host.room.pins().join(format!("v{ABI_VERSION}/SERVICES4"));
        let address: Ipv4Addr = host.address(service)?.parse()?;
        let key = ServiceKey4 {
            addr: u32::from_ne_bytes(address.octets()),
            port: PORT.to_be(),
            protocol: protocol::TCP,
        };
        Ok(Self { services: Map::pinned(&map)?, key })
    }

    fn len(&self) -> Result<u32> {
        // SAFETY: key and value are what the ABI says of this map, integers only.
        let service: Service = unsafe { self.services.get(&self.key) }?;
        Ok(service.len)
    }
}
