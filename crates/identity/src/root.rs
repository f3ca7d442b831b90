//! The authority itself: makes roots, and signs with them.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sinew_model::NetworkName;

use crate::{
    Certificate, Fingerprint, Identity, Key, Life, Moment, Serial,
    certificate::{CertificateError, life_of},
};

/// How far clocks may differ: certificates hold from so long before they were made. At most a
/// twelfth of their life, so that one of a short life is not old from the start.
pub const SKEW: Duration = Duration::from_secs(5 * 60);

/// A root certificate with its key.
pub struct Root {
    key: Key,
    certificate: CertificateDer<'static>,
    life: Life,
}

/// Why nothing was signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request is not one, or is not signed with the key that it is for.
    #[error("this is not a request for a certificate that its own key has signed")]
    Request,
    /// Its key is of another kind.
    #[error("the request is for a key that is not ECDSA P-256, the one kind that is signed here")]
    KeyKind,
    /// The root has ended.
    #[error(
        "the root certificate expired at {at}, and the clock here says {now}: nothing can be signed; rotate the root with `sinew control rotate-root`, and have the hosts join again"
    )]
    RootExpired {
        /// When.
        at: Moment,
        /// This host's clock.
        now: Moment,
    },
    /// The root does not hold yet.
    #[error(
        "the root certificate holds from {from}, and the clock here says {now}: set the clock, which is behind by {} s at least", .from.since(*.now).as_secs()
    )]
    RootNotYetValid {
        /// Since when.
        from: Moment,
        /// This host's clock.
        now: Moment,
    },
    /// The certificate could not be made.
    #[error("cannot sign a certificate for {holder}: {reason}")]
    Sign {
        /// For whom.
        holder: String,
        /// Of the signing library.
        reason: String,
    },
    /// What was read is not a root.
    #[error("the root certificate cannot be read: {0}")]
    Unreadable(#[from] CertificateError),
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("fingerprint", &self.fingerprint())
            .field("life", &self.life)
            .finish()
    }
}

impl Root {
    /// A new root of a network, signed by itself.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn generate(
        network: &NetworkName,
        key: Key,
        now: Moment,
        life: Duration,
        serial: [u8; Serial::BYTES],
    ) -> Result<Self, IssueError> {
        let life = Life { not_before: now - back(life), not_after: now + life };
        let mut params = authority(&format!("sinew root {network}"), &key);
        dated(&mut params, life, serial);
        let signed = params.self_signed(key.pair()).map_err(|e| unsigned("a root", &e))?;
        Ok(Self { certificate: signed.der().clone(), key, life })
    }

    /// One that was made before.
    ///
    /// # Errors
    /// When that is not a certificate.
    pub fn new(certificate: CertificateDer<'static>, key: Key) -> Result<Self, IssueError> {
        let life = life_of(&certificate)?;
        Ok(Self { key, certificate, life })
    }

    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key, to keep it.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// When it holds.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// What tokens name it by.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// This root's word for another: who trusts only this one believes what that one signs.
    ///
    /// # Errors
    /// When this root does not hold now, or cannot sign.
    pub fn vouch(
        &self,
        other: &Self,
        now: Moment,
        serial: [u8; Serial::BYTES],
    ) -> Result<CertificateDer<'static>, IssueError> {
        self.check(now)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = other.issuer()?.0;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.use_authority_key_identifier_extension = true;
        let not_before = other.life.not_before.max(self.life.not_before);
        let not_after = other.life.not_after.min(self.life.not_after);
        dated(&mut params, Life { not_before, not_after }, serial);
        let signed = params.signed_by(other.key.pair(), &self.issuer()?.1);
        Ok(signed.map_err(|e| unsigned("a root", &e))?.der().clone())
    }

    /// A certificate for `identity` with the key that made `request`. It never outlasts the root.
    ///
    /// # Errors
    /// For a request that proves nothing, and when the root does not hold now.
    pub fn issue(
        &self,
        identity: &Identity,
        request: &[u8],
        now: Moment,
        life: Duration,
        serial: [u8; Serial::BYTES],
    ) -> Result<(CertificateDer<'static>, Certificate), IssueError> {
        self.check(now)?;
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
                .map_err(|_| IssueError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(IssueError::KeyKind);
        }
        let holder = identity.to_string();
        let not_before = (now - back(life)).max(self.life.not_before);
        let not_after = (now + life).min(self.life.not_after);
        // Of the request only the key is taken: whatever names or rights it asks for are not its to
        // choose.
        let mut params = leaf(&holder)?;
        dated(&mut params, Life { not_before, not_after }, serial);
        let signed = params.signed_by(&request.public_key, &self.issuer()?.1);
        let der = signed.map_err(|e| unsigned(&holder, &e))?.der().clone();
        let read = Certificate::read(&der)?;
        Ok((der, read))
    }

    /// Refuses to sign what could not hold.
    fn check(&self, now: Moment) -> Result<(), IssueError> {
        if now > self.life.not_after {
            return Err(IssueError::RootExpired { at: self.life.not_after, now });
        }
        if now < self.life.not_before {
            return Err(IssueError::RootNotYetValid { from: self.life.not_before, now });
        }
        Ok(())
    }

    /// Its name, and itself as an issuer.
    fn issuer(&self) -> Result<(DistinguishedName, Issuer<'_, &rcgen::KeyPair>), IssueError> {
        let parsed = x509_parser::parse_x509_certificate(&self.certificate);
        let (_, parsed) = parsed.map_err(|_| CertificateError::Malformed)?;
        let name = parsed.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let params = authority_named(name.ok_or(CertificateError::Malformed)?);
        let name = params.distinguished_name.clone();
        Ok((name, Issuer::new(params, self.key.pair())))
    }
}

fn back(life: Duration) -> Duration {
    SKEW.min(life / 12)
}

fn unsigned(holder: &str, error: &rcgen::Error) -> IssueError {
    IssueError::Sign { holder: holder.to_owned(), reason: error.to_string() }
}

fn dated(params: &mut CertificateParams, life: Life, mut serial: [u8; Serial::BYTES]) {
    // A serial is a positive number, and of one length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = life.not_before.date();
    params.not_after = life.not_after.date();
}

/// Each root has a name of its own: several of a network are told apart by it.
fn authority(name: &str, key: &Key) -> CertificateParams {
    let mark = Fingerprint::of(key.pair().der_bytes()).to_string();
    authority_named(&format!("{name} {}", &mark[..8]))
}

fn authority_named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(holder: &str) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let uri = holder.try_into().map_err(|e| unsigned(holder, &e))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}
