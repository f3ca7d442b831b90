//! What people have the control plane do, and what was done: `sinew history`, `rollback`, `pause`,
//! `resume`, `evacuate`, `return` and `limits`.

use std::{fmt::Write as _, time::Duration};

use sinew_api::control::{Act, Acted, Client, Entry, Overview, Placed, Request};
use sinew_model::fleet::Generation;

use crate::{
    args::{
        DryRun, Evacuate, History, Limits, LimitsAction, Pause, Place, Resume, Return, Rollback,
        Unplace,
    },
    context::Context,
    error::Error,
    file,
    render::{
        table::{Align, Cell, Table},
        time,
    },
};

/// Between questions of a follower.
const FOLLOWS: Duration = Duration::from_millis(500);

pub(super) async fn history(args: &History, context: &Context) -> Result<(), Error> {
    let client = context.control().await?;
    let mut entries = client.history(Generation(args.after), args.limit).await?;
    if !args.follow {
        return context.show(&entries, |entries| table(entries, context));
    }
    let mut after = Generation(args.after);
    loop {
        for entry in &entries {
            after = after.max(entry.generation.unwrap_or_default());
            if context.json {
                context.print_json_line(entry)?;
            } else {
                context.print_line(&line(entry))?;
            }
        }
        tokio::time::sleep(FOLLOWS).await;
        entries = client.history(after, usize::MAX >> 1).await?;
    }
}

fn line(entry: &Entry) -> String {
    let generation = entry.generation.unwrap_or_default();
    format!("{generation}  {}  {}: {}", time::utc(entry.when_ms), entry.who, entry.words)
}

fn table(entries: &[Entry], context: &Context) -> String {
    let mut table = Table::new(&[
        ("GENERATION", Align::Right),
        ("WHEN", Align::Left),
        ("WHO", Align::Left),
        ("WHAT", Align::Left),
    ]);
    let now = time::now_ms();
    for entry in entries {
        table.row([
            Cell::or_dash(entry.generation.map(|it| it.to_string())),
            Cell::new(time::ago(entry.when_ms, now)),
            Cell::new(&entry.who),
            Cell::new(&entry.words),
        ]);
    }
    table.render(context.style, context.width)
}

pub(super) async fn rollback(args: &Rollback, context: &Context) -> Result<(), Error> {
    let generation = Generation(args.generation);
    act(Request::Rollback { generation }, args.run, context).await
}

pub(super) async fn pause(args: &Pause, context: &Context) -> Result<(), Error> {
    let Some(what) = args.what else {
        let overview = context.control().await?.overview().await?;
        return context.show(&overview, |it| {
            let notes = notes(it);
            if notes.is_empty() { "nothing is paused or limited\n".to_owned() } else { notes }
        });
    };
    let (what, reason) = (what.name().to_owned(), args.reason.clone());
    act(Request::Pause { what, reason }, args.run, context).await
}

pub(super) async fn resume(args: &Resume, context: &Context) -> Result<(), Error> {
    act(Request::Resume { what: args.what.name().to_owned() }, args.run, context).await
}

pub(super) async fn evacuate(args: &Evacuate, context: &Context) -> Result<(), Error> {
    let Evacuate { zone, reason, force, run } = args;
    let (zone, reason, force) = (zone.clone(), reason.clone(), *force);
    act(Request::Evacuate { zone, reason, force }, *run, context).await
}

pub(super) async fn bring_back(args: &Return, context: &Context) -> Result<(), Error> {
    act(Request::Return { zone: args.zone.clone() }, args.run, context).await
}

pub(super) async fn place(args: &Place, context: &Context) -> Result<(), Error> {
    let project = Box::new(file::read(&args.file.file)?);
    act(Request::Place { project }, args.run, context).await
}

pub(super) async fn unplace(args: &Unplace, context: &Context) -> Result<(), Error> {
    act(Request::Unplace { project: args.project.clone() }, args.run, context).await
}

pub(super) async fn placement(context: &Context) -> Result<(), Error> {
    let placed = context.control().await?.placement().await?;
    context.show(&placed, |placed| placed_table(placed, context))
}

