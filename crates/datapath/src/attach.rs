//! Programs on cgroups and on the network namespace, by pinned links that outlive us.
//!
//! An upgrade replaces the program of each link in place: a call runs the old or the new one. When
//! one replacement fails, those before it are taken back, so that versions never mix.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use crate::{
    Error,
    layout::{Delta, Member},
    object::Object,
    sys::{self, AttachType},
};

/// The hooks of every member.
const HOOKS: &[(&str, AttachType)] = &[
    ("bind4", AttachType::Bind4),
    ("bind6", AttachType::Bind6),
    ("post_bind4", AttachType::PostBind4),
    ("post_bind6", AttachType::PostBind6),
    ("connect4", AttachType::Connect4),
    ("connect6", AttachType::Connect6),
    ("getpeername4", AttachType::GetPeerName4),
    ("getpeername6", AttachType::GetPeerName6),
    ("getsockname4", AttachType::GetSockName4),
    ("getsockname6", AttachType::GetSockName6),
    ("sendmsg4", AttachType::SendMsg4),
    ("sendmsg6", AttachType::SendMsg6),
    ("recvmsg4", AttachType::RecvMsg4),
    ("recvmsg6", AttachType::RecvMsg6),
    ("sock_release", AttachType::SockRelease),
];

/// Program and link of published ports; on the network namespace, while a port is published.
const PUBLISHED: &str = "published";
const NETWORK_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Names of the programs that are attached.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    HOOKS.iter().map(|(name, _)| *name).chain(["sock_ops", PUBLISHED])
}

/// The links under a pin directory.
pub(crate) struct Links {
    directory: PathBuf,
    /// Watched cgroups, by id.
    watched: HashMap<u64, OwnedFd>,
}

impl Links {
    /// Opens the directory; nothing is attached.
    pub(crate) fn open(pins: &Path) -> Result<Self, Error> {
        let directory = pins.join("links");
        for path in [directory.clone(), directory.join("watch")] {
            fs::create_dir_all(&path)
                .map_err(|e| Error::system(format!("make directory {}", path.display()), e))?;
        }
        let mut links = Self { directory, watched: HashMap::new() };
        links.find_watched()?;
        Ok(links)
    }

    fn find_watched(&mut self) -> Result<(), Error> {
        let directory = self.directory.join("watch");
        let entries = fs::read_dir(&directory)
            .map_err(|e| Error::system(format!("list {}", directory.display()), e))?;
        for entry in entries.flatten() {
            let id = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if let (Some(id), Ok(link)) = (id, sys::open_pin(&entry.path())) {
                self.watched.insert(id, link);
            }
        }
        Ok(())
    }

    /// Puts every program of `object` in force on `cgroup`, replacing what is there.
    pub(crate) fn attach(&mut self, object: &Object, cgroup: &Path) -> Result<(), Error> {
        let directory = open_cgroup(cgroup)?;
        let id = cgroup_id(&directory, cgroup)?;
        let (mut replaced, mut made) = (Vec::new(), Vec::new());
        let members = HOOKS.iter().map(|(name, kind)| (*name, *kind, &directory, id));
        let (namespace, namespace_id) = network_namespace()?;
        let published = self.directory.join(PUBLISHED).exists().then_some((
            PUBLISHED,
            AttachType::SkLookup,
            &namespace,
            namespace_id,
        ));
        for (name, attach_type, target, id) in members.chain(published) {
            let program = object.program(name)?;
            match self.attach_one(name, attach_type, program, target, id) {
                Ok(Some(undo)) => replaced.push(undo),
                Ok(None) => made.push(self.directory.join(name)),
                Err(error) => {
                    roll_back(replaced, &made);
                    return Err(error);
                }
            }
        }
        let watcher = object.program("sock_ops")?;
        for link in self.watched.values() {
            // A link whose cgroup is gone cannot be updated and watches nothing.
            let _ = sys::link_update(link.as_fd(), watcher);
        }
        Ok(())
    }

