//! The workspace's own rules: who may depend on whom, and under which licences.
#![allow(clippy::unwrap_used)]

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// The crates that each crate of the workspace uses, without the prefix `dapo-`.
const USES: [(&str, &str); 19] = [
    ("dapo-cli", "code console data dist eval files import kernels policy report reward run trainer"),
    ("dapo-code", "reward"),
    ("dapo-console", "data eval trainer"),
    ("dapo-data", "files policy reward sampler"),
    ("dapo-dist", ""),
    ("dapo-eval", "data policy reward trainer"),
    ("dapo-external", "reward"),
    ("dapo-files", ""),
    ("dapo-hub", "files"),
    ("dapo-import", "run"),
    ("dapo-kernels", ""),
    ("dapo-loss", "kernels"),
    ("dapo-policy", "files kernels"),
    ("dapo-report", ""),
    ("dapo-reward", ""),
    ("dapo-rs", "data eval import kernels loss policy reward run sampler trainer"),
    ("dapo-run", "code data dist eval external files hub kernels loss policy reward sampler trainer"),
    ("dapo-sampler", ""),
    ("dapo-trainer", "data dist files kernels loss policy reward sampler"),
];

#[test]
fn crates_use_those_that_the_list_names() {
    let metadata = metadata();
    let uses = |package: &&Package| {
        let own = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let own: BTreeSet<&str> = own.filter_map(|dependency| dependency.name.strip_prefix("dapo-")).collect();
        (package.name.to_string(), own.into_iter().collect::<Vec<_>>().join(" "))
    };
    let found: BTreeMap<String, String> = members(&metadata).iter().map(uses).collect();
    let listed = USES.map(|(name, uses)| (name.to_owned(), uses.to_owned()));
    assert_eq!(found, BTreeMap::from(listed));
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
