//! What a workload may do: whose rights it has, and which of root's it never gets.
//!
//! A workload of root loses the capabilities in [`TAKEN`] unless it keeps them by name, and sees
//! neither pins nor a writable tree of cgroups unless it keeps `CAP_SYS_ADMIN`. That guards against
//! accidents and against programs that were broken into, but root stays root: it owns the files of
//! the machine. Name a user to confine a workload.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use sinew_model::Privileges;

use crate::Errno;

mod capabilities;
mod kernel;
mod mounts;
mod users;

pub use capabilities::TAKEN;
pub use users::Databases;

/// Why a workload cannot have the rights it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum RightsError {
    /// Nobody of that name.
    #[error(
        "user {user:?} does not exist in /etc/passwd; users of other name services are given by \
         number"
    )]
    NoUser {
        /// As given.
        user: String,
    },
    /// No group of that name.
    #[error(
        "group {group:?} does not exist in /etc/group; groups of other name services are given by \
         number"
    )]
    NoGroup {
        /// As given.
        group: String,
    },
    /// A user by number of whom nothing more is known.
    #[error("user {uid} is not in /etc/passwd, so its group is not known; give group as well")]
    GroupUnknown {
        /// The number.
        uid: u32,
    },
    /// No capability of that name.
    #[error("privileges.keep_capabilities: there is no capability {name:?}")]
    NoCapability {
        /// As given.
        name: String,
    },
    /// A file of users cannot be read.
    #[error("cannot read {path}: {errno}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        errno: Errno,
    },
    /// The kernel refused.
    #[error("cannot {step}: {errno}")]
    Refused {
        /// What was tried.
        step: Step,
        /// Why not.
        errno: Errno,
    },
}

/// A step of giving up rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Step {
    /// Cover what it shall not see.
    Cover,
    /// Take capabilities for good.
    BoundCapabilities,
    /// Take on the groups.
    SetGroups,
    /// Take on the group.
    SetGroup,
    /// Take on the user.
    SetUser,
    /// Drop capabilities held.
    DropCapabilities,
    /// Forbid new privileges.
    ForbidNewPrivileges,
}

impl Step {
    pub(crate) const ALL: [Self; 7] = [
        Self::Cover,
        Self::BoundCapabilities,
        Self::SetGroups,
        Self::SetGroup,
        Self::SetUser,
        Self::DropCapabilities,
        Self::ForbidNewPrivileges,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cover => "cover the pins and the cgroups",
            Self::BoundCapabilities => "take capabilities from the bounding set",
            Self::SetGroups => "set the supplementary groups",
            Self::SetGroup => "set the group",
            Self::SetUser => "set the user",
            Self::DropCapabilities => "drop capabilities",
            Self::ForbidNewPrivileges => "set no_new_privs",
        })
    }
}

/// The rights of a workload, worked out beforehand: taking them on needs neither memory nor files,
/// so it can be done between fork and exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Name of the user, when it has one.
    pub user_name: Option<String>,
    /// Home of the user, when it has one.
    pub home: Option<String>,
    /// Capabilities that it may have, by number.
    capabilities: u64,
    no_new_privileges: bool,
    /// Places that it shall not see or change.
    covers: Vec<mounts::Cover>,
}

impl Rights {
    /// Looks up user and groups, by name or number, in `/etc/passwd` and `/etc/group`. Other name
    /// services are not asked: they load foreign code and may wait for a network, in a process
    /// that is to be small and never to hang.
    ///
    /// # Errors
    /// [`RightsError`] names what does not exist.
    pub fn resolve(
        user: Option<&str>,
        group: Option<&str>,
        caller: (u32, u32),
        privileges: &Privileges,
    ) -> Result<Self, RightsError> {
        let capabilities = capabilities::allowed(&privileges.keep_capabilities)?;
        let account = users::Databases::read()?.account(user, group, caller)?;
        Ok(Self {
            uid: account.uid,
            gid: account.gid,
            groups: account.groups,
            user_name: account.name,
            home: account.home,
            capabilities,
            no_new_privileges: privileges.no_new_privileges,
            covers: Vec::new(),
        })
    }

    /// Keeps root from the pins, from changing cgroups, and from these directories; not who keeps
    /// `CAP_SYS_ADMIN`, who could undo it. To others the files' modes do the same.
    ///
    /// # Errors
    /// When it cannot be seen what is mounted.
    pub fn without(mut self, hidden: &[PathBuf]) -> Result<Self, RightsError> {
        if self.uid == 0 && !capabilities::holds(self.capabilities, "CAP_SYS_ADMIN") {
            let path = "/proc/self/mountinfo";
            let mounts = std::fs::read_to_string(path).map_err(|error| {
                RightsError::Unreadable { path: path.to_owned(), errno: error.into() }
            })?;
            self.covers = mounts::covers(&mounts, hidden);
        }
        Ok(self)
    }

    /// Gives the calling *thread* these rights; a program that it executes next has no others.
    /// Makes system calls only.
    ///
    /// # Errors
    /// The step that the kernel refused.
    pub(crate) fn take_on(&self) -> Result<(), (Step, Errno)> {
        mounts::put_on(&self.covers).map_err(|errno| (Step::Cover, errno))?;
        kernel::bound_capabilities(self.capabilities)
            .map_err(|errno| (Step::BoundCapabilities, errno))?;
        kernel::set_ids(self.uid, self.gid, &self.groups)?;
        kernel::limit_capabilities(self.capabilities)
            .map_err(|errno| (Step::DropCapabilities, errno))?;
        if self.no_new_privileges {
            kernel::forbid_new_privileges().map_err(|errno| (Step::ForbidNewPrivileges, errno))?;
        }
        Ok(())
    }
}

/// Gives the calling thread these rights; call it right before `exec`, which carries them over to
/// the program. Other threads keep theirs.
///
/// # Errors
/// The step that the kernel refused; the thread may have lost some rights already.
pub fn drop_rights(rights: &Rights) -> Result<(), RightsError> {
    rights.take_on().map_err(|(step, errno)| RightsError::Refused { step, errno })
}
