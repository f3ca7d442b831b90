//! Keeps the intent on disk: one file, replaced as a whole, so that it is always either the state
//! before a change or the one after it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{alloc, intent::Intent};

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
    #[error("{} has version {found}, and this sinew knows {VERSION}", file.display())]
    Newer {
        /// Which one.
        file: PathBuf,
        /// Its version.
        found: u32,
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
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
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

/// What was found on disk.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// No state yet.
    Nothing,
    /// The state.
    Intact(Box<Intent>),
    /// A file that is not what was written; it was moved to `aside`.
    Corrupt {
        /// Where it lies now.
        aside: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u32,
    /// Of the intent's text.
    checksum: String,
    intent: Box<RawValue>,
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

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
        let store = Self { directory: directory.to_owned() };
        // A predecessor that was killed while it wrote leaves one.
        let _ = fs::remove_file(store.fresh());
        Ok(store)
    }

    /// Where the next state is written before it takes the place of the old one.
    fn fresh(&self) -> PathBuf {
        self.directory.join(format!("{FILE}.new"))
    }

    /// Reads the state. A corrupt file is set aside under a name that bears `now_ms`.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or a newer version wrote it.
    pub(crate) fn load(&self, now_ms: u64) -> Result<Loaded, StoreError> {
        let file = self.directory.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(e) => return Err(StoreError::io("read", &file)(e)),
        };
        match decode(&text) {
            Ok(intent) => Ok(Loaded::Intact(Box::new(intent))),
            Err(Fault::Newer(found)) => Err(StoreError::Newer { file, found }),
            Err(Fault::Corrupt(fault)) => {
                let aside = self.directory.join(format!("{FILE}.corrupt-{now_ms}"));
                fs::rename(&file, &aside).map_err(StoreError::io("set aside", &file))?;
                Ok(Loaded::Corrupt { aside, fault })
            }
        }
    }

    /// Replaces the state. When this returns, the new one is on disk; when it fails, the old one is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save(&self, intent: &Intent) -> Result<(), StoreError> {
        let text = encode(intent)?;
        let file = self.directory.join(FILE);
        let fresh = self.fresh();
        let written = write_durably(&fresh, &text);
        if let Err(e) = written {
            // Of no use, and on a full disk its space is wanted.
            let _ = fs::remove_file(&fresh);
            return Err(StoreError::io("write", &fresh)(e));
        }
        fs::rename(&fresh, &file).map_err(StoreError::io("replace", &file))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(StoreError::io("flush", &self.directory))
    }
}

fn write_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn encode(intent: &Intent) -> Result<Vec<u8>, serde_json::Error> {
    let intent = serde_json::value::to_raw_value(intent)?;
    let checksum = format!("{:016x}", alloc::hash(intent.get()));
    serde_json::to_vec(&Envelope { version: VERSION, checksum, intent })
}

enum Fault {
    Newer(u32),
    Corrupt(String),
}

fn decode(text: &[u8]) -> Result<Intent, Fault> {
    let corrupt = |e: serde_json::Error| Fault::Corrupt(e.to_string());
    let header: Header = serde_json::from_slice(text).map_err(corrupt)?;
    if header.version > VERSION {
        return Err(Fault::Newer(header.version));
    }
    if header.version < VERSION {
        return Err(Fault::Corrupt(format!("there never was a version {}", header.version)));
    }
    let envelope: Envelope = serde_json::from_slice(text).map_err(corrupt)?;
    if envelope.checksum != format!("{:016x}", alloc::hash(envelope.intent.get())) {
        return Err(Fault::Corrupt("the checksum does not match".to_owned()));
    }
    serde_json::from_str(envelope.intent.get()).map_err(corrupt)
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
