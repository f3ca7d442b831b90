//! Connections that ended while no program saw it are given back, and their number is told.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use sinew_datapath::Look;
use tokio::{runtime::Handle, task::JoinHandle};

use super::{SharedDatapath, guarded};

/// The looks for such connections.
pub(super) struct Unseen {
    look: Option<Arc<Mutex<Look>>>,
    running: Option<JoinHandle<()>>,
    /// How many there were.
    ended: Arc<AtomicU64>,
}

impl Unseen {
    pub(super) fn new(datapath: &SharedDatapath) -> Self {
        let look = datapath.lock().reconciliation();
        let failed = |error: &_| {
            tracing::error!("connections that end unseen stay counted as open: {error}");
        };
        let look = look.inspect_err(failed).ok().map(|look| Arc::new(Mutex::new(look)));
        Self { look, running: None, ended: Arc::default() }
    }

    /// Looks once, without the data path's lock: it takes long where many sockets are.
    pub(super) fn look(&mut self, background: &Handle) {
        let Some(look) = &self.look else { return };
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let (look, ended) = (Arc::clone(look), Arc::clone(&self.ended));
        self.running = Some(background.spawn_blocking(move || {
            let mut look = look.lock().unwrap_or_else(PoisonError::into_inner);
            match guarded(|| look().map_err(|error| error.to_string())) {
                Ok(0) => {}
                Ok(found) => {
                    ended.fetch_add(found.into(), Ordering::Relaxed);
                    tracing::warn!(
                        "{found} connections had ended while the programs were not there to see \
                         it; their backends count as that much less busy"
                    );
                }
                Err(error) => tracing::error!("cannot look for connections that ended: {error}"),
            }
        }));
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}
