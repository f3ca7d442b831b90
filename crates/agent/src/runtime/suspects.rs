//! Other hosts that left calls without an answer are tried from here, again and again, so that no
//! caller has to: the first answer brings them back.

use std::{io, panic::resume_unwind, time::Duration};

use futures_util::{StreamExt as _, stream};
use sinew_datapath::{self as datapath, Suspect};
use tokio::{
    net::TcpStream,
    task::{JoinHandle, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};

use super::SharedDatapath;

/// From one look for suspects to the next: several fall into the time that the first suspicion lasts.
const EVERY: Duration = Duration::from_millis(250);
/// A host of one network that is there answers in far less.
const PATIENCE: Duration = Duration::from_millis(500);
/// Tries at once: all hosts of a large zone are through before the kernel lets a caller try one.
const AT_ONCE: usize = 256;

/// The task, which ends with this.
pub(super) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tries suspects for as long as it is kept.
pub(super) fn watch(datapath: SharedDatapath) -> Watch {
    Watch(tokio::spawn(async move {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = round(&datapath).await {
                // Callers try them, as they do without an agent.
                tracing::debug!("hosts under suspicion are not tried: {error}");
            }
        }
    }))
}

async fn round(datapath: &SharedDatapath) -> Result<(), datapath::Error> {
    let suspects = with(datapath, |datapath| datapath.suspects()).await?;
    let mut tries = stream::iter(suspects)
        .map(|suspect| async move { (suspect, answers(&suspect).await) })
        .buffer_unordered(AT_ONCE);
    while let Some((Suspect { node, endpoint }, answered)) = tries.next().await {
        with(datapath, move |datapath| datapath.tried(node, answered)).await?;
        if answered {
            tracing::info!("the host of {endpoint} answers again");
        }
    }
    Ok(())
}

/// Whether somebody is there: who refuses is, too.
async fn answers(suspect: &Suspect) -> bool {
    match timeout(PATIENCE, TcpStream::connect(suspect.endpoint)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
        ),
        Err(_) => false,
    }
}

/// Apart from the other tasks: a change of many services holds the data path for a while.
async fn with<T: Send + 'static>(
    datapath: &SharedDatapath,
    work: impl FnOnce(&mut dyn datapath::Datapath) -> Result<T, datapath::Error> + Send + 'static,
) -> Result<T, datapath::Error> {
    let datapath = datapath.clone();
    match spawn_blocking(move || work(&mut **datapath.lock())).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panicked) => resume_unwind(panicked),
            // The agent ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use sinew_datapath::{Fake, FakeState};

    use super::*;

    async fn until(fake: &Fake, holds: impl Fn(&FakeState) -> bool) {
        while !holds(&fake.state()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn who_refuses_is_back_and_who_is_silent_is_tried_again() {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // A listener that takes nobody any more is as silent as a host that is away.
        let full = bind();
        rustix::net::listen(&full, 0).unwrap();
        let silent = full.local_addr().unwrap();
        let _waits = std::net::TcpStream::connect(silent).unwrap();
        let gone = bind().local_addr().unwrap();
        let fake = Fake::default();
        fake.state().suspects =
            vec![Suspect { node: 1, endpoint: silent }, Suspect { node: 2, endpoint: gone }];
        let watch = watch(SharedDatapath::new(Box::new(fake.clone())));
        until(&fake, |state| state.tried.iter().filter(|tried| **tried == (1, false)).count() > 1)
            .await;
        assert!(fake.state().tried.contains(&(2, true)));
        assert!(!fake.state().tried.contains(&(1, true)));
        drop(full);
        until(&fake, |state| state.suspects.is_empty()).await;
        drop(watch);
    }
}
