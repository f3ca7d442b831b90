//! The file in which a host keeps its key, certificate and roots: one, so that they always fit
//! together, readable by its owner alone, and replaced whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::{
    Key, KeyError,
    certificate::{from_pem, to_pem},
    tls::{Credentials, CredentialsError},
};

/// Its form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    key: String,
    chain: Vec<String>,
    roots: Vec<String>,
}

/// Why the file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The host has not joined.
    #[error("{}: there is no such file: this host has not joined a network; join with `sinew agent --join HOST --token TOKEN`", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others may read the key.
    #[error("{} has mode {mode:03o}: others than its owner could read this host's key; `chmod 600` it, and join again with a fresh token if somebody may have", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Its content is not what was written.
    #[error("{} is damaged ({}): move it away and join again with a fresh token", .path.display(), .reason)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Damage,
    },
    /// Another version of Sinew has written it.
    #[error("{} is of version {found}, and this sinew knows version {VERSION}: use the sinew that wrote it, or move it away and join again with a fresh token", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// What is wrong in a damaged file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Not JSON of this form. The text is not told: it may hold the key.
    #[error("line {line}, column {column} is not as it was written")]
    Form {
        /// From 1 on.
        line: usize,
        /// From 1 on.
        column: usize,
    },
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A certificate is not PEM.
    #[error("a certificate in it is not PEM")]
    Pem,
    /// The parts do not fit.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Replaces the file, so that at any time the whole old or the whole new one is there.
///
/// # Errors
/// When the system refuses.
pub fn write(path: &Path, key: &Key, credentials: &Credentials) -> Result<(), FileError> {
    let content = Content {
        version: VERSION,
        key: key.to_pem().reveal().to_owned(),
        chain: credentials.chain().iter().map(to_pem).collect(),
        roots: credentials.trust().roots.iter().map(to_pem).collect(),
    };
    let failed = |action| move |error| FileError::Io { action, path: path.to_owned(), error };
    let text =
        serde_json::to_vec_pretty(&content).map_err(io::Error::from).map_err(failed("write"))?;
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("replace")(error));
        }
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh);
    let mut file = file.map_err(failed("write"))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    fs::rename(&fresh, path).map_err(failed("replace"))?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("keep"))
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// For a missing, damaged or readable file.
pub fn read(path: &Path) -> Result<(Key, Credentials), FileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing { path: path.to_owned() },
        _ => FileError::Io { action: "read", path: path.to_owned(), error },
    };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let bytes = fs::read(path).map_err(failed)?;
    let damaged = |reason| FileError::Damaged { path: path.to_owned(), reason };
    let form = |error: serde_json::Error| {
        damaged(Damage::Form { line: error.line(), column: error.column() })
    };
    let found = serde_json::from_slice::<Version>(&bytes).map_err(form)?.version;
    if found != VERSION {
        return Err(FileError::Version { path: path.to_owned(), found });
    }
    let content: Content = serde_json::from_slice(&bytes).map_err(form)?;
    parts(&content).map_err(damaged)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn parts(content: &Content) -> Result<(Key, Credentials), Damage> {
    let key = Key::from_pem(&content.key)?;
    let credentials =
        Credentials::new(&key, certificates(&content.chain)?, certificates(&content.roots)?)?;
    Ok((key, credentials))
}

fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, Damage> {
    texts.iter().map(|text| from_pem(text).map_err(|_| Damage::Pem)).collect()
}
