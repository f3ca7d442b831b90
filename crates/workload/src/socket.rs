//! Unix sockets that have their rights before anybody can find them.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::Path,
};

/// Listens at `path`, in place of what lies there: for those whom `mode` and `group` let in, from
/// the first moment. A socket is bound with the rights that the umask leaves, so it gets its name
/// last.
///
/// # Errors
/// When the socket cannot be made; what lay at `path` is still there.
pub fn listen(path: &Path, mode: u32, group: Option<u32>) -> io::Result<UnixListener> {
    // No longer than the usual `.sock`: names of sockets have little room.
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    chown(&fresh, None, group)?;
    fs::set_permissions(&fresh, Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_takes_the_place_of_another_with_its_rights() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        drop(listen(&path, 0o666, None).unwrap());
        let listener = listen(&path, 0o640, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let _caller = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// Whoever waits for the name to appear never finds it with other rights.
    #[test]
    fn nobody_finds_it_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let watched = path.clone();
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let until = done.clone();
        let watcher = std::thread::spawn(move || {
            let mut modes = std::collections::BTreeSet::new();
            while !until.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok(found) = fs::metadata(&watched) {
                    modes.insert(found.permissions().mode() & 0o777);
                }
            }
            modes
        });
        for _ in 0..500 {
            drop(listen(&path, 0o600, None).unwrap());
            fs::remove_file(&path).unwrap();
        }
        drop(listen(&path, 0o600, None).unwrap());
        while fs::metadata(&path).is_err() {}
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(watcher.join().unwrap().iter().all(|mode| *mode == 0o600));
    }
}
