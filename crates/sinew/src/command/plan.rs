//! `sinew plan`.

use crate::{args::FileArg, context::Context, error::Error, file};

pub(super) async fn plan(args: &FileArg, context: &Context) -> Result<(), Error> {
    let project = file::read(&args.file)?;
    let plan = context.client().await?.plan(&project).await?;
    context.show(&plan, |plan| plan.render(context.style.colour))
}
