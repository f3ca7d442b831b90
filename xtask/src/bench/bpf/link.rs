//! Links that are pinned, and the replacement of their programs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_cmd, bpf_link_info, bpf_link_type};

use super::{Kind, Program, bpf, info, pins, program_of};

/// A program that is attached to something.
pub(crate) struct Link {
    fd: OwnedFd,
    kind: u32,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    expected: u32,
}

impl Link {
    pub(crate) fn is_replaceable(&self) -> bool {
        let kinds = [bpf_link_type::BPF_LINK_TYPE_CGROUP, bpf_link_type::BPF_LINK_TYPE_NETNS];
        kinds.iter().any(|kind| *kind as u32 == self.kind)
    }

    /// The program in force.
    pub(crate) fn program(&self) -> Result<Program> {
        program_of(&self.fd)
    }

    /// Puts another program in force, at once.
    pub(crate) fn replace(&self, program: &Program) -> Result<()> {
        let mut update = Update {
            link: self.fd.as_raw_fd() as u32,
            program: program.fd.as_raw_fd() as u32,
            flags: 0,
            expected: 0,
        };
        // SAFETY: the attribute of BPF_LINK_UPDATE, whose descriptors are open.
        unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut update) }.map(|_| ()).with_context(|| {
            format!("the program {} cannot be put in force", program.name().unwrap_or_default())
        })
    }
}

/// The links pinned below a directory.
pub(crate) fn links(directory: &Path) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for (_, fd) in pins(directory)?.into_iter().filter(|(kind, _)| *kind == Kind::Link) {
        // SAFETY: a link's information is plain numbers, for which zeros are valid.
        let link: bpf_link_info = unsafe { info(&fd) }.context("a link cannot be read")?;
        links.push(Link { fd, kind: link.type_ });
    }
    Ok(links)
}
