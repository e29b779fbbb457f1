//! The workspace's own rules: who may depend on whom, and under which licences.
#![allow(clippy::unwrap_used)]

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeSet, HashMap};
use std::process::Command;

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // Packages of other platforms are not downloaded, so leave them out.
    let version = Command::new(env!("CARGO")).args(["--version", "--verbose"]).output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let options = ["--locked", "--filter-platform", host].map(str::to_owned);
    // Optional dependencies are bound by the same rules.
    let features = CargoOpt::AllFeatures;
    MetadataCommand::new().manifest_path(manifest).features(features).other_options(options).exec().unwrap()
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.packages.iter().filter(|p| metadata.workspace_members.contains(&p.id)).collect()
}

/// Everything that a package's library or binary is built from.
fn normal_dependencies(metadata: &Metadata, root: &PackageId) -> BTreeSet<String> {
    let nodes: HashMap<_, _> = metadata.resolve.as_ref().unwrap().nodes.iter().map(|n| (&n.id, n)).collect();
    let names: HashMap<_, _> = metadata.packages.iter().map(|p| (&p.id, p.name.to_string())).collect();
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let normal = dependency.dep_kinds.iter().any(|k| k.kind != DependencyKind::Development);
            if normal && found.insert(names[&dependency.pkg].clone()) {
                open.push(&dependency.pkg);
            }
        }
    }
    found
}

const BELOW_TRAINER: &[&str] = &[
    "dapo-data",
    "dapo-dist",
    "dapo-files",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-sampler",
];
const BELOW_EVAL: &[&str] = &[
    "dapo-data",
    "dapo-dist",
    "dapo-files",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-sampler",
    "dapo-trainer",
];

const BELOW_RUN: &[&str] = &[
    "dapo-code",
    "dapo-data",
    "dapo-dist",
    "dapo-eval",
    "dapo-external",
    "dapo-files",
    "dapo-hub",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-sampler",
    "dapo-trainer",
];
const BELOW_IMPORT: &[&str] = &[
    "dapo-code",
    "dapo-data",
    "dapo-dist",
    "dapo-eval",
    "dapo-external",
    "dapo-files",
    "dapo-hub",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-run",
    "dapo-sampler",
    "dapo-trainer",
];
const ALL: &[&str] = &[
    "dapo-code",
    "dapo-console",
    "dapo-data",
    "dapo-dist",
    "dapo-eval",
    "dapo-external",
    "dapo-files",
    "dapo-hub",
    "dapo-import",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-run",
    "dapo-sampler",
    "dapo-trainer",
];

const BELOW_CONSOLE: &[&str] = &[
    "dapo-data",
    "dapo-dist",
    "dapo-eval",
    "dapo-files",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-reward",
    "dapo-sampler",
    "dapo-trainer",
];

const CLI: &[&str] = &[
    "dapo-code",
    "dapo-console",
    "dapo-data",
    "dapo-dist",
    "dapo-eval",
    "dapo-external",
    "dapo-files",
    "dapo-hub",
    "dapo-import",
    "dapo-kernels",
    "dapo-loss",
    "dapo-policy",
    "dapo-report",
    "dapo-reward",
    "dapo-run",
    "dapo-sampler",
    "dapo-trainer",
];

#[test]
fn crates_depend_in_one_direction() {
    let metadata = metadata();
    let allowed: HashMap<&str, &[&str]> = HashMap::from([
        ("dapo-code", &["dapo-reward"][..]),
        ("dapo-console", BELOW_CONSOLE),
        ("dapo-dist", &[]),
        ("dapo-loss", &["dapo-kernels"]),
        ("dapo-report", &[]),
        ("dapo-reward", &[]),
        ("dapo-sampler", &[]),
        ("dapo-external", &["dapo-reward"]),
        ("dapo-kernels", &[]),
        ("dapo-files", &[]),
        ("dapo-hub", &["dapo-files"]),
        ("dapo-policy", &["dapo-files", "dapo-kernels"]),
        ("dapo-data", &["dapo-files", "dapo-kernels", "dapo-policy", "dapo-reward", "dapo-sampler"]),
        ("dapo-eval", BELOW_EVAL),
        ("dapo-trainer", BELOW_TRAINER),
        ("dapo-import", BELOW_IMPORT),
        ("dapo-run", BELOW_RUN),
        ("dapo-cli", CLI),
        ("dapo-rs", ALL),
    ]);
    let members = members(&metadata);
    assert_eq!(members.len(), allowed.len());
    for package in members {
        for dependency in normal_dependencies(&metadata, &package.id).iter().filter(|d| d.starts_with("dapo-")) {
            let allowed = allowed[package.name.as_str()];
            assert!(allowed.contains(&dependency.as_str()), "{} must not depend on {dependency}", package.name);
        }
    }
}

