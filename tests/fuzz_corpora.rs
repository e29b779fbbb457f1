//! The corpora of the fuzz targets in `fuzz/`, with variations of each input that are the same every time. Targets of the
//! hub are replayed by the tests of `dapo-policy`, with its feature.
//!
//! `DAPO_FUZZ_VARIATIONS` and `DAPO_FUZZ_SECONDS` set how many variations a target gets, and how long it may take.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the targets are a library elsewhere")]

#[path = "../fuzz/src/input.rs"]
mod input;
#[path = "../fuzz/src/light.rs"]
mod light;
#[path = "../fuzz/src/models.rs"]
mod models;
#[path = "../fuzz/src/replay.rs"]
mod replay;

use input::Target;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn number(variable: &str, default: usize) -> usize {
    let set = std::env::var(variable).ok();
    set.map_or(default, |text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// Replays every other target, so that two threads share the work.
fn replayed(part: usize) {
    let seconds = Duration::from_secs(number("DAPO_FUZZ_SECONDS", 2) as u64);
    let all = light::TARGETS.iter().chain(models::TARGETS);
    let targets: Vec<(&str, Target)> = all.skip(part).step_by(2).copied().collect();
    let inputs = replay::replay(&fuzz(), &targets, number("DAPO_FUZZ_VARIATIONS", 300), seconds);
    println!("{inputs} inputs of {} targets", targets.len());
}

#[test]
fn properties_hold_on_seeds_and_variations() {
    replayed(0);
}

#[test]
fn properties_hold_on_seeds_and_variations_of_the_other_half() {
    replayed(1);
}

#[test]
fn every_target_is_built_and_has_a_corpus() {
    let names = |targets: &[(&str, Target)]| targets.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let mut targets: BTreeSet<String> = names(light::TARGETS).into_iter().chain(names(models::TARGETS)).collect();
    targets.extend(["hub_address", "hub_answer"].map(str::to_owned));
    let entries = |folder: &str| {
        let files = fs::read_dir(fuzz().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let name = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
        files.filter_map(|file| name(file.ok()?.path())).collect::<BTreeSet<_>>()
    };
    assert_eq!(entries("corpus"), targets);
    assert_eq!(entries("fuzz_targets"), targets);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap_or_else(|error| panic!("{error}"));
    for target in targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
