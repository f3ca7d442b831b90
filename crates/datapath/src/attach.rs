//! Programs on cgroups and on the network namespace, by pinned links that outlive us.
//!
//! One cgroup holds all members and carries the programs for them. [`Carriers`] lie elsewhere: those
//! that were adopted as they are, with the same programs, and those whose processes may call services
//! without being members, with programs for callers alone.
//!
//! An upgrade replaces the program of each link in place: a call runs the old or the new one. When
//! one replacement fails, those before it are taken back, so that versions never mix.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
};

use crate::{
    Error, Instance,
    layout::{Delta, Member},
    object::Object,
    occupancy,
    sys::{self, AttachType},
};

mod carriers;
mod deaths;
mod missing;

pub(crate) use carriers::Carriers;

/// The name of a program, which its link bears too, and where it is attached.
type Hook = (&'static str, AttachType);

/// The hooks of every member.
const HOOKS: &[Hook] = &[
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

/// The hooks of callers that are no members. Links share every hook with programs further down,
/// which run first; what they have done these recognise by the destination.
const REACH_HOOKS: &[Hook] = &[
    ("reach_connect4", AttachType::Connect4),
    ("reach_connect6", AttachType::Connect6),
    ("getpeername4", AttachType::GetPeerName4),
    ("getpeername6", AttachType::GetPeerName6),
    ("reach_sendmsg4", AttachType::SendMsg4),
    ("reach_sendmsg6", AttachType::SendMsg6),
    ("recvmsg4", AttachType::RecvMsg4),
    ("recvmsg6", AttachType::RecvMsg6),
    ("sock_release", AttachType::SockRelease),
];

/// What the programs of [`REACH_HOOKS`] alone are called.
pub(crate) const REACH: &str = "reach_";

/// Program and link of published ports and of what comes from other hosts; on the network namespace,
/// while a port is published or there are other hosts.
const PUBLISHED: &str = "published";
/// Link of the callbacks of all members' sockets; there while there are other hosts. The program is
/// that of [`Links::watch`].
const SOCKET_CALLBACKS: &str = "sock_ops";
const NETWORK_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Names of the programs that are attached; `reach`: also to those who are no members.
pub(crate) fn programs(reach: bool) -> impl Iterator<Item = &'static str> {
    let reach = if reach { REACH_HOOKS } else { &[] };
    HOOKS.iter().chain(reach).map(|(name, _)| *name).chain([SOCKET_CALLBACKS, PUBLISHED])
}

/// Whether the data path works without a program.
pub(crate) fn is_optional(name: &str) -> bool {
    deaths::names().any(|optional| optional == name)
}

/// The hooks of every member, and that of its listeners.
pub(crate) fn member_hooks() -> impl Iterator<Item = Hook> {
    HOOKS.iter().copied().chain([(SOCKET_CALLBACKS, AttachType::SockOps)])
}

/// The links under a pin directory.
pub(crate) struct Links {
    directory: PathBuf,
    /// Watched cgroups, by id.
    watched: HashMap<u64, Watch>,
    /// Programs that see deaths, as far as the kernel takes them.
    deaths: Vec<&'static str>,
    /// Adopted cgroups.
    pub(crate) adopted: Carriers,
    /// Those whose processes call services without being members.
    pub(crate) reach: Carriers,
}

/// What programs are there for only at times.
#[derive(Clone, Copy)]
pub(crate) struct Duties {
    /// Packets without a socket are looked at.
    pub(crate) looks_up: bool,
    /// Callbacks of all members' sockets run.
    pub(crate) calls_back: bool,
}

/// The link that watches a cgroup.
struct Watch {
    link: OwnedFd,
    /// Where the cgroup lies; not known of one that an earlier process watched.
    cgroup: Option<PathBuf>,
}

/// What was changed so far of something that is done as a whole.
#[derive(Default)]
struct Changes {
    /// Links with the programs that they had.
    replaced: Vec<(OwnedFd, OwnedFd)>,
    /// Pins of new links.
    made: Vec<PathBuf>,
}

impl Links {
    /// Opens the directory; nothing is attached.
    pub(crate) fn open(pins: &Path) -> Result<Self, Error> {
        let directory = pins.join("links");
        let adopted = Carriers::open(directory.join("hooked"), HOOKS)?;
        let reach = Carriers::open(directory.join("reach"), REACH_HOOKS)?;
        make(&directory.join("watch"))?;
        let mut links = Self { directory, watched: HashMap::new(), deaths: vec![], adopted, reach };
        for id in ids_in(&links.directory.join("watch"))? {
            if let Ok(link) = sys::open_pin(&links.watch_path(id)) {
                links.watched.insert(id, Watch { link, cgroup: None });
            }
        }
        Ok(links)
    }

    /// Puts every program of `object` in force on `cgroup` and on every other one that has some,
    /// replacing what is there: on all of them or on none.
    pub(crate) fn attach(&mut self, object: &Object, cgroup: &Path) -> Result<(), Error> {
        let mut changes = Changes::default();
        let mut attached = attach_hooks(object, cgroup, HOOKS, &self.directory, &mut changes);
        if self.directory.join(PUBLISHED).exists() {
            attached = attached.and_then(|()| self.attach_published(object, &mut changes));
        }
        for carriers in [&self.adopted, &self.reach] {
            attached = attached.and_then(|()| carriers.replace(object, &mut changes));
        }
        if let Err(error) = attached {
            changes.take_back();
            return Err(error);
        }
        self.deaths = deaths::taken(object);
        deaths::attach(object, &self.directory);
        let watcher = object.program(SOCKET_CALLBACKS)?;
        if let Ok(link) = sys::open_pin(&self.directory.join(SOCKET_CALLBACKS)) {
            let _ = sys::link_update(link.as_fd(), watcher);
        }
        for Watch { link, .. } in self.watched.values() {
            // A link whose cgroup is gone cannot be updated and watches nothing.
            let _ = sys::link_update(link.as_fd(), watcher);
        }
        Ok(())
    }

    /// Whether packets to published ports and from other hosts are looked at. While there are none,
    /// nobody pays.
    pub(crate) fn publish(&self, object: &Object, wanted: bool) -> Result<(), Error> {
        let path = self.directory.join(PUBLISHED);
        if !wanted {
            return remove_pin(&path);
        }
        if path.exists() {
            return Ok(());
        }
        self.attach_published(object, &mut Changes::default())
    }

    fn attach_published(&self, object: &Object, changes: &mut Changes) -> Result<(), Error> {
        let (namespace, id) = network_namespace()?;
        let target = Target { file: &namespace, id };
        attach_one(PUBLISHED, AttachType::SkLookup, object, &target, &self.directory, changes)
            .map_err(|(what, e)| Error::system(format!("{what} {PUBLISHED}"), e))
    }

    /// Runs the callbacks of all sockets of the members; while there are other hosts, calls to which
    /// are watched. Answers whether they were not run before.
    pub(crate) fn call_back(&self, object: &Object, cgroup: &Path) -> Result<bool, Error> {
        if self.calls_back(cgroup) {
            return Ok(false);
        }
        let directory = open_cgroup(cgroup)?;
        let target = Target { file: &directory, id: cgroup_id(&directory, cgroup)? };
        let mut changes = Changes::default();
        let attach_type = AttachType::SockOps;
        attach_one(SOCKET_CALLBACKS, attach_type, object, &target, &self.directory, &mut changes)
            .map_err(|(what, e)| match e.raw_os_error() {
            Some(libc::EPERM) => occupancy::refusal(SOCKET_CALLBACKS, attach_type, cgroup),
            _ => Error::system(format!("{what} {SOCKET_CALLBACKS}"), e),
        })?;
        Ok(true)
    }

    /// Nobody pays for them any more.
    pub(crate) fn call_back_no_more(&self) -> Result<(), Error> {
        remove_pin(&self.directory.join(SOCKET_CALLBACKS))
    }

    fn calls_back(&self, cgroup: &Path) -> bool {
        let id = open_cgroup(cgroup).and_then(|directory| cgroup_id(&directory, cgroup)).ok();
        id.is_some() && missing::target(&self.directory.join(SOCKET_CALLBACKS)) == id
    }

    /// Watches listen() in the cgroups of those members that shall be watched. Answers
    /// whether any was not watched before: what listened there meanwhile was not seen.
    pub(crate) fn watch(
        &mut self,
        object: &Object,
        delta: &Delta<Member>,
        shall_be: impl Fn(&Instance) -> bool,
    ) -> Result<bool, Error> {
        let wanted: HashMap<u64, &Path> = delta
            .came
            .iter()
            .filter(|member| shall_be(&member.instance))
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
            if let Some(watch) = self.watched.get_mut(id) {
                watch.cgroup.get_or_insert_with(|| cgroup.to_path_buf());
                continue;
            }
            self.watch_one(object, *id, cgroup)?;
            fresh = true;
        }
        Ok(fresh)
    }

    fn watch_one(&mut self, object: &Object, id: u64, cgroup: &Path) -> Result<(), Error> {
        let directory = open_cgroup(cgroup)?;
        let program = object.program(SOCKET_CALLBACKS)?;
        let fail = |e| Error::system(format!("watch listen() in {}", cgroup.display()), e);
        let link = sys::link_create(program, Some(directory.as_fd()), AttachType::SockOps)
            .map_err(fail)?;
        sys::pin(link.as_fd(), &self.watch_path(id)).map_err(fail)?;
        self.watched.insert(id, Watch { link, cgroup: Some(cgroup.to_owned()) });
        Ok(())
    }

    fn watch_path(&self, id: u64) -> PathBuf {
        self.directory.join("watch").join(id.to_string())
    }

    /// Detaches everything.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        self.adopted.keep(&HashSet::new())?;
        self.reach.keep(&HashSet::new())?;
        for id in std::mem::take(&mut self.watched).into_keys() {
            remove_pin(&self.watch_path(id))?;
        }
        deaths::remove(&self.directory)?;
        for name in HOOKS.iter().map(|(name, _)| *name).chain([PUBLISHED, SOCKET_CALLBACKS]) {
            remove_pin(&self.directory.join(name))?;
        }
        Ok(())
    }
}

