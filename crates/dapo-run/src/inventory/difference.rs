//! How two runs differ.

use super::files::{Line, RunFiles};
use super::opened;
use crate::figures::{of_evaluation, of_step};
use crate::run_error::RunError;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Steps of which the figures are averaged.
const LAST: usize = 10;

/// How two runs differ. Each pair has the first run's value and the second's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The settings that are not the same, as TOML; `None`: not set.
    pub settings: BTreeMap<String, [Option<String>; 2]>,
    /// Steps made.
    pub steps: [u64; 2],
    /// Steps of which `figures` are means: the last 10, or as many as there are.
    pub averaged: [usize; 2],
    /// The steps' figures, over the last of them.
    pub figures: BTreeMap<String, [Option<f64>; 2]>,
    /// The steps after which the last evaluations were made.
    pub evaluated: [Option<u64>; 2],
    /// Their figures, with the ends of intervals.
    pub evaluations: BTreeMap<String, [Option<f64>; 2]>,
}

/// Compares two run folders: settings, last steps and last evaluations.
///
/// # Errors
/// When one is no run folder.
pub fn difference(one: &Path, other: &Path) -> Result<Difference, RunError> {
    let runs = [RunFiles::read(&opened(one)?), RunFiles::read(&opened(other)?)];
    let last = |run: &RunFiles| run.metrics.len().min(LAST);
    let evaluation = |run: &RunFiles| run.evaluations.last().map(of_evaluation).unwrap_or_default();
    let evaluated = |run: &RunFiles| run.evaluations.last().and_then(super::step);
    let mut settings = both(&[runs[0].settings.clone(), runs[1].settings.clone()]);
    settings.retain(|_, [one, other]| one != other);
    Ok(Difference {
        settings,
        steps: [runs[0].steps(), runs[1].steps()],
        averaged: [last(&runs[0]), last(&runs[1])],
        figures: both(&[means(&runs[0].metrics), means(&runs[1].metrics)]),
        evaluated: [evaluated(&runs[0]), evaluated(&runs[1])],
        evaluations: both(&[&runs[0], &runs[1]].map(|run| evaluation(run).into_iter().collect())),
    })
}

/// The mean of every figure over the last steps that have it.
fn means(metrics: &[Line]) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (name, value) in metrics.iter().rev().take(LAST).flat_map(of_step) {
        if let Some(value) = value {
            let sum = sums.entry(name).or_default();
            *sum = (sum.0 + value, sum.1 + 1);
        }
    }
    sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
}

fn both<T: Clone>(maps: &[BTreeMap<String, T>; 2]) -> BTreeMap<String, [Option<T>; 2]> {
    let names: BTreeSet<&String> = maps.iter().flat_map(BTreeMap::keys).collect();
    let pair = |name: &String| [maps[0].get(name).cloned(), maps[1].get(name).cloned()];
    names.into_iter().map(|name| (name.clone(), pair(name))).collect()
}
