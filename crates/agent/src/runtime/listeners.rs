//! Which listeners are those of members. Anybody on the host may bind an address that nobody uses at
//! the moment, so a listener at an instance's address counts only when it was made in its cgroup.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use sinew_datapath::Listener;
use sinew_model::Protocol;
use sinew_workload::cgroup;

use crate::{
    alloc::{self, Network6},
    key::Key,
    paths::Paths,
};

/// Where instances are, by their addresses.
pub(super) struct Members(HashMap<IpAddr, PathBuf>);

impl Members {
    /// Those of these names and numbers.
    pub(super) fn new<'a>(
        instances: impl Iterator<Item = (&'a Key, u32)>,
        paths: &Paths,
        network: Network6,
    ) -> Self {
        let places = instances.flat_map(|(key, number)| {
            let addresses: [IpAddr; 2] =
                [alloc::instance4(number).into(), alloc::instance6(network, number).into()];
            let cgroup = paths.member(key);
            addresses.map(|address| (address, cgroup.clone()))
        });
        Self(places.collect())
    }

    /// What of `all` listens where it says, as the core takes it.
    pub(super) fn filter(&self, all: Vec<Listener>) -> Vec<(IpAddr, u16, Protocol)> {
        let of_members = all.into_iter().filter(|listener| {
            let cgroup = self.0.get(&listener.address.to_canonical());
            let own = cgroup.is_none_or(|cgroup| is_below(listener.cgroup, cgroup));
            if !own {
                tracing::warn!(
                    "{} port {} is taken by a process that is no member",
                    listener.address,
                    listener.port
                );
            }
            own
        });
        of_members.map(|l| (l.address, l.port, l.protocol)).collect()
    }
}

/// Whether the cgroup `id` is `cgroup` or lies below it. One that is gone may have been.
fn is_below(id: u64, cgroup: &Path) -> bool {
    id == 0
        || cgroup::id(cgroup).is_ok_and(|own| own == id)
        || cgroup::find(id).is_none_or(|found| found.starts_with(cgroup))
}
