//! `sinew scale`, `sinew drain` and `sinew restart`.

use crate::{
    args::{Drain, Restart, Scale},
    context::Context,
    error::Error,
};

pub(super) async fn scale(args: &Scale, context: &Context) -> Result<(), Error> {
    let client = context.client().await?;
    let mut changed = Vec::new();
    for to in &args.to {
        changed.push(client.scale(&to.service, to.replicas).await?);
    }
    context.show(&changed, |changed| {
        let line = |service: &sinew_api::ServiceStatus| {
            let plural = if service.replicas == 1 { "" } else { "s" };
            format!("{}: {} instance{plural} wanted\n", service.name, service.replicas)
        };
        changed.iter().map(line).collect()
    })
}

pub(super) async fn drain(args: &Drain, context: &Context) -> Result<(), Error> {
    let endpoint = &args.endpoint;
    let accepted = context.client().await?.drain(&endpoint.service, endpoint.replica).await?;
    context.show(&accepted, |_| {
        let (service, replica) = (&endpoint.service, endpoint.replica);
        format!("{service}/{replica} takes no new connections\n")
    })
}

pub(super) async fn restart(args: &Restart, context: &Context) -> Result<(), Error> {
    let accepted = context.client().await?.restart(&args.name).await?;
    context.show(&accepted, |_| format!("{} restarts, one instance at a time\n", args.name))
}
