//! That this replica is there: a key under a lease, `controls/<id>`, which goes when the replica does,
//! so that others see whose sessions nobody holds any more. And the other way round: sessions that
//! the store says this replica holds, and it does not, are written off.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sinew_model::NodeName;
use tokio::{
    sync::oneshot::error::TryRecvError,
    time::{sleep, timeout},
};

use super::{shared::Shared, writer::Writing};
use crate::{
    records::{Key, StoredControl, write},
    session::lose,
    store::{Applied, Error, Lease, Op, Transaction},
};

/// Goes on until it is dropped.
pub(super) async fn keep(shared: Arc<Shared>) {
    let every = shared.options.lease / 4;
    let mut lease = None;
    let mut writing = BTreeMap::new();
    loop {
        let renewed = timeout(every * 2, renew(&shared, lease)).await.unwrap_or_else(|_| {
            let call = "a sign of life of this replica".to_owned();
            Err(Error::Timeout { call, after: every * 2, applied: Applied::Unknown })
        });
        match renewed {
            Ok(renewed) => {
                shared.health.answers();
                lease = Some(renewed);
            }
            Err(Error::LeaseNotFound { .. }) => lease = None,
            Err(error) => shared.health.fails(&error),
        }
        write_off(&shared, &mut writing);
        sleep(every).await;
    }
}

async fn renew(shared: &Shared, lease: Option<Lease>) -> Result<Lease, Error> {
    if let Some(lease) = lease {
        shared.store.keep_alive(lease.id).await?;
        return Ok(lease);
    }
    let lease = shared.store.grant(shared.options.lease).await?;
    let control = StoredControl {
        name: shared.options.name.clone(),
        advertise: shared.advertise.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        since_ms: milliseconds(shared.clock.now().wall),
    };
    let key = Key::Control(shared.id.clone()).bytes();
    let put = Op::put_under(lease.id, key, write(&control));
    shared.store.commit(Transaction::new().then(put)).await?;
    Ok(lease)
}

/// The replica ends: others need not wait for its lease.
pub(super) async fn end(shared: &Shared) {
    let delete = Op::delete(Key::Control(shared.id.clone()).bytes());
    let deleted = shared.store.commit(Transaction::new().then(delete));
    let _ = tokio::time::timeout(Duration::from_millis(500), deleted).await;
}

/// Sessions that are this replica's by the store, and of no stream: the write that would have said so
/// failed, or the stream ended before it was known that the session had begun. While such a write is
/// under way, which it is as long as the store is away, there is no other of that host.
fn write_off(shared: &Shared, writing: &mut BTreeMap<NodeName, Writing>) {
    writing.retain(|_, outcome| matches!(outcome.try_recv(), Err(TryRecvError::Empty)));
    let now = shared.clock.now();
    let writes: Vec<_> = {
        let registry = shared.registry();
        let here = shared.sessions.nodes();
        let own = registry.sessions().filter(|(_, _, it)| it.control == shared.id);
        let open = own.filter(|(_, _, it)| it.lost_since_ms.is_none());
        let lost =
            open.filter(|(node, _, _)| !here.contains(*node) && !writing.contains_key(*node));
        let lost = lost.map(|(node, revision, it)| {
            (node.clone(), lose(node, it, revision, now, Duration::ZERO))
        });
        lost.collect()
    };
    writing.extend(writes.into_iter().map(|(node, write)| (node, shared.writer.send(write))));
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
