//! Destination NAT by a random number, as kube-proxy's rules do it.

use anyhow::Result;

use super::{Contender, FRONT, InRoom, Path, SERVERS, served};
use crate::bench::world::World;
use crate::process;

pub(crate) struct Nftables;

impl Contender for Nftables {
    fn name(&self) -> &'static str {
        "nft"
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let room = served(world, self.name())?;
        let rules = room.write("rules.nft", &rules())?;
        process::run(room.command("nft")?.arg("-f").arg(rules))?;
        // Closed connections must not fill the table of tracked ones during the bench.
        for state in ["time_wait", "close"] {
            let setting = format!("net.netfilter.nf_conntrack_tcp_timeout_{state}=1");
            process::run(room.command("sysctl")?.args(["-q", "-w", &setting]))?;
        }
        process::run(room.task("probe")?.arg(FRONT.to_string()))?;
        Ok(Box::new(InRoom { room, targets: vec![FRONT] }))
    }
}

fn rules() -> String {
    let number = SERVERS.len();
    let map: Vec<String> = SERVERS
        .iter()
        .enumerate()
        .map(|(index, server)| format!("{index} : {}", server.ip()))
        .collect();
    format!(
        "table ip balance {{\n  chain output {{\n    type nat hook output priority -100;\n    \
         ip daddr {} tcp dport {} dnat to numgen random mod {number} map {{ {} }}\n  }}\n}}\n",
        FRONT.ip(),
        FRONT.port(),
        map.join(", ")
    )
}
