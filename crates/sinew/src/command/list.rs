//! `sinew ps` and `sinew services`.

use crate::{
    args::Services,
    context::Context,
    error::Error,
    render::{service, time, workload},
};

pub(super) async fn ps(context: &Context) -> Result<(), Error> {
    let mut workloads = context.client().await?.workloads().await?;
    workloads.sort_by(|a, b| (&a.service, a.replica).cmp(&(&b.service, b.replica)));
    context.show(&workloads, |workloads| {
        workload::table(workloads, time::now_ms(), context.style, context.width)
    })
}

pub(super) async fn services(args: &Services, context: &Context) -> Result<(), Error> {
    let client = context.client().await?;
    if let Some(name) = &args.name {
        let found = client.service(name).await?;
        return context.show(&found, |found| service::detail(found, context.style, context.width));
    }
    let mut services = client.services().await?;
    services.sort_by(|a, b| a.name.cmp(&b.name));
    context.show(&services, |services| service::table(services, context.style, context.width))
}
