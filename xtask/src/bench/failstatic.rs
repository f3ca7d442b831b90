//! What callers on three hosts see while everything that controls the network is dead, and one of
//! their agents is restarted meanwhile.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::load::{Running, short};
use super::network::{Network, Store};
use super::report::Report;
use super::{Args, command};
use crate::workspace;

const SERVICE: &str = "target";
const PORT: u16 = 8080;
const HOSTS: u8 = 3;
/// Callers of a host; all of them share the machine.
const THREADS: usize = 1;
/// A round.
const MINUTE: Duration = Duration::from_secs(60);
const QUICK: Duration = Duration::from_secs(5);

/// Runs `cargo xtask bench failstatic`; a round is a minute without control.
pub(crate) fn run(args: &Args) -> Result<()> {
    let minutes = args.rounds(10, 2);
    let minute = if args.quick { QUICK } else { MINUTE };
    let mut network = Network::start("failstatic", HOSTS, Store::Etcd)?;
    let addresses = network.serve(SERVICE, PORT, &[1, 2, 3])?;
    let mut loads = Vec::new();
    for (host, address) in network.hosts().iter().zip(addresses) {
        let target = format!("{address}:{PORT}");
        loads.push(Running::start(network.client(host)?, &target, THREADS)?);
    }
    network.kill_control()?;
    for done in 0..minutes {
        if done == minutes / 2 {
            network.end_agent(2, Signal::KILL)?;
            network.start_agent(2)?;
            println!("the agent of a host was killed (-9) and is back");
        }
        std::thread::sleep(minute);
        println!("{} of {minutes} without control", done + 1);
    }
    let found: Vec<short::Found> = loads.into_iter().map(Running::finish).collect::<Result<_>>()?;
    let mut report = Report::new("failstatic", command(), minutes);
    let requests: u64 = found.iter().map(|it| it.connections + it.failures()).sum();
    report.single("seconds", minute.as_secs_f64() * minutes as f64);
    report.single("requests", requests as f64);
    report.single("failures", found.iter().map(short::Found::failures).sum::<u64>() as f64);
    for it in found.iter().filter(|it| it.failures() > 0) {
        println!("before the request: {:?}, after it: {:?}", it.before_request, it.after_request);
    }
    report.publish(&workspace::root())
}
