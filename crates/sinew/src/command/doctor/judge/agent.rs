//! What an agent that runs, or does not, says about itself.

use sinew_api::{AdoptedEndpoint, ReachedCgroup, Shadowed};

use crate::render::{self, style::state_word};

use super::super::{facts::Agent, finding::Finding};

pub(super) fn agent(agent: &Agent, group: bool) -> Vec<Finding> {
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
