//! The main job, seen at work: a shop of ordinary programs is started, used and broken, and the
//! users' own count tells what they noticed.

mod shop;
pub(crate) mod shoppers;
mod view;

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::setup::{self, Purpose};
use shop::Shop;
use view::{Moment, View};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Stop the shop and remove all of it at the end
    #[arg(long)]
    purge: bool,
}

/// The service whose replicas are broken.
const VICTIM: &str = "api";
const CALM: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(5);

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require_root("demo")?;
    setup::ensure(Purpose::Demo)?;
    let shop = Shop::prepare()?;
    let told = shop.up().and_then(|()| tell(&shop));
    if args.purge {
        shop.purge()?;
    }
    print_told(&told?);
    if !args.purge {
        println!("{}", shop.how_to_look_around());
    }
    Ok(())
}

/// What was done, and what the users saw until the next thing was done.
struct Event {
    what: String,
    seen: Moment,
}

fn tell(shop: &Shop) -> Result<Vec<Event>> {
    let view = View::start(shop)?;
    let mut events = Vec::new();
    let mut event = |what: &str, length: Duration, work: &mut dyn FnMut() -> Result<()>| {
        let before = view.moment();
        work()?;
        view.show(what, length)?;
        events.push(Event { what: what.to_owned(), seen: view.moment().since(&before) });
        anyhow::Ok(())
    };

    event("all is well", CALM, &mut || Ok(()))?;
    let killed = shop.process(VICTIM, 0)?;
    event(&format!("{VICTIM}/0 killed (-9)"), LONG, &mut || signal(killed, Signal::KILL))?;
    let stopped = shop.process(VICTIM, 1)?;
    let freeze = format!("{VICTIM}/1 frozen (SIGSTOP)");
    event(&freeze, CALM, &mut || signal(stopped, Signal::STOP))?;
    event(&format!("{VICTIM}/1 thawed (SIGCONT)"), CALM, &mut || signal(stopped, Signal::CONT))?;
    let agent = shop.agent()?;
    event("the agent killed (-9)", LONG, &mut || signal(agent, Signal::KILL))?;
    event("the agent started again", LONG, &mut || shop.up())?;
    view.finish()?;
    Ok(events)
}

fn signal(process: Pid, signal: Signal) -> Result<()> {
    kill_process(process, signal).with_context(|| format!("process {process} took no signal"))
}

fn print_told(events: &[Event]) {
    println!("\nWhat the users saw, by their own count. They never try again.\n");
    println!("  {:<28} {:>9} {:>7} {:>12}", "", "requests", "failed", "slowest");
    for Event { what, seen } in events {
        let slowest = seen.slowest.as_secs_f64() * 1e3;
        println!("  {what:<28} {:>9} {:>7} {slowest:>9.0} ms", seen.requests, seen.failed);
        for (kind, count) in &seen.failures {
            println!("  {:<28} {count:>17}  {kind}", "");
        }
    }
    let requests: u64 = events.iter().map(|event| event.seen.requests).sum();
    let failed: u64 = events.iter().map(|event| event.seen.failed).sum();
    println!("  {:<28} {requests:>9} {failed:>7}", "in all");
    println!(
        "\n  A killed process takes the requests it was answering with it. Those that a frozen one \
         was\n  answering wait until it thaws. New ones go elsewhere, with the agent or without it."
    );
}
