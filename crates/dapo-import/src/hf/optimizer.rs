//! AdamW and the learning rate as Hugging Face's `TrainingArguments` spell them.

use super::{Batch, Defaults};
use crate::draft::{Draft, Got, places};

/// AdamW and the learning rate, over a number of rollout steps, or over passes.
pub(crate) fn optimizer(d: &mut Draft<'_>, defaults: &Defaults, batch: &Batch, steps: Option<i64>) {
    let lr = d.number(&["learning_rate", "lr"]);
    let rate = lr.clone().unwrap_or(Got::default(defaults.learning_rate));
    d.put_or("optimizer.lr", lr, defaults.learning_rate);
    let is_constant = schedule(d, defaults, &rate);
    warmup(d, batch, steps, is_constant);
    let beta1 = d.number(&["adam_beta1"]);
    d.put_or("optimizer.beta1", beta1, 0.9);
    let beta2 = d.number(&["adam_beta2"]);
    d.put_or("optimizer.beta2", beta2, defaults.beta2);
    let eps = d.number(&["adam_epsilon", "adam_eps"]);
    d.put_or("optimizer.eps", eps, 1e-8);
    let decay = d.number(&["weight_decay"]);
    if let Some(decay) = decay.as_ref().filter(|decay| decay.value > 0.0) {
        d.note(&decay.from, "the source leaves biases and norms undecayed; here all parameters decay");
    }
    d.put_or("optimizer.weight_decay", decay, defaults.weight_decay);
    let clip = d.number(&["max_grad_norm", "clip_grad"]);
    d.put_or("optimizer.max_grad_norm", clip, defaults.max_grad_norm);
    let kinds =
        ["adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_torch_xla", "adamw", "adam"].map(|kind| (kind, ()));
    if let Some(kind) = d.text(&["optim", "optimizer"]) {
        let reason = "the optimizer is AdamW with moments in f32";
        if kinds.iter().any(|(name, ())| kind.value == *name) {
            d.leave(&kind.from, reason);
        } else {
            d.give_up(&kind.from, reason);
        }
    }
}

/// The course of the learning rate; returns whether it is constant without a warm-up.
fn schedule(d: &mut Draft<'_>, defaults: &Defaults, rate: &Got<f64>) -> bool {
    const KINDS: [(&str, (&str, &str)); 5] = [
        ("constant", ("constant", "constant")),
        ("constant_with_warmup", ("constant", "constant_with_warmup")),
        ("linear", ("linear", "linear")),
        ("cosine", ("cosine", "cosine")),
        ("cosine_with_min_lr", ("cosine", "cosine_with_min_lr")),
    ];
    // Only Hugging Face's scheduler of this very name has no warm-up.
    let is_hugging_face = d.has(&["lr_scheduler_type"]);
    let kind = d.word(&["lr_scheduler_type", "lr_decay_style"], &KINDS);
    let (ours, name) = kind.as_ref().map_or((defaults.schedule, ""), |kind| kind.value);
    let is_known = d.knows(&places(kind.as_ref()));
    d.put_or("optimizer.schedule", kind.map(|kind| kind.map(|_| ours)), ours);
    let share = d.number(&["lr_scheduler_kwargs.min_lr_rate"]);
    let least = d.number(&["lr_scheduler_kwargs.min_lr", "min_lr"]);
    if ours == "constant" && is_known {
        let read = [share, least].into_iter().flatten().flat_map(|got| got.from).collect::<Vec<_>>();
        d.leave(&read, "the learning rate does not fall");
    } else {
        match (share, least) {
            (Some(share), _) => d.put("optimizer.min_lr_ratio", share),
            (None, Some(least)) if rate.value != 0.0 => {
                let ratio = least.value / rate.value;
                // The rate is known to have been carried over: it is named only where it is not.
                let unknown: &[usize] = if d.knows(&rate.from) { &[] } else { &rate.from };
                d.put("optimizer.min_lr_ratio", Got::of(ratio, &[&least.from, unknown]));
            }
            _ => {}
        }
    }
    name == "constant" && is_hugging_face && is_known
}

fn warmup(d: &mut Draft<'_>, batch: &Batch, steps: Option<i64>, is_constant: bool) {
    let ratio = d.amount(&["warmup_ratio", "lr_warmup_fraction"]);
    let count = d.amount(&["warmup_steps", "lr_warmup_iters"]);
    // Below 1 it is a share as well.
    let (ratio, count) = match count {
        Some(count) if count.value > 0.0 && count.value < 1.0 => (Some(count), None),
        count => (ratio, count),
    };
    if is_constant {
        let read = [ratio, count].into_iter().flatten().flat_map(|got| got.from).collect::<Vec<_>>();
        d.leave(&read, "the source's constant schedule has no warm-up (constant_with_warmup has)");
        d.assume("optimizer.warmup_steps", 0, "the source's constant schedule has no warm-up");
        return;
    }
    match (ratio, count) {
        (ratio, Some(count)) if count.value != 0.0 => {
            let updates = count.map(|count| count as i64);
            let steps = batch.noted_steps(d, updates);
            d.put("optimizer.warmup_steps", steps);
            d.leave(&places(ratio.as_ref()), "warmup_steps counts");
        }
        (Some(ratio), count) => {
            let none = places(count.as_ref());
            let Some(steps) = steps else {
                d.put("optimizer.warmup_ratio", Got::of(ratio.value, &[&ratio.from, &none]));
                return;
            };
            d.note(&ratio.from, format!("a share of the {steps} steps of train.steps, rounded up"));
            let count = (ratio.value * steps as f64).ceil() as i64;
            d.put("optimizer.warmup_steps", Got::of(count, &[&ratio.from, &none]));
        }
        (None, Some(none)) => d.put("optimizer.warmup_steps", none.map(|_| 0)),
        (None, None) => d.assume("optimizer.warmup_steps", 0, ""),
    }
}
