//! Whom to believe: chains of certificates against roots.

use rustls::{crypto::ring::default_provider, pki_types::CertificateDer};
use sinew_model::NetworkName;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::{
    Certificate, Fingerprint, Identity, Life, Moment, Refusal, RoleKind, Serial,
    certificate::CertificateError,
};

/// The roots of a network. While one is replaced there are two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Which network.
    pub network: NetworkName,
    /// Their certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

/// At which end of a connection the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It was connected to.
    Server,
    /// It connected.
    Client,
}

/// A peer whose certificate holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// When its certificate holds: a session that it began should not outlast this by itself.
    pub life: Life,
    /// Its certificate's number: control may have withdrawn it.
    pub serial: Serial,
    /// Of its public key.
    pub key: Fingerprint,
}

impl From<Certificate> for Peer {
    fn from(of: Certificate) -> Self {
        Self { identity: of.identity, life: of.life, serial: of.serial, key: of.key }
    }
}

impl Trust {
    /// Who presents a chain, the leaf first.
    ///
    /// # Errors
    /// When it does not hold at `now`, is of another network or is not what is `wanted`; without a
    /// `wanted`, any role will do.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: Usage,
        wanted: Option<RoleKind>,
        now: Moment,
    ) -> Result<Peer, Refusal> {
        let said = Certificate::read(leaf)?;
        if said.identity.network != self.network {
            return Err(Refusal::OtherNetwork { peer: said.identity, ours: self.network.clone() });
        }
        self.check_chain(leaf, others, usage, now)?;
        match wanted {
            Some(wanted) if said.identity.role.kind() != wanted => {
                Err(Refusal::WrongRole { peer: said.identity, wanted })
            }
            _ => Ok(said.into()),
        }
    }

    /// On first contact, when only the fingerprint of a root is known: who presents a chain that has
    /// that root in it. Only a replica of control will do.
    ///
    /// # Errors
    /// As for [`Trust::check`], and when the root is not in the chain.
    pub fn first_contact(
        root: Fingerprint,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: Moment,
    ) -> Result<Peer, Refusal> {
        let found = others.iter().find(|other| Fingerprint::of(other) == root);
        let anchor = found.ok_or(Refusal::NotOfToken { root })?.clone().into_owned();
        let network = Certificate::read(leaf)?.identity.network;
        let trust = Self { network, roots: vec![anchor] };
        trust.check(leaf, others, Usage::Server, Some(RoleKind::Control), now)
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: Usage,
        now: Moment,
    ) -> Result<(), Refusal> {
        let anchors: Result<Vec<_>, _> = self.roots.iter().map(anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(refused)?;
        let algorithms = default_provider().signature_verification_algorithms.all;
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let leaf = EndEntityCert::try_from(leaf).map_err(refused)?;
        leaf.verify_for_usage(algorithms, &anchors, others, now.into(), usage, None, None)
            .map(|_| ())
            .map_err(refused)
    }
}

fn refused(error: webpki::Error) -> Refusal {
    match error {
        webpki::Error::CertExpired { time, not_after } => {
            Refusal::Expired { at: not_after.into(), now: time.into() }
        }
        webpki::Error::CertNotValidYet { time, not_before } => {
            Refusal::NotYetValid { from: not_before.into(), now: time.into() }
        }
        // A root's name belongs to its key: a signature that does not fit is another root's.
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            Refusal::UnknownAuthority
        }
        webpki::Error::BadDer => CertificateError::Malformed.into(),
        other => Refusal::Invalid { reason: other.to_string() },
    }
}
