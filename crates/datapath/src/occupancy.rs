//! Which programs stand on the hooks that Sinew uses, its own or those of others: asked of the kernel
//! (`BPF_PROG_QUERY`), which knows them however they were attached. And why it lets nobody attach.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd as _,
    path::Path,
};

use crate::{
    Error, attach,
    sys::{self, AttachType},
};

const ALLOW_OVERRIDE: u32 = 1;
const ALLOW_MULTI: u32 = 2;

/// How the programs on a hook bear programs further down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All of them run.
    Together,
    /// The lower one runs instead.
    Overridden,
    /// The kernel refuses lower ones.
    Exclusive,
}

/// Programs on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// Which hook.
    pub hook: &'static str,
    /// How many there are.
    pub programs: u32,
    /// How they bear others.
    pub sharing: Sharing,
}

/// The hooks of members on which `cgroup` itself has programs.
///
/// # Errors
/// When the cgroup is not there, or the caller may not ask.
pub fn occupied(cgroup: &Path) -> io::Result<Vec<Occupied>> {
    let directory = File::open(cgroup)?;
    let mut occupied = Vec::new();
    for (hook, attach_type) in attach::member_hooks() {
        if let Some((programs, sharing)) = on(&directory, attach_type)? {
            occupied.push(Occupied { hook, programs, sharing });
        }
    }
    Ok(occupied)
}

/// Programs that choose sockets for packets in this network namespace.
///
/// # Errors
/// When the caller may not ask.
pub fn lookups() -> io::Result<u32> {
    let namespace = File::open("/proc/thread-self/ns/net")?;
    sys::query(namespace.as_fd(), AttachType::SkLookup).map(|(programs, _)| programs)
}

fn on(cgroup: &File, attach_type: AttachType) -> io::Result<Option<(u32, Sharing)>> {
    let (programs, flags) = sys::query(cgroup.as_fd(), attach_type)?;
    Ok((programs > 0).then(|| (programs, sharing(flags))))
}

fn sharing(flags: u32) -> Sharing {
    if flags & ALLOW_MULTI != 0 {
        Sharing::Together
    } else if flags & ALLOW_OVERRIDE != 0 {
        Sharing::Overridden
    } else {
        Sharing::Exclusive
    }
}

/// Why the kernel did not let a program be attached to a hook of `cgroup` (EPERM, which it answers
/// for several reasons).
pub(crate) fn refusal(hook: &'static str, attach_type: AttachType, cgroup: &Path) -> Error {
    if is_taken(attach_type, cgroup) {
        return Error::HookTaken { hook, path: cgroup.to_owned() };
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    Error::Denied { hook, path: cgroup.to_owned(), why: why(&status, &lockdown) }
}

/// Whether others share the hook with nobody: on the cgroup itself, or on the nearest one above it
/// that has programs.
fn is_taken(attach_type: AttachType, cgroup: &Path) -> bool {
    let on = |at: &Path| File::open(at).and_then(|directory| on(&directory, attach_type));
    let own = on(cgroup).ok().flatten().is_some_and(|(_, own)| own != Sharing::Together);
    let mut above = cgroup.ancestors().skip(1).map_while(|at| on(at).ok());
    own || above.find_map(|on| on).is_some_and(|(_, above)| above == Sharing::Exclusive)
}

/// In words, from `/proc/self/status` and the kernel's mode of lockdown.
fn why(status: &str, lockdown: &str) -> String {
    const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];
    const ADMIN: u32 = 21;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let lacks = |bit: u32| rights.is_some_and(|rights| rights & (1 << bit | 1 << ADMIN) == 0);
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(bit, _)| lacks(*bit)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return format!("the agent lacks {}: run it with them", missing.join(" and "));
    }
    let mode = lockdown.split_whitespace().find_map(|m| m.strip_prefix('[')?.strip_suffix(']'));
    match mode {
        Some(mode) if mode != "none" => {
            format!("the kernel is locked down ({mode}): see `man kernel_lockdown`")
        }
        _ => {
            "a security module of this machine may forbid it: see `dmesg` and the audit log".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_how_programs_share_a_hook() {
        assert_eq!(sharing(ALLOW_MULTI), Sharing::Together);
        assert_eq!(sharing(ALLOW_OVERRIDE), Sharing::Overridden);
        assert_eq!(sharing(0), Sharing::Exclusive);
    }

    #[test]
    fn causes_are_told_apart() {
        let all = "Name:\tsinew\nCapEff:\t000001ffffffffff\n";
        let some = "CapEff:\t0000008000000000\n";
        assert_eq!(why(some, ""), "the agent lacks CAP_NET_ADMIN: run it with them");
        let none = "CapEff:\t0000000000000000\n";
        assert!(why(none, "[none]").contains("lacks CAP_NET_ADMIN and CAP_BPF"));
        let locked = why(all, "none [integrity] confidentiality\n");
        assert!(locked.contains("locked down (integrity)"), "{locked}");
        assert!(why(all, "[none] integrity confidentiality").contains("security module"));
        assert!(why("", "").contains("security module"));
    }
}