#[test]
fn the_loss_has_kernels_only_where_they_are_asked_for() {
    let metadata = metadata();
    let package = members(&metadata).into_iter().find(|package| package.name.as_str() == "dapo-loss").unwrap();
    let kernels = package.dependencies.iter().find(|dependency| dependency.name == "dapo-kernels").unwrap();
    assert!(kernels.optional);
    let asking = package.features.iter().filter(|(_, needs)| needs.iter().any(|need| need.contains("dapo-kernels")));
    assert_eq!(asking.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["cuda", "emulate"]);
    assert_eq!(package.features["default"], ["candle"]);
    assert_eq!(package.features["candle"], ["dep:candle-core"]);
}

#[test]
fn nothing_links_mpi_unless_asked() {
    let metadata = metadata();
    let members = members(&metadata);
    let package = members.iter().find(|package| package.name.as_str() == "dapo-dist").unwrap();
    assert!(package.dependencies.iter().find(|dependency| dependency.name == "mpi").unwrap().optional);
    let asking = package.features.iter().filter(|(_, needs)| needs.iter().any(|need| need.contains("mpi")));
    assert_eq!(asking.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["mpi"]);
    for package in members {
        let default = package.features.get("default").cloned().unwrap_or_default();
        assert!(default.iter().all(|need| !need.contains("mpi")), "{}: {default:?}", package.name);
        let others = package.dependencies.iter().filter(|dependency| dependency.name == "dapo-dist");
        assert!(others.flat_map(|dependency| &dependency.features).all(|feature| feature != "mpi"), "{}", package.name);
    }
}

const FREE_OF_TENSORS: [&str; 8] =
    ["dapo-code", "dapo-dist", "dapo-external", "dapo-files", "dapo-hub", "dapo-report", "dapo-reward", "dapo-sampler"];

#[test]
fn rewards_and_sampler_are_free_of_tensors() {
    let metadata = metadata();
    for package in members(&metadata).into_iter().filter(|p| FREE_OF_TENSORS.contains(&p.name.as_str())) {
        let dependencies = normal_dependencies(&metadata, &package.id);
        let tensors: Vec<_> = dependencies.iter().filter(|d| d.starts_with("candle") || *d == "gemm").collect();
        assert!(tensors.is_empty(), "{} depends on {tensors:?}", package.name);
    }
}

#[test]
fn every_dependency_has_a_permissive_licence() {
    const PERMISSIVE: [&str; 14] = [
        "MIT",
        "MIT-0",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "Unicode-3.0",
        "0BSD",
        "BSL-1.0",
        "Unlicense",
        "CC0-1.0",
        "CDLA-Permissive-2.0",
        "Apache-2.0 WITH LLVM-exception",
    ];
    let metadata = metadata();
    for package in &metadata.packages {
        let licence = package.license.clone().unwrap_or_default();
        // One permissive choice in every term that is required.
        let acceptable = licence
            .replace('/', " OR ")
            .split(" AND ")
            .all(|term| term.split(" OR ").any(|choice| PERMISSIVE.contains(&choice.trim_matches(['(', ')', ' ']))));
        assert!(acceptable, "{} {} has licence {licence:?}", package.name, package.version);
    }
}

#[test]
fn every_crate_is_described_and_dual_licensed() {
    for package in members(&metadata()) {
        assert_eq!(package.license.as_deref(), Some("MIT OR Apache-2.0"), "{}", package.name);
        assert!(package.description.as_ref().is_some_and(|d| d.len() > 20), "{}", package.name);
        assert!(package.rust_version.is_some(), "{}", package.name);
    }
}
