//! Nothing between: the client takes the servers in turn by itself.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;

use super::{Contender, InRoom, Path, serve};
use crate::bench::world::{Room, World};

pub(crate) struct Direct {
    pub(crate) servers: u16,
}

impl Contender for Direct {
    fn name(&self) -> &'static str {
        if self.servers == 1000 { "direct1000" } else { "direct" }
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        self.start_in(world.room(self.name())?)
    }
}

impl Direct {
    /// As a baseline, of which there are many.
    pub(crate) fn start_in(&self, room: Room) -> Result<Box<dyn Path>> {
        let [first, ..] = super::SERVERS;
        let address = |number: u16| {
            let ip = Ipv4Addr::from(u32::from(*first.ip()) + u32::from(number));
            SocketAddrV4::new(ip, first.port())
        };
        let targets: Vec<SocketAddrV4> = (0..self.servers).map(address).collect();
        serve(&room, &targets)?;
        Ok(Box::new(InRoom { room, targets }))
    }
}
