//! AdamW and the learning rate as Hugging Face's `TrainingArguments` spell them.

use super::{Batch, Defaults, loss::note_updates};
use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

/// AdamW and the learning rate, over so many roll-out steps.
pub(in crate::import) fn optimizer(
    d: &mut Draft<'_>,
    defaults: &Defaults,
    batch: &Batch,
    steps: i64,
) -> Result<(), ImportError> {
    let lr = d.number(&["learning_rate", "lr"])?;
    let rate = lr.as_ref().map_or(defaults.learning_rate, |lr| lr.value);
    d.put_or("optimizer.lr", lr, defaults.learning_rate);
    let is_constant = schedule(d, defaults, rate)?;
    warmup(d, batch, steps, is_constant)?;
    let beta1 = d.number(&["adam_beta1"])?;
    d.put_or("optimizer.beta1", beta1, 0.9);
    let beta2 = d.number(&["adam_beta2"])?;
    d.put_or("optimizer.beta2", beta2, defaults.beta2);
    let eps = d.number(&["adam_epsilon", "adam_eps"])?;
    d.put_or("optimizer.eps", eps, 1e-8);
    let decay = d.number(&["weight_decay"])?;
    if let Some(decay) = decay.as_ref().filter(|decay| decay.value > 0.0) {
        d.note(&decay.from, "the source leaves biases and norms undecayed; here all parameters decay");
    }
    d.put_or("optimizer.weight_decay", decay, defaults.weight_decay);
    let clip = d.number(&["max_grad_norm", "clip_grad"])?;
    d.put_or("optimizer.max_grad_norm", clip, 1.0);
    Ok(())
}

/// The course of the learning rate; returns whether it is constant without a warm-up.
fn schedule(d: &mut Draft<'_>, defaults: &Defaults, rate: f64) -> Result<bool, ImportError> {
    let kind = d.text(&["lr_scheduler_type", "lr_decay_style"])?;
    let name = kind.as_ref().map_or(defaults.schedule, |kind| kind.value.as_str()).to_ascii_lowercase();
    let ours = match name.as_str() {
        "constant" | "constant_with_warmup" => "constant",
        "linear" => "linear",
        "cosine" | "cosine_with_min_lr" => "cosine",
        _ => {
            let from = kind.map(|kind| kind.from).unwrap_or_default();
            let expected = "one of constant, constant_with_warmup, linear, cosine, cosine_with_min_lr";
            return Err(d.wrong(&from, expected));
        }
    };
    // Only Hugging Face's scheduler of this very name has no warm-up.
    let is_hugging_face = d.has(&["lr_scheduler_type"]);
    d.put_or("optimizer.schedule", kind.map(|kind| kind.map(|_| ours)), ours);
    let share = d.number(&["lr_scheduler_kwargs.min_lr_rate"])?;
    let least = d.number(&["lr_scheduler_kwargs.min_lr", "min_lr"])?;
    if ours == "constant" {
        let read = [share, least].into_iter().flatten().flat_map(|got| got.from).collect::<Vec<_>>();
        d.leave(&read, "the learning rate does not fall");
    } else {
        match (share, least) {
            (Some(share), _) => d.put("optimizer.min_lr_ratio", share),
            (None, Some(least)) if rate > 0.0 => d.put("optimizer.min_lr_ratio", least.map(|least| least / rate)),
            _ => {}
        }
    }
    Ok(name == "constant" && is_hugging_face)
}

fn warmup(d: &mut Draft<'_>, batch: &Batch, steps: i64, is_constant: bool) -> Result<(), ImportError> {
    let ratio = d.amount(&["warmup_ratio", "lr_warmup_fraction"])?;
    let count = d.amount(&["warmup_steps", "lr_warmup_iters"])?;
    // Below 1 it is a share as well.
    let (ratio, count) = match count {
        Some(count) if count.value > 0.0 && count.value < 1.0 => (Some(count), None),
        count => (ratio, count),
    };
    if is_constant {
        let read = [ratio, count].into_iter().flatten().flat_map(|got| got.from).collect::<Vec<_>>();
        d.leave(&read, "the source's constant schedule has no warm-up (constant_with_warmup has)");
        d.assume("optimizer.warmup_steps", 0, "the source's constant schedule has no warm-up");
        return Ok(());
    }
    match (ratio, count) {
        (ratio, Some(count)) if count.value > 0.0 => {
            note_updates(d, &count.from, count.value as i64, batch);
            d.put("optimizer.warmup_steps", count.map(|count| batch.steps(count as i64)));
            if let Some(ratio) = ratio {
                d.leave(&ratio.from, "warmup_steps counts");
            }
        }
        (Some(ratio), count) => {
            let none = count.map(|count| count.from).unwrap_or_default();
            d.note(&ratio.from, format!("a share of the {steps} steps of train.steps, rounded up"));
            let count = (ratio.value * steps as f64).ceil() as i64;
            d.put("optimizer.warmup_steps", Got::of(count, &[&ratio.from, &none]));
        }
        (None, Some(none)) => d.put("optimizer.warmup_steps", none.map(|_| 0)),
        (None, None) => d.assume("optimizer.warmup_steps", 0, ""),
    }
    Ok(())
}
