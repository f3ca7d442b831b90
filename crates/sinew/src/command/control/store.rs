//! The store that was named on the command line.

use std::{
    fmt, fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use sinew_control::store::{
    Embedded, Etcd, Store, embedded,
    etcd::{self, Tls, User},
    schema,
};

use super::failed;
use crate::{args::StoreAt, context::state, error::Error};

impl fmt::Display for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.etcd.is_empty() {
            return self.directory().display().fmt(f);
        }
        f.write_str(&self.etcd.join(","))
    }
}

impl StoreAt {
    fn directory(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| state().join("control"))
    }
}

/// Opens it, ready for use.
pub(super) async fn open(at: &StoreAt) -> Result<Arc<dyn Store>, Error> {
    let store = reach(at).await?;
    schema::open(&*store).await.map_err(failed)?;
    Ok(store)
}

/// The same as it is.
pub(super) async fn reach(at: &StoreAt) -> Result<Arc<dyn Store>, Error> {
    if at.etcd.is_empty() {
        let directory = at.directory();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(Error::system(format!("make {}", directory.display())))?;
        let path = directory.join("store.redb");
        let store = Embedded::open(path, embedded::Options::default()).await;
        return Ok(Arc::new(store.map_err(failed)?));
    }
    let mut options = etcd::Options::new(at.etcd.clone());
    options.tls = tls(at)?;
    if let (Some(name), Some(file)) = (&at.etcd_user, &at.etcd_password_file) {
        let password = String::from_utf8_lossy(&read(file)?).trim_end().to_owned();
        options.user = Some(User { name: name.clone(), password });
    }
    Ok(Arc::new(Etcd::connect(options).await.map_err(failed)?))
}

fn tls(at: &StoreAt) -> Result<Option<Tls>, Error> {
    let Some(ca) = &at.etcd_ca else { return Ok(None) };
    let identity = match (&at.etcd_cert, &at.etcd_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(Some(Tls { ca_pem: read(ca)?, identity, server_name: None }))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })
}
