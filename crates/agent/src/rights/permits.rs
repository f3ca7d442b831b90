//! What the policy of this host allows to one caller, in the numbers by which the kernel knows
//! users and groups.

use std::path::PathBuf;

use sinew_model::{Allowed, Grant, Grantee, Policy};
use sinew_workload::rights::Databases;

use super::Caller;

/// What a caller may do besides what everybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permits {
    /// Where more could be allowed.
    pub file: PathBuf,
    /// Users that services may run as.
    pub run_as: Allowed<u32>,
    /// Groups that services may run in.
    pub run_as_group: Allowed<u32>,
    /// Users whose processes may be adopted.
    pub adopt: Allowed<u32>,
    /// Ports that are root's otherwise.
    pub low_ports: Allowed<u16>,
    /// What of others may be changed.
    pub change: Allowed<String>,
    /// Capabilities that services may keep.
    pub capabilities: Allowed<String>,
    /// Services may gain privileges.
    pub new_privileges: bool,
    /// The agent may be ended.
    pub shutdown: bool,
}

impl Permits {
    /// What `policy`, which stands in `file`, allows to `caller`. Users and groups that do not exist
    /// are nobody.
    pub(crate) fn of(
        policy: &Policy,
        file: PathBuf,
        caller: &Caller,
        accounts: &Databases,
    ) -> Self {
        let mut permits = Self { file, ..Self::default() };
        for grant in policy.rules.iter().filter(|grant| is_for(grant, caller, accounts)) {
            permits.extend(grant, accounts);
        }
        permits
    }

    fn extend(&mut self, grant: &Grant, accounts: &Databases) {
        let users = |allowed| numbers(allowed, |name| accounts.user_number(name).ok());
        let groups = |allowed| numbers(allowed, |name| accounts.group_number(name).ok());
        self.run_as.extend(users(&grant.run_as));
        self.run_as_group.extend(groups(&grant.run_as_group));
        self.adopt.extend(users(&grant.adopt));
        self.low_ports.extend(grant.publish_below_1024.clone());
        self.change.extend(grant.change.clone());
        self.capabilities.extend(grant.keep_capabilities.clone());
        self.new_privileges |= grant.new_privileges;
        self.shutdown |= grant.shutdown;
    }
}

fn is_for(grant: &Grant, caller: &Caller, accounts: &Databases) -> bool {
    match &grant.to {
        Grantee::User(name) => accounts.user_number(name).is_ok_and(|uid| uid == caller.uid),
        Grantee::Group(name) => accounts.group_number(name).is_ok_and(|gid| caller.is_in(gid)),
    }
}

fn numbers(allowed: &Allowed<String>, number: impl Fn(&str) -> Option<u32>) -> Allowed<u32> {
    let named = allowed.named.iter().filter_map(|name| number(name)).collect();
    Allowed { all: allowed.all, named }
}

/// What `policy` names and does not exist: a line that is misspelt allows nothing.
pub(crate) fn unknown(policy: &Policy, accounts: &Databases) -> Vec<String> {
    let no_user = |name: &&String| accounts.user_number(name).is_err();
    let no_group = |name: &&String| accounts.group_number(name).is_err();
    let mut unknown = Vec::new();
    for (index, grant) in policy.rules.iter().enumerate() {
        let (user, group) = match &grant.to {
            Grantee::User(name) => (Some(name), None),
            Grantee::Group(name) => (None, Some(name)),
        };
        let mut tell = |key, what, name: &String| {
            unknown.push(format!("rules[{index}].{key}: there is no {what} {name}"));
        };
        for (key, names) in [
            ("user", user.into_iter().collect::<Vec<_>>()),
            ("run_as", grant.run_as.named.iter().collect()),
            ("adopt", grant.adopt.named.iter().collect()),
        ] {
            names.into_iter().filter(no_user).for_each(|name| tell(key, "user", name));
        }
        for (key, names) in [
            ("group", group.into_iter().collect::<Vec<_>>()),
            ("run_as_group", grant.run_as_group.named.iter().collect()),
        ] {
            names.into_iter().filter(no_group).for_each(|name| tell(key, "group", name));
        }
    }
    unknown
}
