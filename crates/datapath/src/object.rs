//! The embedded kernel object: fitted to the running kernel, then loaded over pinned maps.
//!
//! The verifier takes about a second over it. What it let in is pinned beside the maps, so that the
//! next start of the same version takes it from there.

use std::{
    collections::HashMap,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};

use crate::{Error, attach, btf::Btf, facts, features, kernel::make_private, sys};

/// The object is built by `cargo xtask ebpf` and committed, so that users need no BPF toolchain.
static OBJECT: &[u8] = include_bytes!("../object/sinew.bpf.o");

/// Maps of the object; all of them are pinned.
pub(crate) const MAPS: &[&str] = &[
    "CONFIG",
    "REACH",
    "INSTANCES",
    "SERVICES4",
    "SERVICES6",
    "NEAR_SERVICES",
    "NEAR_CALLERS",
    "PUBLISHED",
    "PUBLISHED_PORTS",
    "FLEET",
    "HOSTS",
    "NODES",
    "FLEET_PORTS",
    "AWAITED_REPLIES",
    "SERVICE_HOT",
    "OUTLIERS",
    "REGIONS",
    "SLOTS",
    "BACKENDS",
    "BACKEND_HOT",
    "BACKEND_TIMES",
    "KNOWN_LISTENERS6",
    "LISTENING_PROCESSES",
    "LISTENERS",
    "LISTENERS6",
    "LISTEN_KEYS",
    "ADOPTED_LISTENERS",
    "SOCKETS",
    "SOCKETS_OVERFLOW",
    "EDGES",
    "EDGE_ZERO",
    "COUNTERS",
    "AFFINITIES",
    "NAME_SERVERS",
    "DATAGRAM_PEERS",
    "PEER_NAMES",
    "PORT_NAMES",
    "OVERFLOW_HINTS",
    "BOUND",
    "EVENTS",
];

/// Programs that no hook runs: user space does.
pub(crate) const LISTENERS: &str = "listeners";
pub(crate) const DATAGRAM_SOCKETS: &str = "datagram_sockets";
pub(crate) const OPEN_SOCKETS: &str = "open_sockets";
pub(crate) const GIVE_BACK: &str = "give_back";

/// Where loaded programs are pinned, in the directory of the maps: one directory a build.
const PROGRAMS: &str = "programs-";

/// The loaded programs, by name.
pub(crate) struct Object {
    programs: HashMap<String, OwnedFd>,
    /// The maps, for pins that somebody removes.
    maps: Vec<(&'static str, OwnedFd)>,
}

/// Every program, over the maps pinned in `maps` (created when missing); those for callers that are
/// no members only for `reach`. Nothing is attached.
pub(crate) fn load(maps: &Path, types: &Path, reach: bool) -> Result<Object, Error> {
    let programs = match find(maps, types, reach) {
        Some(programs) => programs,
        None => {
            let programs = verify(maps, types, reach)?;
            if let Err(error) = keep(&programs, maps, types) {
                tracing::warn!("the next start has to verify the kernel programs again: {error}");
            }
            programs
        }
    };
    let open = |name: &&'static str| {
        let pin = sys::open_pin(&maps.join(name));
        pin.map(|map| (*name, map)).map_err(|e| Error::system(format!("open map {name}"), e))
    };
    let maps = MAPS.iter().map(open).collect::<Result<_, _>>()?;
    Ok(Object { programs, maps })
}

/// What an earlier start of this build loaded over these very maps.
fn find(maps: &Path, types: &Path, reach: bool) -> Option<HashMap<String, OwnedFd>> {
    let directory = maps.join(build(maps, types).ok()?);
    let entries = fs::read_dir(&directory).ok()?;
    let opened = entries.map(|entry| {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Ok((name, sys::open_pin(&path)?))
    });
    let programs: HashMap<_, _> = opened.collect::<io::Result<_>>().ok()?;
    // Somebody may have removed some.
    let mut needed =
        attach::programs(reach).chain([LISTENERS, DATAGRAM_SOCKETS, OPEN_SOCKETS, GIVE_BACK]);
    needed.all(|name| programs.contains_key(name)).then_some(programs)
}

/// Lets the next start find it; older ones are of no use to anybody.
fn keep(programs: &HashMap<String, OwnedFd>, maps: &Path, types: &Path) -> io::Result<()> {
    for entry in fs::read_dir(maps)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PROGRAMS) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    let fresh = maps.join(format!("{PROGRAMS}new"));
    fs::create_dir(&fresh)?;
    for (name, program) in programs {
        sys::pin(program.as_fd(), &fresh.join(name))?;
    }
    // All of them or none.
    fs::rename(&fresh, maps.join(build(maps, types)?))
}

/// Names this build over these maps. Pins end with the kernel that made them, so what the programs
/// were fitted to is the same.
fn build(maps: &Path, types: &Path) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    (OBJECT, types).hash(&mut hasher);
    for name in MAPS {
        sys::object_id(sys::open_pin(&maps.join(name))?.as_fd())?.hash(&mut hasher);
    }
    Ok(format!("{PROGRAMS}{:016x}", hasher.finish()))
}

/// Has the kernel verify and load it.
fn verify(maps: &Path, types: &Path, reach: bool) -> Result<HashMap<String, OwnedFd>, Error> {
    let btf = Btf::read(types)?;
    if !features::of(&btf)?.outcomes {
        tracing::warn!(
            "this kernel does not tell how connections went, as Linux 6.2 and later do: bytes and \
             failures are not counted, and no backend is ejected"
        );
    }
    let mut bytes = OBJECT.to_vec();
    facts::write(&btf, &mut bytes)?;
    // Nothing is made before it is known that the kernel has what is needed.
    let fresh = !maps.exists();
    make_private(maps)?;
    verify_over(maps, types, &bytes, reach).inspect_err(|_| {
        if fresh {
            // Empty maps are of no use to anybody.
            let _ = fs::remove_dir_all(maps);
        }
    })
}

