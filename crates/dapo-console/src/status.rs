//! The lines of the transient area.

use crate::numbers::{count, duration, figure};
use crate::screen::Size;
use crate::spark::sparkline;
use crate::state::{Curve, State};
use crate::style::{ACCENT, BOLD, DIM, NOTABLE, Paint};
use console::measure_text_width;
use dapo_trainer::{Activity, RolloutProgress, UpdateProgress};

/// Blanks between two parts of a line.
const GAP: &str = "  ";
/// Columns of a progress bar at least and at most.
const BAR: (usize, usize) = (10, 40);
/// Columns of a curve at least and at most.
const SPARK: (usize, usize) = (8, 40);

/// The area of a training.
pub(crate) fn area(state: &State, size: Size, paint: Paint) -> Vec<String> {
    let mut lines = vec![run(state, size.columns, paint), activity(state, size.columns, paint)];
    if state.curve(Curve::Reward).len() > 1 && size.rows > 12 {
        lines.extend(curves(state, size.columns, paint));
    }
    lines
}

/// Parts of a line, as many of the first ones as fit into a width.
pub(crate) fn fit(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let gap = if line.is_empty() { "" } else { GAP };
        if !line.is_empty() && measure_text_width(&line) + gap.len() + measure_text_width(part) > width {
            break;
        }
        line = line + gap + part;
    }
    line
}

/// A bar of some columns.
pub(crate) fn bar(share: f64, columns: usize, paint: Paint) -> String {
    let full = (share.clamp(0.0, 1.0) * columns as f64).floor() as usize;
    paint.with(ACCENT, "━".repeat(full)) + &paint.with(DIM, "─".repeat(columns - full))
}

/// The run: step, bar, elapsed time and time left.
fn run(state: &State, width: usize, paint: Paint) -> String {
    let steps = state.shape.steps;
    let step = (state.made + 1).min(steps);
    let head = paint.with(BOLD, format!("step {step}/{steps}"));
    let left = state.seconds_left().map_or("…".to_owned(), duration);
    let times = [format!("elapsed {}", duration(state.elapsed())), format!("left {left}")];
    let without = fit(&[std::slice::from_ref(&head), &times[..]].concat(), width);
    let room = width.saturating_sub(measure_text_width(&without) + GAP.len());
    if room < BAR.0 {
        return without;
    }
    let share = state.made as f64 / steps.max(1) as f64;
    fit(&[&[head, bar(share, room.min(BAR.1), paint)], &times[..]].concat(), width)
}

/// What is being done.
fn activity(state: &State, width: usize, paint: Paint) -> String {
    if let Some(notice) = &state.notice {
        return paint.with(NOTABLE, fit(&notice.split(GAP).map(String::from).collect::<Vec<_>>(), width));
    }
    let seconds = state.in_part().max(1e-3);
    let rate = |tokens: u64| format!("{} tokens/s", count(tokens as f64 / seconds));
    let (name, parts) = match state.activity {
        Some(Activity::Rollout(RolloutProgress { round, groups, drawn, kept, needed, tokens })) => {
            let round = if round > 1 { format!("round {round}") } else { String::new() };
            let parts = vec![format!("{groups}/{drawn} groups"), format!("{kept}/{needed} kept"), rate(tokens), round];
            ("rollout", parts)
        }
        Some(Activity::Scoring { completions }) => ("scoring", vec![format!("{completions} completions")]),
        Some(Activity::LogProbs) => ("log-probs", Vec::new()),
        Some(Activity::Update(UpdateProgress { update, updates, done, micro_batches })) => {
            let parts = vec![format!("{update}/{updates}"), format!("micro-batch {done}/{micro_batches}")];
            ("update", parts)
        }
        Some(Activity::Evaluation { done, problems, tokens }) => {
            ("evaluation", vec![format!("{done}/{problems} problems"), rate(tokens)])
        }
        Some(Activity::Checkpoint) => ("writing a checkpoint", Vec::new()),
        _ => ("starting", Vec::new()),
    };
    let time = paint.with(DIM, duration(state.in_part()));
    fit(&[&[paint.with(ACCENT, name)], &parts[..], &[time]].concat(), width)
}

/// The curves, as many in a line as fit, each with its latest value.
pub(crate) fn curves(state: &State, width: usize, paint: Paint) -> Vec<String> {
    // Name, curve and value, with blanks between them.
    let besides = 8 + 2 + 8;
    let per_line = [4, 2, 1].into_iter().find(|n| n * (besides + SPARK.0) + (n - 1) * GAP.len() <= width);
    let Some(per_line) = per_line else { return Vec::new() };
    let cells = ((width - (per_line - 1) * GAP.len()) / per_line - besides).min(SPARK.1);
    let one = |curve: &Curve| {
        let values = state.curve(*curve);
        let spark = sparkline(values, cells);
        let latest = figure(values.last().copied().flatten(), curve.digits());
        let blanks = " ".repeat(cells - spark.chars().count());
        format!("{} {}{blanks} {latest:<8}", paint.with(DIM, format!("{:<8}", curve.name())), paint.with(ACCENT, spark))
    };
    Curve::ALL
        .chunks(per_line)
        .map(|curves| curves.iter().map(one).collect::<Vec<_>>().join(GAP).trim_end().to_owned())
        .collect()
}
