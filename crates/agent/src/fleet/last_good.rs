//! What is known of other hosts, on disk: an agent that begins while no control is there goes on
//! with it.
//!
//! It is a copy of what control tells again, so a file that cannot be used is set aside, and one
//! that cannot be written is told and tried again: neither stops anything.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};
use sinew_model::NodeName;

use super::mirror::Saved;
use crate::store::{Document, Loaded, StoreError};

/// Raised when an older agent could not understand the file.
const VERSION: u32 = 1;

/// What is kept so.
pub trait Kept: DeserializeOwned {
    /// The name of its file.
    const FILE: &'static str;

    /// Whose it is.
    fn node(&self) -> &NodeName;
}

impl Kept for Saved {
    const FILE: &'static str = "mirror.json";

    fn node(&self) -> &NodeName {
        self.node()
    }
}

/// Where the last good state lies, and when it is written.
#[derive(Debug)]
pub struct LastGood<T> {
    document: Document,
    pace: Pace,
    of: PhantomData<T>,
}

/// A file that was of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what was known of other hosts is not used: {fault}; it was moved to {}, and control tells it again",
    aside.display()
)]
pub struct SetAside {
    /// Where it lies now.
    pub aside: PathBuf,
    /// What is wrong with it.
    pub fault: String,
}

impl<T: Kept> LastGood<T> {
    /// In the state directory; written at most once in `every`.
    #[must_use]
    pub fn new(directory: &Path, every: Duration) -> Self {
        let document = Document::new(directory, T::FILE, VERSION);
        Self { document, pace: Pace { every, last: None, changed: false }, of: PhantomData }
    }

    /// What `node` knew last; `None`: nothing that can be used, and why if there was a file.
    ///
    /// # Errors
    /// When the file is there but can neither be read nor be set aside.
    pub fn load(
        &self,
        node: &NodeName,
        now_ms: u64,
    ) -> Result<(Option<T>, Option<SetAside>), StoreError> {
        let loaded = match self.document.load::<T>(now_ms) {
            Ok(Loaded::Intact(saved)) if saved.node() != node => {
                let fault = format!("it is of host {}, and this is {node}", saved.node());
                self.document.set_aside(fault, now_ms)?
            }
            Err(newer @ StoreError::Newer { .. }) => {
                self.document.set_aside(newer.to_string(), now_ms)?
            }
            loaded => loaded?,
        };
        Ok(match loaded {
            Loaded::Nothing => (None, None),
            Loaded::Intact(saved) => (Some(*saved), None),
            Loaded::Corrupt { aside, fault } => (None, Some(SetAside { aside, fault })),
        })
    }

    /// What is known changed.
    pub fn changed(&mut self) {
        self.pace.changed = true;
    }

    /// When [`write`](Self::write) is wanted; at once when the last one is long ago.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.pace.due(now)
    }

    /// Writes what is known. After a failure it is due again, as after a change.
    ///
    /// # Errors
    /// When it cannot be written; the file before is left then.
    pub fn write(&mut self, now: Instant, known: &impl Serialize) -> Result<(), StoreError> {
        self.pace.last = Some(now);
        self.document.save(known)?;
        self.pace.changed = false;
        Ok(())
    }
}

#[derive(Debug)]
struct Pace {
    every: Duration,
    /// When it was written last, or that was tried.
    last: Option<Instant>,
    changed: bool,
}

