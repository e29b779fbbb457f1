//! The policy loss, KL and advantages.

use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

const ACTOR: &str = "actor_rollout_ref.actor";

/// The policy loss and its aggregation.
pub(super) fn translate(d: &mut Draft<'_>) -> Result<(), ImportError> {
    let modes = [("vanilla", "dapo"), ("gspo", "gspo"), ("sapo", "sapo"), ("cispo", "cispo"), ("geo_mean", "gmpo")];
    let mode = d.word(&["actor_rollout_ref.actor.policy_loss.loss_mode"], &modes)?;
    let loss = mode.as_ref().map_or("dapo", |mode| mode.value);
    d.put_or("loss.policy_loss.name", mode, "dapo");
    clip(d, loss)?;
    for (key, ours, default) in
        [("tau_pos", "loss.policy_loss.tau_positive", 1.0), ("tau_neg", "loss.policy_loss.tau_negative", 1.05)]
    {
        let key = format!("{ACTOR}.{key}");
        if loss == "sapo" {
            let tau = d.number(&[&key])?;
            d.put_or(ours, tau, default);
        }
        d.skip(&[&key], "for policy_loss.loss_mode sapo alone");
    }
    aggregation(d, loss)?;
    let entropy = d.number(&["actor_rollout_ref.actor.entropy_coeff"])?;
    d.put_or("loss.entropy_coef", entropy, 0.0);
    Ok(())
}

fn clip(d: &mut Draft<'_>, loss: &str) -> Result<(), ImportError> {
    let sides = ["actor_rollout_ref.actor.clip_ratio_low", "actor_rollout_ref.actor.clip_ratio_high"];
    let both = "actor_rollout_ref.actor.clip_ratio";
    let dual = "actor_rollout_ref.actor.clip_ratio_c";
    if loss == "sapo" {
        d.skip(&[sides[0], sides[1], both, dual], "sapo does not clip");
        return Ok(());
    }
    let common = d.number(&[both])?;
    let mut is_used = false;
    for (key, ours) in sides.into_iter().zip(["loss.policy_loss.clip.low", "loss.policy_loss.clip.high"]) {
        let side = d.number(&[key])?;
        is_used |= side.is_none() && common.is_some();
        d.put_or(ours, side.or_else(|| common.clone()), 0.2);
    }
    if let Some(common) = &common {
        if is_used {
            d.note(
                &common.from,
                "taken for the sides that are not set; verl itself sets clip_ratio_low and clip_ratio_high to 0.2 by \
                 default, and then clip_ratio has no effect",
            );
        }
        d.leave(&common.from, "clip_ratio_low and clip_ratio_high take its place");
    }
    if loss == "dapo" {
        let c = d.number(&[dual])?;
        d.put_or("loss.policy_loss.dual_clip", c, 3.0);
    }
    d.skip(&[dual], "for policy_loss.loss_mode vanilla alone");
    Ok(())
}

fn aggregation(d: &mut Draft<'_>, loss: &str) -> Result<(), ImportError> {
    let key = "actor_rollout_ref.actor.loss_agg_mode";
    let factor = "actor_rollout_ref.actor.loss_scale_factor";
    if matches!(loss, "gspo" | "sapo" | "gmpo") {
        d.skip(&[key], "verl averages this policy loss over sequences whatever is set, as we do by default");
    } else {
        let modes = ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"];
        let mode = d.word(&[key], &modes.map(|mode| (mode, mode)))?;
        if let Some(mode) = mode.as_ref().filter(|mode| mode.value == "seq-mean-token-sum-norm") {
            d.note(
                &mode.from,
                "verl divides the sum of token losses by the length alone, we by the number of sequences too: gradients \
                 here are smaller by that factor",
            );
            if let Some(length) = d.count(&[factor], 1)? {
                d.put("loss.aggregation.max_len", length);
            }
        }
        d.put_or("loss.aggregation.name", mode, "token-mean");
    }
    d.skip(&[factor], "for loss_agg_mode seq-mean-token-sum-norm alone");
    Ok(())
}

