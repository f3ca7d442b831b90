//! Cgroups that carry links of their own, each pinned under a directory that its id names: when a
//! cgroup is made anew under the same name, links of the old one are told from those of the new.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Changes, Hook, attach_hooks, cgroup_id, ids_in, make, missing::target, open_cgroup, remove_pin,
    replace_hooks,
};
use crate::{Error, object::Object};

/// Cgroups that carry the same hooks.
pub(crate) struct Carriers {
    directory: PathBuf,
    hooks: &'static [Hook],
    /// Those that do now, by id.
    ids: HashSet<u64>,
}

impl Carriers {
    /// Those whose links are pinned under `directory`, which is made when it is missing.
    pub(super) fn open(directory: PathBuf, hooks: &'static [Hook]) -> Result<Self, Error> {
        make(&directory)?;
        let ids = ids_in(&directory)?.into_iter().collect();
        Ok(Self { directory, hooks, ids })
    }

    /// Puts every program in force on a cgroup; all or none.
    pub(crate) fn hook(&mut self, object: &Object, cgroup: &Path) -> Result<(), Error> {
        let id = cgroup_id(&open_cgroup(cgroup)?, cgroup)?;
        let directory = self.pins(id);
        make(&directory)?;
        let mut changes = Changes::default();
        if let Err(error) = attach_hooks(object, cgroup, self.hooks, &directory, &mut changes) {
            changes.take_back();
            if !self.ids.contains(&id) {
                let _ = fs::remove_dir(&directory);
            }
            return Err(error);
        }
        self.ids.insert(id);
        Ok(())
    }

    /// Whether the cgroup with this id is one of them.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.ids.contains(&id)
    }

    /// Takes the programs off every one that is not in `wanted`.
    pub(crate) fn keep(&mut self, wanted: &HashSet<u64>) -> Result<(), Error> {
        let gone: Vec<u64> = self.ids.difference(wanted).copied().collect();
        for id in gone {
            let directory = self.pins(id);
            for (name, _) in self.hooks {
                remove_pin(&directory.join(name))?;
            }
            match fs::remove_dir(&directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::system(format!("remove {}", directory.display()), e));
                }
                _ => self.ids.remove(&id),
            };
        }
        Ok(())
    }

    /// The hooks that a cgroup lacks, as the kernel says.
    pub(crate) fn missing(&self, cgroup: &Path) -> Vec<&'static str> {
        let id = open_cgroup(cgroup).and_then(|directory| cgroup_id(&directory, cgroup)).ok();
        let names = self.hooks.iter().map(|(name, _)| *name);
        names
            .filter(|name| id.is_none_or(|id| target(&self.pins(id).join(name)) != Some(id)))
            .collect()
    }

    /// Replaces the programs of all of them.
    pub(super) fn replace(&self, object: &Object, changes: &mut Changes) -> Result<(), Error> {
        self.ids
            .iter()
            .try_for_each(|id| replace_hooks(object, self.hooks, &self.pins(*id), changes))
    }

    fn pins(&self, id: u64) -> PathBuf {
        self.directory.join(id.to_string())
    }
}
