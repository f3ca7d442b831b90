//! What this side shows and whom it believes, replaced while it is in use.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::sign::any_ecdsa_type,
    pki_types::CertificateDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{Certificate, Key, Moment, Refusal, Role, Trust, Usage, certificate::CertificateError};

/// A key, its certificate, and the roots of the network.
#[derive(Clone)]
pub struct Credentials {
    certificate: Certificate,
    trust: Trust,
    shown: Arc<CertifiedKey>,
}

/// Why a key and certificates do not make credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There is none.
    #[error("there is no certificate")]
    Empty,
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CertificateError),
    /// It is another key's.
    #[error("the certificate of {holder} is for another key")]
    OtherKey {
        /// Whose it is.
        holder: String,
    },
    /// The key cannot be used.
    #[error("the key cannot be used")]
    Key,
    /// An answer that is for somebody else.
    #[error(
        "control answered with a certificate for {got} where {asked} asked: nothing was changed; control and this host are of different versions, or control is broken"
    )]
    OtherRole {
        /// Whose it is.
        got: Role,
        /// Who asked.
        asked: Role,
    },
    /// An answer that peers would refuse.
    #[error("control answered with a certificate that does not hold, and nothing was changed: {0}")]
    Useless(#[source] Refusal),
    /// Nothing to believe.
    #[error("there is no root certificate to trust")]
    NoRoots,
}

impl Credentials {
    /// Checks that the parts fit. The chain has the leaf first; a server's goes up to the roots, for
    /// who knows only a root's fingerprint.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(
        key: &Key,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, CredentialsError> {
        let certificate = Certificate::read(chain.first().ok_or(CredentialsError::Empty)?)?;
        if certificate.key != key.fingerprint() {
            return Err(CredentialsError::OtherKey { holder: certificate.identity.to_string() });
        }
        if roots.is_empty() {
            return Err(CredentialsError::NoRoots);
        }
        for root in &roots {
            crate::certificate::life_of(root)?;
        }
        let signing = any_ecdsa_type(&key.private()).map_err(|_| CredentialsError::Key)?;
        let trust = Trust { network: certificate.identity.network.clone(), roots };
        Ok(Self { certificate, trust, shown: Arc::new(CertifiedKey::new(chain, signing)) })
    }

    /// What control answered to who asked to join or to renew: kept only when peers will take it, so
    /// that good credentials are never replaced by bad ones.
    ///
    /// # Errors
    /// When the parts do not fit, are somebody else's, or do not hold at `now`.
    pub fn accept(
        key: &Key,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        asked: &Role,
        now: Moment,
    ) -> Result<Self, CredentialsError> {
        let credentials = Self::new(key, chain, roots)?;
        let (leaf, others) = credentials.chain().split_first().ok_or(CredentialsError::Empty)?;
        let checked = credentials.trust.check(leaf, others, Usage::Client, None, now);
        let got = checked.map_err(CredentialsError::Useless)?.identity.role;
        if got != *asked {
            return Err(CredentialsError::OtherRole { got, asked: asked.clone() });
        }
        Ok(credentials)
    }

    /// What the certificate says.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whom to believe.
    #[must_use]
    pub const fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The certificates that are shown, the leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.shown.cert
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The newest [`Credentials`], shared by all configurations made with it.
#[derive(Clone, Debug)]
pub struct Holder(Arc<RwLock<Arc<Credentials>>>);

impl Holder {
    /// Holds these.
    #[must_use]
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(credentials))))
    }

    /// Those of now.
    #[must_use]
    pub fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these: connections that are open stay.
    pub fn replace(&self, credentials: Credentials) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
    }
}

impl ResolvesServerCert for Holder {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().shown))
    }
}

impl ResolvesClientCert for Holder {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current().shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
