//! Why a peer is not talked to.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{AlertDescription, CertificateError, OtherError};
use sinew_model::NetworkName;

use crate::{Identity, Life, Moment, Role, certificate::CertificateError as Unreadable};

/// Kinds of [`Role`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleKind {
    /// A host.
    Node,
    /// A replica of the control plane.
    Control,
}

impl Role {
    /// Of which kind it is.
    #[must_use]
    pub const fn kind(&self) -> RoleKind {
        match self {
            Self::Node(_) => RoleKind::Node,
            Self::Control(_) => RoleKind::Control,
        }
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Node => "a host",
            Self::Control => "a replica of control",
        })
    }
}

/// Why this side refused a peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It held once.
    #[error(
        "the peer's certificate expired at {at}, {} s ago by the clock here, which says {now}: either its renewal failed for long, and it has to join again with a fresh token, or one of the clocks is wrong", .now.since(*.at).as_secs()
    )]
    Expired {
        /// Its last second.
        at: Moment,
        /// The clock here.
        now: Moment,
    },
    /// It will hold.
    #[error(
        "the peer's certificate holds from {from} on, and the clock here says {now}: the clocks differ by {} s at least; set the one that is wrong", .from.since(*.now).as_secs()
    )]
    NotYetValid {
        /// Its first second.
        from: Moment,
        /// The clock here.
        now: Moment,
    },
    /// None of the roots that are trusted has signed it.
    #[error(
        "the peer's certificate is from an authority that is not trusted here: the peer is of another network of the same name, or one of both has not heard of a new root; join the one that is wrong again with a fresh token"
    )]
    UnknownAuthority,
    /// It says so itself.
    #[error(
        "the peer says that it is {peer}, and this is network {ours}: check the address; to move a host, join it with a token of network {ours}"
    )]
    OtherNetwork {
        /// Who it says it is; not verified.
        peer: Identity,
        /// Of who refused.
        ours: NetworkName,
    },
    /// Known, and not who is talked to here.
    #[error("the peer is {peer}, and {wanted} is needed here: check the address")]
    WrongRole {
        /// Who it is.
        peer: Identity,
        /// Who may be.
        wanted: RoleKind,
    },
    /// On first contact: the root of the token is not the one that the peer has.
    #[error(
        "the control plane at this address has not the root certificate that the join token names ({root}): the token is of another network, or somebody else answers at this address; check both"
    )]
    NotOfToken {
        /// Of the root that the token names.
        root: crate::Fingerprint,
    },
    /// Not a certificate of Sinew.
    #[error("the peer is not of Sinew: {0}")]
    Unreadable(#[from] Unreadable),
    /// Forged, or of another make.
    #[error("the peer's certificate does not hold: {reason}")]
    Invalid {
        /// Of the verifying library.
        reason: String,
    },
}

impl Refusal {
    /// For rustls, which tells the peer an alert that fits.
    pub(crate) fn into_tls(self) -> rustls::Error {
        let error = match self {
            Self::Expired { at, now } => {
                CertificateError::ExpiredContext { time: now.into(), not_after: at.into() }
            }
            Self::NotYetValid { from, now } => {
                CertificateError::NotValidYetContext { time: now.into(), not_before: from.into() }
            }
            Self::UnknownAuthority => CertificateError::UnknownIssuer,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        rustls::Error::InvalidCertificate(error)
    }

    /// What this side's verification said, if that is why a handshake failed.
    #[must_use]
    pub fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                Some(Self::Expired { at: (*not_after).into(), now: (*time).into() })
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Some(Self::NotYetValid { from: (*not_before).into(), now: (*time).into() })
            }
            CertificateError::UnknownIssuer => Some(Self::UnknownAuthority),
            CertificateError::Other(other) => other.0.downcast_ref().cloned(),
            _ => None,
        }
    }

    /// As [`Refusal::of`], for a connection's error.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().and_then(Self::of)
    }
}

/// That a peer refused this side's certificate: with TLS 1.3 a client learns of it when it first reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedByPeer {
    /// By the peer's clock.
    #[error("the peer says that our certificate does not hold at this time; {0}")]
    Time(OurLife),
    /// It trusts other roots.
    #[error(
        "the peer does not trust the authority of our certificate: it is of another network, or its root was replaced while this host was away; join again with a fresh token"
    )]
    Authority,
    /// It wants one.
    #[error("the peer wants a certificate, and this host has none: join with a token")]
    None,
    /// It said no more.
    #[error("the peer refused our certificate: its log says why")]
    Other,
}

/// What this side knows of its own certificate's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurLife {
    life: Life,
    now: Moment,
}

impl fmt::Display for OurLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { life: Life { not_before, not_after }, now } = self;
        if now > not_after {
            return write!(f, "it expired at {not_after}: join again with a fresh token");
        }
        let margin = now.since(*not_before).min(not_after.since(*now));
        write!(
            f,
            "it holds from {not_before} to {not_after}, and the clock here says {now}: the peer's differs \
             by {} s at least; set the one that is wrong",
            margin.max(Duration::from_secs(1)).as_secs()
        )
    }
}

impl RefusedByPeer {
    /// What the peer's alert means, if that is why a connection failed; `life` is of this side's
    /// certificate.
    #[must_use]
    pub fn of(error: &rustls::Error, life: Life, now: Moment) -> Option<Self> {
        let rustls::Error::AlertReceived(alert) = error else { return None };
        match alert {
            AlertDescription::CertificateExpired => Some(Self::Time(OurLife { life, now })),
            AlertDescription::UnknownCA => Some(Self::Authority),
            AlertDescription::CertificateRequired => Some(Self::None),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Some(Self::Other),
            _ => None,
        }
    }

    /// As [`RefusedByPeer::of`], for a connection's error.
    #[must_use]
    pub fn of_io(error: &std::io::Error, life: Life, now: Moment) -> Option<Self> {
        Self::of(error.get_ref()?.downcast_ref()?, life, now)
    }
}
