//! A crate uses lower layers only: every manifest against the table of docs/architecture.md.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Crates by their layers; `None`: tools, which no crate is built with.
type Layers = BTreeMap<String, Option<u32>>;

/// A crate of the workspace and one that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Use {
    by: String,
    of: String,
    /// For tests alone.
    dev: bool,
}

/// The rows `| layer | `crate` | … |` below the heading of crates.
fn table(text: &str) -> Layers {
    let section = text.split("## Crates").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (layer, name) = (cells.next()?, cells.next()?);
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), layer.parse().ok()))
    });
    rows.collect()
}

/// What breaks the rule. Tools may use all, and tests may use tools and what their own crate keeps for
/// tests.
fn broken(layers: &Layers, uses: &[Use]) -> Vec<String> {
    let wrong = |Use { by, of, dev }: &&Use| match (layers[by], layers[of]) {
        (None, _) => false,
        _ if *dev && by == of => false,
        (Some(_), None) => !dev,
        (Some(by), Some(of)) => of >= by,
    };
    let broken = uses.iter().filter(wrong);
    broken.map(|Use { by, of, .. }| format!("{by} may not use {of}")).collect()
}

fn short(package: &str) -> Option<String> {
    match package {
        "sinew" | "xtask" => Some(package.to_owned()),
        _ => package.strip_prefix("sinew-").map(str::to_owned),
    }
}

/// Crates of the workspace whose manifest this is, and what they use of each other.
fn uses(manifest: &Path) -> (Vec<String>, Vec<Use>) {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (mut crates, mut uses) = (Vec::new(), Vec::new());
    for package in metadata["packages"].as_array().unwrap() {
        let Some(by) = short(package["name"].as_str().unwrap()) else { continue };
        for dependency in package["dependencies"].as_array().unwrap() {
            if let Some(of) = short(dependency["name"].as_str().unwrap()) {
                uses.push(Use { by: by.clone(), of, dev: dependency["kind"] == "dev" });
            }
        }
        crates.push(by);
    }
    (crates, uses)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

#[test]
fn crates_use_lower_layers_only() {
    let layers = table(&std::fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    let (mut crates, mut all) = uses(&root().join("Cargo.toml"));
    let (kernel, of_kernel) = uses(&root().join("crates/ebpf/Cargo.toml"));
    crates.extend(kernel);
    all.extend(of_kernel);
    crates.sort();
    crates.dedup();
    assert_eq!(crates, layers.keys().cloned().collect::<Vec<_>>(), "the table names every crate");
    assert!(all.len() > 20, "{all:?}");
    assert_eq!(broken(&layers, &all), [""; 0]);
}

#[test]
fn what_breaks_the_rule_is_named() {
    let text = "## Crates\n| layer | crate | holds |\n|---|---|---|\n| 0 | `abi` | keys |\n\
                | 1 | `api` | types |\n| 1 | `dns` | names |\n| - | `fuzz` | input |\n\n## Next\n\
                | 9 | `other` | - |\n";
    let layers = table(text);
    assert_eq!(layers.keys().collect::<Vec<_>>(), ["abi", "api", "dns", "fuzz"]);
    let broken = |by: &str, of: &str, dev| {
        let of = Use { by: by.to_owned(), of: of.to_owned(), dev };
        !broken(&layers, &[of]).is_empty()
    };
    assert!(!broken("api", "abi", false));
    assert!(
        broken("abi", "api", false) && broken("dns", "api", false) && broken("dns", "api", true)
    );
    assert!(broken("api", "fuzz", false) && !broken("api", "fuzz", true));
    assert!(!broken("fuzz", "api", false));
}
