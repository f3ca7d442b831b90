//! How an agent's start brings its host into a network, or back into it.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use sinew_identity::tls::Holder;
use sinew_model::{ServiceName, fleet::Resources};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    credentials::{CredentialsFailed, Place},
    joined::{Entry, JoinError, JoinOptions, Joined, Kept},
    leave,
    member::Beginning,
    news::News,
    session::{Certified, Files, Rejoin, Session, Tell, not_rejoined},
};
use crate::{random, store::StoreError};

/// Why a host cannot join.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// What was asked for cannot be.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// There is no certificate for it.
    #[error("this host cannot join: {0}")]
    Credentials(#[from] CredentialsFailed),
    /// What is known of the network cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was known in a network that this host has left would be taken for news of the next.
    #[error(
        "this host cannot join: what it knew of the network that it has left cannot be removed from {}: {source}",
        directory.display()
    )]
    Remains {
        /// Where it lies.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl EnterError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Join(error) => Some(error.remedy()),
            Self::Credentials(_) => None,
            Self::Store(error) => Some(error.remedy()),
            Self::Remains { .. } => Some("let root write there, and start the agent again"),
        }
    }
}

/// The agent's side of its membership.
pub(crate) struct Fleet {
    /// Takes what is to be told.
    pub(crate) tell: mpsc::UnboundedSender<Tell>,
    /// What is known of others.
    pub(crate) news: mpsc::UnboundedReceiver<News>,
    /// What was known already when the agent began.
    pub(crate) first: Vec<News>,
    /// Addresses that instances of this host had.
    pub(crate) given: Vec<(ServiceName, u32, Ipv4Addr)>,
    /// What an operator should know.
    pub(crate) warnings: Vec<String>,
    /// Ends, and writes what is known, when nobody can tell it anything any more.
    pub(crate) task: JoinHandle<()>,
}

/// Joins, or goes on with what was joined; `None`: this host is alone.
///
/// # Errors
/// When a host that is in no network yet cannot join it. One that was in it goes on with what it
/// knows, and says what is missing.
pub(crate) async fn enter(
    state: &Path,
    options: JoinOptions,
    now_ms: u64,
) -> Result<Option<Fleet>, EnterError> {
    let kept = Kept::new(state);
    let uname = rustix::system::uname();
    let hostname = uname.nodename().to_string_lossy().into_owned();
    // An agent that was killed while it left may have kept some of it.
    let has_left = kept.has_left(now_ms);
    let Some(entry) = kept.enter(options, &hostname, now_ms)? else {
        if has_left && let Err(error) = leave::forget(state) {
            tracing::warn!("what is left of the network that this host was in stays: {error}");
        }
        return Ok(None);
    };
    if has_left {
        leave::forget_others(state)
            .map_err(|source| EnterError::Remains { directory: state.to_owned(), source })?;
    }
    let place = Place::new(state);
    let mut warnings = Vec::new();
    let Identified { joined, certified, rejoin } =
        certify(kept, place, entry, &mut warnings).await?;
    let files = Files::new(state);
    let (mirror, known) = files.load(&joined.node, now_ms)?;
    let given = known.iter().flat_map(super::member::Known::given);
    let given = given.map(|(service, instance, at)| (service.clone(), instance, at)).collect();
    let capacity = if joined.placement { capacity() } else { Resources::default() };
    let beginning = Beginning {
        joined,
        certified: certified.is_some(),
        capacity,
        boot_id: boot_id().unwrap_or_else(|_| random::number().to_string()),
        mirror,
        known,
        random: Box::new(random::unit),
    };
    let (news, heard) = mpsc::unbounded_channel();
    let (tell, told) = mpsc::unbounded_channel();
    let mut session = Session::new(beginning, files, certified, rejoin, news);
    let first = session.first_news();
    let task = tokio::spawn(session.run(told));
    Ok(Some(Fleet { tell, news: heard, first, given, warnings, task }))
}