fn placed_table(placed: &[Placed], context: &Context) -> String {
    let mut table = Table::new(&[
        ("SERVICE", Align::Left),
        ("PROJECT", Align::Left),
        ("WANTED", Align::Right),
        ("ON", Align::Left),
    ]);
    let mut notes = String::new();
    for it in placed {
        let hosts: Vec<_> =
            it.hosts.iter().map(|(node, count)| format!("{node}: {count}")).collect();
        table.row([
            Cell::new(it.service.as_str()),
            Cell::new(it.project.as_str()),
            Cell::new(it.wanted.to_string()),
            Cell::or_dash((!hosts.is_empty()).then(|| hosts.join(", "))),
        ]);
        if let Some(unplaced) = &it.unplaced {
            let _ = writeln!(notes, "{}: {unplaced}", it.service);
        }
        for (node, reason) in &it.refused {
            let _ = writeln!(notes, "{} is not run by {node}: {reason}", it.service);
        }
    }
    table.render(context.style, context.width) + &notes
}

pub(super) async fn limits(args: &Limits, context: &Context) -> Result<(), Error> {
    match &args.action {
        None => {
            let limits = context.control().await?.limits().await?;
            context.show(&limits, |limits| {
                let mut table = Table::new(&[("LIMIT", Align::Left), ("VALUE", Align::Right)]);
                for (name, value) in limits {
                    table.row([Cell::new(name), Cell::new(value.to_string())]);
                }
                table.render(context.style, context.width)
            })
        }
        Some(LimitsAction::Set { limits, run }) => {
            let limits = limits.iter().cloned().collect();
            act(Request::SetLimits { limits }, *run, context).await
        }
    }
}

pub(super) async fn act(action: Request, run: DryRun, context: &Context) -> Result<(), Error> {
    let client: Client = context.control().await?;
    let acted = client.act(&Act { action, dry_run: run.dry_run }).await?;
    context.show(&acted, text)
}

fn text(acted: &Acted) -> String {
    let mut text = String::new();
    match &acted.done {
        None => text.push_str("nothing is to be done\n"),
        Some(done) => {
            let _ = writeln!(text, "{}", done.words);
            for (zone, it) in &done.radius {
                let (hosts, endpoints, services) = (it.hosts, it.endpoints, it.services);
                let _ = writeln!(
                    text,
                    "  zone {zone}: {hosts} hosts, {endpoints} endpoints of {services} services"
                );
            }
            for diff in &done.diff {
                let _ = writeln!(text, "  {}", diff.key);
                for (sign, value) in [('-', &diff.before), ('+', &diff.after)] {
                    if let Some(value) = value {
                        let _ = writeln!(text, "    {sign} {value}");
                    }
                }
            }
            let _ = match done.generation {
                Some(Generation(it)) => writeln!(
                    text,
                    "done in generation {it}; `sinew rollback {}` undoes it",
                    it.saturating_sub(1)
                ),
                None => writeln!(text, "nothing was done: this is what it would be"),
            };
        }
    }
    for left in &acted.not_undone {
        let _ = writeln!(text, "not undone: {} ({}): {}", left.what, left.generation, left.why);
    }
    text
}

/// What holds for the whole network, a line each.
pub(super) fn notes(overview: &Overview) -> String {
    let now = time::now_ms();
    let mut notes: Vec<String> = overview.trouble.iter().cloned().collect();
    if overview.duty.is_none() {
        notes.push("no replica has the duty now: no host is declared dead".to_owned());
    }
    notes.extend(overview.frozen.iter().cloned());
    for pause in &overview.pauses {
        let why = if pause.reason.is_empty() { "" } else { ": " };
        notes.push(format!(
            "{} is paused by {}, {}{why}{}",
            pause.what,
            pause.by,
            time::ago(pause.since_ms, now),
            pause.reason
        ));
    }
    for zone in &overview.zones {
        let how = match (&zone.stopped, zone.returning) {
            (Some(why), _) => format!("stopped on its way back: {why}"),
            (None, true) => "on its way back".to_owned(),
            (None, false) => format!("`sinew return {}` brings it back", zone.zone),
        };
        let ago = time::ago(zone.since_ms, now);
        notes.push(format!("zone {} gets {} % since {ago}: {how}", zone.zone, zone.percent));
    }
    notes.extend(overview.nearly_full.iter().cloned());
    notes.iter().fold(String::new(), |all, note| all + note + "\n")
}
