//! The group whose members may call the daemons.

use std::collections::BTreeMap;

/// The number of the group `sinew`, if this host has it. Looked up each time: it may be made while a
/// daemon runs.
#[must_use]
pub fn group() -> Option<u32> {
    sinew_group(&std::fs::read_to_string("/etc/group").ok()?)
}

/// Its number in the text of `/etc/group`.
#[must_use]
pub fn sinew_group(group_file: &str) -> Option<u32> {
    let groups: BTreeMap<&str, &str> = group_file
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?))
        })
        .collect();
    groups.get("sinew")?.parse().ok()
}
