//! What a certificate says.

use std::{fmt, str::FromStr};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use crate::{Identity, IdentityError, Life, Moment, token::hex};

/// SHA-256 of a certificate or of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; Self::BYTES]);

impl Fingerprint {
    pub(crate) const BYTES: usize = 32;

    /// As it is compared.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of an encoded certificate or key.
    pub fn of(der: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A text that is not a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 digits of 0-9 and a-f")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;
    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        unhex(text).map(Self).ok_or(NotAFingerprint)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = NotAFingerprint;
    fn try_from(text: String) -> Result<Self, NotAFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || text.bytes().any(|b| !b.is_ascii_hexdigit() || b.is_ascii_uppercase())
    {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// The number of a certificate, unique for its authority.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(String);

impl Serial {
    /// The bytes that a serial is made of.
    pub const BYTES: usize = 16;

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let first = bytes.iter().position(|&b| b != 0).unwrap_or(bytes.len());
        Self(hex(&bytes[first..]))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A certificate of a host or a replica of control, as read: nothing of it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it says it is.
    pub identity: Identity,
    /// When it holds.
    pub life: Life,
    /// Its number.
    pub serial: Serial,
    /// Of its public key.
    pub key: Fingerprint,
    /// The name of who it says has signed it.
    pub issuer: String,
}

/// Why a certificate cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not one at all.
    #[error("this is not an X.509 certificate")]
    Malformed,
    /// It names nobody, or several.
    #[error(
        "the certificate has {found} URIs in its alternative names: one of Sinew has exactly one, its SPIFFE id"
    )]
    Names {
        /// So many.
        found: usize,
    },
    /// It names something else.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Certificate {
    /// Reads one.
    ///
    /// # Errors
    /// For what is not a certificate with one id of Sinew.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = parse(der)?;
        let names = parsed.subject_alternative_name().map_err(|_| CertificateError::Malformed)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .collect();
        let [uri] = uris[..] else {
            return Err(CertificateError::Names { found: uris.len() });
        };
        Ok(Self {
            identity: uri.parse()?,
            life: life(&parsed),
            serial: Serial::from_bytes(parsed.raw_serial()),
            key: Fingerprint::of(&parsed.public_key().subject_public_key.data),
            issuer: parsed.issuer().to_string(),
        })
    }
}

/// As PEM.
#[must_use]
pub fn to_pem(der: &CertificateDer<'_>) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der.as_ref()))
}

/// The first certificate of a PEM text.
///
/// # Errors
/// When there is none.
pub fn from_pem(text: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::Malformed)
}

/// When a certificate of any kind holds.
///
/// # Errors
/// For what is not a certificate.
pub fn life_of(der: &CertificateDer<'_>) -> Result<Life, CertificateError> {
    Ok(life(&parse(der)?))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertificateError::Malformed),
    }
}

fn life(parsed: &X509Certificate<'_>) -> Life {
    let moment = |time: i64| Moment(u64::try_from(time).unwrap_or(0));
    let validity = parsed.validity();
    Life {
        not_before: moment(validity.not_before.timestamp()),
        not_after: moment(validity.not_after.timestamp()),
    }
}
