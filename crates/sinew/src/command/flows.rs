//! `sinew flows`.

use std::io::Write as _;

use futures_util::StreamExt as _;
use sinew_api::{Client, FlowItem, FlowQuery, FlowVerdict};

use crate::{
    args::Flows,
    context::Context,
    error::Error,
    render::{flow, style::Tint},
    spawn,
};

pub(super) async fn flows(args: &Flows, context: &Context) -> Result<(), Error> {
    let query = FlowQuery {
        follow: args.follow,
        from: args.from.as_ref().map(ToString::to_string),
        to: args.to.clone(),
        verdict: args.verdict,
    };
    let mut client = context.client().await?;
    let mut head = !context.json;
    loop {
        match show(&client, &query, context, &mut head).await {
            Ok(()) if !args.follow => return Ok(()),
            Ok(()) => {}
            Err(Error::Client(error)) if args.follow && error.agent_is_away() => {}
            Err(error) => return Err(error),
        }
        remark(context, "the agent is gone; waiting for it");
        client = spawn::wait_for(&context.socket).await?;
    }
}

async fn show(
    client: &Client,
    query: &FlowQuery,
    context: &Context,
    head: &mut bool,
) -> Result<(), Error> {
    let mut items = client.flows(query).await?;
    // From here on the agent tells: who reads this line misses nothing after it.
    if std::mem::take(head) {
        context.print_line(&flow::head(context.style))?;
    }
    let mut sample = 1;
    while let Some(item) = items.next().await {
        let item = item?;
        if context.json {
            context.print_json_line(&item)?;
            continue;
        }
        match item {
            FlowItem::Flow(one) => {
                if one.verdict == FlowVerdict::Closed && one.one_of != sample {
                    sample = one.one_of;
                    remark(context, &sampled(sample));
                }
                context.print_line(&flow::line(&one, context.style))?;
            }
            FlowItem::Lost { flows, reason } => {
                remark(context, &format!("{flows} connections are not shown: {reason}"));
            }
        }
    }
    Ok(())
}

fn sampled(one_of: u32) -> String {
    match one_of {
        1 => "every closed connection is shown again".to_owned(),
        _ => format!("there are many: one of {one_of} closed connections is shown, every failure"),
    }
}

/// Words of Sinew's own stand beside the output, not in it.
fn remark(context: &Context, text: &str) {
    let painted = context.error_style.paint(Tint::Busy, text);
    // Nobody may read them.
    let _ = writeln!(std::io::stderr(), "sinew | {painted}");
}
