//! A data path of memory, for tests of what stands above it.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sinew_model::Protocol;

use crate::{
    Affinity, BackendStats, BackendTimes, Callee, Carrier, Datapath, EdgeStats, Error, FlowBackend,
    Listener, Look, Mended, Notice, Peer, Totals, Usage, Wanted,
};

/// What a [`Fake`] holds and answers.
#[derive(Debug, Default)]
pub struct FakeState {
    /// The last wanted state.
    pub wanted: Wanted,
    /// Answers of [`Datapath::backends`].
    pub backends: HashMap<u64, BackendStats>,
    /// Answers of [`Datapath::times`].
    pub times: HashMap<u64, BackendTimes>,
    /// Answers of [`Datapath::edges`].
    pub edges: Vec<EdgeStats>,
    /// Answers of [`Datapath::listeners`].
    pub listeners: Vec<Listener>,
    /// Addresses whose connections were closed.
    pub closed: Vec<SocketAddr>,
    /// Hosts whose connections were closed.
    pub closed_hosts: Vec<Peer>,
    /// Answers of [`Datapath::callees`], suspect or not by what was tried last.
    pub callees: Vec<Callee>,
    /// What [`Datapath::tried`] was told, in turn.
    pub tried: Vec<(u32, bool)>,
    /// Answers of [`Datapath::notices`].
    pub notices: Vec<Notice>,
    /// Heartbeats.
    pub beats: u64,
    /// What [`Datapath::sample_flows`] was told last.
    pub flow_sample: u32,
    /// Answers of [`Datapath::affinity`].
    pub affinities: HashMap<Ipv4Addr, Affinity>,
    /// Answers of [`Datapath::backend_key`].
    pub backend_keys: HashMap<FlowBackend, u64>,
    /// Answer of [`Datapath::totals`].
    pub totals: Option<Totals>,
    /// Answers of [`Datapath::filling`].
    pub filling: Vec<Usage>,
    /// What the next look of [`Datapath::reconciliation`] gives back.
    pub ended_unseen: u32,
    /// Cgroups that were hooked by [`Datapath::hook`].
    pub hooked: Vec<PathBuf>,
    /// Cgroups whose hooks somebody else holds.
    pub taken: Vec<PathBuf>,
    /// Hooks that the members lack until they are mended.
    pub lacks: Vec<&'static str>,
    /// Whether mending does not help.
    pub mends_fail: bool,
    /// Whether it was detached.
    pub detached: bool,
}

/// See [`FakeState`]; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    state: Arc<Mutex<FakeState>>,
}

impl Fake {
    /// The state, to look at or to change.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Datapath for Fake {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Error> {
        self.state().wanted = wanted.clone();
        Ok(())
    }

    fn hook(&mut self, cgroup: &Path) -> Result<(), Error> {
        let mut state = self.state();
        if state.taken.iter().any(|taken| cgroup.starts_with(taken)) {
            return Err(Error::HookTaken { hook: "connect4", path: cgroup.to_owned() });
        }
        state.hooked.push(cgroup.to_owned());
        Ok(())
    }

    fn missing_hooks(&self, carrier: Carrier<'_>) -> Vec<&'static str> {
        let (Carrier::Adopted(cgroup) | Carrier::Reach(cgroup)) = carrier else {
            return self.state().lacks.clone();
        };
        let taken = self.state().taken.iter().any(|taken| cgroup.starts_with(taken));
        if taken { vec!["connect4"] } else { Vec::new() }
    }

    fn mend(&mut self) -> Vec<Mended> {
        let mut state = self.state();
        let lacked = std::mem::take(&mut state.lacks);
        let error = state.mends_fail.then(|| Error::Denied {
            hook: "connect4",
            path: PathBuf::new(),
            why: "a test says so".into(),
        });
        if error.is_some() {
            state.lacks = lacked.clone();
        }
        let mended = Mended { cgroup: "members".into(), hooks: lacked, error };
        if mended.hooks.is_empty() { Vec::new() } else { vec![mended] }
    }

    fn beat(&mut self) -> Result<(), Error> {
        self.state().beats += 1;
        Ok(())
    }

    fn backends(&self) -> Result<HashMap<u64, BackendStats>, Error> {
        Ok(self.state().backends.clone())
    }

    fn active(&self, keys: &[u64]) -> Result<HashMap<u64, u32>, Error> {
        let state = self.state();
        let active = |key: &u64| Some((*key, state.backends.get(key)?.active));
        Ok(keys.iter().filter_map(active).collect())
    }

    fn times(&self, keys: &[u64]) -> Result<HashMap<u64, BackendTimes>, Error> {
        let state = self.state();
        let times = |key: &u64| Some((*key, *state.times.get(key)?));
        Ok(keys.iter().filter_map(times).collect())
    }

    fn edges(&self) -> Result<Vec<EdgeStats>, Error> {
        Ok(self.state().edges.clone())
    }

    fn forget_services(&mut self, numbers: &[u32]) -> Result<(), Error> {
        let gone = |n: u32| numbers.contains(&n);
        self.state().edges.retain(|edge| !gone(edge.source) && !gone(edge.destination));
        Ok(())
    }

    fn totals(&self) -> Result<Totals, Error> {
        Ok(self.state().totals.unwrap_or(Totals::ZERO))
    }

    fn filling(&self) -> Result<Vec<Usage>, Error> {
        Ok(self.state().filling.clone())
    }

    fn reconciliation(&self) -> Result<Look, Error> {
        let fake = self.clone();
        Ok(Box::new(move || Ok(std::mem::take(&mut fake.state().ended_unseen))))
    }

    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        Ok(self.state().listeners.clone())
    }

    fn close_connections(&self, to: SocketAddr) -> Result<u32, Error> {
        self.state().closed.push(to);
        Ok(0)
    }

    fn close_host(&self, peer: &Peer) -> Result<u32, Error> {
        self.state().closed_hosts.push(peer.clone());
        Ok(0)
    }

    fn callees(&self) -> Result<Vec<Callee>, Error> {
        Ok(self.state().callees.clone())
    }

    fn tried(&self, node: u32, answered: bool) -> Result<(), Error> {
        let mut state = self.state();
        state.tried.push((node, answered));
        for callee in state.callees.iter_mut().filter(|callee| callee.node == node) {
            callee.suspect = !answered;
        }
        Ok(())
    }

    fn notices(&self) -> Vec<Notice> {
        self.state().notices.clone()
    }

    fn affinity(
        &self,
        source: Ipv4Addr,
        _service: u32,
        _port: (Protocol, u16),
    ) -> Result<Option<Affinity>, Error> {
        Ok(self.state().affinities.get(&source).copied())
    }

    fn sample_flows(&mut self, one_of: u32) {
        self.state().flow_sample = one_of;
    }

    fn backend_key(&self, backend: FlowBackend) -> Option<u64> {
        self.state().backend_keys.get(&backend).copied()
    }

    fn detach(&mut self) -> Result<(), Error> {
        let mut state = self.state();
        state.wanted = Wanted::default();
        state.detached = true;
        Ok(())
    }
}
