//! HAProxy as a TCP proxy.

use anyhow::Result;

use super::{Contender, FRONT, Path, SERVERS, proxied, served};
use crate::bench::world::World;

pub(crate) struct Haproxy;

impl Contender for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let room = served(world, self.name())?;
        let file = room.write("haproxy.cfg", &configuration())?;
        let mut proxy = room.command("haproxy")?;
        proxy.arg("-db").arg("-f").arg(file);
        proxied(room, &mut proxy)
    }
}

fn configuration() -> String {
    let servers: Vec<String> = SERVERS
        .iter()
        .enumerate()
        .map(|(index, server)| format!("  server s{index} {server}"))
        .collect();
    format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\nlisten front\n  bind {FRONT}\n  balance roundrobin\n{}\n",
        servers.join("\n")
    )
}
