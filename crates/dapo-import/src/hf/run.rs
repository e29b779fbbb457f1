//! Rollouts, steps, evaluation and what is kept.

use super::{Batch, Defaults};
use crate::{
    draft::{Draft, Got, places},
    parts,
};

/// How completions are generated; returns their longest length.
pub(crate) fn rollout(d: &mut Draft<'_>, defaults: &Defaults) -> Got<i64> {
    let keys = ["max_completion_length", "max_new_tokens", "response_length"];
    let longest = d.count(&keys, 1).unwrap_or(Got::default(defaults.max_new_tokens));
    d.put_or("rollout.max_new_tokens", Some(longest.clone()), defaults.max_new_tokens);
    let temperature = d.number(&["temperature"]);
    d.put_or("rollout.temperature", temperature, defaults.temperature);
    let top_p = sampled(d, "top_p", |d, key| d.number(&[key]));
    d.put_or("rollout.top_p", top_p, 1.0);
    let top_k = sampled(d, "top_k", |d, key| d.integer(&[key]));
    d.put_or("rollout.top_k", top_k.map(|top_k| top_k.map(|k| k.max(0))), 0);
    let min_p = sampled(d, "min_p", |d, key| d.number(&[key]));
    let penalty = sampled(d, "repetition_penalty", |d, key| d.number(&[key]));
    parts::sampler(d, min_p, penalty);
    if let Some(stop) = d.texts(&["stop_words", "generation_kwargs.stop", "generation_kwargs.stop_strings"]) {
        let texts = |texts: Vec<String>| texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        d.put("rollout.stop", stop.map(texts));
    }
    longest
}

/// An option of the sampler, or what TRL's `generation_kwargs` put in its place.
fn sampled<T>(d: &mut Draft<'_>, key: &str, read: impl Fn(&mut Draft<'_>, &str) -> Option<Got<T>>) -> Option<Got<T>> {
    let option = read(d, key);
    let inner = read(d, &format!("generation_kwargs.{key}"));
    if inner.is_some() {
        d.leave(&places(option.as_ref()), "generation_kwargs take its place");
    }
    inner.or(option)
}

/// Rollout steps of the run; `None` where it is counted in passes over the data.
pub(crate) fn steps(d: &mut Draft<'_>, batch: &Batch) -> Option<i64> {
    let total = d.integer(&["max_steps", "train_iters"]);
    let epochs = d.number(&["num_train_epochs", "max_epochs"]);
    match total {
        Some(total) if total.value > 0 || !d.knows(&total.from) => {
            let steps = batch.noted_steps(d, total);
            let count = d.knows(&steps.from).then_some(steps.value);
            d.put("train.steps", steps);
            d.leave(&places(epochs.as_ref()), "max_steps counts");
            count
        }
        off => {
            d.leave(&places(off.as_ref()), "no number of steps");
            d.put_or("train.passes", epochs, 3.0);
            None
        }
    }
}

/// Evaluation during training; the source draws as in training.
pub(crate) fn evaluation(d: &mut Draft<'_>, batch: &Batch, has_data: bool) {
    let strategy = d.text(&["eval_strategy", "evaluation_strategy"]);
    let every = d.number(&["eval_steps"]);
    let by_steps = strategy.as_ref().map_or(has_data && every.is_some(), |strategy| strategy.value == "steps");
    let from = places(strategy.as_ref());
    let at_start = d.switch(&["eval_on_start"]);
    match every {
        Some(every) if by_steps && (every.value >= 1.0 || !d.knows(&every.from)) => {
            let steps = batch.noted_steps(d, every.map(|every| every as i64));
            d.put("eval.every", Got::of(steps.value, &[&steps.from, &from]));
            for (ours, other) in [
                ("eval.samples", "rollout.group_size"),
                ("eval.temperature", "rollout.temperature"),
                ("eval.top_p", "rollout.top_p"),
                ("eval.top_k", "rollout.top_k"),
                ("eval.min_p", "rollout.min_p"),
                ("eval.repetition_penalty", "rollout.repetition_penalty"),
            ] {
                d.assume_same(ours, other, "the source evaluates as it rolls out");
            }
            d.put_or("eval.at_start", at_start, false);
        }
        every => {
            if strategy.is_some_and(|strategy| matches!(strategy.value.as_str(), "steps" | "epoch")) {
                d.note(&from, "evaluation after an epoch or a share of the steps: set eval.every");
            }
            d.put_or("eval.every", Some(Got { value: 0, from }), 0);
            d.leave(&places(every.as_ref()), "there is no evaluation by steps");
            d.leave(&places(at_start.as_ref()), "eval.at_start goes with eval.every");
        }
    }
    if let Some(samples) = d.count(&["num_generations_eval"], 1) {
        d.put("eval.samples", samples);
    }
}

/// What the run folder keeps.
pub(crate) fn output(d: &mut Draft<'_>, batch: &Batch, steps: Option<i64>) {
    checkpoints(d, batch, steps);
    let keep = d.count(&["save_total_limit"], 0);
    d.put_or("output.keep_checkpoints", keep, 0);
    if let Some(log) = d.switch(&["log_completions"]) {
        d.put("output.completions", log);
    }
    if let Some(recompute) = d.switch(&["gradient_checkpointing"]) {
        d.put("train.layer_memory", recompute.map(|recompute| if recompute { "recompute" } else { "keep" }));
    }
    let seed = d.count(&["seed"], 0);
    d.put_or("seed", seed, 42);
}

fn checkpoints(d: &mut Draft<'_>, batch: &Batch, steps: Option<i64>) {
    let strategy = d.text(&["save_strategy"]);
    let every = d.number(&["save_steps"]);
    let from = places(strategy.as_ref());
    let name = strategy.map(|strategy| strategy.value);
    if name.as_ref().is_some_and(|name| name != "steps") {
        if name.is_some_and(|name| name == "epoch") {
            d.note(&from, "checkpoints are counted in steps; there is one after the last: set output.checkpoint_every");
        }
        d.put_or("output.checkpoint_every", Some(Got { value: 0, from }), 0);
        return d.leave(&places(every.as_ref()), "save_strategy is not steps");
    }
    match (every, steps) {
        (Some(share), Some(steps)) if share.value > 0.0 && share.value < 1.0 => {
            d.note(&share.from, format!("a share of the {steps} steps of train.steps, rounded up"));
            let count = (share.value * steps as f64).ceil() as i64;
            d.put("output.checkpoint_every", Got::of(count, &[&share.from, &from]));
        }
        (Some(share), None) if share.value > 0.0 && share.value < 1.0 => {
            d.note(&share.from, "a share of steps that the data decide: set output.checkpoint_every");
            d.put_or("output.checkpoint_every", Some(Got { value: 0, from }), 0);
            d.give_up(&share.from, "a share of steps that the data decide");
        }
        (Some(every), _) if every.value > 0.0 || !d.knows(&every.from) => {
            let count = batch.noted_steps(d, every.map(|every| every as i64));
            d.put("output.checkpoint_every", Got::of(count.value, &[&count.from, &from]));
        }
        _ => {
            let default = batch.steps(Got::default(500));
            d.put_or("output.checkpoint_every", Some(Got::of(default.value, &[&default.from, &from])), 0);
        }
    }
}
