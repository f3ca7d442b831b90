//! Where the next agent comes from when one is gone.

use std::time::Duration;

use sinew_api::Client;
use tokio::{process::Child, time::Instant};

use crate::{
    context::Context,
    error::Error,
    spawn::{self, Reached},
};

/// So many agents within so long may end before none is started any more.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);

/// Finds or starts the next agent.
pub(super) struct NextAgent {
    /// The present one, when it was started here.
    child: Option<Child>,
    starts: Vec<Instant>,
}

impl NextAgent {
    pub(super) fn after(child: Option<Child>) -> Self {
        Self { child, starts: Vec::new() }
    }

    /// One that somebody else starts; or, after one that was started here and did not end by
    /// request, a new one of ours.
    pub(super) async fn wait(&mut self, context: &Context) -> Result<Client, Error> {
        let of_others = spawn::wait_for(&context.socket);
        if let Some(child) = &mut self.child {
            let status = tokio::select! {
                status = child.wait() => status,
                client = of_others => return client,
            };
            self.child = None;
            if !status.is_ok_and(|status| status.success()) {
                limit(&mut self.starts, Instant::now(), context)?;
                let Reached { client, child } = spawn::reach(context).await?;
                self.child = child;
                return Ok(client);
            }
        }
        spawn::wait_for(&context.socket).await
    }
}

/// Refuses to start an agent over and over that always ends.
fn limit(starts: &mut Vec<Instant>, now: Instant, context: &Context) -> Result<(), Error> {
    starts.retain(|start| now.duration_since(*start) < WITHIN);
    if starts.len() >= MOST {
        return Err(Error::AgentUnstable { times: starts.len() + 1, log: context.agent_log() });
    }
    starts.push(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn agents_are_not_started_for_ever() {
        let context = Context::new(&Cli::parse_from(["sinew", "ps"]).global);
        let begin = Instant::now();
        let mut starts = Vec::new();
        for second in 0..5 {
            limit(&mut starts, begin + Duration::from_secs(second), &context).unwrap();
        }
        let error = limit(&mut starts, begin + Duration::from_secs(59), &context).unwrap_err();
        assert!(matches!(error, Error::AgentUnstable { times: 6, .. }));
        // The first ones are long ago.
        limit(&mut starts, begin + Duration::from_secs(62), &context).unwrap();
    }
}
