//! A network's authority without a store.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    pki_types::{CertificateDer, UnixTime},
    time_provider::TimeProvider,
};
use sinew_identity::{
    Certificate, Fingerprint, Identity, IssueError, Key, Moment, Role, Root, tls::Credentials,
};
use sinew_model::{ControlName, NetworkName, NodeName};

pub(crate) const NOW: Moment = Moment(1_700_000_000);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A clock that stands.
#[derive(Debug)]
pub(crate) struct At(Moment);

impl At {
    pub(crate) fn fixed(now: Moment) -> Arc<dyn TimeProvider> {
        Arc::new(Self(now))
    }
}

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0.into())
    }
}

#[derive(Clone)]
pub(crate) struct Network {
    name: NetworkName,
    root: Arc<Root>,
    /// Those that have vouched for the root, and what they said.
    vouched: Vec<CertificateDer<'static>>,
    shown: Vec<CertificateDer<'static>>,
    trusted: Vec<CertificateDer<'static>>,
    now: Moment,
}

fn serial() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
}

pub(crate) fn node(name: &str) -> Role {
    Role::Node(NodeName::new(name).unwrap())
}

fn root(name: &NetworkName) -> Root {
    Root::generate(name, Key::generate().unwrap(), NOW, DAY * 365, serial()).unwrap()
}

impl Network {
    pub(crate) fn new(name: &str) -> Self {
        let name = NetworkName::new(name).unwrap();
        let root = Arc::new(root(&name));
        let certificate = vec![root.certificate().clone()];
        let (shown, trusted) = (certificate.clone(), certificate);
        Self { name, root, vouched: Vec::new(), shown, trusted, now: NOW }
    }

    /// The same with a new root.
    pub(crate) fn rotated(&self) -> Self {
        let new = root(&self.name);
        let vouched = vec![self.root.vouch(&new, NOW, serial()).unwrap()];
        let mut trusted = vec![new.certificate().clone()];
        trusted.extend(self.trusted.clone());
        let shown = trusted.clone();
        Self { root: Arc::new(new), vouched, shown, trusted, ..self.clone() }
    }

    /// The same, whose certificates are made at that time.
    pub(crate) fn made(&self, now: Moment) -> Self {
        Self { now, ..self.clone() }
    }

    pub(crate) fn trusting(&self, other: &Self) -> Self {
        let trusted = [self.trusted.clone(), other.trusted.clone()].concat();
        Self { trusted, ..self.clone() }
    }

    pub(crate) fn showing(&self, other: &Self) -> Self {
        let shown = [self.shown.clone(), other.shown.clone()].concat();
        Self { shown, ..self.clone() }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.root.fingerprint()
    }

    pub(crate) fn sign(
        &self,
        role: &Role,
        request: &[u8],
        now: Moment,
    ) -> Result<(CertificateDer<'static>, Certificate), IssueError> {
        let identity = Identity { network: self.name.clone(), role: role.clone() };
        self.root.issue(&identity, request, now, DAY, serial())
    }

    fn credentials(&self, role: &Role) -> Credentials {
        let key = Key::generate().unwrap();
        let (leaf, _) = self.sign(role, &key.request().unwrap(), self.now).unwrap();
        let mut chain = vec![leaf];
        chain.extend(self.vouched.clone());
        chain.extend(self.shown.clone());
        Credentials::new(&key, chain, self.trusted.clone()).unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Credentials {
        self.credentials(&node(name))
    }

    pub(crate) fn control(&self, name: &str) -> Credentials {
        self.credentials(&Role::Control(ControlName::new(name).unwrap()))
    }
}
