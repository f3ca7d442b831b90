//! `sinew logs`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use sinew_api::{Client, LogPosition, LogQuery, ServiceStatus};
use sinew_model::ServiceName;

use crate::{
    args::{Logs, Source},
    command::printer::Printer,
    context::Context,
    error::Error,
    render::style::Tint,
    spawn,
};

pub(super) async fn logs(args: &Logs, context: &Context) -> Result<(), Error> {
    let mut client = context.client().await?;
    let services = client.services().await?;
    let names: BTreeSet<&ServiceName> = args.sources.iter().map(|source| &source.service).collect();
    let shown = services.iter().filter(|service| names.is_empty() || names.contains(&service.name));
    let mut printer = Printer::new(context, shown.map(|service| (&service.name, service.replicas)));
    let mut query = LogQuery {
        services: names.into_iter().cloned().collect(),
        follow: args.follow,
        tail: args.tail,
        from: Vec::new(),
    };
    let mut positions = ends(&client).await?;
    if !args.follow {
        // A follower may wait for what is not there yet.
        check(&args.sources, &services, &positions)?;
    }
    loop {
        match show(&client, &query, &args.sources, &mut printer, &mut positions).await {
            Ok(()) if !args.follow => return Ok(()),
            Ok(()) => {}
            Err(Error::Client(error)) if args.follow && error.agent_is_away() => {}
            Err(error) => return Err(error),
        }
        printer.say(Tint::Busy, "the agent is gone; waiting for it")?;
        client = spawn::wait_for(&context.socket).await?;
        // Behind what was shown; a replica that is not named is new: all of it.
        query.tail = None;
        query.from = positions
            .iter()
            .filter(|((service, _), _)| {
                query.services.is_empty() || query.services.contains(service)
            })
            .map(|((service, replica), &offset)| LogPosition {
                service: service.clone(),
                replica: *replica,
                offset,
            })
            .collect();
    }
}

type Positions = BTreeMap<(ServiceName, u32), u64>;

/// Where lines will be new. What is older is shown by the first query, as far as it was asked for.
async fn ends(client: &Client) -> Result<Positions, Error> {
    let positions = client.log_positions().await?;
    Ok(positions.into_iter().map(|at| ((at.service, at.replica), at.offset)).collect())
}

/// # Errors
/// With the first of `sources` that neither is there nor has left anything.
fn check(sources: &[Source], services: &[ServiceStatus], written: &Positions) -> Result<(), Error> {
    let runs = |source: &Source| {
        let service = services.iter().find(|service| service.name == source.service);
        let replicas = service.map_or(0, |service| u32::from(service.replicas));
        service.is_some() && source.replica.is_none_or(|replica| replica < replicas)
    };
    let wrote =
        |source: &Source| written.keys().any(|(service, replica)| source.covers(service, *replica));
    match sources.iter().find(|source| !runs(source) && !wrote(source)) {
        Some(source) => Err(Error::NoOutput { of: source.clone() }),
        None => Ok(()),
    }
}

async fn show(
    client: &Client,
    query: &LogQuery,
    sources: &[Source],
    printer: &mut Printer<'_>,
    positions: &mut Positions,
) -> Result<(), Error> {
    let mut lines = client.logs(query).await?;
    while let Some(line) = lines.next().await {
        let line = line?;
        if sources.is_empty() || sources.iter().any(|s| s.covers(&line.service, line.replica)) {
            printer.log(&line)?;
        }
        // Older lines than at the beginning do not take the place back.
        let position = positions.entry((line.service, line.replica)).or_default();
        *position = line.offset.max(*position);
    }
    Ok(())
}
