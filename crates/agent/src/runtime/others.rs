//! The runtime's ties to other hosts: what is heard of them goes into the core, what runs here is
//! told to them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sinew_datapath::{self as datapath, Wanted};
use sinew_model::{NodeName, ProjectName, ServiceName};
use sinew_proto::{Assigned, Placed};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use super::{Runtime, SharedDatapath, life};
use crate::{
    bus::now_ms,
    core::{Input, Withdrawal, backend_keys, remote_keys},
    dns::Lookups,
    fleet::{Fleet, FleetStatus, News, Tell, leave, placed},
    intent::Intent,
    refusal::Refusal,
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
    calls: Arc<Mutex<HashMap<u32, u64>>>,
    /// A look is under way.
    looks: Arc<AtomicBool>,
    _asks: life::Asks,
}

/// A look at what the kernel counted, which takes a while when there is much.
struct Look {
    keys: Vec<u64>,
    services: HashMap<u32, ServiceName>,
    calls: Arc<Mutex<HashMap<u32, u64>>>,
    tell: mpsc::UnboundedSender<Tell>,
}

impl Look {
    fn look(
        &self,
        datapath: &SharedDatapath,
        inputs: &mpsc::UnboundedSender<Input>,
    ) -> Result<(), sinew_datapath::Error> {
        let stats = datapath.lock().backends()?;
        let passed_over =
            |key: &u64| stats.get(key).is_some_and(|seen| seen.ejected_now || seen.suspect);
        let unwell = self.keys.iter().copied().filter(passed_over).collect();
        // Neither end outlives the other by much.
        let _ = inputs.send(Input::Unwell(unwell));
        let mut calls: HashMap<u32, u64> = HashMap::new();
        for edge in datapath.lock().edges()? {
            let made = edge.counters.connects() + edge.counters.active;
            *calls.entry(edge.destination).or_default() += made;
        }
        let mut seen = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let called = |(number, _): &(&u32, &ServiceName)| calls.get(number) != seen.get(number);
        let used = self.services.iter().filter(called).map(|(_, name)| name.clone());
        let used: Vec<ServiceName> = used.collect();
        if !used.is_empty() {
            let _ = self.tell.send(Tell::Used(used));
        }
        *seen = calls;
        Ok(())
    }
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

/// What is left to be done when a host has left.
pub(crate) struct Parted {
    /// Its name in the network.
    pub(crate) node: NodeName,
    /// Projects that were placed here.
    pub(crate) placed: BTreeSet<ProjectName>,
    /// Ends by itself.
    pub(crate) task: Option<JoinHandle<()>>,
}

/// What of other hosts the data path holds.
#[derive(Default)]
pub(super) struct Reached {
    fleet: Option<datapath::Fleet>,
    /// Why not all of them, when it is not.
    pub(super) refused: Option<String>,
}

impl Reached {
    /// It holds all that is wanted.
    pub(super) fn all(&mut self, fleet: Option<&datapath::Fleet>) {
        if self.fleet.as_ref() != fleet {
            self.fleet = fleet.cloned();
        }
        self.refused = None;
    }

    /// What is wanted of other hosts is refused, for `why`: what runs here does not wait for that. They
    /// stay as they were last, or are not reached at all.
    pub(super) fn without(
        &mut self,
        why: &str,
        wanted: &mut Wanted,
        mut apply: impl FnMut(&Wanted) -> Result<(), datapath::Error>,
    ) -> Result<(), datapath::Error> {
        if self.refused.as_deref() != Some(why) {
            tracing::error!("what is new of other hosts is not reached: {why}");
            self.refused = Some(why.to_owned());
        }
        let fleet = std::mem::replace(&mut wanted.fleet, self.fleet.clone());
        let mut applied = apply(wanted);
        if applied.as_ref().is_err_and(datapath::Error::is_of_others) {
            self.fleet = None;
            wanted.fleet = None;
            applied = apply(wanted);
        }
        wanted.fleet = fleet;
        applied
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
        let (calls, looks) = (Arc::default(), Arc::default());
        let _asks = life::ask_others(self.datapath.clone());
        let tie = Tie { tell, news, first, task, lookups, calls, looks, _asks };
        self.ties = Ties(Some(tie));
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
        match &news {
            News::Dead(node) => self.close_host(node),
            News::Assigned(assigned) => self.run_assigned(assigned),
            _ => {}
        }
        self.feed(Input::News(news));
    }

