//! TRL's GRPO losses, its KL and its advantages.

use super::{Batch, Defaults};
use crate::{
    draft::{Draft, Got, places},
    parts,
};

/// A loss of the source: its name, and our policy loss and aggregation.
type Kind = (&'static str, &'static str, &'static str);

const DAPO: Kind = ("dapo", "dapo", "token-mean");
const TYPES: [(&str, Kind); 6] = [
    ("dapo", DAPO),
    ("bnpo", ("bnpo", "dapo", "token-mean")),
    ("grpo", ("grpo", "dapo", "seq-mean-token-mean")),
    ("dr_grpo", ("dr_grpo", "dapo", "seq-mean-token-sum-norm")),
    ("cispo", ("cispo", "cispo", "token-mean")),
    ("sapo", ("sapo", "sapo", "seq-mean-token-mean")),
];

/// The policy loss.
pub(crate) fn loss(d: &mut Draft<'_>, defaults: &Defaults, taus: [&str; 2]) {
    let kind = d.word(&["loss_type"], &TYPES);
    let default = TYPES.iter().find(|(name, _)| *name == defaults.loss_type).map_or(DAPO, |&(_, kind)| kind);
    let (name, surrogate, aggregation) = kind.as_ref().map_or(default, |kind| kind.value);
    let from = places(kind.as_ref());
    if name == "bnpo" {
        d.note(
            &from,
            "bnpo divides each micro-batch by its own tokens and averages the quotients; imported as token-mean, which \
             divides by the tokens of the whole step, as DAPO does (loss.aggregation = \"local-token-mean\" comes closer)",
        );
    }
    let levels = [("token", false), ("sequence", true), ("sequence_token", true)];
    let level = d.word(&["importance_sampling_level"], &levels);
    let (mut is_sequence, mut level_from) = (level.as_ref().is_some_and(|level| level.value), places(level.as_ref()));
    if is_sequence && surrogate != "dapo" {
        d.refuse(&level_from, &format!("token with loss_type {name}"));
        (is_sequence, level_from) = (false, Vec::new());
    }
    let surrogate = if is_sequence { "gspo" } else { surrogate };
    d.put_or("loss.policy_loss.name", Some(Got::of(surrogate, &[&from, &level_from])), "dapo");
    d.put_or("loss.aggregation.name", Some(Got { value: aggregation, from }), "token-mean");
    clip(d, surrogate);
    for (key, (ours, default)) in
        taus.into_iter().zip([("loss.policy_loss.tau_positive", 1.0), ("loss.policy_loss.tau_negative", 1.05)])
    {
        if surrogate == "sapo" {
            let tau = d.number(&[key]);
            d.put_or(ours, tau, default);
        }
        d.skip(&[key], "for loss_type sapo alone");
    }
    d.assume("loss.empty_sequences", "count", "as TRL's means over sequences do");
    if let Some(entropy) = d.number(&["entropy_coef"]) {
        d.put("loss.entropy_coef", entropy);
    }
    if let Some(quantile) = d.number(&["top_entropy_quantile"]) {
        d.put("loss.top_entropy_quantile", quantile);
    }
}

fn clip(d: &mut Draft<'_>, surrogate: &str) {
    if surrogate == "sapo" {
        return d.skip(&["epsilon", "epsilon_high", "delta"], "sapo does not clip");
    }
    let low = d.number(&["epsilon"]);
    let high = d.number(&["epsilon_high"]).or_else(|| low.clone());
    if surrogate == "cispo" {
        // The source bounds the ratio itself, we its distance from 1.
        d.assume("loss.policy_loss.clip.low", 1.0, "cispo has no lower bound there");
        match high {
            Some(cap) => {
                if cap.value <= 1.0 {
                    d.refuse(&cap.from, "a bound above 1 for the ratio: epsilon_high of cispo");
                }
                d.put("loss.policy_loss.clip.high", cap.map(|cap| cap - 1.0));
            }
            None => d.note(&[], "cispo needs a bound for the ratio, epsilon_high, which the file does not set"),
        }
        d.leave(&places(low.as_ref()), "cispo has no lower bound there");
        return d.skip(&["delta"], "cispo has no delta");
    }
    let bound = 1.0 + high.as_ref().map_or(0.2, |high| high.value);
    parts::clip_low(d, low, 0.2);
    d.put_or("loss.policy_loss.clip.high", high, 0.2);
    let Some(delta) = d.number(&["delta"]) else { return };
    if surrogate == "gspo" {
        d.note(&delta.from, "gspo has no dual clip here: delta is left out");
        return d.give_up(&delta.from, "gspo has no dual clip");
    }
    if delta.value <= bound {
        d.refuse(&delta.from, &format!("a number above 1 + epsilon_high = {bound}, where it is a dual clip"));
    }
    d.put("loss.policy_loss.dual_clip", delta);
}

/// KL to the reference.
pub(crate) fn kl(d: &mut Draft<'_>, defaults: &Defaults, batch: &Batch) {
    let beta = d.number(&["beta"]);
    let is_on = beta.as_ref().map_or(defaults.beta, |beta| beta.value) != 0.0;
    d.put_or("loss.kl.coef", beta, defaults.beta);
    let sync = d.switch(&["sync_ref_model"]);
    if !is_on {
        d.leave(&places(sync.as_ref()), "beta is 0: there is no reference model");
        let keys =
            ["ref_model_mixup_alpha", "ref_model_sync_steps", "use_bias_correction_kl", "kl_in_reward", "ref_model"];
        return d.skip(&keys, "beta is 0: there is no reference model");
    }
    d.assume("loss.kl.estimator", "k3", "as TRL does");
    if let Some(times) = d.switch(&["use_bias_correction_kl"]) {
        d.put("loss.kl.times_ratio", times);
    }
    match sync {
        Some(sync) if sync.value => {
            let updates = d.count(&["ref_model_sync_steps"], 1).unwrap_or(Got::default(512));
            let every = batch.noted_steps(d, updates);
            d.put("reference_sync.every", Got::of(every.value, &[&every.from, &sync.from]));
            let mixup = d.number(&["ref_model_mixup_alpha"]);
            d.put_or("reference_sync.mixup", mixup, 0.6);
        }
        Some(off) => d.put("reference_sync.every", off.map(|_| 0)),
        None => {}
    }
    d.skip(&["ref_model_mixup_alpha", "ref_model_sync_steps"], "sync_ref_model is false");
}

/// How rewards become advantages.
pub(crate) fn advantage(d: &mut Draft<'_>, baseline: Option<Got<&'static str>>) {
    let is_rloo = baseline.as_ref().is_some_and(|baseline| baseline.value == "leave-one-out");
    let words = ["group", "batch", "none"].map(|word| (word, word));
    let switches = ["true", "yes", "on", "1"].map(|word| (word, "group"));
    let off = ["false", "no", "off", "0"].map(|word| (word, "none"));
    let scale = d.word(&["scale_rewards"], &[&words[..], &switches, &off].concat());
    d.put_or("advantage.baseline", baseline, "mean");
    d.put_or("advantage.scale", scale, if is_rloo { "none" } else { "group" });
    d.assume("advantage.std", "sample", "as TRL does");
    d.assume("advantage.eps", 1e-4, "as TRL does");
}
