//! The shop's files and the `sinew` that runs it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use serde_json::Value;

use crate::{process, workspace};

/// Users such as `www-data` and `postgres` must reach it, which a checkout below `/root` is not.
const HOME: &str = "/var/lib/sinew-demo";
const PROJECT: &str = "shop";

/// The shop, ready to be started.
pub(crate) struct Shop {
    sinew: PathBuf,
    file: PathBuf,
}

impl Shop {
    /// Builds `sinew` and lays the shop's files out.
    pub(crate) fn prepare() -> Result<Self> {
        let root = workspace::root();
        let shop = Self {
            sinew: workspace::build_sinew()?,
            file: Path::new(HOME).join("shop/sinew.yaml"),
        };
        shop.refuse_to_disturb()?;
        fs::create_dir_all(HOME).with_context(|| format!("{HOME} cannot be made"))?;
        let mut copy = Command::new("cp");
        copy.args(["-r", "--no-target-directory"]).arg(root.join("examples/shop"));
        process::run(copy.arg(Path::new(HOME).join("shop")))?;
        process::run(Command::new("chmod").args(["-R", "a+rX", HOME]))?;
        Ok(shop)
    }

    /// A Sinew in use is not for demonstrations: the agent is going to be killed.
    fn refuse_to_disturb(&self) -> Result<()> {
        if UnixStream::connect(socket()).is_err() {
            return Ok(());
        }
        let services = self.ask(&["services"])?;
        let services = services.as_array().map(Vec::as_slice).unwrap_or_default();
        match services.iter().find(|service| service["project"] != PROJECT) {
            Some(other) => bail!(
                "Sinew is in use on this host (service {}), and the demo kills its agent: \
                 `sinew down` first, or set SINEW_RUN, SINEW_STATE, SINEW_PINS and SINEW_CGROUP",
                other["name"]
            ),
            None => Ok(()),
        }
    }

    /// Starts what is not up, the agent included, and waits for it.
    pub(crate) fn up(&self) -> Result<()> {
        process::output(self.sinew().args(["up", "--detach", "--file"]).arg(&self.file)).map(|_| ())
    }

    /// The `sinew` command.
    pub(crate) fn sinew(&self) -> Command {
        let mut command = Command::new(&self.sinew);
        command.env("SHOP_DATA", Path::new(HOME).join("data"));
        command
    }

    /// What a subcommand prints for programs.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<Value> {
        let answer = process::output(self.sinew().args(["--output", "json"]).args(words))?;
        serde_json::from_str(&answer).with_context(|| format!("`sinew {words:?}`: {answer}"))
    }

    /// The main process of a replica.
    pub(crate) fn process(&self, service: &str, replica: u32) -> Result<Pid> {
        let workloads = self.ask(&["ps"])?;
        let workloads = workloads.as_array().map(Vec::as_slice).unwrap_or_default();
        let is_it = |found: &&Value| found["service"] == service && found["replica"] == replica;
        let pid = workloads.iter().find(is_it).and_then(|found| found["pid"].as_i64());
        pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?))
            .with_context(|| format!("{service}/{replica} has no process"))
    }

    /// The process that answers on the agent's socket.
    pub(crate) fn agent(&self) -> Result<Pid> {
        let socket = socket();
        let stream = UnixStream::connect(&socket)
            .with_context(|| format!("no agent answers on {}", socket.display()))?;
        Ok(rustix::net::sockopt::socket_peercred(&stream)?.pid)
    }

    /// Leaves nothing.
    pub(crate) fn purge(&self) -> Result<()> {
        process::run(self.sinew().args(["down", "--purge", "--yes"]))?;
        fs::remove_dir_all(HOME).with_context(|| format!("{HOME} cannot be removed"))
    }

    pub(crate) fn how_to_look_around(&self) -> String {
        let sinew = self.sinew.display();
        format!(
            "\nThe shop is still open. Look around:\n  \
             {sinew} ps\n  \
             {sinew} services api\n  \
             {sinew} logs --tail 5\n  \
             curl http://127.0.0.1:8080/   (published: a browser opens it too)\n  \
             {sinew} exec -- curl http://api:8000/orders\n\
             and close it, with nothing left behind:\n  \
             {sinew} down --purge --yes && rm -r {HOME}"
        )
    }
}

fn socket() -> PathBuf {
    if let Some(socket) = std::env::var_os("SINEW_SOCKET") {
        return PathBuf::from(socket);
    }
    let run = std::env::var_os("SINEW_RUN").map_or_else(|| "/run/sinew".into(), PathBuf::from);
    run.join("api.sock")
}
