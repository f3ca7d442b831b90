//! `sinew explain`.

use sinew_api::ExplainQuery;

use crate::{args::Explain, context::Context, error::Error, render::explain};

pub(super) async fn explain(args: &Explain, context: &Context) -> Result<(), Error> {
    let (to, port) = (args.to.service.clone(), args.to.port.clone());
    let query = ExplainQuery { from: args.from.clone(), to, port };
    let explanation = context.client().await?.explain(&query).await?;
    context.show(&explanation, |found| explain::text(found, context.style, context.width))
}
