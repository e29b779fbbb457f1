//! Rollout correction: weights for log-probs of another engine, rejected sequences, and the loss of verl's bypass mode.

use crate::{
    draft::{Draft, Got, places},
    parts::{self, Band, Weights},
};

const ROLLOUT_IS: &str = "algorithm.rollout_correction.rollout_is";
const THRESHOLD: &str = "algorithm.rollout_correction.rollout_is_threshold";
const ROLLOUT_RS: &str = "algorithm.rollout_correction.rollout_rs";
const RS_THRESHOLD: &str = "algorithm.rollout_correction.rollout_rs_threshold";
const RS_LOWER: &str = "algorithm.rollout_correction.rollout_rs_threshold_lower";
const BYPASS: &str = "algorithm.rollout_correction.bypass_mode";
const LOSS_TYPE: &str = "algorithm.rollout_correction.loss_type";

const NO_WEIGHTS: &str = "rollout_is asks for no weights";
const NO_REJECTION: &str = "rollout_rs rejects nothing";

/// Weights, their band, and rejected sequences; returns whether the loss is that of REINFORCE, and the policy loss is
/// thereby decided.
///
/// In bypass mode old log-probs are those of the rollout, as here; no further weights are applied to a clipped ratio.
pub(super) fn translate(d: &mut Draft<'_>) -> bool {
    let bypass = d.switch(&[BYPASS]);
    let older = d.number(&["actor_rollout_ref.actor.tis_imp_ratio_cap"]);
    let from = places(bypass.as_ref());
    let is_reinforce = if bypass.is_some_and(|bypass| bypass.value) {
        let kind = d.word(&[LOSS_TYPE], &[("ppo_clip", false), ("reinforce", true)]);
        if let Some(rejection) = d.text(&[ROLLOUT_RS]) {
            let reason = "in bypass mode verl rejects by the policy in training; here the old policy decides";
            d.give_up(&rejection.from, reason);
            d.give_up_by(&[(&[RS_THRESHOLD, RS_LOWER], reason)]);
        }
        match kind {
            Some(kind) if kind.value => {
                reinforce(d, &[kind.from, from].concat());
                true
            }
            kind => {
                d.leave(&places(kind.as_ref()), "PPO's clip of the ratio to the rollout, as here");
                d.leave(&from, "old log-probs are those of the rollout here, too");
                d.skip(&[ROLLOUT_IS, THRESHOLD], "in bypass mode verl measures these weights, and does not apply them");
                false
            }
        }
    } else {
        correction(d, &from, older.as_ref());
        d.leave(&from, "old log-probs are computed by the policy itself");
        d.skip(&[LOSS_TYPE], "for bypass_mode alone");
        false
    };
    d.skip(&[RS_THRESHOLD, RS_LOWER], NO_REJECTION);
    d.leave(&places(older.as_ref()), "no weights are asked for");
    is_reinforce
}

fn correction(d: &mut Draft<'_>, bypass: &[usize], older: Option<&Got<f64>>) {
    let open = if d.knows(bypass) { &[] } else { bypass };
    let level = d.word(&[ROLLOUT_IS], &["token", "sequence"].map(|level| (level, level)));
    let threshold = d.bounds(&[THRESHOLD]);
    let older = older.filter(|cap| cap.value > 0.0 || !d.knows(&cap.from));
    let has_weights = level.is_some() || older.is_some();
    if let Some(level) = level {
        // One number truncates; two are IcePop's band, outside which weights are 0.
        let has_band = threshold.as_ref().is_some_and(|threshold| threshold.value.0.is_some());
        let mode = Weights { level: level.value, outside: if has_band { "mask" } else { "truncate" } };
        let bound = |of: fn((Option<f64>, f64)) -> Option<f64>| {
            threshold.as_ref().and_then(|got| Some(Got { value: of(got.value)?, from: got.from.clone() }))
        };
        let band = Band { low: bound(|(low, _)| low), high: bound(|(_, high)| Some(high)), default: (2.0, "") };
        parts::weights(d, Got::of(mode, &[&level.from, open]), band);
    } else if let Some(cap) = older {
        let mode = Got { value: Weights { level: "token", outside: "truncate" }, from: cap.from.clone() };
        parts::weights(d, mode, Band { low: None, high: Some(cap.clone()), default: (2.0, "") });
    }
    rejection(d, open, threshold.as_ref(), has_weights);
    d.leave(&places(threshold.as_ref()), NO_WEIGHTS);
}

