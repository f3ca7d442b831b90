//! The file: opened with care, never overwritten.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _,
    backends::InMemoryBackend,
};

use super::{
    super::{Applied, Error, LeaseId, Revision},
    Options,
    history::Position,
    tables::{FORMAT, LEASES, META, META_COMPACTED, META_FORMAT, META_REVISION, Tables},
};

/// Where a store is kept.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Memory,
}

/// A store as it was found, or made.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) position: Position,
    /// With the seconds that they live.
    pub(super) leases: Vec<(LeaseId, u64)>,
}

/// Opens the store, or makes it where there is nothing.
pub(super) fn open(place: &Place, options: &Options) -> Result<Opened, Error> {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    // Damage is to be told now, and not as wrong answers later.
    builder.set_check_integrity_on_open(true);
    let database = match place {
        Place::File(path) => builder.create(path),
        Place::Memory => builder.create_with_backend(InMemoryBackend::new()),
    };
    let database = database.map_err(|error| place.open_error(error))?;
    let found = found(&database).or_else(|error| match error {
        redb::Error::TableDoesNotExist(_) => initialize(&database),
        other => Err(other),
    });
    let (format, position, leases) = found.map_err(|error| place.error(error))?;
    if format != FORMAT {
        return Err(Error::Format { path: place.path(), found: format, known: FORMAT });
    }
    if let Place::File(path) = place {
        // The name of a new file has to be as lasting as what will be in it.
        sync_directory(path).map_err(|error| place.io(error))?;
    }
    Ok(Opened { database, position, leases })
}

type Found = (u64, Position, Vec<(LeaseId, u64)>);

fn found(database: &Database) -> Result<Found, redb::Error> {
    let snapshot = database.begin_read()?;
    let meta = snapshot.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
    let revision = Revision(number(META_REVISION)?);
    let compacted = Revision(number(META_COMPACTED)?);
    let mut leases = Vec::new();
    for lease in snapshot.open_table(LEASES)?.iter()? {
        let (id, ttl_s) = lease?;
        leases.push((LeaseId(id.value()), ttl_s.value()));
    }
    Ok((number(META_FORMAT)?, Position { revision, compacted }, leases))
}

fn initialize(database: &Database) -> Result<Found, redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(META_FORMAT, FORMAT)?;
        tables.meta.insert(META_REVISION, 1)?;
        tables.meta.insert(META_COMPACTED, 0)?;
    }
    transaction.commit()?;
    found(database)
}

fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Place {
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Memory => PathBuf::from("(memory)"),
        }
    }

    pub(super) fn corrupt(&self, why: String) -> Error {
        Error::Corrupt {
            place: self.path().display().to_string(),
            why,
            remedy: "move it away, then import an export or start with an empty store",
        }
    }

    /// Bytes that the file system has left for this user; none where there is no file.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let Self::File(path) = self else { return None };
        let system = rustix::fs::statvfs(path).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }

    pub(super) fn no_space(&self, why: &str) -> Error {
        let why = format!("{}: {why}: free room on its file system", self.path().display());
        Error::NoSpace { why }
    }

    pub(super) fn io(&self, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                self.no_space(&error.to_string())
            }
            _ => Error::Io { path: self.path(), source: Arc::new(error) },
        }
    }

    /// In the words of the store. Writes that failed so were not done.
    pub(super) fn error(&self, error: redb::Error) -> Error {
        match error {
            redb::Error::Io(error) => self.io(error),
            redb::Error::DatabaseAlreadyOpen => Error::Locked { path: self.path() },
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => {
                Error::Unavailable { why: error.to_string(), applied: Applied::No }
            }
            other => self.corrupt(other.to_string()),
        }
    }

    fn open_error(&self, error: DatabaseError) -> Error {
        match redb::Error::from(error) {
            redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
                self.corrupt(error.to_string())
            }
            other => self.error(other),
        }
    }
}
