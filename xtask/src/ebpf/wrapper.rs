//! This binary in the role of cargo's `RUSTC_WRAPPER`.
//!
//! Cargo tells apart crates of one name by a hash that covers the absolute path of a crate which
//! lies outside the workspace, as `crates/abi` does for `crates/ebpf`. The hash reaches the names
//! of functions in the object, which would then depend on where the checkout lies. The wrapper
//! gives our own crates a constant instead.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Set in cargo's environment: this process is called as `xtask <rustc> <arguments>…`.
pub(super) const ROLE: &str = "SINEW_XTASK_IS_RUSTC_WRAPPER";

/// Becomes the compiler when cargo calls this binary as its wrapper.
pub(crate) fn become_rustc() -> Option<ExitCode> {
    std::env::var_os(ROLE)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next()?;
    let error = Command::new(&rustc).args(constant_metadata(arguments.collect())).exec();
    eprintln!("error: {} could not be started: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

fn constant_metadata(arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.iter().skip_while(|&argument| argument != "--crate-name").nth(1);
    let is_ours = name.is_some_and(|name| name.to_string_lossy().starts_with("sinew_"));
    if !is_ours {
        return arguments;
    }
    let is_metadata = |argument: &OsStr| argument.to_string_lossy().starts_with("metadata=");
    let constant = |argument: OsString| {
        if is_metadata(&argument) { "metadata=sinew".into() } else { argument }
    };
    arguments.into_iter().map(constant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(line: &str) -> String {
        let arguments = line.split(' ').map(OsString::from).collect();
        constant_metadata(arguments).join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn only_our_crates_get_the_constant() {
        assert_eq!(
            rewritten("--crate-name sinew_abi -C metadata=1f -C extra-filename=-1f"),
            "--crate-name sinew_abi -C metadata=sinew -C extra-filename=-1f"
        );
        let foreign = "--crate-name aya_ebpf -C metadata=1f";
        assert_eq!(rewritten(foreign), foreign);
    }
}
