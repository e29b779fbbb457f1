//! Roll-outs, steps, evaluation and what is kept.

use super::{Batch, Defaults, loss::note_updates};
use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

/// Roll-out steps without a number in the file.
const DEFAULT_STEPS: i64 = 100;

/// How completions are generated; returns their longest length.
pub(in crate::import) fn rollout(d: &mut Draft<'_>, defaults: &Defaults) -> Result<Got<i64>, ImportError> {
    let longest = d
        .count(&["max_completion_length", "max_new_tokens", "response_length"], 1)?
        .unwrap_or(Got { value: defaults.max_new_tokens, from: Vec::new() });
    d.put_or("rollout.max_new_tokens", Some(longest.clone()), defaults.max_new_tokens);
    let temperature = d.number(&["temperature"])?;
    d.put_or("rollout.temperature", temperature, defaults.temperature);
    let top_p = d.number(&["top_p"])?;
    d.put_or("rollout.top_p", top_p, 1.0);
    let top_k = d.integer(&["top_k"])?;
    d.put_or("rollout.top_k", top_k.map(|top_k| top_k.map(|k| k.max(0))), 0);
    for (key, neutral) in [("min_p", 0.0), ("repetition_penalty", 1.0), ("top_entropy_quantile", 1.0)] {
        if let Some(value) = d.number(&[key])? {
            if value.value != neutral {
                d.note(&value.from, "not offered here: training goes on without it");
            }
            d.leave(&value.from, "not offered here");
        }
    }
    Ok(longest)
}

/// Roll-out steps of the run.
pub(in crate::import) fn steps(d: &mut Draft<'_>, batch: &Batch) -> Result<i64, ImportError> {
    let total = d.integer(&["max_steps", "train_iters"])?;
    let epochs = d.number(&["num_train_epochs", "max_epochs"])?;
    match total {
        Some(total) if total.value > 0 => {
            let steps = batch.steps(total.value);
            note_updates(d, &total.from, total.value, batch);
            d.put("train.steps", total.map(|_| steps));
            if let Some(epochs) = epochs {
                d.leave(&epochs.from, "max_steps counts");
            }
            Ok(steps)
        }
        off => {
            if let Some(off) = off {
                d.leave(&off.from, "no number of steps");
            }
            let times = epochs.as_ref().map_or(3.0, |epochs| epochs.value);
            let from = epochs.map(|epochs| epochs.from).unwrap_or_default();
            d.note(
                &from,
                format!(
                    "the source draws each problem {times} times, {} a step: set train.steps, here left at {DEFAULT_STEPS}",
                    batch.groups
                ),
            );
            d.leave(&from, "steps are counted, not passes over the data: train.steps");
            Ok(DEFAULT_STEPS)
        }
    }
}

/// Evaluation during training; the source draws as in training.
pub(in crate::import) fn evaluation(d: &mut Draft<'_>, batch: &Batch, has_data: bool) -> Result<(), ImportError> {
    let strategy = d.text(&["eval_strategy", "evaluation_strategy"])?;
    let every = d.number(&["eval_steps"])?;
    let by_steps = strategy.as_ref().map_or(has_data && every.is_some(), |strategy| strategy.value == "steps");
    let from = strategy.as_ref().map(|strategy| strategy.from.clone()).unwrap_or_default();
    match every {
        Some(every) if by_steps && every.value >= 1.0 => {
            let steps = batch.steps(every.value as i64);
            note_updates(d, &every.from, every.value as i64, batch);
            d.put("eval.every", Got::of(steps, &[&every.from, &from]));
            for (ours, other) in [
                ("eval.samples", "rollout.group_size"),
                ("eval.temperature", "rollout.temperature"),
                ("eval.top_p", "rollout.top_p"),
            ] {
                d.assume_same(ours, other, "the source evaluates as it rolls out");
            }
        }
        every => {
            if strategy.is_some_and(|strategy| matches!(strategy.value.as_str(), "steps" | "epoch")) {
                d.note(&from, "evaluation after an epoch or a share of the steps: set eval.every");
            }
            d.put_or("eval.every", Some(Got { value: 0, from }), 0);
            if let Some(every) = every {
                d.leave(&every.from, "there is no evaluation by steps");
            }
        }
    }
    if let Some(samples) = d.count(&["num_generations_eval"], 1)? {
        d.put("eval.samples", samples);
    }
    Ok(())
}

/// What the run folder keeps.
pub(in crate::import) fn output(d: &mut Draft<'_>, batch: &Batch, steps: i64) -> Result<(), ImportError> {
    let strategy = d.text(&["save_strategy"])?;
    let every = d.number(&["save_steps"])?;
    let from = strategy.as_ref().map(|strategy| strategy.from.clone()).unwrap_or_default();
    if strategy.as_ref().is_none_or(|strategy| strategy.value == "steps") {
        match every {
            Some(every) if every.value > 0.0 => {
                let count = if every.value < 1.0 {
                    d.note(&every.from, format!("a share of the {steps} steps of train.steps, rounded up"));
                    (every.value * steps as f64).ceil() as i64
                } else {
                    note_updates(d, &every.from, every.value as i64, batch);
                    batch.steps(every.value as i64)
                };
                d.put("output.checkpoint_every", Got::of(count, &[&every.from, &from]));
            }
            _ => d.put_or("output.checkpoint_every", Some(Got { value: batch.steps(500), from }), 0),
        }
    } else {
        if strategy.is_some_and(|strategy| strategy.value == "epoch") {
            d.note(&from, "checkpoints are counted in steps; there is one after the last: set output.checkpoint_every");
        }
        d.put_or("output.checkpoint_every", Some(Got { value: 0, from }), 0);
        if let Some(every) = every {
            d.leave(&every.from, "save_strategy is not steps");
        }
    }
    let keep = d.count(&["save_total_limit"], 0)?;
    d.put_or("output.keep_checkpoints", keep, 0);
    if let Some(log) = d.switch(&["log_completions"])? {
        d.put("output.completions", log);
    }
    if let Some(recompute) = d.switch(&["gradient_checkpointing"])? {
        d.put("train.layer_memory", recompute.map(|recompute| if recompute { "recompute" } else { "keep" }));
    }
    let seed = d.count(&["seed"], 0)?;
    d.put_or("seed", seed, 42);
    Ok(())
}
