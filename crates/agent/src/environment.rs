//! From a service to what its supervisor is told: the whole of a workload's surroundings.

use std::{collections::BTreeMap, net::Ipv4Addr};

use sinew_workload::{DEFAULT_LOG_LIMIT_BYTES, LaunchSpec, restart::Backoff};

use crate::{core::Instance, key::Key, launch::Launch, paths::Paths};

/// The domain of all services.
pub(crate) const DOMAIN: &str = "sinew.internal";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `LOCALDOMAIN` replaces the search list of `resolv.conf`, so the host's own domains follow ours.
pub(crate) fn local_domain(search: &[String]) -> String {
    let mut domains = vec![DOMAIN];
    domains.extend(search.iter().map(String::as_str).filter(|domain| *domain != DOMAIN));
    domains.join(" ")
}

/// What every member finds in its environment.
pub(crate) fn variables(
    key: &Key,
    address: Ipv4Addr,
    search: &[String],
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("LOCALDOMAIN".to_owned(), local_domain(search)),
        ("SINEW_REPLICA".to_owned(), key.replica.to_string()),
        ("SINEW_ADDRESS".to_owned(), address.to_string()),
    ]);
    if let Some(service) = &key.service {
        variables.insert("SINEW_SERVICE".to_owned(), service.to_string());
    }
    variables
}

/// What the supervisor of a launched instance is told.
pub(crate) fn launch_spec(
    instance: &Instance,
    launch: &Launch,
    search: &[String],
    paths: &Paths,
) -> LaunchSpec {
    let service = &launch.service;
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    env.extend(variables(&instance.key, instance.address4, search));
    if !service.publish.is_empty() {
        // The kernel hands no packets to MPTCP sockets, which Go's listeners are by themselves.
        env.insert("GODEBUG".to_owned(), "multipathtcp=0".to_owned());
    }
    // The file has the last word.
    env.extend(service.env.clone());
    LaunchSpec {
        name: instance.key.to_string(),
        argv: service.command.argv(),
        env,
        working_dir: service.working_dir.clone(),
        user: service.user.clone(),
        group: service.group.clone(),
        uid_gid_of_caller: (launch.owner.uid, launch.owner.gid),
        cgroup: paths.member(&instance.key),
        limits: service.limits,
        restart: service.restart,
        stop: service.stop.clone(),
        log: log_of(&instance.key, paths),
        log_limit_bytes: DEFAULT_LOG_LIMIT_BYTES,
        privileges: service.privileges.clone(),
        hidden: vec![paths.state.clone(), paths.workloads()],
        backoff: Backoff::default(),
    }
}

fn log_of(key: &Key, paths: &Paths) -> std::path::PathBuf {
    let service = key.service.as_ref().map_or("exec", |name| name.as_str());
    paths.log(service, key.replica)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_domains_stay_searched() {
        assert_eq!(local_domain(&[]), "sinew.internal");
        let search = ["corp.example".to_owned(), "sinew.internal".to_owned()];
        assert_eq!(local_domain(&search), "sinew.internal corp.example");
    }
}
