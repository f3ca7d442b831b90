//! What the authority's part of the store has to do with a running replica: its own certificate is
//! renewed in time and when the root changes, and hosts that are withdrawn lose their sessions.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use sinew_identity::{Due, Role};
use sinew_model::NodeName;
use tokio::time::sleep;

use super::{clock, sessions::Ending, shared::Shared};
use crate::{
    identity::{Error, records},
    store::{Event, Span, Update, Watch},
};

const PREFIX: &str = "sinew/ca/";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Clocks may be set: what is due is looked at again after that.
const LONGEST_LOOK: Duration = Duration::from_secs(600);

/// What a change asks for.
enum Change {
    Root,
    Host(NodeName),
}

/// Goes on until it is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let jitter = clock::unit();
    let mut pause = FIRST_PAUSE;
    loop {
        let watch = shared.store.watch(Span::prefix(PREFIX), None).await;
        if let Ok(watch) = watch {
            pause = FIRST_PAUSE;
            // What changed before it is watched.
            check(&shared, None).await;
            renew(&shared).await;
            follow(&shared, watch, jitter).await;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Until the watch has lost its place.
async fn follow(shared: &Shared, mut watch: Watch, jitter: f64) {
    let mut failures = 0;
    loop {
        tokio::select! {
            update = watch.next() => match update {
                Some(Ok(Update::Batch(batch))) => {
                    for change in batch.events.iter().filter_map(read) {
                        match change {
                            Change::Root => drop(renew(shared).await),
                            Change::Host(node) => check(shared, Some(&node)).await,
                        }
                    }
                }
                Some(Ok(Update::Progress(_) | Update::Interrupted(_))) => {}
                Some(Err(_)) | None => return,
            },
            () = sleep(next_look(shared, jitter, failures)) => {
                if is_due(shared, jitter) {
                    failures = if renew(shared).await { 0 } else { failures + 1 };
                }
            }
        }
    }
}

fn read(event: &Event) -> Option<Change> {
    let key = std::str::from_utf8(event.key()).ok()?;
    if key == records::ROOT {
        return Some(Change::Root);
    }
    key.strip_prefix(records::HOSTS)?.parse().ok().map(Change::Host)
}

fn next_look(shared: &Shared, jitter: f64, failures: u32) -> Duration {
    let now = clock::moment();
    match shared.holder.current().certificate().life.due(now, jitter) {
        Due::Fine { renew_at } => renew_at.since(now).clamp(Duration::from_secs(1), LONGEST_LOOK),
        _ => (FIRST_PAUSE * 2u32.saturating_pow(failures.min(8))).min(LONGEST_PAUSE),
    }
}

fn is_due(shared: &Shared, jitter: f64) -> bool {
    match shared.holder.current().certificate().life.due(clock::moment(), jitter) {
        Due::Fine { .. } => false,
        Due::Renew => true,
        Due::Alarm { left } => {
            tracing::error!(
                ?left,
                "this replica's own certificate ends soon, and could not be renewed"
            );
            true
        }
        Due::Expired { by } => {
            tracing::error!(?by, "this replica's own certificate has expired: no host can connect");
            true
        }
        Due::NotYetValid { by } => {
            tracing::error!(
                ?by,
                "the clock went back behind the beginning of this replica's certificate"
            );
            true
        }
    }
}

async fn renew(shared: &Shared) -> bool {
    match shared.authority.credentials(&shared.options.name, clock::moment()).await {
        Ok(credentials) => {
            let until = credentials.certificate().life.not_after;
            tracing::debug!(%until, "this replica has a new certificate");
            shared.holder.replace(credentials);
            true
        }
        Err(error) => {
            tracing::warn!(%error, "this replica gets no new certificate");
            false
        }
    }
}

/// Ends sessions, of one host or all, that the authority does not admit any more.
pub(super) async fn check(shared: &Shared, node: Option<&NodeName>) {
    for (number, peer) in shared.sessions.peers(node) {
        let Err(Error::Denied(denied)) = shared.authority.admit(&peer).await else { continue };
        if let Role::Node(node) = &peer.identity.role {
            tracing::info!(%node, reason = %denied, "a host loses its session");
        }
        let reconnect_after = LONGEST_PAUSE;
        shared.sessions.end(number, Ending { reason: denied.to_string(), reconnect_after });
    }
}