/// Sequences that leave the loss. verl's k1 is that of π_rollout / π_old, and so are its bounds: ours are their inverses.
/// Older versions, with other names, bound π_old / π_rollout.
fn rejection(d: &mut Draft<'_>, open: &[usize], weights: Option<&Got<(Option<f64>, f64)>>, has_weights: bool) {
    let kinds = [
        ("seq_sum_k1", ("product", true)),
        ("seq_mean_k1", ("geometric-mean", true)),
        ("sequence", ("product", false)),
        ("geometric", ("geometric-mean", false)),
    ];
    let Some(kind) = d.word(&[ROLLOUT_RS], &kinds) else { return };
    let (by, is_inverse) = kind.value;
    let (threshold, lower) = (d.bounds(&[RS_THRESHOLD]), d.number(&[RS_LOWER]));
    if is_inverse && threshold.is_none() {
        d.refuse(&kind.from, "null, or with it rollout_rs_threshold");
    }
    let unknown: &[usize] = if d.knows(&kind.from) { &[] } else { &kind.from };
    let open = [open, unknown].concat();
    if !has_weights && open.is_empty() {
        d.assume("loss.rollout_correction.level", "off", NO_WEIGHTS);
    }
    d.put("loss.rollout_correction.reject.by", Got::of(by, &[&kind.from, &open]));
    let threshold = threshold.or_else(|| weights.cloned()).unwrap_or(Got::default((None, 2.0)));
    let (low, high) = match (threshold.value, is_inverse) {
        ((Some(least), most), true) => (1.0 / most, 1.0 / least),
        ((Some(least), most), false) => (least, most),
        ((None, most), _) => (1.0 / most, most),
    };
    let low = match lower.filter(|_| !is_inverse) {
        Some(lower) => lower,
        None => Got { value: low, from: threshold.from.clone() },
    };
    for (key, bound) in [
        ("loss.rollout_correction.reject.low", low),
        ("loss.rollout_correction.reject.high", Got { value: high, from: threshold.from }),
    ] {
        d.put_or(key, Some(Got::of(bound.value, &[&bound.from, &open])), 2.0);
    }
}

/// `−sg[w]·A·log π` with w = min(ρ, threshold), or 1 without weights: CISPO without a lower bound.
fn reinforce(d: &mut Draft<'_>, from: &[usize]) {
    let level = d.word(&[ROLLOUT_IS], &["token", "sequence"].map(|level| (level, level)));
    let threshold = d.bounds(&[THRESHOLD]);
    let text = match level.as_ref().map(|level| level.value) {
        None => "REINFORCE without weights: imported as cispo with weights of 1, which is the same",
        Some("sequence") => {
            "REINFORCE with truncated weights by sequence: imported as cispo, which truncates the weight of each token"
        }
        Some(_) => "REINFORCE with truncated weights: imported as cispo without a lower bound, which is the same",
    };
    d.note(from, text);
    let origin = [from, &places(level.as_ref())].concat();
    let low = if level.is_some() { 1.0 } else { 0.0 };
    d.put("loss.policy_loss.name", Got { value: "cispo", from: from.to_vec() });
    d.put("loss.policy_loss.clip.low", Got { value: low, from: origin.clone() });
    let high = match (&level, &threshold) {
        (None, _) => 0.0,
        (_, None) => 1.0,
        (_, Some(threshold)) => threshold.value.1 - 1.0,
    };
    let has_band = threshold.as_ref().is_some_and(|threshold| threshold.value.0.is_some());
    let cap = if level.is_some() { places(threshold.as_ref()) } else { Vec::new() };
    if high < 0.0 || has_band {
        d.refuse(&cap, "a number >= 1: cispo truncates weights");
    }
    d.put("loss.policy_loss.clip.high", Got { value: high, from: [origin, cap].concat() });
    d.leave(&places(threshold.as_ref()), NO_WEIGHTS);
}
