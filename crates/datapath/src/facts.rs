//! What the kernel programs need to know of the running kernel, found in its BTF and written into
//! their instructions: see [`sinew_abi::facts`].

use rustix::time::{ClockId, clock_getres};
use sinew_abi::facts;

use crate::{Error, btf::Btf};

struct Offset {
    fact: u32,
    structure: &'static str,
    member: &'static str,
    /// Added to the member's own.
    inside: u32,
}

const fn offset(fact: u32, structure: &'static str, member: &'static str) -> Offset {
    Offset { fact, structure, member, inside: 0 }
}

const OFFSETS: &[Offset] = &[
    offset(facts::ACK_BACKLOG, "sock", "sk_ack_backlog"),
    offset(facts::SK_FLAGS, "sock_common", "skc_flags"),
    offset(facts::BYTES_ACKED, "tcp_sock", "bytes_acked"),
    offset(facts::BYTES_RECEIVED, "tcp_sock", "bytes_received"),
    offset(facts::BYTES_SENT, "tcp_sock", "bytes_sent"),
    offset(facts::BYTES_RETRANS, "tcp_sock", "bytes_retrans"),
    offset(facts::SOURCE_PORT, "inet_sock", "inet_sport"),
    // struct minmax holds three samples of {time, value}: the first value is the minimum.
    Offset { fact: facts::RTT_MIN, structure: "tcp_sock", member: "rtt_min", inside: 4 },
    offset(facts::MSTAMP, "tcp_sock", "tcp_mstamp"),
    offset(facts::RETRANS, "tcp_sock", "total_retrans"),
    offset(facts::SRTT, "tcp_sock", "srtt_us"),
    offset(facts::COOKIE, "sock_common", "skc_cookie"),
    offset(facts::FAMILY, "sock_common", "skc_family"),
    offset(facts::STATE, "sock_common", "skc_state"),
    offset(facts::RCV_SADDR, "sock_common", "skc_rcv_saddr"),
    offset(facts::RCV_SADDR6, "sock_common", "skc_v6_rcv_saddr"),
    offset(facts::NUM, "sock_common", "skc_num"),
    // The pointer to the cgroup is the first member.
    offset(facts::SK_CGROUP, "sock", "sk_cgrp_data"),
    offset(facts::CGROUP_NODE, "cgroup", "kn"),
    offset(facts::NODE_ID, "kernfs_node", "id"),
    // A cgroup begins with its own state.
    offset(facts::CGROUP_PARENT, "cgroup_subsys_state", "parent"),
    offset(facts::STATE_CGROUP, "cgroup_subsys_state", "cgroup"),
    offset(facts::TASK_CGROUPS, "task_struct", "cgroups"),
    offset(facts::DEFAULT_CGROUP, "css_set", "dfl_cgrp"),
    offset(facts::TASK_TGID, "task_struct", "tgid"),
    offset(facts::CALLED_SOCKET, "bpf_sock_addr_kern", "sk"),
    offset(facts::SOCKET_SOCK, "socket", "sk"),
];

/// `call` of a kernel function (BPF_PSEUDO_KFUNC_CALL) by its BTF id. The object holds markers in
/// place of ids.
const fn call(id: u32) -> u64 {
    (id as u64) << 32 | 0x2085
}
const CAST_TO_KERNEL_CONTEXT: u64 = call(0x5e1f_0001);
const READ_ONLY_CAST: u64 = call(0x5e1f_0002);
/// `r0 = r1`, in place of a call that this kernel does not have; the code behind it is dead.
const MOVE: u64 = 0x10bf;

/// `mov64` of an immediate into register 0 (BPF_ALU64 | BPF_MOV | BPF_K).
const MOVE_IMMEDIATE: u8 = 0xb7;

