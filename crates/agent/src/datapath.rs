//! Stand-in for `sinew_datapath` until that crate holds these types.
#![allow(missing_docs)]
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use sinew_model::{Balance, Outlier, Protocol};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub instances: Vec<Instance>,
    pub services: Vec<Service>,
    pub resolver: Option<Resolver>,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: u64,
    pub cgroup: PathBuf,
    pub service: u32,
    pub address4: Ipv4Addr,
    pub address6: Ipv6Addr,
    pub ports: Vec<(Protocol, u16)>,
    pub own_address: bool,
    pub watch_listen: bool,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub id: u32,
    pub address4: Ipv4Addr,
    pub address6: Ipv6Addr,
    pub ports: Vec<ServicePort>,
}
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    pub number: u16,
    pub protocol: Protocol,
    pub balance: Balance,
    pub outlier: Outlier,
    pub backends: Vec<Backend>,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub key: u64,
    pub address4: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Addr>,
    pub port: u16,
    pub weight: u32,
    pub local: bool,
    pub zone: u32,
    pub in_choice: bool,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Resolver {
    pub address4: SocketAddrV4,
    pub address6: Ipv6Addr,
    pub name_servers: Vec<IpAddr>,
}
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendStats {
    pub active: u32,
    pub connections: u64,
    pub refused: u64,
    pub reset: u64,
    pub timed_out: u64,
    pub ejected_now: bool,
    pub ejections: u64,
    pub hung: u32,
    pub connect_us: u32,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}
pub struct EdgeStats {
    pub source: u32,
    pub destination: u32,
    pub counters: sinew_abi::Edge,
}
pub type Totals = sinew_abi::Counters;
#[derive(Debug, thiserror::Error)]
#[error("data path")]
pub struct Error;
pub trait Datapath: Send {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Error>;
    fn beat(&mut self) -> Result<(), Error>;
    fn backends(&self) -> Result<HashMap<u64, BackendStats>, Error>;
    fn edges(&self) -> Result<Vec<EdgeStats>, Error>;
    fn totals(&self) -> Result<Totals, Error>;
    fn listeners(&self) -> Result<Vec<Listener>, Error>;
    fn close_connections(&self, to: SocketAddr) -> Result<u32, Error>;
    fn detach(&mut self) -> Result<(), Error>;
}
#[derive(Clone, Debug)]
pub enum Event {
    Listening { instance: u64, address: IpAddr, port: u16 },
    Bound { instance: u64, address: IpAddr, port: u16, protocol: Protocol },
    Lost,
}
