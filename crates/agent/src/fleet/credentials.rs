//! How this host comes by its certificate, and keeps one that holds.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rustls::{ClientConfig, time_provider::DefaultTimeProvider};
use sinew_identity::{
    CertificateDer, Key, KeyError, Moment, Role, Token,
    file::{self, FileError},
    tls::{self, Credentials, CredentialsError, Holder, Unsupported},
};
use sinew_model::NodeName;
use sinew_proto::{Certificate, Join, Path as Method, Renew};

use super::{
    call::{CallError, unary},
    dial::Target,
    link::BackOff,
};
use crate::random;

pub(super) const FILE: &str = "identity.json";
/// The key until control has answered: an answer that was lost is asked for again with the same one.
pub(super) const PENDING: &str = "identity.pending";
/// For an answer of control.
const ANSWER: Duration = Duration::from_secs(5);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsFailed {
    /// What is kept cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key that waits for its certificate cannot be kept.
    #[error("cannot keep the key in {}: {source}", path.display())]
    Pending {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Control gave none.
    #[error("control gave no certificate: {0}")]
    Call(#[from] CallError),
    /// There is nobody to ask.
    #[error("no address of control is known")]
    Nobody,
    /// Its answer is no message of the protocol.
    #[error("the answer of control cannot be read: {0}")]
    Answer(#[from] sinew_proto::Error),
    /// Its answer is of no use.
    #[error(transparent)]
    Useless(#[from] CredentialsError),
    /// This build.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

impl CredentialsFailed {
    /// Whether it is of no use to ask for the same again.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Call(error) => error.is_final(),
            Self::Nobody | Self::Unsupported(_) => true,
            Self::File(_)
            | Self::Pending { .. }
            | Self::Key(_)
            | Self::Answer(_)
            | Self::Useless(_) => false,
        }
    }
}

/// Where the certificate lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// In the state directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// What is kept.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub(crate) fn read(&self) -> Result<(Key, Credentials), FileError> {
        file::read(&self.file())
    }

    /// Gets the first certificate for `token` from the first of `control` that answers.
    ///
    /// # Errors
    /// When none gives one; what was kept stays then.
    pub(crate) async fn join(
        &self,
        control: &[String],
        node: &NodeName,
        token: &Token,
    ) -> Result<(Key, Credentials), CredentialsFailed> {
        let key = self.pending()?;
        let config = tls::first_contact(token.root, Arc::new(DefaultTimeProvider))?;
        let ask = Join {
            token: token.reveal().reveal().to_owned(),
            node: node.clone(),
            certificate_request: key.request()?.into(),
        };
        let first = |address: &String| Target::new(address.clone(), config.clone().into(), None);
        let answer = ask_any(control.iter().map(first), Method::Join, ask.encode()).await?;
        let credentials = self.keep(&key, answer, node)?;
        // Of no use any more, and a key is not left about.
        let _ = fs::remove_file(self.directory.join(PENDING));
        Ok((key, credentials))
    }

    /// The same, as often as it takes: who was not reached may be later.
    ///
    /// # Errors
    /// When it is refused for what it is.
    pub(crate) async fn join_at_last(
        &self,
        control: &[String],
        node: &NodeName,
        token: &Token,
        pace: BackOff,
    ) -> Result<(Key, Credentials), CredentialsFailed> {
        let mut failures = 0;
        loop {
            tokio::time::sleep(pace.bound(failures).mul_f64(random::unit())).await;
            failures = failures.saturating_add(1);
            match self.join(control, node, token).await {
                Err(error) if !error.is_final() => {
                    tracing::debug!("this host could not join: {error}");
                }
                done => return done,
            }
        }
    }

    /// Gets the next certificate for the one that `holder` has, and has it used from now on.
    ///
    /// # Errors
    /// When nobody gives one; the one of now stays then.
    pub(crate) async fn renew(
        &self,
        control: &[String],
        node: &NodeName,
        key: &Key,
        holder: &Holder,
    ) -> Result<(), CredentialsFailed> {
        let ask = Renew { certificate_request: key.request()?.into() };
        let next = |address: &String| target(address, holder);
        let targets = control.iter().map(next).collect::<Result<Vec<_>, _>>()?;
        let answer = ask_any(targets.into_iter(), Method::Renew, ask.encode()).await?;
        holder.replace(self.keep(key, answer, node)?);
        Ok(())
    }

    fn keep(
        &self,
        key: &Key,
        answer: Bytes,
        node: &NodeName,
    ) -> Result<Credentials, CredentialsFailed> {
        let Certificate { chain, authorities } = Certificate::decode(answer)?;
        let der = |list: Vec<Bytes>| list.into_iter().map(|one| CertificateDer::from(one.to_vec()));
        let (chain, roots) = (der(chain).collect(), der(authorities).collect());
        let role = Role::Node(node.clone());
        let credentials = Credentials::accept(key, chain, roots, &role, Moment::now())?;
        file::write(&self.file(), key, &credentials)?;
        Ok(credentials)
    }

    fn pending(&self) -> Result<Key, CredentialsFailed> {
        let path = self.directory.join(PENDING);
        if let Ok(text) = fs::read_to_string(&path)
            && let Ok(key) = Key::from_pem(&text)
        {
            return Ok(key);
        }
        let key = Key::generate()?;
        let _ = fs::remove_file(&path);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(key.to_pem().reveal().as_bytes())?;
                file.sync_all()
            })
            .map_err(|source| CredentialsFailed::Pending { path, source })?;
        Ok(key)
    }
}

/// Where a session or a renewal goes to, as who this host is.
///
/// # Errors
/// Never with the pinned build.
pub(super) fn target(address: &str, holder: &Holder) -> Result<Target, Unsupported> {
    let config: Arc<ClientConfig> = Arc::new(tls::client(holder, Arc::new(DefaultTimeProvider))?);
    let life = holder.current().certificate().life;
    Ok(Target::new(address.to_owned(), config, Some(life)))
}

/// Asks one after the other until one answers, or says what all would say.
async fn ask_any(
    targets: impl Iterator<Item = Target>,
    method: Method,
    message: Bytes,
) -> Result<Bytes, CredentialsFailed> {
    let mut failed = CredentialsFailed::Nobody;
    for target in targets {
        match unary(&target, method, message.clone(), ANSWER).await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests;
