//! Which compiler and linker build the kernel programs.
//!
//! `core` has to be compiled for the BPF target, which needs a compiler with its own sources and
//! unstable options: Debian's `rustc-web`, or rustup's nightly with `rust-src`. The linker loads
//! the LLVM of a rustup toolchain at run time; which one is part of its name in the record.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

const LINKER_VERSION: &str = "0.10.4";
const LINKER_INSTALL: &str = "cargo install bpf-linker --version 0.10.4 --locked";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";
/// Sources of `core` below a sysroot.
const CORE: &str = "lib/rustlib/src/rust/library/core";

/// Whether a build may bring `crates/ebpf/Cargo.lock` up to date.
#[derive(Clone, Copy)]
pub(super) enum Lock {
    Keep,
    Update,
}

/// A compiler and a linker that fit together.
pub(super) struct Toolchain {
    kind: &'static str,
    rustc: PathBuf,
    sysroot: PathBuf,
    bpf_linker: PathBuf,
    /// Where the linker finds its LLVM.
    llvm: PathBuf,
    pub(super) compiler: String,
    pub(super) linker: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.kind, self.compiler, self.linker)
    }
}

impl Toolchain {
    /// Debian's compiler when it is there, else rustup's nightly.
    pub(super) fn find(root: &Path) -> Result<Self> {
        let bpf_linker = process::find("bpf-linker")
            .with_context(|| format!("bpf-linker is missing: {LINKER_INSTALL}"))?;
        let version = process::output(Command::new(&bpf_linker).arg("--version"))?;
        if version.split_whitespace().last() != Some(LINKER_VERSION) {
            bail!("{version} is not the pinned version: {LINKER_INSTALL}");
        }
        let (kind, rustc, llvm_of) = match (debian(), nightly()) {
            (Some(rustc), _) => ("Debian's rustc-web", rustc, pinned(root)?),
            (None, Some(rustc)) => ("rustup's nightly", rustc.clone(), rustc),
            (None, None) => bail!(
                "no compiler for the kernel programs: either `apt-get install rustc-web \
                 rust-web-src` or `rustup toolchain install nightly --component rust-src`"
            ),
        };
        let sysroot = sysroot(&rustc)?;
        let compiler = Version::of(&rustc)?;
        let llvm_of = Version::of(&llvm_of).map(|version| (version, llvm_of))?;
        if major(&llvm_of.0.llvm) < major(&compiler.llvm) {
            bail!(
                "the linker's LLVM {} is older than the compiler's LLVM {}: update the toolchain \
                 of rust-toolchain.toml",
                llvm_of.0.llvm,
                compiler.llvm
            );
        }
        Ok(Self {
            kind,
            sysroot,
            bpf_linker,
            llvm: self::sysroot(&llvm_of.1)?.join("lib"),
            compiler: format!("{}, LLVM {}", compiler.release, compiler.llvm),
            linker: format!("{version}, LLVM {} of {}", llvm_of.0.llvm, llvm_of.0.release),
            rustc,
        })
    }

    /// Builds the object and returns where it lies.
    pub(super) fn build(&self, root: &Path, lock: Lock) -> Result<PathBuf> {
        let target_dir = root.join("target-bpf");
        let mut cargo = process::cargo();
        cargo
            .current_dir(root.join("crates/ebpf"))
            .args(["build", "--package", "sinew-ebpf", "--bin", "sinew-ebpf"])
            .args(["--release", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
            .arg(&target_dir)
            .env("RUSTC", &self.rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("LD_LIBRARY_PATH", &self.llvm)
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.bpf_linker)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root).join("\u{1f}"))
            .env("RUSTC_WRAPPER", std::env::current_exe()?)
            .env(super::wrapper::ROLE, "1")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        if matches!(lock, Lock::Keep) {
            cargo.arg("--locked");
        }
        process::run(&mut cargo)?;
        Ok(target_dir.join(TARGET).join("release/sinew-ebpf"))
    }

    /// Paths are remapped: the object must not depend on where the checkout lies.
    fn flags(&self, root: &Path) -> Vec<String> {
        let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
        let mut flags = vec![
            "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
            "-Ctarget-cpu=v3".to_owned(),
            remap(root, "/sinew"),
            remap(&self.sysroot.join("lib/rustlib/src/rust"), "/rust"),
        ];
        let registries = std::fs::read_dir(process::cargo_home().join("registry/src"));
        let registries = registries.into_iter().flatten().flatten();
        flags.extend(registries.map(|registry| remap(&registry.path(), "/registry")));
        flags
    }
}

/// What `rustc -vV` tells.
struct Version {
    release: String,
    llvm: String,
}

impl Version {
    fn of(rustc: &Path) -> Result<Self> {
        let text = process::output(Command::new(rustc).arg("-vV"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let release = text.lines().next().unwrap_or_default().to_owned();
        let llvm = field("LLVM version: ")
            .with_context(|| format!("{} does not tell its LLVM version", rustc.display()))?;
        Ok(Self { release, llvm: llvm.to_owned() })
    }
}

fn debian() -> Option<PathBuf> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    (rustc.exists() && Path::new("/usr").join(CORE).exists()).then_some(rustc)
}

fn nightly() -> Option<PathBuf> {
    let rustc =
        process::output(Command::new("rustup").args(["which", "rustc", "--toolchain", "nightly"]));
    let rustc = PathBuf::from(rustc.ok()?);
    let sysroot = sysroot(&rustc).ok()?;
    sysroot.join(CORE).exists().then_some(rustc)
}

/// The compiler of `rust-toolchain.toml`.
fn pinned(root: &Path) -> Result<PathBuf> {
    let mut rustup = Command::new("rustup");
    rustup.args(["which", "rustc"]).current_dir(root).env_remove("RUSTUP_TOOLCHAIN");
    let rustc = process::output(&mut rustup)
        .context("bpf-linker takes its LLVM from a rustup toolchain: install rustup")?;
    Ok(PathBuf::from(rustc))
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    process::output(Command::new(rustc).args(["--print", "sysroot"])).map(PathBuf::from)
}

fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
