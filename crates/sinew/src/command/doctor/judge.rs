//! From what was seen to what it means. No IO.

use sinew_api::{AdoptedEndpoint, ReachedCgroup, Shadowed};
use sinew_datapath::occupancy::{Occupied, Sharing};

use crate::render::{self, style::state_word};

use super::{
    facts::{Agent, Facts},
    finding::Finding,
};

/// The oldest kernel that Sinew supports.
const OLDEST: (u32, u32) = (6, 1);

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

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        kernel(&facts.kernel_release),
        btf(facts.btf),
        cgroup2(facts),
        bpffs(facts),
        rights(facts),
        group(facts.group),
        resolve(&facts.nsswitch),
        nscd(facts.nscd),
    ];
    findings.extend(hooks(&facts.hooks));
    findings.push(lookups(&facts.lookups));
    findings.extend(agent(&facts.agent, facts.group));
    findings
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().ok());
    let version = (numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0));
    let found = format!("Linux {release}");
    if version >= OLDEST {
        return Finding::ok("kernel", found);
    }
    Finding::blocks("kernel", found, "Sinew's programs need features that this kernel lacks")
        .remedy(format!("boot Linux {}.{} or later", OLDEST.0, OLDEST.1))
}

fn btf(there: bool) -> Finding {
    if there {
        return Finding::ok("btf", "/sys/kernel/btf/vmlinux is there");
    }
    Finding::blocks(
        "btf",
        "/sys/kernel/btf/vmlinux is missing",
        "the kernel does not describe its types, which Sinew's programs are fitted to",
    )
    .remedy("boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as those of distributions are")
}

