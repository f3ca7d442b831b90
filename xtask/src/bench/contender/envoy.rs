//! Envoy as a TCP proxy.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Contender, FRONT, Path, SERVERS, proxied, served};
use crate::bench::world::World;
use crate::setup;

pub(crate) struct Envoy;

impl Contender for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let envoy = setup::envoy().context("Envoy is missing: `cargo xtask setup bench`")?;
        let room = served(world, self.name())?;
        let file = room.write("envoy.json", &configuration().to_string())?;
        let mut proxy = room.command(envoy)?;
        proxy.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(file);
        proxied(room, &mut proxy)
    }
}

fn configuration() -> Value {
    let socket = |address: std::net::SocketAddrV4| {
        let ip = address.ip().to_string();
        json!({"socket_address": {"address": ip, "port_value": address.port()}})
    };
    let endpoints: Vec<Value> =
        SERVERS.iter().map(|&server| json!({"endpoint": {"address": socket(server)}})).collect();
    let proxy = json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "front",
            "cluster": "servers",
        },
    });
    json!({"static_resources": {
        "listeners": [{
            "name": "front",
            "address": socket(FRONT),
            "filter_chains": [{"filters": [proxy]}],
        }],
        "clusters": [{
            "name": "servers",
            "type": "STATIC",
            "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [{"max_connections": 20000}]},
            "load_assignment": {
                "cluster_name": "servers",
                "endpoints": [{"lb_endpoints": endpoints}],
            },
        }],
    }})
}
