//! Taking the host out of the network of many hosts, in good order: the others stop calling, what is
//! open may end, control hears that nothing is left here, and then nothing of the network is.

use std::time::Duration;

use axum::{Json, extract::State};
use sinew_api::{Leave, Left};
use tokio::{sync::oneshot, time::timeout};

use super::{
    answer::{Answer, Body, blocking},
    asking::Asking,
};
use crate::{
    core::Withdrawal,
    fleet,
    refusal::Refusal,
    runtime::{Handle, Parted, Runtime},
    store::StoreError,
};

/// For control to have what it is told.
const TOLD: Duration = Duration::from_secs(5);
/// For the task that holds the session to end.
const END: Duration = Duration::from_secs(2);
const LONGEST_GRACE: Duration = Duration::from_secs(3600);

pub(super) async fn leave(
    State(handle): State<Handle>,
    asking: Asking,
    Body(how): Body<Leave>,
) -> Answer<Left> {
    asking.caller.may_leave()?;
    let grace = Duration::from_millis(how.grace_ms).min(LONGEST_GRACE);
    // A caller that goes away does not leave the host half way out.
    let left = tokio::spawn(go(handle, grace)).await.map_err(|_| Refusal::Stopping)?;
    Ok(Json(left?))
}

async fn go(handle: Handle, grace: Duration) -> Result<Left, Refusal> {
    // Two would undo each other's steps.
    let _alone = handle.leaving.try_lock().map_err(|_| Refusal::Leaving)?;
    if withdraw(&handle, Withdrawal::Drain).await? {
        tokio::time::sleep(grace).await;
    }
    let told = withdraw(&handle, Withdrawal::Gone).await?;
    let peers = handle.call(|runtime| runtime.peers()).await?;
    let datapath = handle.datapath.clone();
    blocking(move || {
        for peer in peers {
            if let Err(error) = datapath.lock().close_host(&peer) {
                tracing::warn!("connections with another host stay open: {error}");
            }
        }
    })
    .await?;
    let Parted { node, placed, task } = handle.call(Runtime::leave).await??;
    if let Some(task) = task {
        // What it still writes would be taken for what is known at the next start.
        let _ = timeout(END, task).await;
    }
    let state = handle.paths.state.clone();
    let forgotten = blocking(move || fleet::leave::forget(&state)).await?;
    forgotten.map_err(|source| StoreError::io("remove", &handle.paths.state)(source))?;
    tracing::info!("this host has left the network that it was in as {node}");
    Ok(Left { node, told, placed: placed.into_iter().collect() })
}

/// Whether control has heard.
async fn withdraw(handle: &Handle, how: Withdrawal) -> Result<bool, Refusal> {
    let answer: oneshot::Receiver<bool> =
        handle.call(move |runtime| runtime.withdraw(how)).await??;
    Ok(matches!(timeout(TOLD, answer).await, Ok(Ok(true))))
}