fn cgroup2(facts: &Facts) -> Finding {
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

fn bpffs(facts: &Facts) -> Finding {
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

fn rights(facts: &Facts) -> Finding {
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

fn group(there: bool) -> Finding {
    if there {
        return Finding::ok("group", "sinew is there: its members may call the agent");
    }
    Finding::warns("group", "there is no group sinew", "only root may call the agent")
        .remedy("run: groupadd --system sinew, and usermod -aG sinew USER")
}

/// Whether names are asked of somebody else before DNS: what does not leave by port 53, Sinew does
/// not see.
fn resolve(nsswitch: &str) -> Finding {
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

fn nscd(running: bool) -> Finding {
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

fn hooks(hooks: &std::io::Result<Vec<Occupied>>) -> Vec<Finding> {
    let occupied = match hooks {
        Ok(occupied) if occupied.is_empty() => {
            return vec![Finding::ok("hooks", "no programs of others above the members' cgroup")];
        }
        Ok(occupied) => occupied,
        Err(error) => {
            return vec![
                Finding::warns(
                    "hooks",
                    format!("programs of others could not be listed: {error}"),
                    "whether they keep Sinew's from being attached is not known",
                )
                .remedy("run: sudo sinew doctor"),
            ];
        }
    };
    let on = |sharing| {
        let mut names = Vec::new();
        for occupied in occupied.iter().filter(|occupied| occupied.sharing == sharing) {
            names.push(format!("{} ({})", occupied.hook, occupied.programs));
        }
        (!names.is_empty()).then(|| names.join(", "))
    };
    let together = on(Sharing::Together).map(|names| {
        Finding::ok("hooks", format!("programs of others run beside Sinew's: {names}"))
    });
    let overridden = on(Sharing::Overridden).map(|names| {
        Finding::warns(
            "hooks",
            format!("programs of others that Sinew's take the place of: {names}"),
            "they do not run for members of the network",
        )
        .remedy("have their owner attach them with BPF_F_ALLOW_MULTI; see: bpftool cgroup tree")
    });
    let exclusive = on(Sharing::Exclusive).map(|names| {
        Finding::blocks(
            "hooks",
            format!("programs of others that bear none beside them: {names}"),
            "the kernel refuses to attach Sinew's",
        )
        .remedy("have their owner attach them with BPF_F_ALLOW_MULTI; see: bpftool cgroup tree")
    });
    [together, overridden, exclusive].into_iter().flatten().collect()
}

fn lookups(lookups: &std::io::Result<u32>) -> Finding {
    match lookups {
        Ok(0) => Finding::ok("lookup", "no programs of others choose sockets for packets"),
        Ok(programs) => Finding::warns(
            "lookup",
            format!("programs of others choose sockets for packets (sk_lookup): {programs}"),
            "one that runs first may take what comes to a published port",
        )
        .remedy("publish other ports than theirs; see: bpftool net and bpftool link"),
        Err(error) => Finding::warns(
            "lookup",
            format!("programs that choose sockets for packets could not be listed: {error}"),
            "whether one takes what comes to a published port is not known",
        )
        .remedy("run: sudo sinew doctor"),
    }
}

fn agent(agent: &Agent, group: bool) -> Vec<Finding> {
    match agent {
        Agent::Running(agent) => running(agent, group),
        Agent::Absent { socket } => {
            vec![Finding::ok("agent", format!("none runs (no answer at {})", socket.display()))]
        }
        Agent::Unknown { error, remedy } => {
            let finding = Finding::warns("agent", error.clone(), "it could not be asked");
            vec![match remedy {
                Some(remedy) => finding.remedy(remedy.clone()),
                None => finding,
            }]
        }
    }
}

fn running(agent: &sinew_api::Agent, group: bool) -> Vec<Finding> {
    let sinew_api::Agent { pid, version, .. } = agent;
    let mut findings =
        vec![Finding::ok("agent", format!("version {version} runs as process {pid}"))];
    findings.extend(
        agent
            .warnings
            .iter()
            // A group that is missing is a finding of its own.
            .filter(|text| group || *text != sinew_api::NO_GROUP)
            .map(|text| Finding::warns("agent", text.clone(), "the agent says so about this host"))
            .map(|finding| finding.remedy("mend what it says; the agent's log may tell more")),
    );
    findings.push(members(agent));
    findings.extend(agent.reach.iter().map(reached));
    findings.extend(agent.adopted.iter().map(adopted));
    findings.extend(agent.shadowed.iter().map(shadowed));
    findings
}

fn members(agent: &sinew_api::Agent) -> Finding {
    if agent.missing.is_empty() {
        return Finding::ok("members", "every kernel program of the members is in force");
    }
    let cgroup = agent.cgroup.display();
    Finding::warns(
        "members",
        format!("{cgroup} lacks programs of Sinew's: {}", agent.missing.join(", ")),
        "members do not reach services, or not in every way",
    )
    .remedy(PUT_BACK)
}

/// What to do about programs that the agent cannot put back.
const PUT_BACK: &str = "the agent puts them back within seconds; if it cannot, its log says why \
                        (see also: bpftool cgroup tree)";

fn reached(reached: &ReachedCgroup) -> Finding {
    let cgroup = reached.cgroup.display();
    if reached.missing.is_empty() {
        return Finding::ok("reach", format!("what runs in {cgroup} may call services"));
    }
    Finding::warns(
        "reach",
        format!("{cgroup} lacks programs of Sinew's: {}", reached.missing.join(", ")),
        "what runs there does not reach services, or not in every way",
    )
    .remedy(
        "make that cgroup, or have who holds its hooks attach with BPF_F_ALLOW_MULTI (see: \
         bpftool cgroup tree): the agent tries again every other second",
    )
}

fn adopted(endpoint: &AdoptedEndpoint) -> Finding {
    let AdoptedEndpoint { endpoint, adopted, state, missing } = endpoint;
    if missing.is_empty() {
        return Finding::ok(
            "adopted",
            format!("{endpoint}, which is {adopted}: {}", state_word(*state)),
        );
    }
    Finding::warns(
        "adopted",
        format!(
            "{endpoint}, which is {adopted}, lacks programs of Sinew's: {}",
            missing.join(", ")
        ),
        "it may not reach services, nor be told apart from strangers",
    )
    .remedy(PUT_BACK)
}

fn shadowed(shadowed: &Shadowed) -> Finding {
    Finding::warns(
        "publish",
        render::service::shadowed(shadowed),
        "the program is cut off from its callers, and the service gets them",
    )
    .remedy("have one of them use another port")
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn well() -> Facts {
        Facts {
            kernel_release: "6.18.44-amd64".to_owned(),
            btf: true,
            cgroup2: Some("/sys/fs/cgroup".into()),
            hooks: Ok(Vec::new()),
            lookups: Ok(0),
            pins: "/sys/fs/bpf/sinew".into(),
            pins_in_bpffs: true,
            root: true,
            capabilities: u64::MAX,
            group: true,
            nsswitch: "passwd: files\nhosts: files dns\n".to_owned(),
            nscd: false,
            agent: Agent::Absent { socket: "/run/sinew/api.sock".into() },
        }
    }

    /// What is not well with these facts.
    fn ill(facts: &Facts) -> Vec<(&'static str, Verdict)> {
        let findings = judge(facts);
        for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Ok) {
            assert!(finding.means.is_some() && finding.remedy.is_some(), "{finding:?}");
        }
        let ill = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
        ill.map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn a_machine_that_is_well_has_no_complaint() {
        assert_eq!(ill(&well()), []);
        assert_eq!(ill(&Facts { kernel_release: "6.1.0".to_owned(), ..well() }), []);
        assert_eq!(ill(&Facts { pins_in_bpffs: false, ..well() }), []);
        let nsswitch = "hosts: files dns resolve\n".to_owned();
        assert_eq!(ill(&Facts { nsswitch, ..well() }), []);
        assert_eq!(ill(&Facts { nsswitch: String::new(), ..well() }), []);
    }

    #[test]
    fn what_is_missing_blocks() {
        let blocks = |check, facts: Facts| assert_eq!(ill(&facts), [(check, Verdict::Blocks)]);
        blocks("kernel", Facts { kernel_release: "5.15.0-generic".to_owned(), ..well() });
        blocks("kernel", Facts { kernel_release: "strange".to_owned(), ..well() });
        blocks("btf", Facts { btf: false, ..well() });
        blocks("cgroup2", Facts { cgroup2: None, ..well() });
        blocks("bpffs", Facts { pins_in_bpffs: false, pins: "/srv/pins".into(), ..well() });
        blocks("rights", Facts { capabilities: !(1 << 39), ..well() });
    }

    #[test]
    fn what_bypasses_sinew_warns() {
        let warns = |check, facts: Facts| assert_eq!(ill(&facts), [(check, Verdict::Warns)]);
        warns("group", Facts { group: false, ..well() });
        warns("nscd", Facts { nscd: true, ..well() });
        warns("rights", Facts { root: false, capabilities: 0, ..well() });
        let nsswitch = "hosts:  mymachines resolve [!UNAVAIL=return] files dns\n".to_owned();
        warns("nsswitch", Facts { nsswitch, ..well() });
    }

    #[test]
    fn programs_of_others_are_told_by_how_they_share() {
        let occupied = |sharing| Occupied { hook: "connect4", programs: 2, sharing };
        let with = |sharing| Facts { hooks: Ok(vec![occupied(sharing)]), ..well() };
        assert_eq!(ill(&with(Sharing::Together)), []);
        assert_eq!(ill(&with(Sharing::Overridden)), [("hooks", Verdict::Warns)]);
        assert_eq!(ill(&with(Sharing::Exclusive)), [("hooks", Verdict::Blocks)]);
        let error = std::io::ErrorKind::PermissionDenied.into();
        assert_eq!(ill(&Facts { hooks: Err(error), ..well() }), [("hooks", Verdict::Warns)]);
    }

    #[test]
    fn who_else_chooses_sockets_for_packets() {
        let with = |lookups| Facts { lookups, ..well() };
        assert_eq!(ill(&with(Ok(2))), [("lookup", Verdict::Warns)]);
        let error = std::io::ErrorKind::PermissionDenied.into();
        assert_eq!(ill(&with(Err(error))), [("lookup", Verdict::Warns)]);
    }

    #[test]
    fn an_agent_that_runs_needs_no_rights_of_the_caller() {
        let agent = Agent::Running(Box::new(agent()));
        assert_eq!(ill(&Facts { root: false, capabilities: 0, agent, ..well() }), []);
    }

    fn agent() -> sinew_api::Agent {
        sinew_api::Agent {
            version: "0.1.0".to_owned(),
            abi_version: 1,
            pid: 7,
            started_at_ms: 0,
            cgroup: "/sys/fs/cgroup/sinew/members".into(),
            pins: "/sys/fs/bpf/sinew".into(),
            metrics: None,
            missing: Vec::new(),
            reach: Vec::new(),
            adopted: Vec::new(),
            shadowed: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_the_agent_warns_of_is_shown() {
        let told = "13200 of at most 16384 instances are in use".to_owned();
        let agent = sinew_api::Agent { warnings: vec![told.clone()], ..agent() };
        let facts = Facts { agent: Agent::Running(Box::new(agent)), ..well() };
        assert_eq!(ill(&facts), [("agent", Verdict::Warns)]);
        assert!(judge(&facts).into_iter().any(|finding| finding.found == told));
    }

    #[test]
    fn a_program_behind_a_published_port_is_told() {
        let shadowed = Shadowed {
            service: "web".parse().unwrap(),
            published: "127.0.0.1:8000".parse().unwrap(),
            listens_at: "0.0.0.0:8000".parse().unwrap(),
            program: Some("nginx (process 7)".to_owned()),
        };
        let agent = sinew_api::Agent { shadowed: vec![shadowed], ..agent() };
        let facts = Facts { agent: Agent::Running(Box::new(agent)), ..well() };
        assert_eq!(ill(&facts), [("publish", Verdict::Warns)]);
        let told = "nginx (process 7) listens on 0.0.0.0:8000; what comes to 127.0.0.1:8000 goes \
                    to web";
        assert!(judge(&facts).into_iter().any(|finding| finding.found == told));
    }

    #[test]
    fn a_missing_group_is_told_once() {
        let warnings = vec![sinew_api::NO_GROUP.to_owned()];
        let agent = sinew_api::Agent { warnings, ..agent() };
        let with =
            |group| Facts { agent: Agent::Running(Box::new(agent.clone())), group, ..well() };
        assert_eq!(ill(&with(false)), [("group", Verdict::Warns)]);
        // Made since: the agent does not know it yet.
        assert_eq!(ill(&with(true)), [("agent", Verdict::Warns)]);
    }

    #[test]
    fn what_members_lack_is_told() {
        let missing = vec!["connect4".to_owned()];
        let agent = Agent::Running(Box::new(sinew_api::Agent { missing, ..agent() }));
        assert_eq!(ill(&Facts { agent, ..well() }), [("members", Verdict::Warns)]);
    }

    #[test]
    fn what_lacks_programs_outside_of_the_members_is_told() {
        let with = |missing: &[&str]| {
            let missing: Vec<String> = missing.iter().map(|hook| (*hook).to_owned()).collect();
            let reach = ReachedCgroup { cgroup: "/sys/fs/cgroup".into(), missing: missing.clone() };
            let (endpoint, adopted) = ("db/0".to_owned(), "unit redis.service".to_owned());
            let state = sinew_api::WorkloadState::Up;
            let adopted = AdoptedEndpoint { endpoint, adopted, state, missing };
            let agent = sinew_api::Agent { reach: vec![reach], adopted: vec![adopted], ..agent() };
            Facts { agent: Agent::Running(Box::new(agent)), ..well() }
        };
        assert_eq!(ill(&with(&[])), []);
        let found = judge(&with(&[])).into_iter().map(|finding| finding.found).collect::<Vec<_>>();
        assert!(found.contains(&"db/0, which is unit redis.service: up".to_owned()), "{found:?}");
        assert!(found.contains(&"what runs in /sys/fs/cgroup may call services".to_owned()));
        let ill = ill(&with(&["connect4", "sendmsg6"]));
        assert_eq!(ill, [("reach", Verdict::Warns), ("adopted", Verdict::Warns)]);
    }
}
