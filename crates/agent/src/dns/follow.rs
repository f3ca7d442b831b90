//! The resolver's view of its directory: the zone, whenever it is replaced, and whether there still
//! is one.

use std::{
    fs::File,
    io::{self, Read as _},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use rustix::fs::{
    Mode, OFlags, fstat,
    inotify::{self, CreateFlags, WatchFlags},
    open, openat,
};
use sinew_dns::Zone;
use tokio::sync::watch;

use super::files::{Catalog, ZONE};
use crate::pollable;

/// The directory. Opened by root, it can be used by who could not get there: reading the zone takes
/// no more than the right to that file.
pub(super) struct Home(OwnedFd);

impl Home {
    /// Opens it, and begins to watch it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, OwnedFd)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let home = open(path, flags, Mode::empty())?;
        let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // The directory and not the file: that one is replaced, or not there yet.
        let what = WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        inotify::add_watch(&changes, path, what)?;
        Ok((Self(home), changes))
    }

    /// Makes it the working directory.
    pub(super) fn enter(&self) -> io::Result<()> {
        Ok(rustix::process::fchdir(&self.0)?)
    }

    /// Whether it was removed.
    pub(super) fn is_gone(&self) -> bool {
        fstat(&self.0).is_ok_and(|directory| directory.st_nlink == 0)
    }

    /// What it is to answer now; `None`: nothing was ever said.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn names(&self) -> io::Result<Option<Catalog>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match openat(&self.0, ZONE, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            file => File::from(file?),
        };
        let mut text = Vec::new();
        (&file).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }
}

/// Passes on the zone whenever the directory changes. One that cannot be read changes nothing.
pub(super) async fn follow(
    home: &Home,
    changes: OwnedFd,
    domain: &str,
    zone: &watch::Sender<Arc<Zone>>,
) -> io::Error {
    let changes = match pollable::readable(changes) {
        Ok(changes) => changes,
        Err(error) => return error,
    };
    loop {
        let mut ready = match changes.readable().await {
            Ok(ready) => ready,
            Err(error) => return error,
        };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        match rustix::io::read(changes.get_ref(), &mut buffer) {
            Ok(_) => continue,
            // All that happened is known: changes that came together are one.
            Err(rustix::io::Errno::WOULDBLOCK) => ready.clear_ready(),
            Err(errno) => return errno.into(),
        }
        match home.names() {
            Ok(Some(names)) => replace(names, domain, zone),
            Ok(None) => {}
            Err(error) => tracing::warn!("the names stay as they are: {ZONE}: {error}"),
        }
    }
}

fn replace(names: Catalog, domain: &str, zone: &watch::Sender<Arc<Zone>>) {
    match names.zone(domain) {
        Ok(fresh) => {
            zone.send_replace(Arc::new(fresh));
        }
        Err(error) => tracing::warn!("the names stay as they are: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn serial(zone: &Zone) -> u32 {
        use sinew_dns::{Decision, Transport, answer};
        let query = super::super::query::soa(1, "sinew.internal");
        let Decision::Reply(reply) = answer(zone, &query, Transport::Udp) else { panic!() };
        super::super::query::serial(1, &reply).unwrap()
    }

    fn say(at: &Path, generation: u32) {
        Catalog { generation, ..Catalog::default() }.write(at, None).unwrap();
    }

    #[tokio::test]
    async fn each_new_zone_is_passed_on_and_no_broken_one() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let (home, changes) = Home::open(at).unwrap();
        assert_eq!(home.names().unwrap(), None);
        let (sender, mut zones) =
            watch::channel(Arc::new(Catalog::default().zone("sinew.internal").unwrap()));
        let following = async { follow(&home, changes, "sinew.internal", &sender).await };
        let acting = async {
            for generation in [1, 2] {
                say(at, generation);
                zones.changed().await.unwrap();
                assert_eq!(serial(&zones.borrow_and_update()), generation);
            }
            // Written over in place, as no agent does.
            fs::write(at.join(ZONE), "{").unwrap();
            fs::remove_file(at.join(ZONE)).unwrap();
            say(at, 3);
            zones.changed().await.unwrap();
            assert_eq!(serial(&zones.borrow_and_update()), 3);
        };
        tokio::select! {
            error = following => panic!("{error}"),
            () = acting => {}
        }
    }

    #[test]
    fn a_removed_directory_is_gone_also_while_it_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let (home, _changes) = Home::open(directory.path()).unwrap();
        assert!(!home.is_gone());
        directory.close().unwrap();
        assert!(home.is_gone());
    }
}
