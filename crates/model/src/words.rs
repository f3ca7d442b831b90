//! Fixed words of Linux that a file may use: signals and capabilities.

/// Signals that may ask a workload to end, with their numbers on every architecture Sinew runs on.
pub const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGCONT", 18),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];

/// Linux capabilities, in the order of their numbers (`CAP_CHOWN` is 0).
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Number of a signal by its name, `SIGTERM`; `None` when it cannot stop a workload.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    SIGNALS.iter().find(|(signal, _)| *signal == name).map(|(_, number)| *number)
}

/// `SIGTERM` for `term`, `TERM`, `SIGTERM` or `15`; what it does not know comes back as it is.
pub(crate) fn spell_signal(text: &str) -> String {
    let name = with_prefix("SIG", text);
    let known = SIGNALS.iter().find(|(known, number)| *known == name || number.to_string() == text);
    known.map_or_else(|| text.to_owned(), |(known, _)| (*known).to_owned())
}

/// `CAP_NET_ADMIN` for `net_admin` or itself; what it does not know comes back as it is.
pub(crate) fn spell_capability(text: &str) -> String {
    let name = with_prefix("CAP_", text);
    if CAPABILITIES.contains(&&*name) { name } else { text.to_owned() }
}

/// The signal that was probably meant.
pub(crate) fn nearest_signal(text: &str) -> Option<&'static str> {
    nearest(&with_prefix("SIG", text), SIGNALS.iter().map(|(name, _)| *name))
}

/// The capability that was probably meant.
pub(crate) fn nearest_capability(text: &str) -> Option<&'static str> {
    nearest(&with_prefix("CAP_", text), CAPABILITIES.iter().copied())
}

fn with_prefix(prefix: &str, text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    if upper.starts_with(prefix) { upper } else { format!("{prefix}{upper}") }
}

/// The word of `known` that `text` was probably meant to be.
#[must_use]
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        // A third of the letters wrong, or one in a short word; more is another word.
        .filter(|(distance, word)| *distance <= (word.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_spelled_one_way() {
        for text in ["TERM", "term", "SIGTERM", "sigterm", "15"] {
            assert_eq!(spell_signal(text), "SIGTERM");
        }
        assert_eq!(spell_signal("kitten"), "kitten");
        assert_eq!(spell_capability("net_admin"), "CAP_NET_ADMIN");
        assert_eq!(spell_capability("kitten"), "kitten");
        assert_eq!(nearest_signal("trem"), Some("SIGTERM"));
        assert_eq!(nearest_capability("NET_ADMN"), Some("CAP_NET_ADMIN"));
        assert_eq!(signal_number("SIGTERM"), Some(15));
        assert_eq!(signal_number("SIGSEGV"), None);
    }

    #[test]
    fn capabilities_stand_at_their_numbers() {
        assert_eq!(CAPABILITIES[12], "CAP_NET_ADMIN");
        assert_eq!(CAPABILITIES[21], "CAP_SYS_ADMIN");
        assert_eq!(CAPABILITIES[39], "CAP_BPF");
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["replicas", "restart", "env"];
        assert_eq!(nearest("replica", known), Some("replicas"));
        assert_eq!(nearest("rpelicas", known), Some("replicas"));
        assert_eq!(nearest("enf", known), Some("env"));
        assert_eq!(nearest("volumes", known), None);
        assert_eq!(nearest("x", known), None);
    }
}
