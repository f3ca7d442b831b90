//! Replicas that have nothing to say are not hung: while idle pools, one-way messages and long
//! polls are open, every replica has to get new connections still.

mod postgres;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::REPLICAS;
use crate::bench::contender::sinew::{Host, PORT, echo};
use crate::bench::load::{self, patient, who};
use crate::bench::report::Report;
use crate::bench::server::LONG_POLL;
use crate::bench::world;

const SERVICE: &str = "patient";
const DATABASE: &str = "database";
/// Open connections of each manner.
const CONNECTIONS: usize = 60;
const MANNERS: [&str; 3] = ["idle", "long-poll", "one-way"];
/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(2);
/// Short connections a look makes; taken in turn they reach every replica.
const LOOKS: usize = 30;

pub(super) fn run(host: &Host, quick: bool, report: &mut Report) -> Result<()> {
    // Least load would avoid a replica with one open connection more than its peers.
    let mut patient = echo(REPLICAS);
    patient["balance"] = json!("round-robin");
    let services = json!({SERVICE: patient, DATABASE: postgres::service(host)?});
    host.up(&json!({"name": "patience", "services": services}))?;

    let target = format!("{}:{PORT}", host.address(SERVICE)?);
    let mut pool = postgres::Pool::open(host, &host.address(DATABASE)?)?;
    let mut held = Vec::new();
    for manner in MANNERS {
        held.push(hold(host, &target, manner)?);
    }
    let length = if quick { PAUSE * 2 } else { LONG_POLL - PAUSE };
    let (start, mut shunned, mut looks) = (Instant::now(), 0, 0);
    while start.elapsed() < length {
        std::thread::sleep(PAUSE);
        let seen = replicas_seen(host, &target)?;
        let databases = pool.servers_seen(host)?;
        looks += 1;
        shunned += usize::from(REPLICAS).saturating_sub(seen);
        shunned += usize::from(postgres::REPLICAS).saturating_sub(databases);
    }
    println!("{looks} looks at patient replicas: {shunned} times one got no connection");
    let mut broken = pool.close()?;
    for (command, client) in held {
        broken += release(&command, client)?;
    }
    report.single("false_hung", shunned as f64);
    report.single("patient_connections", (CONNECTIONS * MANNERS.len() + postgres::POOL) as f64);
    report.single("patient_broken", broken as f64);
    Ok(())
}

fn hold(host: &Host, target: &str, manner: &str) -> Result<(Command, Child)> {
    let mut client = host.client()?;
    client.args(["internal", "load", "patient", target, manner]);
    client.args(["--connections", &CONNECTIONS.to_string()]).stdin(Stdio::piped());
    let child = world::announced(&mut client)?;
    Ok((client, child))
}

fn release(client: &Command, mut child: Child) -> Result<usize> {
    drop(child.stdin.take());
    let found: patient::Found = load::finish(child, client)?;
    Ok(found.broken)
}

fn replicas_seen(host: &Host, target: &str) -> Result<usize> {
    let mut client = host.client()?;
    client.args(["internal", "load", "who", target, "--connections", &LOOKS.to_string()]);
    let found: who::Found = load::collect(&mut client)?;
    if found.failures > 0 {
        bail!("{} of {LOOKS} connections failed while nothing was killed", found.failures);
    }
    let replicas: BTreeSet<&String> = found.answers.keys().collect();
    Ok(replicas.len())
}
