//! `sinew nodes`.

use sinew_api::control::{Node, Request, Session};

use super::actions;
use crate::{
    args::{Nodes, NodesAction},
    context::Context,
    error::Error,
    render::{
        style::Tint,
        table::{Align, Cell, Table},
        time,
    },
};

pub(super) async fn nodes(args: &Nodes, context: &Context) -> Result<(), Error> {
    let client = context.control().await?;
    match &args.action {
        None => {
            let nodes = client.nodes().await?;
            if context.json {
                return context.show(&nodes, |_| String::new());
            }
            let overview = client.overview().await?;
            context.print(&table(&nodes, context))?;
            context.print(&actions::notes(&overview))
        }
        Some(NodesAction::Withdraw { node }) => {
            client.withdraw(node).await?;
            if context.json { context.print_line("{}") } else { context.print_line("withdrawn") }
        }
        Some(NodesAction::Forget { node, run }) => {
            actions::act(Request::Forget { node: node.clone() }, *run, context).await
        }
    }
}

fn table(nodes: &[Node], context: &Context) -> String {
    let mut table = Table::new(&[
        ("HOST", Align::Left),
        ("ZONE", Align::Left),
        ("ADDRESS", Align::Left),
        ("INSTANCES", Align::Left),
        ("VERSION", Align::Left),
        ("SESSION", Align::Left),
        ("KEEPS UP", Align::Left),
    ]);
    let now = time::now_ms();
    for node in nodes {
        let told = node.told.as_ref();
        let address = told.and_then(|told| {
            let four = told.address4.map(|it| it.to_string());
            four.or_else(|| told.address6.map(|it| it.to_string()))
        });
        let instances = told.and_then(|told| told.instances4.or(told.instances6));
        table.row([
            Cell::new(node.name.as_str()),
            Cell::or_dash(told.map(|told| told.zone.as_str())),
            Cell::or_dash(address),
            Cell::or_dash(instances.map(|it| it.to_string())),
            Cell::or_dash(told.map(|told| told.version.as_str())),
            session(node, now),
            keeps_up(node),
        ]);
    }
    table.render(context.style, context.width)
}

fn session(node: &Node, now: u64) -> Cell {
    if node.withdrawn_s.is_some() {
        return Cell::tinted("withdrawn", Tint::Bad);
    }
    match &node.session {
        None => Cell::or_dash(None::<String>),
        Some(Session { dead_since_ms: Some(at), .. }) => {
            Cell::tinted(format!("dead {}", time::ago(*at, now)), Tint::Bad)
        }
        Some(Session { lost_since_ms: Some(at), .. }) => {
            Cell::tinted(format!("lost {}", time::ago(*at, now)), Tint::Bad)
        }
        Some(session) if !session.control_runs => {
            Cell::tinted(format!("{} is gone", session.control), Tint::Busy)
        }
        Some(session) => {
            let since =
                time::short(std::time::Duration::from_millis(now.saturating_sub(session.since_ms)));
            Cell::new(format!("{since} at {}", session.control))
        }
    }
}

fn keeps_up(node: &Node) -> Cell {
    let Some(keeps_up) = &node.keeps_up else { return Cell::or_dash(None::<String>) };
    if keeps_up.behind.is_empty() {
        return Cell::new(format!("with {}", keeps_up.current));
    }
    let behind: Vec<String> = keeps_up
        .behind
        .iter()
        .map(|(service, it)| {
            let has = it.has.map_or_else(|| "nothing".to_owned(), |has| has.to_string());
            let refused = it.refused.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("{service} {has} of {}{refused}", it.newest)
        })
        .collect();
    Cell::tinted(format!("behind: {}", behind.join(", ")), Tint::Busy)
}
