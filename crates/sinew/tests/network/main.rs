//! The whole of it: the real binary, the real kernel, real programs. Needs root; every test has a
//! network namespace, a cgroup and directories of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod adopted;
mod backup;
mod bpf;
mod callers;
mod clock;
mod disk;
mod doctor;
mod drain;
mod explain;
mod faults;
mod group;
mod health;
mod killed;
mod life;
mod limits;
mod look;
mod loopback;
mod machine;
mod names;
mod outside;
mod programs;
mod publish;
mod purge;
mod reach;
mod systemd;
mod upgrade;
mod world;
