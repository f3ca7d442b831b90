//! nginx's stream module.

use anyhow::Result;

use super::{Contender, FRONT, Path, SERVERS, proxied, served};
use crate::bench::world::World;

pub(crate) struct Nginx;

impl Contender for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let room = served(world, self.name())?;
        let file = room.write("nginx.conf", &configuration(&room.files().to_string_lossy()))?;
        let mut proxy = room.command("nginx")?;
        proxy.arg("-c").arg(file).arg("-e").arg("stderr");
        proxied(room, &mut proxy)
    }
}

fn configuration(directory: &str) -> String {
    let servers: Vec<String> =
        SERVERS.iter().map(|server| format!("    server {server};")).collect();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\n\
         worker_processes auto;\npid {directory}/nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 8192; }}\nstream {{\n  upstream servers {{\n{}\n  }}\n  \
         server {{ listen {FRONT} backlog=4096 reuseport; proxy_pass servers; }}\n}}\n",
        servers.join("\n")
    )
}
