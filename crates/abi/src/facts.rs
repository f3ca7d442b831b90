//! What the programs need to know of the running kernel: offsets in its structures, mostly.
//!
//! The compiler emits no field relocations. A program names a fact by moving [`MARK`] plus its
//! number into a register, and the loader, which finds the fact in the kernel's BTF, writes it into
//! that very instruction. The verifier sees constants, and no program reads one from memory.

/// Immediate that stands for fact 0.
pub const MARK: u32 = 0x5e1f_1000;

/// What the kernel does not have.
pub const UNKNOWN: u64 = u64::MAX;

/// `sock.sk_ack_backlog`.
pub const ACK_BACKLOG: u32 = 0;
/// `sock_common.skc_flags`.
pub const SK_FLAGS: u32 = 1;
/// `tcp_sock.bytes_acked`.
pub const BYTES_ACKED: u32 = 2;
/// `tcp_sock.bytes_received`.
pub const BYTES_RECEIVED: u32 = 3;
/// `tcp_sock.rtt_min.s[0].v`.
pub const RTT_MIN: u32 = 4;
/// `tcp_sock.tcp_mstamp`.
pub const MSTAMP: u32 = 5;
/// `tcp_sock.total_retrans`.
pub const RETRANS: u32 = 6;
/// `tcp_sock.srtt_us`.
pub const SRTT: u32 = 7;
/// `sock_common.skc_cookie`.
pub const COOKIE: u32 = 8;
/// `sock_common.skc_family`.
pub const FAMILY: u32 = 9;
/// `sock_common.skc_state`.
pub const STATE: u32 = 10;
/// `sock_common.skc_rcv_saddr`.
pub const RCV_SADDR: u32 = 11;
/// `sock_common.skc_v6_rcv_saddr`.
pub const RCV_SADDR6: u32 = 12;
/// `sock_common.skc_num`.
pub const NUM: u32 = 13;
/// `sock.sk_cgrp_data.cgroup`.
pub const SK_CGROUP: u32 = 14;
/// `cgroup.kn`.
pub const CGROUP_NODE: u32 = 15;
/// `kernfs_node.id`.
pub const NODE_ID: u32 = 16;
/// `cgroup.self.parent`.
pub const CGROUP_PARENT: u32 = 17;
/// `cgroup_subsys_state.cgroup`.
pub const STATE_CGROUP: u32 = 18;
/// `bpf_sock_addr_kern.sk`.
pub const CALLED_SOCKET: u32 = 19;
/// Byte that holds `sock_common.skc_ipv6only`.
pub const IPV6ONLY: u32 = 20;
/// Its bit in that byte.
pub const IPV6ONLY_MASK: u32 = 21;
/// `tcp_sock.is_mptcp`; [`UNKNOWN`] on a kernel without MPTCP.
pub const IS_MPTCP: u32 = 22;
/// BTF id of `struct tcp_sock`; 0 when the kernel cannot cast contexts (before 6.2).
pub const TCP_SOCK_ID: u32 = 23;
/// Length of a tick, nanoseconds.
pub const TICK_NS: u32 = 24;
/// `task_struct.cgroups`.
pub const TASK_CGROUPS: u32 = 25;
/// `css_set.dfl_cgrp`.
pub const DEFAULT_CGROUP: u32 = 26;
/// `tcp_sock.bytes_sent`.
pub const BYTES_SENT: u32 = 27;
/// `tcp_sock.bytes_retrans`.
pub const BYTES_RETRANS: u32 = 28;
/// `inet_sock.inet_sport`: unlike [`NUM`], it stays when the peer has reset the connection.
pub const SOURCE_PORT: u32 = 29;
/// `socket.sk`.
pub const SOCKET_SOCK: u32 = 30;
/// `task_struct.tgid`.
pub const TASK_TGID: u32 = 31;

/// How many there are.
pub const COUNT: u32 = 32;
