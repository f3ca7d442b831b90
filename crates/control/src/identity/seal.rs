//! The key file with which the root's key is encrypted in the store.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sinew_identity::{Fingerprint, Key, Secret};
use sinew_model::NetworkName;

use super::records::StoredKey;

/// A key that only the hosts of control have. The same on each of them.
pub struct Seal {
    key: LessSafeKey,
    mark: String,
}

/// Why the root's key cannot be sealed or read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The file cannot be read.
    #[error("cannot read key file {}: {error}; it is to be the same on all hosts of control", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others may read it.
    #[error("key file {} has mode {mode:03o}: `chmod 600` it, since who reads it and the store can pass for any host", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds something else.
    #[error("key file {} does not hold 64 digits of 0-9 and a-f: make one with `openssl rand -hex 32`", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The key is sealed, and there is no file.
    #[error(
        "the root's key in the store is sealed with key file {wanted}: give that file with --ca-key-file"
    )]
    Missing {
        /// Its mark.
        wanted: String,
    },
    /// It is sealed with another file.
    #[error(
        "the root's key in the store is sealed with key file {wanted}, and this is key file {found}: give the one that the first host of control has"
    )]
    Other {
        /// The mark of the right file.
        wanted: String,
        /// The mark of this file.
        found: String,
    },
    /// What is sealed was changed.
    #[error("the root's sealed key in the store is damaged: restore the store")]
    Damaged,
    /// The cipher refused.
    #[error("cannot seal the root's key")]
    Seal,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.mark)
    }
}

impl Seal {
    /// Reads the file: 64 hexadecimal digits, readable by its owner alone.
    ///
    /// # Errors
    /// For any other file.
    pub fn read(path: &Path) -> Result<Self, SealError> {
        let failed = |error| SealError::Read { path: path.to_owned(), error };
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Exposed { path: path.to_owned(), mode });
        }
        let text = Secret::new(fs::read_to_string(path).map_err(failed)?);
        Self::from_text(&text).ok_or_else(|| SealError::Form { path: path.to_owned() })
    }

    /// Of the file's content.
    fn from_text(text: &Secret) -> Option<Self> {
        let text = text.reveal().trim();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let digits = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..64).step_by(2).map(digits).collect::<Option<_>>()?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        let mark = Fingerprint::of([b"sinew key file ", &bytes[..]].concat()).to_string();
        Some(Self { key, mark: mark[..8].to_owned() })
    }

    /// `nonce` is random, and used once.
    pub(super) fn seal(
        &self,
        network: &NetworkName,
        key: &Key,
        nonce: [u8; NONCE_LEN],
    ) -> Result<StoredKey, SealError> {
        let mut data = key.to_pem().reveal().as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let done = self.key.seal_in_place_append_tag(unique, about(network), &mut data);
        done.map_err(|_| SealError::Seal)?;
        let (nonce, sealed) = (STANDARD.encode(nonce), STANDARD.encode(data));
        Ok(StoredKey::Sealed { with: self.mark.clone(), nonce, sealed })
    }

    fn open(&self, network: &NetworkName, nonce: &str, sealed: &str) -> Option<Secret> {
        let nonce: [u8; NONCE_LEN] = STANDARD.decode(nonce).ok()?.try_into().ok()?;
        let mut data = STANDARD.decode(sealed).ok()?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let text = self.key.open_in_place(unique, about(network), &mut data).ok()?;
        Some(Secret::new(std::str::from_utf8(text).ok()?))
    }
}

/// A sealed key of one network is of no use in another's store.
fn about(network: &NetworkName) -> Aad<Vec<u8>> {
    Aad::from(format!("sinew root key of {network}").into_bytes())
}

/// The root's key, as stored.
pub(super) fn unseal(
    key: &StoredKey,
    network: &NetworkName,
    seal: Option<&Seal>,
) -> Result<Secret, SealError> {
    match (key, seal) {
        (StoredKey::Plain(pem), _) => Ok(Secret::new(pem)),
        (StoredKey::Sealed { with, .. }, None) => Err(SealError::Missing { wanted: with.clone() }),
        (StoredKey::Sealed { with, .. }, Some(seal)) if *with != seal.mark => {
            Err(SealError::Other { wanted: with.clone(), found: seal.mark.clone() })
        }
        (StoredKey::Sealed { nonce, sealed, .. }, Some(seal)) => {
            seal.open(network, nonce, sealed).ok_or(SealError::Damaged)
        }
    }
}