    /// Answers what it replaced, to be put back when a later one fails.
    fn attach_one(
        &self,
        name: &str,
        attach_type: AttachType,
        program: BorrowedFd<'_>,
        target: &File,
        target_id: u64,
    ) -> Result<Option<(OwnedFd, OwnedFd)>, Error> {
        let path = self.directory.join(name);
        let fail = |what: &str| {
            let what = format!("{what} {name}");
            move |e: io::Error| Error::system(what, e)
        };
        if let Ok(link) = sys::open_pin(&path) {
            let info = sys::link_info(link.as_fd()).map_err(fail("inspect link"))?;
            if info.target == target_id {
                let old = sys::program_by_id(info.program_id).map_err(fail("open program of"))?;
                sys::link_update(link.as_fd(), program).map_err(fail("replace program"))?;
                return Ok(Some((link, old)));
            }
            // Of one that is gone or another one: it serves nobody here.
            fs::remove_file(&path).map_err(fail("unpin stale link"))?;
        }
        let link = sys::link_create(program, Some(target.as_fd()), attach_type)
            .map_err(fail("attach program"))?;
        sys::pin(link.as_fd(), &path).map_err(fail("pin link"))?;
        Ok(None)
    }

    /// Whether packets to published ports are looked at. While none are published, nobody pays.
    pub(crate) fn publish(&self, object: &Object, wanted: bool) -> Result<(), Error> {
        let path = self.directory.join(PUBLISHED);
        if !wanted {
            return remove_pin(&path);
        }
        if path.exists() {
            return Ok(());
        }
        let (namespace, id) = network_namespace()?;
        let program = object.program(PUBLISHED)?;
        self.attach_one(PUBLISHED, AttachType::SkLookup, program, &namespace, id).map(drop)
    }

    /// Watches listen() in the cgroups of those members that shall be watched. Answers
    /// whether any was not watched before: what listened there meanwhile was not seen.
    pub(crate) fn watch(&mut self, object: &Object, delta: &Delta<Member>) -> Result<bool, Error> {
        let wanted: HashMap<u64, &Path> = delta
            .came
            .iter()
            .filter(|member| member.instance.watch_listen)
            .map(|member| (member.cgroup, member.instance.cgroup.as_path()))
            .collect();
        let left: Vec<u64> = if delta.whole {
            self.watched.keys().copied().collect()
        } else {
            delta.left.iter().map(|member| member.cgroup).collect()
        };
        for id in left.into_iter().filter(|id| !wanted.contains_key(id)) {
            if self.watched.contains_key(&id) {
                remove_pin(&self.watch_path(id))?;
                self.watched.remove(&id);
            }
        }
        let mut fresh = false;
        for (id, cgroup) in &wanted {
            if self.watched.contains_key(id) {
                continue;
            }
            let directory = open_cgroup(cgroup)?;
            let program = object.program("sock_ops")?;
            let fail = |e| Error::system(format!("watch listen() in {}", cgroup.display()), e);
            let link = sys::link_create(program, Some(directory.as_fd()), AttachType::SockOps)
                .map_err(fail)?;
            sys::pin(link.as_fd(), &self.watch_path(*id)).map_err(fail)?;
            self.watched.insert(*id, link);
            fresh = true;
        }
        Ok(fresh)
    }

    fn watch_path(&self, id: u64) -> PathBuf {
        self.directory.join("watch").join(id.to_string())
    }

    /// Detaches everything.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        for id in std::mem::take(&mut self.watched).into_keys() {
            remove_pin(&self.watch_path(id))?;
        }
        for name in HOOKS.iter().map(|(name, _)| *name).chain([PUBLISHED]) {
            remove_pin(&self.directory.join(name))?;
        }
        Ok(())
    }
}

fn roll_back(replaced: Vec<(OwnedFd, OwnedFd)>, made: &[PathBuf]) {
    for pin in made {
        if let Err(error) = remove_pin(pin) {
            tracing::error!(%error, "a new link could not be taken back");
        }
    }
    for (link, program) in replaced {
        if let Err(error) = sys::link_update(link.as_fd(), program.as_fd()) {
            tracing::error!(%error, "a replaced program could not be put back");
        }
    }
}

fn remove_pin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove pin {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

/// The calling thread's, with its inode.
fn network_namespace() -> Result<(File, u64), Error> {
    let fail = |e| Error::system(format!("open {NETWORK_NAMESPACE}"), e);
    let file = File::open(NETWORK_NAMESPACE).map_err(fail)?;
    let inode = file.metadata().map_err(fail)?.ino();
    Ok((file, inode))
}

pub(crate) fn open_cgroup(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Cgroup { path: path.to_owned(), source })
}

/// Id of a cgroup: the inode of its directory.
pub(crate) fn cgroup_id(directory: &File, path: &Path) -> Result<u64, Error> {
    let metadata =
        directory.metadata().map_err(|source| Error::Cgroup { path: path.to_owned(), source })?;
    Ok(metadata.ino())
}
