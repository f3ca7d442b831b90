//! What else of the machine Sinew depends on.

use sinew_agent::Stranger;
use sinew_workload::cgroup::Enforcer;

use super::super::{
    facts::{Agent, Facts},
    finding::Finding,
};

/// Where the agent mounts a bpf file system when there is none.
const BPF_FS: &str = "/sys/fs/bpf";

/// Capabilities that the agent needs, by number.
const NEEDED: [(&str, u8); 7] = [
    ("CAP_BPF", 39),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_KILL", 5),
    ("CAP_SETUID", 7),
    ("CAP_SETGID", 6),
];

pub(super) fn cgroup2(facts: &Facts) -> Finding {
    match &facts.cgroup2 {
        Some(path) => Finding::ok("cgroup2", format!("mounted on {}", path.display())),
        None => Finding::blocks(
            "cgroup2",
            "cgroup v2 is not mounted",
            "each instance is told apart by a cgroup of its own",
        )
        .remedy("run: mount -t cgroup2 none /sys/fs/cgroup (or /sys/fs/cgroup/unified)"),
    }
}

pub(super) fn bpffs(facts: &Facts) -> Finding {
    let pins = facts.pins.display();
    if facts.pins_in_bpffs {
        return Finding::ok("bpffs", format!("{pins} is in a bpf file system"));
    }
    if facts.pins.starts_with(BPF_FS) {
        return Finding::ok("bpffs", format!("the agent will mount one on {BPF_FS}"));
    }
    Finding::blocks(
        "bpffs",
        format!("{pins} is not in a bpf file system"),
        "programs and maps are pinned there, so that connections outlive the agent",
    )
    .remedy(format!(
        "set SINEW_PINS to a directory below {BPF_FS}, or mount one: mount -t bpf bpf DIR"
    ))
}

pub(super) fn rights(facts: &Facts) -> Finding {
    let lacks = |bit: u8| facts.capabilities >> bit & 1 == 0;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(_, bit)| lacks(*bit)).map(|(name, _)| *name).collect();
    if facts.root && missing.is_empty() {
        return Finding::ok("rights", "root, with all capabilities that the agent needs");
    }
    if matches!(facts.agent, Agent::Running(_)) {
        return Finding::ok("rights", "the agent that runs has them; you need none");
    }
    if !facts.root {
        return Finding::warns(
            "rights",
            "you are not root",
            "you can call an agent, but not start one; some checks here need root, too",
        )
        .remedy("run: sudo sinew doctor");
    }
    Finding::blocks(
        "rights",
        format!("this root lacks {}", missing.join(", ")),
        "the agent cannot load programs, make cgroups or start workloads; a container usually \
         takes these rights",
    )
    .remedy("run it on the host, or give the container these capabilities")
}

pub(super) fn group(there: bool) -> Finding {
    if there {
        return Finding::ok("group", "sinew is there: its members may call the agent");
    }
    Finding::warns("group", "there is no group sinew", "only root may call the agent")
        .remedy("run: groupadd --system sinew, and usermod -aG sinew USER")
}

/// Whether names are asked of somebody else before DNS: what does not leave by port 53, Sinew does
/// not see.
pub(super) fn resolve(nsswitch: &str) -> Finding {
    let hosts = nsswitch.lines().find_map(|line| line.trim().strip_prefix("hosts:"));
    let sources: Vec<&str> = hosts.unwrap_or("files dns").split_whitespace().collect();
    let resolve = sources.iter().position(|source| *source == "resolve");
    let dns = sources.iter().position(|source| *source == "dns");
    match (resolve, dns) {
        (None, _) => Finding::ok("nsswitch", "names are asked of DNS"),
        (Some(resolve), Some(dns)) if dns < resolve => {
            Finding::ok("nsswitch", "names are asked of DNS before systemd-resolved")
        }
        (Some(_), _) => Finding::warns(
            "nsswitch",
            "names are asked of systemd-resolved over its own socket (nss-resolve)",
            "programs that use the C library's resolver do not find services by name",
        )
        .remedy("in /etc/nsswitch.conf, put dns before resolve in the line hosts:"),
    }
}

pub(super) fn nscd(running: bool) -> Finding {
    if !running {
        return Finding::ok("nscd", "no name service cache runs");
    }
    Finding::warns(
        "nscd",
        "a name service cache answers on /run/nscd/socket",
        "programs ask it for names, and it asks from outside the network: services are not found",
    )
    .remedy("in /etc/nscd.conf, set: enable-cache hosts no; then restart nscd")
}

/// What would enforce the limits of the project file.
pub(super) fn limits(limits: &[(&'static str, Option<Enforcer>)]) -> Finding {
    let by = |wanted| {
        let names = limits.iter().filter(|(_, by)| *by == wanted).map(|(name, _)| *name);
        let names = names.collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then_some(names)
    };
    let version = |wanted, text: &str| by(Some(wanted)).map(|names| format!("{names} by {text}"));
    let enforced =
        [version(Enforcer::V2, "cgroup version 2"), version(Enforcer::V1, "cgroup version 1")];
    let enforced = enforced.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let Some(nobody) = by(None) else {
        return Finding::ok("limits", format!("enforced: {enforced}"));
    };
    let found = format!("nothing enforces limits of {nobody}");
    Finding::warns("limits", found, "projects that set them are refused").remedy(
        "enable their controllers in cgroup.subtree_control of the cgroups above Sinew's, as: echo \
         +memory > /sys/fs/cgroup/cgroup.subtree_control",
    )
}

/// Who is at the addresses of services and instances, as long as none of them is in use.
pub(super) fn strangers(strangers: &[Stranger]) -> Vec<Finding> {
    if strangers.is_empty() {
        return vec![Finding::ok("addresses", "nobody is at addresses of services and instances")];
    }
    let found = |Stranger { occupied, roots }: &Stranger| {
        let found = occupied.to_string();
        let finding = if *roots {
            Finding::blocks("addresses", found, "an agent does not start while it is there")
        } else {
            Finding::warns("addresses", found, "whoever gets that address cannot use the port")
        };
        finding.remedy("have it listen elsewhere (`ss -lntup` shows who does)")
    };
    strangers.iter().map(found).collect()
}
