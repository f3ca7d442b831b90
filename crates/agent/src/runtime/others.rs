//! The runtime's ties to other hosts: what is heard of them goes into the core, what runs here is
//! told to them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use sinew_model::{NodeName, ServiceName};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::Runtime;
use crate::{
    core::{Input, remote_keys},
    dns::Lookups,
    fleet::{Fleet, FleetStatus, News, Tell},
    intent::Intent,
};

/// The last word about what is known is written within this time.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Nothing of it is there on a host that is alone.
#[derive(Default)]
pub(super) struct Ties(Option<Tie>);

/// Something that is heard.
pub(super) enum Heard {
    /// Of other hosts.
    News(News),
    /// Somebody here looked it up.
    Lookup(ServiceName),
}

struct Tie {
    tell: mpsc::UnboundedSender<Tell>,
    news: mpsc::UnboundedReceiver<News>,
    first: Vec<News>,
    task: JoinHandle<()>,
    lookups: Option<Lookups>,
    /// Connections to each service at the last look.
    calls: std::collections::HashMap<u32, u64>,
}

impl Ties {
    /// What is heard next; never anything on a host that is alone.
    pub(super) async fn heard(&mut self) -> Heard {
        let Some(Tie { news, lookups, .. }) = &mut self.0 else {
            return std::future::pending().await;
        };
        let looked_up = async {
            match lookups {
                Some(lookups) => lookups.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(news) = news.recv() => Heard::News(news),
            service = looked_up => Heard::Lookup(service),
        }
    }

    pub(super) fn is_one_of_many(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn tell(&self, word: Tell) {
        if let Some(tie) = &self.0 {
            // Its task ends after this one.
            let _ = tie.tell.send(word);
        }
    }

    /// Waits until what is known is on disk.
    pub(super) async fn end(self) {
        let Some(Tie { tell, task, .. }) = self.0 else { return };
        drop(tell);
        if timeout(LAST_WORD, task).await.is_err() {
            tracing::warn!("what is known of other hosts may not all be on disk");
        }
    }
}

impl Runtime {
    /// This host is one of many, before anything else happens here.
    pub(super) fn enter(&mut self, fleet: Option<Fleet>) {
        let Some(Fleet { tell, news, mut first, given, task, .. }) = fleet else { return };
        let around = first.iter().position(|news| matches!(news, News::Around(_)));
        if let Some(News::Around(around)) = around.map(|at| first.swap_remove(at)) {
            self.core.join(around, given);
        }
        let lookups = match self.names.lookups() {
            Ok(lookups) => Some(lookups),
            Err(error) => {
                self.warnings.push(format!(
                    "services of other hosts are reached only when a service of this host depends on \
                     them: lookups cannot be heard of: {error}"
                ));
                None
            }
        };
        let calls = std::collections::HashMap::new();
        self.ties = Ties(Some(Tie { tell, news, first, task, lookups, calls }));
    }

    /// What was known when the last agent ended has numbers before anything is told of it.
    pub(super) fn known_before(&mut self, intent: Intent) -> Intent {
        let Some(tie) = &self.ties.0 else { return intent };
        let names: BTreeSet<ServiceName> = tie.first.iter().flat_map(names_in).collect();
        match intent.know(names.iter()) {
            Ok(Some(next)) => {
                self.keep(&next);
                next
            }
            Ok(None) => intent,
            Err(refusal) => {
                self.warnings.push(format!("services of other hosts have no address: {refusal}"));
                intent
            }
        }
    }

    /// Takes what was known, and tells what runs.
    pub(super) fn meet_others(&mut self) {
        let Some(tie) = &mut self.ties.0 else { return };
        for news in std::mem::take(&mut tie.first) {
            self.feed(Input::News(news));
        }
        self.ties.tell(Tell::Runs(self.core.told()));
    }

    pub(super) fn take_news(&mut self, news: News) {
        let names = names_in(&news);
        match self.core.intent().know(names.iter()) {
            Ok(Some(next)) => {
                self.keep(&next);
                self.feed(Input::Intent(Arc::new(next)));
            }
            Ok(None) => {}
            Err(refusal) => {
                tracing::warn!("services of other hosts have no address: {refusal}");
            }
        }
        if let News::Dead(node) = &news {
            self.close_host(node);
        }
        self.feed(Input::News(news));
    }

    /// Its numbers are derived from the names, so that little is lost when they are not on disk.
    fn keep(&mut self, next: &Intent) {
        if let Err(error) = self.store.save(next) {
            tracing::warn!("the addresses of new names are not on disk yet: {error}");
        }
    }

    fn close_host(&self, node: &NodeName) {
        let Some(around) = self.core.around() else { return };
        let Some(peer) = around.fleet.peers.get(node).cloned() else { return };
        let (datapath, node) = (self.datapath.clone(), node.clone());
        self.background.spawn_blocking(move || match datapath.lock().close_host(&peer) {
            Ok(0) => {}
            Ok(closed) => tracing::info!("{closed} connections with dead host {node} were closed"),
            Err(error) => tracing::warn!("connections with dead host {node} stay open: {error}"),
        });
    }

    pub(super) fn looked_up(&self, service: ServiceName) {
        self.ties.tell(Tell::Used(vec![service]));
    }

    /// Tells which services are called, and looks which backends the kernel passes over. Nothing is
    /// looked at as long as no service has endpoints elsewhere.
    pub(super) fn look_at_others(&mut self) {
        if self.core.remotes().next().is_none() {
            return;
        }
        self.look_at_unwell();
        self.look_at_calls();
    }

    fn look_at_unwell(&mut self) {
        let stats = match self.datapath.lock().backends() {
            Ok(stats) => stats,
            Err(error) => {
                tracing::debug!("cannot read the backends: {error}");
                return;
            }
        };
        let passed_over = |key: &u64| {
            stats.get(key).is_some_and(|seen| seen.ejected_now || seen.suspect || seen.hung > 0)
        };
        let elsewhere = self.core.remotes().flat_map(|(name, remote)| remote_keys(name, remote));
        let mut unwell: HashSet<u64> =
            elsewhere.map(|(_, _, key)| key).filter(passed_over).collect();
        for (name, _) in self.core.remotes() {
            let own = self.core.instances_of(name).flat_map(crate::core::backend_keys);
            unwell.extend(own.filter(passed_over));
        }
        self.feed(Input::Unwell(unwell));
    }

    fn look_at_calls(&mut self) {
        let Ok(edges) = self.datapath.lock().edges() else { return };
        let mut calls = std::collections::HashMap::new();
        for edge in &edges {
            let made = edge.counters.connects() + edge.counters.active;
            *calls.entry(edge.destination).or_default() += made;
        }
        let Some(tie) = &mut self.ties.0 else { return };
        let before = std::mem::replace(&mut tie.calls, calls);
        let numbers = &self.core.intent().numbers;
        let called = |number: &u32| tie.calls.get(number) != before.get(number);
        let used = self.core.remotes().filter(|(name, _)| numbers.get(*name).is_some_and(called));
        let used: Vec<ServiceName> = used.map(|(name, _)| name.clone()).collect();
        if !used.is_empty() {
            self.ties.tell(Tell::Used(used));
        }
    }

    /// How this host is among others; `None`: it is alone.
    pub(crate) fn ask_others(&self) -> Option<oneshot::Receiver<FleetStatus>> {
        let (asked, answer) = oneshot::channel();
        let told = self.ties.is_one_of_many();
        self.ties.tell(Tell::Status(asked));
        told.then_some(answer)
    }
}

fn names_in(news: &News) -> BTreeSet<ServiceName> {
    match news {
        News::Names(names) => (**names).clone(),
        News::Services(services) => {
            let known = services.iter().filter(|(_, remote)| remote.is_some());
            known.map(|(name, _)| name.clone()).collect()
        }
        News::Around(_) | News::Dead(_) => BTreeSet::new(),
    }
}