    /// Runs what control has this host run, and answers what of it is not.
    fn run_assigned(&mut self, assigned: &Assigned) {
        let attached: BTreeSet<_> = self.core.attached_names().into_keys().collect();
        let (next, mut refused) = placed::take(self.core.intent(), assigned, &attached);
        if let Err(refusal) = self.check_not_ending().and_then(|()| self.intend(next)) {
            let reason = refusal.to_string();
            refused = assigned.services.keys().map(|name| placed::held(name, &reason)).collect();
        }
        self.ties.tell(Tell::Placed(Placed { generation: assigned.generation, refused }));
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
        let Some(tie) = &self.ties.0 else { return };
        if self.core.remotes().next().is_none() || tie.looks.swap(true, Ordering::AcqRel) {
            return;
        }
        let elsewhere = self.core.remotes().flat_map(|(name, remote)| remote_keys(name, remote));
        let here = self.core.remotes().flat_map(|(name, _)| self.core.instances_of(name));
        let keys = elsewhere.map(|(_, _, key)| key).chain(here.flat_map(backend_keys)).collect();
        let numbers = &self.core.intent().numbers;
        let services =
            self.core.remotes().filter_map(|(name, _)| Some((*numbers.get(name)?, name)));
        let look = Look {
            keys,
            services: services.map(|(number, name)| (number, name.clone())).collect(),
            calls: tie.calls.clone(),
            tell: tie.tell.clone(),
        };
        let (datapath, inputs, looks) =
            (self.datapath.clone(), self.inputs.clone(), tie.looks.clone());
        self.background.spawn_blocking(move || {
            if let Err(error) = look.look(&datapath, &inputs) {
                tracing::debug!("cannot look at what other hosts run: {error}");
            }
            looks.store(false, Ordering::Release);
        });
    }

    /// Has the other hosts call nothing here any more; answered when control knows, or cannot be told.
    ///
    /// # Errors
    /// When this host is alone.
    pub(crate) fn withdraw(&mut self, how: Withdrawal) -> Result<oneshot::Receiver<bool>, Refusal> {
        self.check_not_ending()?;
        if !self.ties.is_one_of_many() {
            return Err(Refusal::Alone);
        }
        self.feed(Input::Withdraw(Some(how)));
        let (asked, answer) = oneshot::channel();
        self.ties.tell(Tell::Settle(asked));
        Ok(answer)
    }

    /// The other hosts, as the data path knows them.
    pub(crate) fn peers(&self) -> Vec<Arc<datapath::Peer>> {
        let peers = self.core.around().into_iter().flat_map(|around| around.fleet.peers.values());
        peers.cloned().collect()
    }

    /// Is alone from now on; what others placed here is this host's own.
    ///
    /// # Errors
    /// When that cannot be written: it stays, and is called again.
    pub(crate) fn leave(&mut self) -> Result<Parted, Refusal> {
        let node = self.core.around().map(|around| around.node.clone()).ok_or(Refusal::Alone)?;
        if let Err(error) = leave::mark(&self.paths.state, now_ms()) {
            self.feed(Input::Withdraw(None));
            return Err(error.into());
        }
        let mut next = (**self.core.intent()).clone();
        let placed = std::mem::take(&mut next.placed);
        if let Err(refusal) = self.intend(next) {
            tracing::warn!("what was placed here goes on as if it still were: {refusal}");
        }
        self.feed(Input::Alone);
        self.ties.tell(Tell::Left);
        let task = std::mem::take(&mut self.ties).0.map(|tie| tie.task);
        Ok(Parted { node, placed, task })
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
        News::Around(_) | News::Dead(_) | News::Assigned(_) => BTreeSet::new(),
    }
}
