//! TRL's GRPO losses, its KL and its advantages.

use super::{Batch, Defaults};
use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

/// The policy loss and its aggregation; the source's names and ours.
const TYPES: [(&str, (&str, &str)); 6] = [
    ("dapo", ("dapo", "token-mean")),
    ("bnpo", ("dapo", "token-mean")),
    ("grpo", ("dapo", "seq-mean-token-mean")),
    ("dr_grpo", ("dapo", "seq-mean-token-sum-norm")),
    ("cispo", ("cispo", "token-mean")),
    ("sapo", ("sapo", "seq-mean-token-mean")),
];

/// The policy loss.
pub(in crate::import) fn loss(d: &mut Draft<'_>, defaults: &Defaults, taus: [&str; 2]) -> Result<(), ImportError> {
    let kind = d.text(&["loss_type"])?;
    let name = kind.as_ref().map_or(defaults.loss_type, |kind| kind.value.as_str()).to_owned();
    let from = kind.map(|kind| kind.from).unwrap_or_default();
    let Some(&(_, (surrogate, aggregation))) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name)) else {
        let names: Vec<&str> = TYPES.iter().map(|&(name, _)| name).collect();
        return Err(d.wrong(&from, &format!("one of {}", names.join(", "))));
    };
    if name.eq_ignore_ascii_case("bnpo") {
        d.note(
            &from,
            "bnpo divides each micro-batch by its own tokens and averages the quotients; imported as token-mean, which \
             divides by the tokens of the whole step, as DAPO does (loss.aggregation = \"local-token-mean\" comes closer)",
        );
    }
    let levels = [("token", false), ("sequence", true), ("sequence_token", true)];
    let level = d.word(&["importance_sampling_level"], &levels)?;
    let is_sequence = level.as_ref().is_some_and(|level| level.value);
    if is_sequence && surrogate != "dapo" {
        let from = level.map(|level| level.from).unwrap_or_default();
        return Err(d.wrong(&from, &format!("token with loss_type {name}")));
    }
    let surrogate = if is_sequence { "gspo" } else { surrogate };
    let level_from = level.map(|level| level.from).unwrap_or_default();
    let origin = Got::of(surrogate, &[&from, &level_from]);
    d.put_or("loss.policy_loss.name", Some(origin), "dapo");
    d.put_or("loss.aggregation.name", Some(Got { value: aggregation, from }), "token-mean");
    clip(d, surrogate)?;
    for (key, (ours, default)) in
        taus.into_iter().zip([("loss.policy_loss.tau_positive", 1.0), ("loss.policy_loss.tau_negative", 1.05)])
    {
        if surrogate == "sapo" {
            let tau = d.number(&[key])?;
            d.put_or(ours, tau, default);
        }
        d.skip(&[key], "for loss_type sapo alone");
    }
    d.assume("loss.empty_sequences", "count", "as TRL's means over sequences do");
    if let Some(entropy) = d.number(&["entropy_coef"])? {
        d.put("loss.entropy_coef", entropy);
    }
    Ok(())
}

