//! `sinew up`.

use tokio::time::Instant;

use crate::{args::Up, context::Context, error::Error, file, spawn};

use session::{Mode, Session};

mod next_agent;
mod progress;
mod session;

pub(super) async fn up(args: &Up, context: &Context) -> Result<(), Error> {
    let project = file::read(&args.file.file)?;
    let reached = spawn::reach(context).await?;
    let mode = if args.detach {
        let deadline = Instant::now() + args.timeout;
        Mode::Detached { deadline, timeout: args.timeout }
    } else {
        Mode::Foreground
    };
    Session::new(context, &project, reached, mode).run().await
}