impl Pace {
    fn due(&self, now: Instant) -> Option<Instant> {
        let earliest = self.last.map_or(now, |last| last + self.every);
        self.changed.then(|| earliest.max(now))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sinew_model::fleet::{Generation, Snapshot};

    use super::*;
    use crate::fleet::mirror::{Answer, Limits, Mirror};

    type LastGood = super::LastGood<Saved>;

    const FILE: &str = Saved::FILE;
    const EVERY: Duration = Duration::from_secs(5);

    fn node() -> NodeName {
        "here".parse().unwrap()
    }

    fn mirror(now: Instant) -> Mirror {
        let mut mirror = Mirror::new(node(), Limits::default());
        let endpoint =
            r#"{"address4":"10.0.0.7","address6":null,"zone":"a","weight":256,"status":"up"}"#;
        let key = r#"{"node":"there","instance":3}"#;
        let snapshot = Snapshot {
            service: "orders".parse().unwrap(),
            generation: Generation(7),
            record: None,
            endpoints: [(
                serde_json::from_str(key).unwrap(),
                serde_json::from_str(endpoint).unwrap(),
            )]
            .into(),
            tombstones: Default::default(),
        };
        let answer = mirror.snapshot(now, snapshot);
        assert_eq!(answer, Answer::Ack { generation: Generation(7) });
        mirror
    }

    fn text(mirror: &Mirror) -> String {
        serde_json::to_string(mirror).unwrap()
    }

    fn written() -> (tempfile::TempDir, LastGood, Mirror) {
        let directory = tempfile::tempdir().unwrap();
        let mut last_good = LastGood::new(directory.path(), EVERY);
        let (now, mirror) = (Instant::now(), mirror(Instant::now()));
        last_good.changed();
        last_good.write(now, &mirror).unwrap();
        (directory, last_good, mirror)
    }

    #[test]
    fn r1_an_agent_goes_on_with_what_was_known_last() {
        let (directory, _, mirror) = written();
        let last_good = LastGood::new(directory.path(), EVERY);
        let (saved, aside) = last_good.load(&node(), 1).unwrap();
        assert_eq!(aside, None);
        let now = Instant::now();
        let restored = Mirror::restore(saved.unwrap(), Limits::default(), now);
        assert_eq!(text(&restored), text(&mirror));
        let orders = "orders".parse().unwrap();
        assert_eq!(restored.remote(&orders).unwrap().backends().filter(|b| b.in_choice).count(), 1);
    }

    #[test]
    fn r1_a_damaged_file_is_set_aside_and_told() {
        let (directory, last_good, _) = written();
        let file = directory.path().join(FILE);
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&file, &damaged).unwrap();
            let (saved, aside) = last_good.load(&node(), 42).unwrap();
            let aside = aside.unwrap_or_else(|| panic!("byte {at} went unseen"));
            assert!(saved.is_none());
            assert_eq!(fs::read(&aside.aside).unwrap(), damaged);
            assert!(!file.exists());
        }
        let (saved, aside) = last_good.load(&node(), 42).unwrap();
        assert!(saved.is_none() && aside.is_none());
    }

    #[test]
    fn r1_a_file_of_another_host_or_of_a_newer_version_is_set_aside() {
        let (directory, last_good, _) = written();
        let (saved, aside) = last_good.load(&"there".parse().unwrap(), 42).unwrap();
        let aside = aside.unwrap();
        assert!(saved.is_none());
        assert_eq!(aside.fault, "it is of host here, and this is there");
        let told = "what was known of other hosts is not used: it is of host here, and this is there; it was moved to";
        assert!(aside.to_string().starts_with(told), "{aside}");
        fs::write(directory.path().join(FILE), r#"{"version":9,"shape":"unknown"}"#).unwrap();
        let (saved, aside) = last_good.load(&node(), 43).unwrap();
        assert!(saved.is_none());
        assert!(aside.unwrap().fault.contains("has version 9, and this sinew knows 1"));
    }

    #[test]
    fn a_full_disk_is_told_and_the_last_good_stays() {
        let (directory, mut last_good, mirror) = written();
        let now = Instant::now();
        // Every write to it fails with ENOSPC.
        let fresh = directory.path().join(format!("{FILE}.new"));
        std::os::unix::fs::symlink("/dev/full", &fresh).unwrap();
        last_good.changed();
        let error = last_good.write(now, &Mirror::new(node(), Limits::default())).unwrap_err();
        assert!(error.is_full(), "{error}");
        assert_eq!(last_good.due(now), Some(now + EVERY), "and tried again");
        let (saved, _) = last_good.load(&node(), 1).unwrap();
        assert_eq!(text(&Mirror::restore(saved.unwrap(), Limits::default(), now)), text(&mirror));
        last_good.write(now + EVERY, &mirror).unwrap();
        assert_eq!(last_good.due(now + EVERY), None);
    }

    #[test]
    fn it_is_written_at_once_after_quiet_and_at_most_so_often() {
        let now = Instant::now();
        let directory = tempfile::tempdir().unwrap();
        let mut last_good = LastGood::new(directory.path(), EVERY);
        assert_eq!(last_good.due(now), None);
        last_good.changed();
        assert_eq!(last_good.due(now), Some(now));
        last_good.write(now, &mirror(now)).unwrap();
        last_good.changed();
        let soon = now + Duration::from_secs(1);
        assert_eq!(last_good.due(soon), Some(now + EVERY));
        let later = now + 2 * EVERY;
        assert_eq!(last_good.due(later), Some(later));
    }
}
