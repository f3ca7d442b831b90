//! The sessions of a replica, for who looks at them or has to end one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sinew_identity::Peer;
use sinew_model::{NodeName, ServiceName, fleet::Generation};
use tokio::sync::mpsc;

use crate::{registry::Registry, session::Session};

/// That a session is to end.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: String,
    /// When the agent is to come back.
    pub(super) reconnect_after: Duration,
}

/// A session's place among all.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Rises when it is looked who may stay.
    looks: u64,
    last: u64,
    all: BTreeMap<u64, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: Peer,
    node: NodeName,
    session: Arc<Mutex<Session>>,
    ending: mpsc::Sender<Ending>,
}

/// Keeps a session in the list.
pub(super) struct Place<'a> {
    sessions: &'a Sessions,
    number: u64,
}

/// How an agent keeps up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its session; `None`: it is not open yet.
    pub epoch: Option<u64>,
    /// Of what it wants to hear.
    pub subscribed: BTreeSet<ServiceName>,
    /// What it has applied of each service.
    pub acked: BTreeMap<ServiceName, Generation>,
    /// What it has refused since, and why.
    pub nacked: BTreeMap<ServiceName, (Generation, String)>,
    /// What of the services that are placed on it it does not run, and why not.
    pub refused: BTreeMap<ServiceName, String>,
}

impl Sessions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A host has one session: who opens another has no use for the one before.
    pub(super) fn enter(
        &self,
        peer: Peer,
        node: NodeName,
        session: Arc<Mutex<Session>>,
    ) -> (Place<'_>, mpsc::Receiver<Ending>) {
        let (ending, received) = mpsc::channel(1);
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        for older in state.all.values().filter(|it| it.node == node) {
            // One that is full, or gone, ends already.
            let _ = older.ending.try_send(Ending {
                reason: "replaced: the host has opened another session".to_owned(),
                reconnect_after: Duration::ZERO,
            });
        }
        state.all.insert(number, Entry { peer, node, session, ending });
        (Place { sessions: self, number }, received)
    }

    pub(crate) fn len(&self) -> usize {
        self.state().all.len()
    }

    pub(super) fn nodes(&self) -> BTreeSet<NodeName> {
        self.state().all.values().map(|entry| entry.node.clone()).collect()
    }

    /// How often it was looked who may stay: who was admitted before the last time and entered after
    /// it was not looked at.
    pub(super) fn looks(&self) -> u64 {
        self.state().looks
    }

    /// Who is there, or of these only one host, to look whether they may stay.
    pub(super) fn peers(&self, of: Option<&NodeName>) -> Vec<(u64, Peer)> {
        let mut state = self.state();
        state.looks += 1;
        let wanted = state.all.iter().filter(|(_, it)| of.is_none_or(|of| it.node == *of));
        wanted.map(|(number, entry)| (*number, entry.peer.clone())).collect()
    }

    pub(super) fn end(&self, number: u64, ending: Ending) {
        if let Some(entry) = self.state().all.get(&number) {
            // One that is full, or gone, ends already.
            let _ = entry.ending.try_send(ending);
        }
    }

    /// How the newest session of each host keeps up.
    pub(super) fn seen(&self, registry: &Mutex<Registry>) -> BTreeMap<NodeName, Seen> {
        let all: Vec<Entry> = self.state().all.values().cloned().collect();
        let seen = |entry: Entry| {
            let session = entry.session.lock().unwrap_or_else(PoisonError::into_inner);
            let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
            let subscribed = session.subscriber().map(|id| registry.subscribed(id));
            let subscribed = subscribed.into_iter().flatten().cloned().collect();
            let (acked, nacked) = (session.acked().clone(), session.nacked().clone());
            let refused = session.placed().into_iter().flat_map(|placed| &placed.refused);
            let refused = refused.map(|held| (held.service.clone(), held.reason.clone())).collect();
            (entry.node, Seen { epoch: session.epoch(), subscribed, acked, nacked, refused })
        };
        all.into_iter().map(seen).collect()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.sessions.state().all.remove(&self.number);
    }
}
