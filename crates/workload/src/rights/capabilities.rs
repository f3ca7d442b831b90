//! Capabilities by name, and which of them a workload of root does without.

use sinew_model::CAPABILITIES;

use super::RightsError;

/// What a workload of root does not get: whatever reaches the kernel itself, the set-up of the
/// network, other processes' memory, or the machine as a whole. Servers started by root need none of
/// it; what they do need (changing their user, low ports, owning any file, raising their limits,
/// locking memory) they keep.
pub const TAKEN: &[&str] = &[
    // Loading programs, the network's set-up, forged packets, and taking off what covers the pins.
    "CAP_BPF",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
    // Other processes, the shim and the agent among them.
    "CAP_SYS_PTRACE",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_PERFMON",
    // The kernel and the hardware.
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYSLOG",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    // The machine as a whole.
    "CAP_SYS_BOOT",
    "CAP_SYS_TIME",
    "CAP_SYS_PACCT",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
];

/// The set of capabilities that a workload may have.
pub(super) fn allowed(kept: &[String]) -> Result<u64, RightsError> {
    let known = (1_u64 << CAPABILITIES.len()) - 1;
    let taken = TAKEN.iter().filter_map(|name| number(name)).fold(0, |set, n| set | 1 << n);
    kept.iter().try_fold(known & !taken, |set, name| {
        let number =
            number(name).ok_or_else(|| RightsError::NoCapability { name: name.clone() })?;
        Ok(set | 1 << number)
    })
}

/// Whether a capability is in the set.
pub(super) fn holds(set: u64, name: &str) -> bool {
    number(name).is_some_and(|number| set >> number & 1 == 1)
}

/// `CAP_NET_ADMIN`, `net_admin`.
fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    CAPABILITIES.iter().position(|known| *known == full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_it_names_and_keeps_what_it_is_told() {
        let usual = allowed(&[]).unwrap();
        for name in TAKEN {
            let number = number(name).unwrap_or_else(|| panic!("{name} is not a capability"));
            assert_eq!(usual >> number & 1, 0, "{name}");
        }
        assert_eq!(usual >> 10 & 1, 1, "low ports are kept");
        assert_eq!(usual >> 41, 0, "what is unknown is taken");
        assert_eq!(allowed(&["net_admin".into()]).unwrap(), usual | 1 << 12);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let error = allowed(&["CAP_FLY".into()]).unwrap_err();
        assert_eq!(error, RightsError::NoCapability { name: "CAP_FLY".into() });
    }
}
