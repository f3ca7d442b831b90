//! What the kernel can, and how it is set up.

use sinew_datapath::{Features, loopback};

use super::super::{facts::Lack, finding::Finding};

/// The oldest kernel that Sinew supports.
const OLDEST: (u32, u32) = (6, 1);

pub(super) fn version(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().ok());
    let version = (numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0));
    let found = format!("Linux {release}");
    if version >= OLDEST {
        return Finding::ok("kernel", found);
    }
    Finding::blocks("kernel", found, "Sinew's programs need features that this kernel lacks")
        .remedy(format!("boot Linux {}.{} or later", OLDEST.0, OLDEST.1))
}

pub(super) fn features(features: &Result<Features, Lack>) -> Finding {
    match features {
        Ok(Features { outcomes: true, deaths: true }) => {
            Finding::ok("features", "the kernel has all that Sinew's programs use")
        }
        Ok(Features { outcomes: true, deaths: false }) => Finding::warns(
            "features",
            "the kernel runs no programs on tracepoints",
            "a killed process may get connections until its listeners close; all else works",
        )
        .remedy("boot a kernel built with CONFIG_BPF_EVENTS=y"),
        Ok(Features { outcomes: false, .. }) => Finding::warns(
            "features",
            "the kernel does not tell how connections went (context casts)",
            "bytes and failures are not counted, and no backend is ejected; all else works",
        )
        .remedy("boot Linux 6.2 or later"),
        Err(Lack { what, remedy }) => {
            Finding::blocks("features", what.clone(), "Sinew's programs cannot be loaded")
                .remedy(remedy.clone())
        }
    }
}

pub(super) fn grace_period(waited: &Result<(), String>) -> Finding {
    match waited {
        Ok(()) => Finding::ok("grace", "the kernel tells when its programs have ended"),
        Err(error) => Finding::blocks(
            "grace",
            format!("the kernel does not tell when its programs have ended: {error}"),
            "places in its maps cannot be used anew safely",
        )
        .remedy("allow the system calls membarrier and bpf (seccomp), or run: sudo sinew doctor"),
    }
}

pub(super) fn closes(closes: &Result<(), Lack>) -> Finding {
    match closes {
        Ok(()) => Finding::ok("close", "connections to what drains can be closed"),
        Err(Lack { what, remedy }) => Finding::warns(
            "close",
            format!("connections cannot be closed: {what}"),
            "those to a backend that drained, or that is gone, stay until their ends give them up",
        )
        .remedy(remedy.clone()),
    }
}

pub(super) fn loopback(is_up: bool) -> Finding {
    if is_up {
        return Finding::ok("loopback", "the interface lo is up");
    }
    Finding::blocks(
        "loopback",
        "the interface lo of this network namespace is down",
        "addresses of services and instances are reached through it: nobody reaches anything",
    )
    .remedy(loopback::REMEDY)
}

pub(super) fn ipv6(is_on: bool) -> Finding {
    if is_on {
        return Finding::ok("ipv6", "IPv6 is on");
    }
    Finding::warns(
        "ipv6",
        "IPv6 is off in this network namespace",
        "instances have no IPv6 address: programs that listen on IPv6 alone cannot; callers of \
         either family reach the others",
    )
    .remedy("unless it is meant so, run: sysctl net.ipv6.conf.lo.disable_ipv6=0")
}
