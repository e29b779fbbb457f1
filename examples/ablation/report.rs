//! The report: a table and four charts.

use crate::chart::{Curve, Legend, draw};
use crate::statistics::Interval;
use crate::{Rung, Trace};
use anyhow::Result;
use std::fmt::Write;
use std::fs;
use std::path::Path;

pub(crate) fn write(dir: &Path, rungs: &[Rung]) -> Result<()> {
    fs::create_dir_all(dir)?;
    let accuracy = "accuracy, held-out problems";
    let by_step =
        |of: fn(&Trace, usize) -> Option<f64>| curves(rungs, |trace| trace.steps.len(), |_, i| i as f64 + 1.0, of);
    let evaluated = |x: fn(&[Trace], usize) -> f64| {
        curves(rungs, |trace| trace.evaluations.len(), x, |trace, i| Some(trace.evaluations[i].avg_at_k.mean))
    };
    let steps = |traces: &[Trace], i: usize| traces[0].evaluations[i].step as f64;
    let tokens = |traces: &[Trace], i: usize| {
        let of = |trace: &Trace| trace.tokens_after(trace.evaluations[i].step);
        traces.iter().map(of).sum::<f64>() / traces.len() as f64 / 1e6
    };
    draw(&dir.join("accuracy.svg"), "Accuracy by steps", ("steps", accuracy), Legend::Below, &evaluated(steps))?;
    let axes = ("generated tokens, millions", accuracy);
    let title = "Accuracy by generated tokens";
    draw(&dir.join("accuracy-tokens.svg"), title, axes, Legend::Below, &evaluated(tokens))?;
    let entropy = by_step(|trace, i| trace.steps[i].entropy);
    draw(&dir.join("entropy.svg"), "Entropy", ("steps", "nats a token"), Legend::Above, &entropy)?;
    let length = by_step(|trace, i| trace.steps[i].mean_length);
    draw(&dir.join("length.svg"), "Completion length", ("steps", "tokens"), Legend::Below, &length)?;
    fs::write(dir.join("tables.md"), tables(rungs))?;
    Ok(())
}

/// A curve a rung: as many points as its runs have, x from all runs together, y with an interval over those that
/// measured it.
fn curves(
    rungs: &[Rung],
    len: impl Fn(&Trace) -> usize,
    x: impl Fn(&[Trace], usize) -> f64,
    y: impl Fn(&Trace, usize) -> Option<f64>,
) -> Vec<Curve> {
    let curve = |rung: &Rung| {
        let count = rung.traces.iter().map(&len).min().unwrap_or(0);
        let values = |i: usize| rung.traces.iter().filter_map(|trace| y(trace, i)).collect::<Vec<f64>>();
        let measured = (0..count).map(|i| (x(&rung.traces, i), values(i))).filter(|(_, values)| !values.is_empty());
        let points = measured.map(|(x, values)| (x, Interval::of(&values))).collect();
        Curve { label: rung.label, points }
    };
    rungs.iter().map(curve).collect()
}

/// The first evaluated step at which a run's accuracy reaches a goal, and the tokens generated until then.
fn reaches(trace: &Trace, goal: f64) -> Option<(u64, f64)> {
    let first = trace.evaluations.iter().find(|evaluation| evaluation.avg_at_k.mean >= goal)?;
    Some((first.step, trace.tokens_after(first.step)))
}

fn tables(rungs: &[Rung]) -> String {
    let last = |trace: &Trace| trace.evaluations.last().map_or(0.0, |evaluation| evaluation.avg_at_k.mean);
    let goal = Interval::of(&rungs[0].traces.iter().map(last).collect::<Vec<_>>()).mean;
    let mut text = format!(
        "| rung | final accuracy | steps to {goal:.3} | tokens to {goal:.3} (10³) | entropy, last 10 steps | length | truncated | \
         groups drawn a step | clipped above |\n|---|---|---|---|---|---|---|---|---|\n"
    );
    for rung in rungs {
        let over = |of: &dyn Fn(&Trace) -> f64| Interval::of(&rung.traces.iter().map(of).collect::<Vec<f64>>());
        let end = |of: fn(&crate::Step) -> Option<f64>| {
            over(&|trace: &Trace| {
                let steps = &trace.steps[trace.steps.len().saturating_sub(10)..];
                let measured: Vec<f64> = steps.iter().filter_map(of).collect();
                measured.iter().sum::<f64>() / measured.len() as f64
            })
        };
        let reached: Vec<(u64, f64)> = rung.traces.iter().filter_map(|trace| reaches(trace, goal)).collect();
        let (steps, tokens) = if reached.len() == rung.traces.len() {
            let steps = Interval::of(&reached.iter().map(|(steps, _)| *steps as f64).collect::<Vec<_>>());
            let tokens = Interval::of(&reached.iter().map(|(_, tokens)| tokens / 1e3).collect::<Vec<_>>());
            (plain(steps, 0), plain(tokens, 0))
        } else {
            let share = format!("{} of {} runs", reached.len(), rung.traces.len());
            (share, String::new())
        };
        let drawn =
            over(&|trace| trace.steps.iter().map(|step| step.generated as f64).sum::<f64>() / trace.steps.len() as f64);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {steps} | {tokens} | {} | {} | {} | {} | {} |",
            rung.label,
            plain(over(&last), 3),
            plain(end(|step| step.entropy), 3),
            plain(end(|step| step.mean_length), 1),
            plain(end(|step| step.truncated), 3),
            plain(drawn, 1),
            plain(end(|step| step.clip_high), 4),
        );
    }
    text
}

fn plain(value: Interval, digits: usize) -> String {
    format!("{:.digits$} ± {:.digits$}", value.mean, value.half)
}
