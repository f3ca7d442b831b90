//! The sessions of a replica, for who looks at them or has to end one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sinew_identity::Peer;
use sinew_model::{NodeName, ServiceName, fleet::Generation};
use tokio::sync::mpsc;

use super::rivals::Rivals;
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
    rivals: Rivals,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: Peer,
    node: NodeName,
    from: IpAddr,
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

    /// A host has one session: who opens another has no use for the one before, unless it is another
    /// machine. `random`: from 0 to 1.
    pub(super) fn enter(
        &self,
        peer: Peer,
        (node, from): (NodeName, IpAddr),
        session: Arc<Mutex<Session>>,
        now: Duration,
        random: f64,
    ) -> (Place<'_>, mpsc::Receiver<Ending>) {
        let (ending, received) = mpsc::channel(1);
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        let State { all, rivals, .. } = &mut *state;
        // One that has ended already, and is not out of the list yet, is displaced by nobody.
        let open = |older: &&Entry| older.node == node && !older.ending.is_closed();
        if let Some(older) = all.values().rfind(open) {
            let displaced = rivals.displaced(&node, (older.from, from), now, random);
            if let Some((one, other)) = displaced.two {
                tracing::warn!(%node, "two machines are host {node} and take its session from each other, one at {one}, one at {other}: is one a copy of the other? Of the one that is not to be {node} remove the agent's state, and join it under a name of its own");
            }
            let reason = format!(
                "replaced: an agent at {from} has opened another session of host {node}; if it is a \
                 copy of this machine, join one of them under another name"
            );
            let ending = Ending { reason, reconnect_after: displaced.pause };
            for older in all.values().filter(open) {
                // One that is full, or gone, ends already.
                let _ = older.ending.try_send(ending.clone());
            }
        }
        state.all.insert(number, Entry { peer, node, from, session, ending });
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
