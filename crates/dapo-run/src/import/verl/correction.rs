//! Rollout correction: weights for log-probs of another engine, and the loss of verl's bypass mode.

use crate::import::{
    draft::{Draft, Got, places},
    parts::{self, Correction},
};

const ROLLOUT_IS: &str = "algorithm.rollout_correction.rollout_is";
const THRESHOLD: &str = "algorithm.rollout_correction.rollout_is_threshold";
const BYPASS: &str = "algorithm.rollout_correction.bypass_mode";
const LOSS_TYPE: &str = "algorithm.rollout_correction.loss_type";

/// Weights and their cap; returns whether the loss is that of REINFORCE, and the policy loss is thereby decided.
///
/// In bypass mode old log-probs are those of the rollout, as here; no further weights are applied to a clipped ratio.
pub(super) fn translate(d: &mut Draft<'_>) -> bool {
    let bypass = d.switch(&[BYPASS]);
    let older = d.number(&["actor_rollout_ref.actor.tis_imp_ratio_cap"]);
    let from = places(bypass.as_ref());
    let is_reinforce = if bypass.is_some_and(|bypass| bypass.value) {
        let kind = d.word(&[LOSS_TYPE], &[("ppo_clip", false), ("reinforce", true)]);
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
        weights(d, &from, older.as_ref());
        d.leave(&from, "old log-probs are computed by the policy itself");
        d.skip(&[LOSS_TYPE], "for bypass_mode alone");
        false
    };
    d.leave(&places(older.as_ref()), "no weights are asked for");
    is_reinforce
}

fn weights(d: &mut Draft<'_>, bypass: &[usize], older: Option<&Got<f64>>) {
    let levels = ["token", "sequence"].map(|level| (level, Correction::Truncate(level)));
    if let Some(level) = d.word(&[ROLLOUT_IS], &levels) {
        let cap = d.number(&[THRESHOLD]);
        let unknown = if d.knows(bypass) { &[] } else { bypass };
        parts::importance(d, Got::of(level.value, &[&level.from, unknown]), cap, 2.0);
    } else if let Some(cap) = older.filter(|cap| cap.value > 0.0 || !d.knows(&cap.from)) {
        let level = Got { value: Correction::Truncate("token"), from: cap.from.clone() };
        parts::importance(d, level, Some(cap.clone()), 2.0);
    }
    d.skip(&[THRESHOLD], "rollout_is asks for no weights");
}

/// `−sg[w]·A·log π` with w = min(ρ, threshold), or 1 without weights: CISPO without a lower bound.
fn reinforce(d: &mut Draft<'_>, from: &[usize]) {
    let level = d.word(&[ROLLOUT_IS], &["token", "sequence"].map(|level| (level, level)));
    let threshold = d.number(&[THRESHOLD]);
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
        (_, Some(threshold)) => threshold.value - 1.0,
    };
    let cap = if level.is_some() { places(threshold.as_ref()) } else { Vec::new() };
    if high < 0.0 {
        d.refuse(&cap, "a number >= 1");
    }
    d.put("loss.policy_loss.clip.high", Got { value: high, from: [origin, cap].concat() });
    d.leave(&places(threshold.as_ref()), "rollout_is asks for no weights");
}
