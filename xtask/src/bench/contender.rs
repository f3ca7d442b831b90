//! What stands between client and servers, one kind a file, all driven alike.

pub(crate) mod datapath;
mod direct;
mod envoy;
mod haproxy;
mod nftables;
mod nginx;
pub(crate) mod sinew;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::world::{self, Room, World};
use crate::process;

pub(crate) use datapath::Datapath;
pub(crate) use direct::Direct;
pub(crate) use envoy::Envoy;
pub(crate) use haproxy::Haproxy;
pub(crate) use nftables::Nftables;
pub(crate) use nginx::Nginx;
pub(crate) use sinew::Sinew;

/// A way from the client to the servers.
pub(crate) trait Contender {
    /// Its prefix in the keys of the report.
    fn name(&self) -> &'static str;

    /// Starts servers and what stands before them. Everything ends with the world.
    fn start(&self, world: &World) -> Result<Box<dyn Path>>;
}

/// A way that is open.
pub(crate) trait Path {
    /// Addresses for the client, which takes them in turn.
    fn targets(&self) -> String;

    /// A command that becomes a client of this way.
    fn client(&self) -> Result<Command>;

    /// Where all of it runs.
    fn room(&self) -> &Room;
}

/// The same three servers for everyone but Sinew, whose servers all listen on one port.
pub(crate) const SERVERS: [SocketAddrV4; 3] = [
    SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 1), 8080),
    SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 2), 8080),
    SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 3), 8080),
];
/// Where what stands before them listens.
pub(crate) const FRONT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 2, 0, 1), 8080);

/// A way whose client needs nothing but the room.
pub(crate) struct InRoom {
    pub(crate) room: Room,
    pub(crate) targets: Vec<SocketAddrV4>,
}

impl Path for InRoom {
    fn targets(&self) -> String {
        self.targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn client(&self) -> Result<Command> {
        self.room.command_in(&self.room.corner("client")?, world::own())
    }

    fn room(&self) -> &Room {
        &self.room
    }
}

/// A room with the three servers.
fn served(world: &World, name: &str) -> Result<Room> {
    let room = world.room(name)?;
    serve(&room, &SERVERS)?;
    Ok(room)
}

/// Starts a server on each address, each in a cgroup of its own as a replica is.
pub(crate) fn serve(room: &Room, addresses: &[SocketAddrV4]) -> Result<()> {
    for (number, address) in addresses.iter().enumerate() {
        let cgroup = room.corner(&format!("server/{number}"))?;
        world::announced(room.task_in(&cgroup, "server")?.arg(address.to_string()))?;
    }
    Ok(())
}

/// A room whose servers are behind a proxy that listens at the front.
fn proxied(room: Room, proxy: &mut Command) -> Result<Box<dyn Path>> {
    let (said, complained) = (room.log("proxy.log")?, room.log("proxy.err")?);
    proxy.stdin(Stdio::null()).stdout(said).stderr(complained).spawn()?;
    process::run(room.task("probe")?.arg(FRONT.to_string())).with_context(|| {
        let complaint = std::fs::read_to_string(room.files().join("proxy.err"));
        format!("`{}` said: {}", process::line(proxy), complaint.unwrap_or_default())
    })?;
    Ok(Box::new(InRoom { room, targets: vec![FRONT] }))
}