fn clip(d: &mut Draft<'_>, surrogate: &str) -> Result<(), ImportError> {
    if surrogate == "sapo" {
        d.skip(&["epsilon", "epsilon_high", "delta"], "sapo does not clip");
        return Ok(());
    }
    let low = d.number(&["epsilon"])?.unwrap_or(Got { value: 0.2, from: Vec::new() });
    let high = d.number(&["epsilon_high"])?;
    if surrogate == "cispo" {
        // The source bounds the ratio itself, we its distance from 1.
        let cap = high.unwrap_or_else(|| low.clone());
        if cap.value <= 1.0 {
            return Err(d.wrong(&cap.from, "a bound above 1 for the ratio: epsilon_high of cispo"));
        }
        d.assume("loss.policy_loss.clip.low", 1.0, "cispo has no lower bound there");
        d.put("loss.policy_loss.clip.high", cap.map(|cap| cap - 1.0));
        d.leave(&low.from, "cispo has no lower bound there");
        d.skip(&["delta"], "cispo has no delta");
        return Ok(());
    }
    let high = high.unwrap_or_else(|| low.clone());
    let bound = 1.0 + high.value;
    d.put_or("loss.policy_loss.clip.low", Some(low), 0.2);
    d.put_or("loss.policy_loss.clip.high", Some(high), 0.2);
    if let Some(delta) = d.number(&["delta"])? {
        if surrogate == "gspo" {
            d.note(&delta.from, "gspo has no dual clip here: delta is left out");
            d.leave(&delta.from, "gspo has no dual clip");
        } else if delta.value <= bound {
            return Err(
                d.wrong(&delta.from, &format!("a number above 1 + epsilon_high = {bound}, where it is a dual clip"))
            );
        } else {
            d.put("loss.policy_loss.dual_clip", delta);
        }
    }
    Ok(())
}

/// KL to the reference.
pub(in crate::import) fn kl(d: &mut Draft<'_>, defaults: &Defaults, batch: &Batch) -> Result<(), ImportError> {
    let beta = d.number(&["beta"])?;
    let is_on = beta.as_ref().map_or(defaults.beta, |beta| beta.value) != 0.0;
    d.put_or("loss.kl.coef", beta, defaults.beta);
    let sync = d.switch(&["sync_ref_model"])?;
    if !is_on {
        if let Some(sync) = sync {
            d.leave(&sync.from, "beta is 0: there is no reference model");
        }
        let keys =
            ["ref_model_mixup_alpha", "ref_model_sync_steps", "use_bias_correction_kl", "kl_in_reward", "ref_model"];
        d.skip(&keys, "beta is 0: there is no reference model");
        return Ok(());
    }
    d.assume("loss.kl.estimator", "k3", "as TRL does");
    if let Some(times) = d.switch(&["use_bias_correction_kl"])? {
        d.put("loss.kl.times_ratio", times);
    }
    match sync {
        Some(sync) if sync.value => {
            let every = d.count(&["ref_model_sync_steps"], 1)?;
            let updates = every.as_ref().map_or(512, |every| every.value);
            let from = every.map(|every| every.from).unwrap_or_default();
            note_updates(d, &from, updates, batch);
            d.put("reference_sync.every", Got::of(batch.steps(updates), &[&from, &sync.from]));
            let mixup = d.number(&["ref_model_mixup_alpha"])?;
            d.put_or("reference_sync.mixup", mixup, 0.6);
        }
        Some(off) => d.put("reference_sync.every", off.map(|_| 0)),
        None => {}
    }
    d.skip(&["ref_model_mixup_alpha", "ref_model_sync_steps"], "sync_ref_model is false");
    Ok(())
}

/// Notes that a number of updates is no whole number of roll-out steps.
pub(super) fn note_updates(d: &mut Draft<'_>, from: &[usize], updates: i64, batch: &Batch) {
    if batch.updates > 1 {
        d.note(
            from,
            format!(
                "{updates} optimiser updates are {} roll-out steps of {} updates, rounded up",
                batch.steps(updates),
                batch.updates
            ),
        );
    }
}

/// How rewards become advantages.
pub(in crate::import) fn advantage(d: &mut Draft<'_>, baseline: Option<Got<&'static str>>) -> Result<(), ImportError> {
    let is_rloo = baseline.as_ref().is_some_and(|baseline| baseline.value == "leave-one-out");
    let words = [("group", "group"), ("true", "group"), ("batch", "batch"), ("none", "none"), ("false", "none")];
    let scale = d.word(&["scale_rewards"], &words)?;
    d.put_or("advantage.baseline", baseline, "mean");
    d.put_or("advantage.scale", scale, if is_rloo { "none" } else { "group" });
    d.assume("advantage.std", "sample", "as TRL does");
    d.assume("advantage.eps", 1e-4, "as TRL does");
    Ok(())
}
