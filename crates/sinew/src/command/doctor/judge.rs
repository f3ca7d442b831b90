//! From what was seen to what it means. No IO.

use sinew_datapath::occupancy::{Occupied, Sharing};

use super::{facts::Facts, finding::Finding};

mod agent;
mod kernel;
mod machine;

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![
        kernel::version(&facts.kernel_release),
        kernel::features(&facts.features),
        kernel::grace_period(&facts.grace_period),
    ];
    findings.extend(facts.closes.as_ref().map(kernel::closes));
    findings.push(kernel::loopback(facts.loopback));
    // An interface that is down has no addresses.
    findings.extend(facts.loopback.then(|| kernel::ipv6(facts.ipv6)));
    findings.extend([
        machine::cgroup2(facts),
        machine::limits(&facts.limits),
        machine::bpffs(facts),
        machine::rights(facts),
        machine::group(facts.group),
        machine::resolve(&facts.nsswitch),
        machine::nscd(facts.nscd),
    ]);
    findings.extend(facts.strangers.iter().flat_map(|strangers| machine::strangers(strangers)));
    findings.extend(hooks(&facts.hooks));
    findings.push(lookups(&facts.lookups));
    findings.extend(agent::agent(&facts.agent, facts.group));
    findings
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
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Finding::blocks(
            "lookup",
            "this kernel has no programs that choose sockets for packets (sk_lookup)",
            "Sinew's programs cannot be loaded",
        )
        .remedy("boot Linux 6.1 or later, built with CONFIG_BPF_SYSCALL and CONFIG_INET"),
        Err(error) => Finding::warns(
            "lookup",
            format!("programs that choose sockets for packets could not be listed: {error}"),
            "whether one takes what comes to a published port is not known",
        )
        .remedy("run: sudo sinew doctor"),
    }
}

#[cfg(test)]
mod tests;
