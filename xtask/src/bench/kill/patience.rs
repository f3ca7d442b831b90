//! Replicas that have nothing to say are not hung: while idle pools, one-way messages and long
//! polls are open, the kernel may pass none of them over as hung, by its own count, and every replica
//! has to get new connections still.

mod postgres;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
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
const PAUSE: Duration = Duration::from_millis(500);
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
    // Twenty clients that begin at once may well find a queue that one process has not served yet.
    let opening = passed_over(host)?;
    let length = if quick { PAUSE * 4 } else { LONG_POLL - PAUSE * 4 };
    let (start, mut unseen, mut looks) = (Instant::now(), 0, 0);
    while start.elapsed() < length {
        std::thread::sleep(PAUSE);
        let seen = replicas_seen(host, &target)?;
        let databases = pool.servers_seen(host)?;
        looks += 1;
        unseen += usize::from(REPLICAS).saturating_sub(seen);
        unseen += usize::from(postgres::REPLICAS).saturating_sub(databases);
    }
    let hung = passed_over(host)?.saturating_sub(opening);
    println!(
        "{looks} looks at patient replicas: {hung} times one was passed over as hung, {unseen} \
         times one got no connection"
    );
    let mut broken = pool.close()?;
    for (command, client) in held {
        broken += release(&command, client)?;
    }
    report.single("false_hung", hung as f64);
    report.single("hung_while_opening", opening as f64);
    report.single("patient_choices", (looks * (LOOKS + postgres::LOOKS)) as f64);
    report.single("patient_unseen", unseen as f64);
    report.single("patient_connections", (CONNECTIONS * MANNERS.len() + postgres::POOL) as f64);
    report.single("patient_broken", broken as f64);
    Ok(())
}

/// Choices that passed a patient replica over as hung, as the kernel counted them.
fn passed_over(host: &Host) -> Result<u64> {
    let mut sum = 0;
    for service in [SERVICE, DATABASE] {
        let status = host.ask(&["services", service])?;
        let endpoints = status["endpoints"].as_array().context("a service has no endpoints")?;
        for endpoint in endpoints {
            sum += endpoint["hung"].as_u64().context("an endpoint does not tell `hung`")?;
        }
    }
    Ok(sum)
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
