//! Where the kernel's notices come from.

use std::{io, sync::Arc};

use sinew_datapath::{Event, Events};
use tokio::{io::unix::AsyncFd, sync::mpsc};

use crate::{
    flows::Flows,
    pollable::{self, Pollable},
};

/// Where the kernel's notices come from.
pub(crate) enum EventSource {
    /// The ring that the kernel's programs write to.
    Kernel(Events),
    /// Somebody who speaks for a kernel.
    Given(mpsc::UnboundedReceiver<Event>),
}

impl EventSource {
    /// Begins to listen, in the event loop of the calling thread.
    pub(super) fn open(self, flows: &Arc<Flows>) -> io::Result<mpsc::UnboundedReceiver<Event>> {
        match self {
            Self::Given(events) => Ok(events),
            Self::Kernel(events) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                tokio::spawn(pump(pollable::events(events)?, sender, flows.clone()));
                Ok(receiver)
            }
        }
    }
}

async fn pump(
    mut ring: AsyncFd<Pollable<Events>>,
    sender: mpsc::UnboundedSender<Event>,
    flows: Arc<Flows>,
) {
    loop {
        ring.get_mut().0.drain(|event| match event {
            // They may be many, and nobody's life depends on them: they have a queue with an end.
            Event::Flow(flow) => flows.offer(flow),
            event => {
                let _ = sender.send(event);
            }
        });
        match ring.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(error) => {
                tracing::error!("the kernel's events cannot be waited for: {error}");
                return;
            }
        }
    }
}