/// What a program is attached to, and the number by which its links know it.
struct Target<'a> {
    file: &'a File,
    id: u64,
}

/// Puts every program in force on `cgroup`, with its links pinned in `pins`.
fn attach_hooks(
    object: &Object,
    cgroup: &Path,
    hooks: &[Hook],
    pins: &Path,
    changes: &mut Changes,
) -> Result<(), Error> {
    let directory = open_cgroup(cgroup)?;
    let target = Target { file: &directory, id: cgroup_id(&directory, cgroup)? };
    for (name, attach_type) in hooks {
        attach_one(name, *attach_type, object, &target, pins, changes).map_err(
            |(what, e)| match e.raw_os_error() {
                Some(libc::EPERM) => occupancy::refusal(name, *attach_type, cgroup),
                _ => Error::system(format!("{what} {name}"), e),
            },
        )?;
    }
    Ok(())
}

/// Puts one program in force; an error comes with what was tried.
fn attach_one(
    name: &str,
    attach_type: AttachType,
    object: &Object,
    target: &Target<'_>,
    pins: &Path,
    changes: &mut Changes,
) -> Result<(), (&'static str, io::Error)> {
    let program = object.program(name).map_err(|e| ("find program", io::Error::other(e)))?;
    let pin = pins.join(name);
    let failed = |what: &'static str| move |e: io::Error| (what, e);
    if replace(program, &pin, Some(target.id), changes).map_err(failed("replace program"))? {
        return Ok(());
    }
    // Of one that is gone or another one: it serves nobody here.
    match fs::remove_file(&pin) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(("unpin stale link", e)),
        _ => {}
    }
    let link = sys::link_create(program, Some(target.file.as_fd()), attach_type)
        .map_err(failed("attach program"))?;
    sys::pin(link.as_fd(), &pin).map_err(failed("pin link"))?;
    changes.made.push(pin);
    Ok(())
}