/// KL to the reference, in the loss or in the reward.
pub(super) fn kl(d: &mut Draft<'_>) -> Result<(), ImportError> {
    let in_loss = d.switch(&["actor_rollout_ref.actor.use_kl_loss"])?;
    let in_reward = d.switch(&["algorithm.use_kl_in_reward"])?;
    let is_on = |switch: &Option<Got<bool>>| switch.as_ref().is_some_and(|switch| switch.value);
    let kinds =
        [("kl", "k1"), ("k1", "k1"), ("mse", "k2"), ("k2", "k2"), ("low_var_kl", "k3"), ("k3", "k3"), ("abs", "abs")];
    let switches =
        [&in_loss, &in_reward].map(|switch| switch.as_ref().map_or(Vec::new(), |switch| switch.from.clone()));
    match (is_on(&in_loss), is_on(&in_reward)) {
        (true, true) => {
            let from = &switches[1];
            return Err(d.wrong(from, "false beside use_kl_loss true: the KL is in the loss or in the reward"));
        }
        (true, false) => {
            let coef =
                d.number(&["actor_rollout_ref.actor.kl_loss_coef"])?.unwrap_or(Got { value: 0.001, from: Vec::new() });
            d.put("loss.kl.coef", Got::of(coef.value, &[&coef.from, &switches[0]]));
            let kind = d.word(&["actor_rollout_ref.actor.kl_loss_type"], &kinds)?;
            d.put_or("loss.kl.estimator", kind, "k3");
        }
        (false, true) => {
            let coef = d.number(&["algorithm.kl_ctrl.kl_coef"])?.unwrap_or(Got { value: 0.001, from: Vec::new() });
            d.put("rewards.kl_coef", Got::of(coef.value, &[&coef.from, &switches[1]]));
            if let Some(kind) = d.word(&["algorithm.kl_penalty"], &[("kl", "k1"), ("k1", "k1")])? {
                d.leave(&kind.from, "the KL in the reward is always k1");
            }
            if let Some(control) = d.word(&["algorithm.kl_ctrl.type"], &[("fixed", ()), ("adaptive", ())])? {
                d.leave(&control.from, "the coefficient is fixed");
            }
        }
        (false, false) => {
            let off = Got::of(0.0, &[&switches[0], &switches[1]]);
            d.put_or("loss.kl.coef", Some(off), 0.0);
        }
    }
    for from in &switches {
        d.leave(from, "the KL is where the other switch puts it");
    }
    let keys = ["actor_rollout_ref.actor.kl_loss_coef", "actor_rollout_ref.actor.kl_loss_type"];
    d.skip(&keys, "use_kl_loss is false");
    d.skip(
        &["algorithm.kl_ctrl.kl_coef", "algorithm.kl_penalty", "algorithm.kl_ctrl.type"],
        "use_kl_in_reward is false",
    );
    Ok(())
}

/// How rewards become advantages.
pub(super) fn advantage(d: &mut Draft<'_>) -> Result<(), ImportError> {
    let names = [("grpo", false), ("grpo_vectorized", false), ("rloo", true), ("rloo_vectorized", true)];
    let estimator = d.word(&["algorithm.adv_estimator"], &names)?;
    if estimator.is_none() {
        d.note(&[], "the file names no adv_estimator; verl's default, gae, needs a critic: grpo is taken");
    }
    let is_rloo = estimator.as_ref().is_some_and(|estimator| estimator.value);
    let baseline = estimator.as_ref().map(|e| e.clone().map(|rloo| if rloo { "leave-one-out" } else { "mean" }));
    d.put_or("advantage.baseline", baseline, "mean");
    let scaled = d.switch(&["algorithm.norm_adv_by_std_in_grpo"])?;
    if is_rloo {
        if let Some(scaled) = scaled {
            d.leave(&scaled.from, "for adv_estimator grpo alone");
        }
        d.put_or("advantage.scale", estimator.map(|e| e.map(|_| "none")), "none");
    } else {
        d.put_or("advantage.scale", scaled.map(|s| s.map(|scaled| if scaled { "group" } else { "none" })), "group");
    }
    d.assume("advantage.std", "sample", "as verl does");
    d.assume("advantage.eps", 1e-6, "as verl does");
    d.assume("loss.empty_sequences", "exclude", "as verl does");
    Ok(())
}
