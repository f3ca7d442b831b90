//! What a workload wrote before it ended: the reason why it does not come up, more often than not.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use sinew_api::{Client, ClientError, LogLine, LogQuery};
use sinew_model::ServiceName;

use crate::{command::printer::Printer, error::Error};

/// So many lines of it.
const LINES: u32 = 5;

/// Shows the last lines of workloads that back off, of each only once: the next time they are the
/// same again.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    told: BTreeSet<(ServiceName, u32)>,
}

impl LastWords {
    pub(super) async fn tell(
        &mut self,
        client: &Client,
        printer: &mut Printer<'_>,
        service: &ServiceName,
        replica: u32,
    ) -> Result<(), Error> {
        if !self.told.insert((service.clone(), replica)) {
            return Ok(());
        }
        // Without them the reason alone must do.
        let lines = last_lines(client, service, replica).await.unwrap_or_default();
        lines.iter().try_for_each(|line| printer.log(line))
    }
}

/// The last lines that a replica wrote.
pub(super) async fn last_lines(
    client: &Client,
    service: &ServiceName,
    replica: u32,
) -> Result<Vec<LogLine>, ClientError> {
    let services = vec![service.clone()];
    let query = LogQuery { services, tail: Some(LINES), ..LogQuery::default() };
    let mut lines = client.logs(&query).await?;
    let mut written = Vec::new();
    while let Some(line) = lines.next().await {
        let line = line?;
        if line.replica == replica {
            written.push(line);
        }
    }
    Ok(written)
}