fn verify_over(
    maps: &Path,
    types: &Path,
    object: &[u8],
    reach: bool,
) -> Result<HashMap<String, OwnedFd>, Error> {
    let pins: Vec<(&str, PathBuf)> = MAPS.iter().map(|name| (*name, maps.join(name))).collect();
    let kernel = aya::Btf::parse_file(types, aya::Endianness::default())
        .map_err(|e| Error::Refused { program: "object".into(), reason: chain(&e) })?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(&kernel));
    for (name, path) in &pins {
        loader.map_pin_path(name, path.clone());
    }
    let mut ebpf = loader
        .load(object)
        .map_err(|e| Error::Refused { program: "object".into(), reason: chain(&e) })?;
    load_programs(&mut ebpf, &kernel, reach)
}

fn load_programs(
    ebpf: &mut Ebpf,
    kernel: &aya::Btf,
    reach: bool,
) -> Result<HashMap<String, OwnedFd>, Error> {
    let mut programs = HashMap::new();
    for (name, program) in ebpf.programs_mut() {
        if !reach && name.starts_with(attach::REACH) {
            continue;
        }
        let mut load = || match program {
            Program::CgroupSockAddr(p) => Some(p.load()),
            Program::CgroupSock(p) => Some(p.load()),
            Program::SockOps(p) => Some(p.load()),
            Program::SkLookup(p) => Some(p.load()),
            Program::Iter(p) if name == OPEN_SOCKETS => Some(p.load("task_file", kernel)),
            Program::Iter(p) if name == DATAGRAM_SOCKETS => Some(p.load("udp", kernel)),
            Program::Iter(p) => Some(p.load("tcp", kernel)),
            Program::RawTracePoint(p) => Some(p.load()),
            _ => None,
        };
        let mut loaded = load();
        // The verifier gives up when a signal is pending.
        for _ in 0..INTERRUPTIONS {
            match &loaded {
                Some(Err(error)) if interrupted(error) => loaded = load(),
                _ => break,
            }
        }
        match loaded {
            None => continue,
            Some(Err(error)) if attach::is_optional(name) => {
                let error = refused(name, &error);
                tracing::warn!("deaths of processes are noticed late: {error}");
                continue;
            }
            Some(loaded) => loaded.map_err(|e| refused(name, &e))?,
        }
        let fd = program
            .fd()
            .map_err(|e| Error::system(format!("program {name}"), io::Error::other(e)))?;
        let fd = fd.as_fd().try_clone_to_owned();
        programs
            .insert(name.to_owned(), fd.map_err(|e| Error::system(format!("program {name}"), e))?);
    }
    Ok(programs)
}

/// How often a load that a signal ended is tried again.
const INTERRUPTIONS: u32 = 20;

fn interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. }
        if io_error.raw_os_error() == Some(libc::EAGAIN))
}

fn refused(program: &str, error: &ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            not_loaded(program, io_error, &verifier_log.to_string())
        }
        _ => Error::Refused { program: program.to_owned(), reason: chain(error) },
    }
}

/// A kernel that does not know such programs at all says no more than that the call is invalid. Else
/// the end of the verifier's log says why; its beginning retells the program.
fn not_loaded(program: &str, error: &io::Error, log: &str) -> Error {
    if error.raw_os_error() == Some(libc::EINVAL) && log.is_empty() {
        return features::unsupported(format!("programs such as {program}"));
    }
    let reason = if std::env::var_os("SINEW_VERIFIER_LOG").is_some() {
        format!("{error}\n{log}")
    } else {
        let tail: Vec<&str> = log.lines().rev().take(3).collect();
        format!("{error}: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" | "))
    };
    Error::Refused { program: program.to_owned(), reason }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Object {
    /// Whether every map is pinned in `directory`.
    pub(crate) fn is_pinned(&self, directory: &Path) -> bool {
        self.maps.iter().all(|(name, _)| directory.join(name).exists())
    }

    /// Pins the maps that are not pinned there.
    pub(crate) fn pin_maps(&self, directory: &Path) -> Result<(), Error> {
        let unpinned = self.maps.iter().map(|(name, map)| (map, directory.join(name)));
        unpinned.filter(|(_, path)| !path.exists()).try_for_each(|(map, path)| {
            sys::pin(map.as_fd(), &path)
                .map_err(|e| Error::system(format!("pin {}", path.display()), e))
        })
    }

    /// Descriptor of a loaded program.
    pub(crate) fn program(&self, name: &str) -> Result<BorrowedFd<'_>, Error> {
        self.programs.get(name).map(OwnedFd::as_fd).ok_or_else(|| Error::Refused {
            program: name.to_owned(),
            reason: "not in the object".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_kernel_does_not_know_is_told_from_one_that_it_refuses() {
        let load = |errno, log| not_loaded("lookup", &io::Error::from_raw_os_error(errno), log);
        let unknown = load(libc::EINVAL, "").to_string();
        assert!(unknown.starts_with("this kernel lacks programs such as lookup: boot Linux 6.1"));
        let log = "0: R1=ctx()\nR1 !read_ok\nprocessed 1 insns";
        let refusal = load(libc::EINVAL, log).to_string();
        assert!(refusal.contains("refused program lookup") && refusal.contains("R1 !read_ok"));
        let forbidden = load(libc::EPERM, "");
        assert!(matches!(forbidden, Error::Refused { .. }), "{forbidden}");
    }
}
