//! The proxies, each in a room with a server of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::bench::contender::{FRONT, SERVERS};
use crate::bench::world::{Room, World};
use crate::{process, workspace};

pub(super) const NAMES: [&str; 3] = ["sinew", "nginx", "haproxy"];
/// Of the proxy; the client and the server have the next one.
pub(super) const PROXY_CPU: &str = "0";
pub(super) const OTHER_CPU: &str = "1";

/// As many bytes as a buffer of no proxy here holds.
const GREAT_BYTES: usize = 64 * 1024;

pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) room: Room,
    /// Of the proxy alone.
    cgroup: PathBuf,
}

impl Contender {
    pub(super) fn start(world: &World, name: &'static str) -> Result<Self> {
        let room = world.room(name)?;
        room.write("great", &"x".repeat(GREAT_BYTES))?;
        let server = room.write("server.conf", &server(&room.files().to_string_lossy()))?;
        let mut nginx = pinned(&room, "server", OTHER_CPU, "nginx")?;
        nginx.arg("-c").arg(server).args(["-e", "stderr"]);
        spawn(&room, &mut nginx, "server", &SERVERS[0].to_string())?;
        let mut proxy = proxy(&room, name)?;
        spawn(&room, &mut proxy, name, &FRONT.to_string())?;
        let cgroup = room.corner("proxy")?;
        Ok(Self { name, room, cgroup })
    }

    /// What the proxy has used of its processor so far, in seconds.
    pub(super) fn used_s(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(self.cgroup.join("cpu.stat"))?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let usage: f64 = usage.context("cpu.stat without usage_usec")?.parse()?;
        Ok(usage / 1e6)
    }
}

/// A command in the room that runs on one processor.
pub(super) fn pinned(room: &Room, corner: &str, cpu: &str, program: &str) -> Result<Command> {
    let mut command = room.command_in(&room.corner(corner)?, "taskset")?;
    command.args(["-c", cpu, program]);
    Ok(command)
}

fn spawn(room: &Room, command: &mut Command, log: &str, address: &str) -> Result<()> {
    let (said, complained) = (room.log(&format!("{log}.log"))?, room.log(&format!("{log}.err"))?);
    command.stdin(Stdio::null()).stdout(said).stderr(complained).spawn()?;
    process::run(room.task("probe")?.arg(address)).with_context(|| {
        let complaint = std::fs::read_to_string(room.files().join(format!("{log}.err")));
        format!("`{}` said: {}", process::line(command), complaint.unwrap_or_default())
    })
}

fn proxy(room: &Room, name: &str) -> Result<Command> {
    let backend = SERVERS[0];
    match name {
        "nginx" => {
            let file = room.write("nginx.conf", &nginx(&room.files().to_string_lossy()))?;
            let mut nginx = pinned(room, "proxy", PROXY_CPU, "nginx")?;
            nginx.arg("-c").arg(file).args(["-e", "stderr"]);
            Ok(nginx)
        }
        "haproxy" => {
            let file = room.write("haproxy.cfg", &haproxy())?;
            let mut haproxy = pinned(room, "proxy", PROXY_CPU, "haproxy")?;
            haproxy.arg("-db").arg("-f").arg(file);
            Ok(haproxy)
        }
        _ => {
            let example = workspace::built("release/examples/proxy");
            let mut sinew = pinned(room, "proxy", PROXY_CPU, &example.to_string_lossy())?;
            sinew.args([&FRONT.to_string(), "1", &backend.to_string()]);
            Ok(sinew)
        }
    }
}

fn server(directory: &str) -> String {
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {directory}/server.pid;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  \
         keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n  sendfile on;\n  \
         open_file_cache max=10;\n  server {{\n    listen {} backlog=4096;\n    \
         location = /small {{ return 200 \"hello, this is a small answer\\n\"; }}\n    \
         location / {{ root {directory}; }}\n  }}\n}}\n",
        SERVERS[0]
    )
}

/// With connections to the server that are kept, and buffers that hold the greater body: without
/// them it would write a file.
fn nginx(directory: &str) -> String {
    format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {directory}/nginx.pid;\n\
         events {{ worker_connections 4096; }}\nhttp {{\n  access_log off;\n  \
         keepalive_requests 1000000000;\n  \
         upstream servers {{ server {}; keepalive 256; keepalive_requests 1000000000; }}\n  \
         server {{\n    listen {FRONT} backlog=4096;\n    location / {{\n      \
         proxy_pass http://servers;\n      proxy_http_version 1.1;\n      \
         proxy_buffers 16 16k;\n      proxy_set_header Host $host;\n      \
         proxy_set_header Connection \"\";\n      \
         proxy_set_header X-Forwarded-For $remote_addr;\n      \
         proxy_set_header X-Forwarded-Proto http;\n    }}\n  }}\n}}\n",
        SERVERS[0]
    )
}

fn haproxy() -> String {
    format!(
        "global\n  maxconn 4000\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  \
         timeout client 60s\n  timeout server 60s\n  http-reuse always\nfrontend front\n  \
         bind {FRONT} backlog 4096\n  http-request set-header X-Forwarded-For %[src]\n  \
         http-request set-header X-Forwarded-Proto http\n  default_backend servers\n\
         backend servers\n  server s0 {}\n",
        SERVERS[0]
    )
}
