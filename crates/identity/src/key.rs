//! Private keys: ECDSA P-256.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Fingerprint, Secret};

/// A private key. It leaves its host in [`Key::to_pem`] alone.
pub struct Key(KeyPair);

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("cannot make a key: the system gave no randomness")]
    Generate,
    /// Not one.
    #[error("this is not an ECDSA P-256 private key in PKCS#8 PEM")]
    Malformed,
    /// It cannot sign.
    #[error("cannot sign a request for a certificate with the key")]
    Sign,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.fingerprint())
    }
}

impl Key {
    /// A new one, of the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|_| KeyError::Generate)
    }

    /// Reads what [`Key::to_pem`] wrote.
    ///
    /// # Errors
    /// For anything else.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|_| KeyError::Malformed)
    }

    /// PKCS#8, as PEM.
    #[must_use]
    pub fn to_pem(&self) -> Secret {
        Secret::new(self.0.serialize_pem())
    }

    /// Of its public half.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.der_bytes())
    }

    /// A PKCS#10 request for a certificate, DER: it proves that who asks has the key. Whose
    /// certificate is asked for stands beside it, not in it.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(|_| KeyError::Sign)?;
        Ok(request.der().to_vec())
    }

    pub(crate) const fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}