/// Replaces the programs of the links that are pinned in `pins`.
fn replace_hooks(
    object: &Object,
    hooks: &[Hook],
    pins: &Path,
    changes: &mut Changes,
) -> Result<(), Error> {
    for (name, _) in hooks {
        replace(object.program(name)?, &pins.join(name), None, changes)
            .map_err(|e| Error::system(format!("replace program {name}"), e))?;
    }
    Ok(())
}

/// Replaces the program of a pinned link; false when there is none, or its cgroup is gone or not
/// the one `wanted`.
fn replace(
    program: BorrowedFd<'_>,
    pin: &Path,
    wanted: Option<u64>,
    changes: &mut Changes,
) -> io::Result<bool> {
    let Ok(link) = sys::open_pin(pin) else { return Ok(false) };
    let info = sys::link_info(link.as_fd())?;
    if info.target == 0 || wanted.is_some_and(|id| id != info.target) {
        return Ok(false);
    }
    let old = sys::program_by_id(info.program_id)?;
    sys::link_update(link.as_fd(), program)?;
    changes.replaced.push((link, old));
    Ok(true)
}

impl Changes {
    fn take_back(self) {
        for pin in &self.made {
            if let Err(error) = remove_pin(pin) {
                tracing::error!(%error, "a new link could not be taken back");
            }
        }
        for (link, program) in self.replaced {
            if let Err(error) = sys::link_update(link.as_fd(), program.as_fd()) {
                tracing::error!(%error, "a replaced program could not be put back");
            }
        }
    }
}

fn make(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory)
        .map_err(|e| Error::system(format!("make directory {}", directory.display()), e))
}

/// The cgroup ids that name the entries of a directory.
fn ids_in(directory: &Path) -> Result<Vec<u64>, Error> {
    let entries = fs::read_dir(directory)
        .map_err(|e| Error::system(format!("list {}", directory.display()), e))?;
    let id = |entry: fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse().ok());
    Ok(entries.flatten().filter_map(id).collect())
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
