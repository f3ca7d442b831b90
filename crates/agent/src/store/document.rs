//! A file of JSON that is replaced as a whole, and that tells whether it is what was written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::StoreError;
use crate::alloc;

/// What was found on disk.
#[derive(Debug)]
pub(crate) enum Loaded<T> {
    /// Nothing yet.
    Nothing,
    /// What was written.
    Intact(Box<T>),
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
    /// Of the content's text.
    checksum: String,
    // Named so when it held nothing else.
    #[serde(alias = "intent")]
    content: Box<RawValue>,
}

/// A file in the state directory.
#[derive(Debug)]
pub(crate) struct Document {
    directory: PathBuf,
    name: &'static str,
    /// Raised when an older agent could not understand the file.
    version: u32,
}

impl Document {
    /// The file called `name`.
    pub(crate) fn new(directory: &Path, name: &'static str, version: u32) -> Self {
        let document = Self { directory: directory.to_owned(), name, version };
        // A predecessor that was killed while it wrote leaves one.
        let _ = fs::remove_file(document.fresh());
        document
    }

    fn file(&self) -> PathBuf {
        self.directory.join(self.name)
    }

    /// Where the next content is written before it takes the place of the old one.
    fn fresh(&self) -> PathBuf {
        self.directory.join(format!("{}.new", self.name))
    }

    /// Reads it. A corrupt file is set aside under a name that bears `now_ms`.
    ///
    /// # Errors
    /// When the file is there but cannot be read, or a newer version wrote it.
    pub(crate) fn load<T: DeserializeOwned>(&self, now_ms: u64) -> Result<Loaded<T>, StoreError> {
        let file = self.file();
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Loaded::Nothing),
            Err(e) => return Err(StoreError::io("read", &file)(e)),
        };
        match decode(self.version, &text) {
            Ok(content) => Ok(Loaded::Intact(Box::new(content))),
            Err(Fault::Newer(found)) => Err(StoreError::Newer { file, found, known: self.version }),
            Err(Fault::Corrupt(fault)) => self.set_aside(fault, now_ms),
        }
    }

    /// Moves the file out of the way.
    ///
    /// # Errors
    /// When it stays where it is.
    pub(crate) fn set_aside<T>(&self, fault: String, now_ms: u64) -> Result<Loaded<T>, StoreError> {
        let file = self.file();
        let aside = self.directory.join(format!("{}.corrupt-{now_ms}", self.name));
        fs::rename(&file, &aside).map_err(StoreError::io("set aside", &file))?;
        Ok(Loaded::Corrupt { aside, fault })
    }

    /// Replaces it. When this returns, the new content is on disk; when it fails, the old one is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn save<T: Serialize>(&self, content: &T) -> Result<(), StoreError> {
        let text = encode(self.version, content)?;
        let (file, fresh) = (self.file(), self.fresh());
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

pub(super) fn encode<T: Serialize>(
    version: u32,
    content: &T,
) -> Result<Vec<u8>, serde_json::Error> {
    let content = serde_json::value::to_raw_value(content)?;
    let checksum = format!("{:016x}", alloc::hash(content.get()));
    serde_json::to_vec(&Envelope { version, checksum, content })
}

#[derive(Debug)]
pub(super) enum Fault {
    Newer(u32),
    Corrupt(String),
}

pub(super) fn decode<T: DeserializeOwned>(version: u32, text: &[u8]) -> Result<T, Fault> {
    let corrupt = |e: serde_json::Error| Fault::Corrupt(e.to_string());
    let header: Header = serde_json::from_slice(text).map_err(corrupt)?;
    if header.version > version {
        return Err(Fault::Newer(header.version));
    }
    if header.version < version {
        return Err(Fault::Corrupt(format!("there never was a version {}", header.version)));
    }
    let envelope: Envelope = serde_json::from_slice(text).map_err(corrupt)?;
    if envelope.checksum != format!("{:016x}", alloc::hash(envelope.content.get())) {
        return Err(Fault::Corrupt("the checksum does not match".to_owned()));
    }
    serde_json::from_str(envelope.content.get()).map_err(corrupt)
}
