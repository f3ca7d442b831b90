//! Keeps the intent on disk: one file, replaced as a whole, so that it is always either the state
//! before a change or the one after it.

mod document;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crate::intent::Intent;

pub(crate) use document::{Document, Loaded};

/// Raised when an older agent could not understand the file.
const VERSION: u32 = 1;
const FILE: &str = "state.json";

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory is not safe to use.
    #[error("the state directory {} is refused: {fault}", directory.display())]
    Unsafe {
        /// Which one.
        directory: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A newer version wrote the file.
    #[error("{} has version {found}, and this sinew knows {known}", file.display())]
    Newer {
        /// Which one.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that can be read.
        known: u32,
    },
    /// The kernel refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The state cannot be put into JSON.
    #[error("the state cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl StoreError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether the disk or a quota is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unsafe { .. } => {
                "make it a directory of root that nobody else may write: \
                 `chown root: DIR && chmod go-w DIR`, or name another one with SINEW_STATE"
            }
            Self::Newer { .. } => "use the version of sinew that wrote it",
            Self::Io { .. } if self.is_full() => "free some space on that disk, then repeat",
            Self::Io { .. } => "look at the disk and the rights of that path",
            Self::Json(_) => "report it as a fault of sinew",
        }
    }
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store(Document);

impl Store {
    /// Takes `directory`, which is made when it is not there.
    ///
    /// # Errors
    /// When somebody else may write it, or it cannot be made.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(StoreError::io("make the directory", directory))?;
        let meta = fs::metadata(directory).map_err(StoreError::io("look at", directory))?;
        let refuse = |fault| Err(StoreError::Unsafe { directory: directory.to_owned(), fault });
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return refuse("it belongs to another user");
        }
        if meta.mode() & 0o022 != 0 {
            return refuse("others may write it");
        }
        Ok(Self(Document::new(directory, FILE, VERSION)))
    }

    /// Reads the state. A corrupt file is set aside under a name that bears `now_ms`.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or a newer version wrote it.
    pub(crate) fn load(&self, now_ms: u64) -> Result<Loaded<Intent>, StoreError> {
        self.0.load(now_ms)
    }

    /// Replaces the state. When this returns, the new one is on disk; when it fails, the old one is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, intent: &Intent) -> Result<(), StoreError> {
        self.0.save(intent)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_broken_state_is_never_another_state() {
        let intent =
            Intent::new([0xfd, 1, 2, 3, 4, 5]).attach(&"tool".parse().unwrap(), 1).unwrap();
        let text = encode(&intent).unwrap();
        let mut broken = 0;
        sinew_fuzz::each(&[text.as_ref()], |bytes| match decode(bytes) {
            Ok(found) => assert_eq!(found, intent),
            Err(_) => broken += 1,
        });
        assert!(broken > 100);
    }

    #[test]
    fn broken_files_of_others_are_no_values() {
        let record = br#"{"key":{"service":"web","replica":1},"number":300,"network6":[1,2,3,4,5,6],"service_number":7,"origin":{"attached":{"pid":1,"owner":{"uid":1,"gid":1},"ports":[],"command":"x","at_ms":1}}}"#;
        let directory = tempfile::tempdir().unwrap();
        let mut read = 0;
        sinew_fuzz::each(&[record], |bytes| {
            fs::write(directory.path().join("instance.json"), bytes).unwrap();
            if let Ok(record) = crate::record::Record::read(directory.path()) {
                read += 1;
                record.write(directory.path()).unwrap();
                assert_eq!(crate::record::Record::read(directory.path()).unwrap(), record);
            }
        });
        assert!(read > 10, "some are whole: {read}");
    }

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn encode(intent: &Intent) -> Result<Vec<u8>, serde_json::Error> {
        document::encode(VERSION, intent)
    }

    fn decode(text: &[u8]) -> Result<Intent, document::Fault> {
        document::decode(VERSION, text)
    }

    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        directory
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = directory(0o700);
        let store = Store::open(directory.path()).unwrap();
        assert!(matches!(store.load(1), Ok(Loaded::Nothing)));
        let mut intent = Intent::new([0xfd, 1, 2, 3, 4, 5]);
        store.save(&intent).unwrap();
        intent.generation = 7;
        store.save(&intent).unwrap();
        let Ok(Loaded::Intact(loaded)) = store.load(1) else { panic!("not intact") };
        assert_eq!(*loaded, intent);
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_set_aside() {
        let whole = encode(&Intent::new([1; 6])).unwrap();
        for at in 0..whole.len() {
            let mut text = whole.clone();
            text[at] ^= 1;
            let directory = directory(0o700);
            let store = Store::open(directory.path()).unwrap();
            fs::write(directory.path().join(FILE), &text).unwrap();
            match store.load(42) {
                Ok(Loaded::Corrupt { aside, .. }) => {
                    assert_eq!(fs::read(aside).unwrap(), text);
                    assert!(matches!(store.load(43), Ok(Loaded::Nothing)));
                }
                other => panic!("byte {at}: {other:?}"),
            }
        }
        for cut in 0..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_newer_state_is_left_alone() {
        let directory = directory(0o700);
        let store = Store::open(directory.path()).unwrap();
        fs::write(directory.path().join(FILE), r#"{"version":9,"shape":"unknown"}"#).unwrap();
        assert!(matches!(store.load(1), Err(StoreError::Newer { found: 9, .. })));
        assert!(directory.path().join(FILE).exists());
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let shared = directory(0o770);
        assert!(matches!(Store::open(shared.path()), Err(StoreError::Unsafe { .. })));
    }

    #[test]
    fn a_full_disk_keeps_the_old_state() {
        let directory = directory(0o700);
        let store = Store::open(directory.path()).unwrap();
        store.save(&Intent::new([1; 6])).unwrap();
        // Every write to it fails with ENOSPC.
        std::os::unix::fs::symlink("/dev/full", directory.path().join("state.json.new")).unwrap();
        let error = store.save(&Intent::new([2; 6])).unwrap_err();
        assert!(error.is_full(), "{error}");
        let Ok(Loaded::Intact(kept)) = store.load(1) else { panic!("not intact") };
        assert_eq!(kept.network6, [1; 6]);
    }
}