/// As whom this host begins.
struct Identified {
    joined: Joined,
    certified: Option<Certified>,
    rejoin: Option<Rejoin>,
}

/// Gets the certificate that a token allows, or takes the one that is kept.
async fn certify(
    kept: Kept,
    place: Place,
    entry: Entry,
    warnings: &mut Vec<String>,
) -> Result<Identified, EnterError> {
    let Entry { mut joined, token, first, renamed } = entry;
    let certified = |(key, credentials)| Certified {
        place: place.clone(),
        key: Arc::new(key),
        holder: Holder::new(credentials),
    };
    let at_hand = place.read();
    let mut failed = None;
    if let Some(token) = token {
        match place.join(&joined.control, &joined.node, &token).await {
            Ok(credentials) => {
                joined.token = Some(token.id.clone());
                kept.save(&joined)?;
                tracing::info!("this host has joined as {} in zone {}", joined.node, joined.zone);
                let certified = Some(certified(credentials));
                return Ok(Identified { joined, certified, rejoin: None });
            }
            // Under another name the certificate that it has is of no use.
            Err(error) if first || renamed => return Err(error.into()),
            // What this host runs and calls goes on with what it has.
            Err(error) => {
                let why = format!("{}; it is tried again", not_rejoined(&error));
                tracing::warn!("{why}");
                failed = Some((token, why));
            }
        }
    }
    if first && at_hand.is_err() {
        return Err(JoinError::NoToken.into());
    }
    kept.save(&joined)?;
    let certified = match at_hand {
        Ok(credentials) => Some(certified(credentials)),
        Err(error) => {
            if failed.is_none() {
                warnings.push(format!(
                    "this host cannot show who it is, and hears of no changes of other hosts; what is \
                     known stays in use: {error}"
                ));
            }
            None
        }
    };
    let rejoin = failed.map(|(token, why)| Rejoin { token, place, kept, why });
    Ok(Identified { joined, certified, rejoin })
}

/// Another one after each boot of the host.
fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// What this host has to give: its processors and its memory.
fn capacity() -> Resources {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let info = rustix::system::sysinfo();
    Resources {
        cpu_millis: processors.saturating_mul(1000).into(),
        memory_bytes: (info.totalram as u64).saturating_mul(info.mem_unit.into()),
    }
}

#[cfg(test)]
mod tests {
    use sinew_identity::{
        Fingerprint,
        token::{RANDOM_BYTES, Token},
    };

    use super::*;

    #[tokio::test]
    async fn only_who_has_left_loses_its_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let certificate = state.join("identity.json");
        fs::write(&certificate, "it is damaged, and somebody may mend it").unwrap();
        fs::write(state.join("fleet.json"), "damaged too").unwrap();
        assert!(enter(state, JoinOptions::default(), 1).await.unwrap().is_none());
        assert!(certificate.exists(), "it says what to do with --join");
        let joined = Joined {
            control: vec!["c1:1".to_owned()],
            node: "web".parse().unwrap(),
            zone: "a".parse().unwrap(),
            labels: [].into(),
            addresses: Vec::new(),
            placement: false,
            token: None,
            left: false,
        };
        Kept::new(state).save(&joined).unwrap();
        leave::mark(state, 1).unwrap();
        // It joins another network, as far as that goes: what it knew is of no use there.
        let known = ["mirror.json", "around.json"].map(|name| state.join(name));
        known.iter().for_each(|file| fs::write(file, "of the network before").unwrap());
        let token = Token::new([1; RANDOM_BYTES], Fingerprint::of(b"root"));
        let elsewhere = JoinOptions {
            control: vec!["127.0.0.1:1".to_owned()],
            token: Some(token),
            ..JoinOptions::default()
        };
        assert!(enter(state, elsewhere, 1).await.is_err(), "nobody is there");
        assert!(known.iter().all(|file| !file.exists()));
        assert!(enter(state, JoinOptions::default(), 1).await.unwrap().is_none());
        assert!(!certificate.exists());
    }
}