/// Writes what the kernel of `btf` is like into an object's instructions.
///
/// What a kernel lacks changes what is measured, never what works: without context casts (before
/// 6.2) byte counts and outcomes of connections are not known.
pub(crate) fn write(btf: &Btf, object: &mut [u8]) -> Result<(), Error> {
    let (cast, read_only, tcp_sock) = casts(btf).unwrap_or((MOVE, MOVE, 0));
    let facts = find(btf, tcp_sock)?;
    // Instructions lie at multiples of 8 inside sections that do too.
    let (instructions, _) = object.as_chunks_mut();
    for instruction in instructions {
        let patched = match u64::from_le_bytes(*instruction) {
            CAST_TO_KERNEL_CONTEXT => cast,
            READ_ONLY_CAST => read_only,
            other => match fact(other, &facts) {
                Some(value) => other & u64::from(u32::MAX) | u64::from(value) << 32,
                None => continue,
            },
        };
        *instruction = patched.to_le_bytes();
    }
    Ok(())
}

/// The calls that cast a context and a socket, and what the socket is cast to.
pub(crate) fn casts(btf: &Btf) -> Option<(u64, u64, u32)> {
    let cast = btf.function("bpf_cast_to_kern_ctx")?;
    let read_only = btf.function("bpf_rdonly_cast")?;
    Some((call(cast), call(read_only), btf.structure("tcp_sock")?))
}

/// The fact that an instruction asks for.
fn fact(instruction: u64, facts: &[u32]) -> Option<u32> {
    let [code, registers, 0, 0, ..] = instruction.to_le_bytes() else { return None };
    if code != MOVE_IMMEDIATE || registers > 0x0f {
        return None;
    }
    let number = ((instruction >> 32) as u32).checked_sub(facts::MARK)?;
    facts.get(number as usize).copied()
}

pub(crate) fn find(btf: &Btf, tcp_sock: u32) -> Result<[u32; facts::COUNT as usize], Error> {
    let missing = |what: String| Error::Unsupported {
        what: format!("the place of {what}"),
        remedy: "boot Linux 6.1 or later, built with CONFIG_IPV6 as distributions build it",
    };
    let mut found = [0; facts::COUNT as usize];
    let mut set = |fact: u32, value| found[fact as usize] = value;
    for o in OFFSETS {
        let offset = btf
            .offset(o.structure, o.member)
            .ok_or_else(|| missing(format!("{}.{}", o.structure, o.member)))?;
        set(o.fact, offset + o.inside);
    }
    let only = btf
        .bit_offset("sock_common", "skc_ipv6only")
        .ok_or_else(|| missing("sock_common.skc_ipv6only".into()))?;
    set(facts::IPV6ONLY, only / 8);
    set(facts::IPV6ONLY_MASK, 1 << (only % 8));
    // All bits set, as the instruction extends the sign.
    set(facts::IS_MPTCP, btf.offset("tcp_sock", "is_mptcp").unwrap_or(facts::UNKNOWN as u32));
    set(facts::TCP_SOCK_ID, tcp_sock);
    // The resolution of coarse clocks is the tick, less than a second.
    set(facts::TICK_NS, clock_getres(ClockId::MonotonicCoarse).tv_nsec as u32);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    static OBJECT: &[u8] = include_bytes!("../object/sinew.bpf.o");

    #[test]
    fn no_number_stands_for_two_facts() {
        let mut numbers: Vec<u32> = OFFSETS.iter().map(|offset| offset.fact).collect();
        let others = [facts::IPV6ONLY, facts::IPV6ONLY_MASK, facts::IS_MPTCP];
        numbers.extend(others.into_iter().chain([facts::TCP_SOCK_ID, facts::TICK_NS]));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..facts::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn every_mark_of_the_object_is_written() {
        let facts: Vec<u32> = (0..facts::COUNT).collect();
        let mut asked = vec![0; facts.len()];
        for instruction in OBJECT.as_chunks().0 {
            let word = u64::from_le_bytes(*instruction);
            let marked = ((word >> 32) as u32).wrapping_sub(facts::MARK) < facts::COUNT;
            let fact = fact(word, &facts);
            assert_eq!(marked, fact.is_some(), "{word:#x} bears a mark and asks for nothing");
            if let Some(fact) = fact {
                asked[fact as usize] += 1;
            }
        }
        assert!(asked.iter().all(|times| *times > 0), "nobody asks for some: {asked:?}");
    }
}
