//! Whether a kernel has what the data path needs, by its own description of its types: for who looks
//! before anything is loaded, and for who loads.

use std::path::Path;

use crate::{Error, btf::Btf, facts};

/// Where a kernel describes its types.
pub const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// What differs among the kernels that the data path works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Whether it tells how connections went and what they carried (since 6.2): without, bytes and
    /// failures are not counted and no backend is ejected.
    pub outcomes: bool,
    /// Whether programs are told of processes that die: without, a killed one is noticed when its
    /// listeners close.
    pub deaths: bool,
}

/// A part that a kernel may be built without.
struct Part {
    structure: &'static str,
    member: &'static str,
    what: &'static str,
}

const PARTS: [Part; 3] = [
    Part {
        structure: "cgroup_bpf",
        member: "effective",
        what: "programs on cgroups (CONFIG_CGROUP_BPF)",
    },
    Part { structure: "bpf_stab", member: "sks", what: "socket maps (CONFIG_BPF_STREAM_PARSER)" },
    Part {
        structure: "bpf_sk_lookup_kern",
        member: "selected_sk",
        what: "programs that choose sockets for packets (sk_lookup, CONFIG_INET)",
    },
];

/// The function that iterators over TCP sockets are known by.
const ITERATOR: &str = "bpf_iter_tcp";

/// What runs programs on tracepoints of five arguments (CONFIG_BPF_EVENTS).
const TRACEPOINT: &str = "bpf_trace_run5";

/// Looks at the kernel that `types` describes.
///
/// # Errors
/// With the first thing that it lacks.
pub fn features(types: &Path) -> Result<Features, Error> {
    of(&Btf::read(types)?)
}

pub(crate) fn of(btf: &Btf) -> Result<Features, Error> {
    let lacks = |part: &&Part| btf.offset(part.structure, part.member).is_none();
    if let Some(part) = PARTS.iter().find(lacks) {
        return Err(unsupported(part.what));
    }
    if btf.function(ITERATOR).is_none() {
        return Err(unsupported("iterators over sockets (bpf_iter_tcp, CONFIG_PROC_FS)"));
    }
    facts::find(btf, 0)?;
    let outcomes = facts::casts(btf).is_some();
    Ok(Features { outcomes, deaths: outcomes && btf.function(TRACEPOINT).is_some() })
}

/// The error for a kernel that lacks `what`.
pub(crate) fn unsupported(what: impl Into<String>) -> Error {
    let remedy = "boot Linux 6.1 or later, built as distributions build it";
    Error::Unsupported { what: what.into(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel like this one but for a name.
    fn without(name: &str) -> Result<Features, Error> {
        of(&Btf::of_kernel_without(&[name]))
    }

    #[test]
    fn this_kernel_has_all() {
        assert_eq!(features(Path::new(TYPES)).unwrap(), Features { outcomes: true, deaths: true });
    }

    #[test]
    fn what_is_missing_is_named_with_the_oldest_kernel_and_a_remedy() {
        for (name, told) in [
            ("effective", "programs on cgroups (CONFIG_CGROUP_BPF)"),
            ("bpf_stab", "socket maps"),
            ("bpf_sk_lookup_kern", "programs that choose sockets for packets (sk_lookup"),
            ("bpf_iter_tcp", "iterators over sockets"),
            ("sk_ack_backlog", "the place of sock.sk_ack_backlog"),
            ("skc_v6_rcv_saddr", "the place of sock_common.skc_v6_rcv_saddr"),
            ("skc_ipv6only", "the place of sock_common.skc_ipv6only"),
        ] {
            let error = without(name).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }) && !error.retryable());
            let text = error.to_string();
            assert!(text.starts_with(&format!("this kernel lacks {told}")), "{name}: {text}");
            assert!(text.contains("boot Linux 6.1 or later"), "{name}: {text}");
        }
    }

    #[test]
    fn older_and_smaller_kernels_do_with_less() {
        for name in ["bpf_cast_to_kern_ctx", "bpf_rdonly_cast"] {
            let less = Features { outcomes: false, deaths: false };
            assert_eq!(without(name).unwrap(), less, "{name}");
        }
        let less = Features { outcomes: true, deaths: false };
        assert_eq!(without("bpf_trace_run5").unwrap(), less);
    }

    #[test]
    fn types_that_are_not_there_are_told() {
        let error = features(Path::new("/nonexistent/vmlinux")).unwrap_err().to_string();
        let told = "this kernel lacks type information (/nonexistent/vmlinux): boot Linux 6.1 or \
                    later, built with CONFIG_DEBUG_INFO_BTF=y";
        assert!(error.starts_with(told), "{error}");
        let error = features(Path::new("/proc/self/exe")).unwrap_err().to_string();
        assert!(error.contains("readable type information"), "{error}");
    }
}
