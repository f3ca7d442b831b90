//! Tells everybody who listens what changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use sinew_api::{Event, EventKind};
use sinew_model::ProjectName;
use tokio::sync::broadcast;

/// Events that a slow listener may be behind before it loses some.
const BACKLOG: usize = 4096;

/// Tells everybody who listens.
#[derive(Debug)]
pub(crate) struct Bus {
    sender: broadcast::Sender<Arc<Event>>,
    sequence: AtomicU64,
}

impl Bus {
    /// Nobody listens yet.
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, sequence: AtomicU64::new(0) }
    }

    /// Tells everybody, and the log.
    pub(crate) fn publish(&self, project: Option<ProjectName>, kind: EventKind) {
        log(project.as_ref(), &kind);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody may listen.
        let _ = self.sender.send(Arc::new(Event { at_ms: now_ms(), sequence, project, kind }));
    }

    /// Listens from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.sender.subscribe()
    }
}

fn log(project: Option<&ProjectName>, kind: &EventKind) {
    match kind {
        EventKind::Workload { service, replica, state, reason } => {
            let reason = reason.as_deref().unwrap_or_default();
            let state = serde_json::to_value(state).unwrap_or_default();
            let state = state.as_str().unwrap_or_default();
            let gap = if reason.is_empty() { "" } else { ": " };
            tracing::info!("{service}/{replica} is {state}{gap}{reason}");
        }
        EventKind::Project { change } => {
            let name = project.map(ToString::to_string).unwrap_or_default();
            tracing::info!("project {name} {change}");
        }
        EventKind::Warning { message } => tracing::warn!("{message}"),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
