//! The messages of `sinew/v1/fleet.proto`, field by field. Written down here, they need neither
//! `protoc` nor a generator when Sinew is built; a test compares them with the file.

#![allow(missing_docs, reason = "the protocol's file says it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct AgentMessage {
    #[prost(oneof = "AgentKind", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub kind: Option<AgentKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum AgentKind {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Report(Report),
    #[prost(message, tag = "3")]
    Subscribe(Services),
    #[prost(message, tag = "4")]
    Unsubscribe(Services),
    #[prost(message, tag = "5")]
    Ack(Ack),
    #[prost(message, tag = "6")]
    Nack(Nack),
    #[prost(message, tag = "7")]
    Placed(Placed),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ControlMessage {
    #[prost(oneof = "ControlKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11")]
    pub kind: Option<ControlKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub enum ControlKind {
    #[prost(message, tag = "1")]
    Welcome(Welcome),
    #[prost(message, tag = "2")]
    Catalog(Catalog),
    #[prost(message, tag = "3")]
    Snapshot(Snapshot),
    #[prost(message, tag = "4")]
    Delta(Delta),
    #[prost(message, tag = "5")]
    Reported(Reported),
    #[prost(message, tag = "6")]
    Busy(Busy),
    #[prost(message, tag = "7")]
    Dead(Dead),
    #[prost(message, tag = "8")]
    Goodbye(Goodbye),
    #[prost(message, tag = "9")]
    Hosts(Hosts),
    #[prost(message, tag = "10")]
    Zones(Zones),
    #[prost(message, tag = "11")]
    Assigned(Assigned),
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub labels: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    pub version: String,
    #[prost(uint32, tag = "5")]
    pub protocol: u32,
    #[prost(string, tag = "6")]
    pub boot_id: String,
    #[prost(uint64, tag = "7")]
    pub wall_clock_ms: u64,
    #[prost(message, repeated, tag = "8")]
    pub known: Vec<Known>,
    #[prost(fixed32, optional, tag = "9")]
    pub address4: Option<u32>,
    #[prost(bytes = "bytes", tag = "10")]
    pub address6: Bytes,
    #[prost(message, optional, tag = "11")]
    pub capacity: Option<Resources>,
    #[prost(string, tag = "12")]
    pub lineage: String,
    #[prost(uint64, tag = "13")]
    pub newest: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Known {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Report {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(bool, tag = "2")]
    pub full: bool,
    #[prost(message, repeated, tag = "3")]
    pub services: Vec<ServiceReport>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServiceReport {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(message, optional, tag = "2")]
    pub record: Option<ServiceRecord>,
    #[prost(message, repeated, tag = "3")]
    pub endpoints: Vec<Endpoint>,
    #[prost(uint32, repeated, tag = "4")]
    pub gone: Vec<u32>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Services {
    #[prost(string, repeated, tag = "1")]
    pub services: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Ack {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Nack {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    #[prost(string, tag = "3")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Welcome {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(uint64, tag = "2")]
    pub session_timeout_ms: u64,
    #[prost(string, tag = "3")]
    pub control: String,
    #[prost(uint64, tag = "4")]
    pub wall_clock_ms: u64,
    #[prost(message, optional, tag = "5")]
    pub instances4: Option<Network>,
    #[prost(message, optional, tag = "6")]
    pub instances6: Option<Network>,
    #[prost(message, optional, tag = "7")]
    pub lineage: Option<Lineage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lineage {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(uint64, tag = "2")]
    pub since: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Network {
    #[prost(bytes = "bytes", tag = "1")]
    pub address: Bytes,
    #[prost(uint32, tag = "2")]
    pub prefix_length: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Catalog {
    #[prost(uint64, optional, tag = "1")]
    pub from: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub to: u64,
    #[prost(string, repeated, tag = "3")]
    pub added: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub removed: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hosts {
    #[prost(uint64, optional, tag = "1")]
    pub from: Option<u64>,
    #[prost(uint64, tag = "2")]
    pub to: u64,
    #[prost(message, repeated, tag = "3")]
    pub put: Vec<Host>,
    #[prost(string, repeated, tag = "4")]
    pub removed: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Host {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(fixed32, optional, tag = "3")]
    pub address4: Option<u32>,
    #[prost(bytes = "bytes", tag = "4")]
    pub address6: Bytes,
    #[prost(message, optional, tag = "5")]
    pub instances4: Option<Network>,
    #[prost(message, optional, tag = "6")]
    pub instances6: Option<Network>,
    #[prost(bool, tag = "7")]
    pub proven4: bool,
    #[prost(bool, tag = "8")]
    pub proven6: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Zones {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(message, repeated, tag = "2")]
    pub limited: Vec<Zone>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Zone {
    #[prost(string, tag = "1")]
    pub zone: String,
    #[prost(uint32, tag = "2")]
    pub percent: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Resources {
    #[prost(uint64, tag = "1")]
    pub cpu_millis: u64,
    #[prost(uint64, tag = "2")]
    pub memory_bytes: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Assigned {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(message, repeated, tag = "2")]
    pub assignments: Vec<Assignment>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Assignment {
    #[prost(string, tag = "1")]
    pub project: String,
    #[prost(string, tag = "2")]
    pub service: String,
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub definition: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Placed {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(message, repeated, tag = "2")]
    pub refused: Vec<Held>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snapshot {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    #[prost(message, optional, tag = "3")]
    pub record: Option<ServiceRecord>,
    #[prost(message, repeated, tag = "4")]
    pub endpoints: Vec<Endpoint>,
    #[prost(message, repeated, tag = "5")]
    pub tombstones: Vec<Tombstone>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Delta {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(uint64, tag = "2")]
    pub from: u64,
    #[prost(uint64, tag = "3")]
    pub to: u64,
    #[prost(message, optional, tag = "4")]
    pub record: Option<ServiceRecord>,
    #[prost(message, repeated, tag = "5")]
    pub put: Vec<Endpoint>,
    #[prost(message, repeated, tag = "6")]
    pub removed: Vec<Tombstone>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServiceRecord {
    #[prost(message, repeated, tag = "1")]
    pub ports: Vec<ServicePort>,
    #[prost(message, optional, tag = "2")]
    pub balance: Option<Balance>,
    #[prost(message, optional, tag = "3")]
    pub outlier: Option<Outlier>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServicePort {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub number: u32,
    #[prost(uint32, tag = "3")]
    pub protocol: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Balance {
    #[prost(uint32, tag = "1")]
    pub policy: u32,
    #[prost(uint64, tag = "2")]
    pub timeout_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Outlier {
    #[prost(uint32, tag = "1")]
    pub consecutive_failures: u32,
    #[prost(uint64, tag = "2")]
    pub base_ms: u64,
    #[prost(uint64, tag = "3")]
    pub max_ms: u64,
    #[prost(uint32, tag = "4")]
    pub max_ejected_percent: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Endpoint {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(uint32, tag = "2")]
    pub instance: u32,
    #[prost(fixed32, optional, tag = "3")]
    pub address4: Option<u32>,
    #[prost(bytes = "bytes", tag = "4")]
    pub address6: Bytes,
    #[prost(btree_map = "string, uint32", tag = "5")]
    pub ports: BTreeMap<String, u32>,
    #[prost(string, tag = "6")]
    pub zone: String,
    #[prost(uint32, tag = "7")]
    pub weight: u32,
    #[prost(uint32, tag = "8")]
    pub status: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Tombstone {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(uint32, tag = "2")]
    pub instance: u32,
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    #[prost(uint32, tag = "4")]
    pub removal: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Reported {
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    #[prost(message, repeated, tag = "3")]
    pub held: Vec<Held>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Held {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Busy {
    #[prost(uint64, tag = "1")]
    pub retry_after_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Dead {
    #[prost(string, tag = "1")]
    pub node: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Goodbye {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(uint64, tag = "2")]
    pub reconnect_after_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct JoinRequest {
    #[prost(string, tag = "1")]
    pub token: String,
    #[prost(string, tag = "2")]
    pub node: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub certificate_request: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct RenewRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub certificate_request: Bytes,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Certificate {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub chain: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub authorities: Vec<Bytes>,
}
