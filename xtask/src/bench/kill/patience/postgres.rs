//! Real PostgreSQL servers, and a pool of clients that are connected and do nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bench::contender::sinew::Host;
use crate::{process, setup};

pub(super) const REPLICAS: u16 = 2;
/// Connections of the pool.
pub(super) const POOL: usize = 20;
/// New connections a look makes; taken in turn they reach every server.
pub(super) const LOOKS: usize = 8;
const PORT: u16 = 5432;

/// The service as in a file: each replica makes a database of its own when it starts.
pub(super) fn service(host: &Host) -> Result<Value> {
    let programs =
        setup::postgres_bin().context("PostgreSQL is missing: `cargo xtask setup bench`")?;
    let programs = programs.display();
    let home = host.room.files().join("databases");
    fs::create_dir(&home)?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777))?;
    let script = format!(
        "d=$(mktemp -d) && {programs}/initdb --no-sync -A trust -D $d \
         && echo 'host all all 127.0.0.0/8 trust' >> $d/pg_hba.conf \
         && exec {programs}/postgres -D $d -k $d -F -c listen_addresses='*'"
    );
    Ok(json!({
        // In a file `$` begins a variable of the file.
        "command": ["/bin/sh", "-c", script.replace('$', "$$")],
        "env": {"TMPDIR": home.to_string_lossy()},
        "user": "postgres",
        "working_dir": home.to_string_lossy(),
        "port": PORT,
        "replicas": REPLICAS,
        "balance": "round-robin",
        "stop": {"signal": "SIGINT"},
    }))
}

/// Clients that are connected and idle.
pub(super) struct Pool {
    address: String,
    idle: Vec<(Child, ChildStdin, BufReader<std::process::ChildStdout>)>,
}

impl Pool {
    pub(super) fn open(host: &Host, address: &str) -> Result<Self> {
        let mut pool = Self { address: address.to_owned(), idle: Vec::new() };
        for _ in 0..POOL {
            let mut psql = pool.psql(host)?;
            let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (stdin, stdout) = pipes.context("psql has no pipes")?;
            pool.idle.push((child, stdin, BufReader::new(stdout)));
        }
        pool.broken();
        Ok(pool)
    }

    /// How many servers answer new connections.
    pub(super) fn servers_seen(&self, host: &Host) -> Result<usize> {
        let mut servers = BTreeSet::new();
        for _ in 0..LOOKS {
            let mut psql = self.psql(host)?;
            psql.args(["-c", "select system_identifier from pg_control_system()"]);
            servers.insert(process::output(&mut psql)?);
        }
        Ok(servers.len())
    }

    /// Ends the pool and returns how many of its connections had been broken.
    pub(super) fn close(&mut self) -> Result<usize> {
        let broken = self.broken();
        for (mut child, stdin, _) in self.idle.drain(..) {
            drop(stdin);
            child.wait()?;
        }
        Ok(broken)
    }

    /// Asks every connection something; returns how many did not answer.
    fn broken(&mut self) -> usize {
        let answers = |(_, stdin, stdout): &mut (Child, ChildStdin, BufReader<_>)| {
            let mut line = String::new();
            let asked = stdin.write_all(b"select 1;\n").and_then(|()| stdout.read_line(&mut line));
            asked.is_ok() && line.trim() == "1"
        };
        self.idle.iter_mut().map(answers).filter(|answered| !answered).count()
    }

    fn psql(&self, host: &Host) -> Result<Command> {
        let mut command = host.sinew()?;
        command.args(["exec", "--", "psql", "-X", "-q", "-A", "-t", "-h", &self.address]);
        command.args(["-p", &PORT.to_string(), "-U", "postgres", "-d", "postgres"]);
        Ok(command)
    }
}
