//! Checks the direction of dependencies: they point one way, services don't depend on each other,
//! and cores have no I/O.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The layers, from the bottom up. A package may only depend on lower layers, not on its own.
const LAYERS: [&[&str]; 9] = [
    &[
        "synod-types",
        "synod-json",
        "synod-jute",
        "synod-proto",
        "synod-runtime",
        "synod-protoc",
        "synod-history",
    ],
    // The test kit only uses binaries, and the checks of histories. All tests may use it.
    &["synod-testkit"],
    &[
        "synod-consensus-core",
        "synod-coordination-core",
        "synod-engine",
        "synod-rpc",
    ],
    &["synod-log", "synod-mvcc", "synod-replica-core"],
    &[
        "synod-lease",
        "synod-replica",
        "synod-service",
        "synod-simulation",
        "synod-watch",
    ],
    &["synod-auth"],
    // The services. They use each other only through their contracts.
    &["synod-consensus", "synod-coordination"],
    // `synod` may embed services.
    &["synod"],
    &["xtask", "synod-tests", "synod-models"],
];

/// What a core must not depend on: time, randomness, disk, network, wire formats, and our crates
/// that wrap them.
const FORBIDDEN_IN_CORES: [&str; 16] = [
    "tokio",
    "tonic",
    "prost",
    "hyper",
    "h2",
    "axum",
    "rand",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "rustix",
    "libc",
    "fjall",
    "tempfile",
    "synod-runtime",
];

/// Checks the workspace's own packages, as listed by `cargo metadata --no-deps`.
///
/// # Errors
/// Lists every dependency in the wrong direction, and every package without a layer.
pub(crate) fn check(metadata: &Value) -> Result<()> {
    let mut wrong = Vec::new();
    for (package, dependencies) in packages(metadata)? {
        let Some(layer) = layer(&package) else {
            wrong.push(format!("{package} has no layer in boundaries.rs"));
            continue;
        };
        for dependency in dependencies {
            let ours = dependency.starts_with("synod") || dependency == "xtask";
            if ours && self::layer(&dependency).is_none_or(|below| below >= layer) {
                wrong.push(format!("{package} must not depend on {dependency}"));
            }
            if package.ends_with("-core") && forbidden_in_core(&dependency) {
                wrong.push(format!(
                    "{package} is a core and must not depend on {dependency}"
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn layer(package: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&package))
}

fn forbidden_in_core(dependency: &str) -> bool {
    FORBIDDEN_IN_CORES.iter().any(|forbidden| {
        let rest = dependency.strip_prefix(forbidden);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

/// The packages with their build dependencies. Dependencies of tests are not restricted.
fn packages(metadata: &Value) -> Result<BTreeMap<String, Vec<String>>> {
    let list = metadata["packages"]
        .as_array()
        .context("cargo metadata lists packages")?;
    list.iter()
        .map(|package| {
            let name = package["name"].as_str().context("a package has a name")?;
            let dependencies = package["dependencies"].as_array().context("a list")?;
            let names = dependencies
                .iter()
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
            Ok((name.to_owned(), names.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_keeps_its_boundaries() {
        check(&crate::checks::cargo_metadata().unwrap()).unwrap();
    }

    #[test]
    fn wrong_directions_are_detected() {
        let verdict = |package: &str, dependency: &str| {
            let dependency = serde_json::json!({"name": dependency, "kind": null});
            let package = serde_json::json!({"name": package, "dependencies": [dependency]});
            check(&serde_json::json!({"packages": [package]})).is_ok()
        };
        assert!(verdict("synod-consensus", "synod-replica"));
        assert!(verdict("synod-consensus", "synod-service"));
        assert!(verdict("synod-consensus-core", "bytes"));
        assert!(!verdict("synod-replica", "synod-consensus"));
        assert!(!verdict("synod-service", "synod-consensus"));
        assert!(!verdict("synod-service", "synod-replica"));
        assert!(!verdict("synod-engine", "synod-rpc"));
        assert!(!verdict("synod-consensus-core", "tokio-util"));
        assert!(!verdict("synod-brand-new", "bytes"));
    }
}
