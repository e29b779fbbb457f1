//! The policy loss, KL and advantages.

use crate::{
    draft::{Draft, Got, places},
    parts,
};

const ACTOR: &str = "actor_rollout_ref.actor";
const ABS_PLUS: &str = "abs+";

/// The policy loss and its aggregation; that of REINFORCE is decided elsewhere.
pub(super) fn translate(d: &mut Draft<'_>, is_reinforce: bool) {
    let modes = [
        ("vanilla", "dapo"),
        ("bypass_mode", "dapo"),
        ("gspo", "gspo"),
        ("sapo", "sapo"),
        ("cispo", "cispo"),
        ("geo_mean", "gmpo"),
    ];
    let mode = d.word(&["actor_rollout_ref.actor.policy_loss.loss_mode"], &modes);
    let loss = mode.as_ref().map_or("dapo", |mode| mode.value);
    if d.knows(&places(mode.as_ref())) {
        d.skip_by(&[(&["actor_rollout_ref.actor.policy_loss.*"], "for other values of loss_mode")]);
    }
    if is_reinforce {
        d.leave(&places(mode.as_ref()), "rollout_correction.loss_type decides the loss");
        let clips = ["clip_ratio", "clip_ratio_low", "clip_ratio_high", "clip_ratio_c"];
        let clips = clips.map(|key| format!("{ACTOR}.{key}"));
        d.skip(&clips.each_ref().map(String::as_str), "REINFORCE does not clip");
    } else {
        d.put_or("loss.policy_loss.name", mode, "dapo");
        clip(d, loss);
    }
    for (key, ours, default) in
        [("tau_pos", "loss.policy_loss.tau_positive", 1.0), ("tau_neg", "loss.policy_loss.tau_negative", 1.05)]
    {
        let key = format!("{ACTOR}.{key}");
        if loss == "sapo" {
            let tau = d.number(&[&key]);
            d.put_or(ours, tau, default);
        }
        d.skip(&[&key], "for policy_loss.loss_mode sapo alone");
    }
    aggregation(d, loss);
    let entropy = d.number(&["actor_rollout_ref.actor.entropy_coeff"]);
    d.put_or("loss.entropy_coef", entropy, 0.0);
}

fn clip(d: &mut Draft<'_>, loss: &str) {
    let sides = ["actor_rollout_ref.actor.clip_ratio_low", "actor_rollout_ref.actor.clip_ratio_high"];
    let both = "actor_rollout_ref.actor.clip_ratio";
    let dual = "actor_rollout_ref.actor.clip_ratio_c";
    if loss == "sapo" {
        d.skip(&[sides[0], sides[1], both, dual], "sapo does not clip");
        return;
    }
    let common = d.number(&[both]);
    let [low, high] = sides.map(|side| d.number(&[side]));
    let is_used = common.is_some() && (low.is_none() || high.is_none());
    let low = low.or_else(|| common.clone());
    if loss == "gmpo" {
        // A range of the log-ratio, which may be beyond 1.
        d.put_or("loss.policy_loss.clip.low", low, 0.2);
    } else {
        parts::clip_low(d, low, 0.2);
    }
    d.put_or("loss.policy_loss.clip.high", high.or_else(|| common.clone()), 0.2);
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
        let c = d.number(&[dual]);
        d.put_or("loss.policy_loss.dual_clip", c, 3.0);
    }
    d.skip(&[dual], "for policy_loss.loss_mode vanilla alone");
}

fn aggregation(d: &mut Draft<'_>, loss: &str) {
    let key = "actor_rollout_ref.actor.loss_agg_mode";
    let factor = "actor_rollout_ref.actor.loss_scale_factor";
    if matches!(loss, "gspo" | "sapo" | "gmpo") {
        d.skip(&[key], "verl averages this policy loss over sequences whatever is set, as we do by default");
    } else {
        let modes = ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"];
        let mode = d.word(&[key], &modes.map(|mode| (mode, mode)));
        if let Some(mode) = mode.as_ref().filter(|mode| mode.value == "seq-mean-token-sum-norm" && d.knows(&mode.from))
        {
            d.note(
                &mode.from,
                "verl's newer versions divide by the number of sequences too, as here; older ones divide the sum of token \
                 losses by the length alone, with gradients larger by that number",
            );
            if let Some(length) = d.count(&[factor], 1) {
                d.put("loss.aggregation.max_len", length);
            }
        }
        d.put_or("loss.aggregation.name", mode, "token-mean");
    }
    d.skip(&[factor], "for loss_agg_mode seq-mean-token-sum-norm alone");
}

/// KL to the reference, in the loss or in the reward.
pub(super) fn kl(d: &mut Draft<'_>) {
    let in_loss = d.switch(&["actor_rollout_ref.actor.use_kl_loss"]);
    let in_reward = d.switch(&["algorithm.use_kl_in_reward"]);
    let is_on = |switch: &Option<Got<bool>>| switch.as_ref().is_some_and(|switch| switch.value);
    let kinds = [
        ("low_var_kl", "k3"),
        ("k3", "k3"),
        ("kl", "k1"),
        ("k1", "k1"),
        ("mse", "k2"),
        ("k2", "k2"),
        ("abs", "abs"),
        ("low_var_kl+", "k3+"),
        ("k3+", "k3+"),
        ("kl+", "k1+"),
        ("k1+", "k1+"),
        // Value and gradient of k2.
        ("mse+", "k2"),
        ("k2+", "k2"),
        // The gradient of k2.
        (ABS_PLUS, "k2"),
    ];
    let switches = [&in_loss, &in_reward].map(|switch| places(switch.as_ref()));
    match (is_on(&in_loss), is_on(&in_reward)) {
        (true, true) => {
            d.refuse(&switches[1], "false beside use_kl_loss true: the KL is in the loss or in the reward");
            kl_in_loss(d, &switches[0], &kinds);
        }
        (true, false) => kl_in_loss(d, &switches[0], &kinds),
        (false, true) => {
            let coef = d.number(&["algorithm.kl_ctrl.kl_coef"]).unwrap_or(Got::default(0.001));
            d.put("rewards.kl_coef", Got::of(coef.value, &[&coef.from, &switches[1]]));
            if let Some(kind) =
                d.word(&["algorithm.kl_penalty"], &[("kl", "k1"), ("k1", "k1"), ("kl+", "k1"), ("k1+", "k1")])
            {
                d.leave(&kind.from, "the KL in the reward is always k1");
            }
            if let Some(control) = d.word(&["algorithm.kl_ctrl.type"], &[("fixed", false), ("adaptive", true)]) {
                if control.value {
                    d.give_up(&control.from, "the coefficient is fixed");
                }
                d.leave(&control.from, "the coefficient is fixed");
            }
        }
        (false, false) => {
            let off = Got::of(0.0, &[&switches[0], &switches[1]]);
            d.put_or("loss.kl.coef", Some(off), 0.0);
        }
    }
    for (from, key) in switches.iter().zip(["loss.kl.coef", "rewards.kl_coef"]) {
        if d.knows(from) {
            d.leave(from, "the KL is where the other switch puts it");
        } else {
            d.leave_open(key, from.clone());
        }
    }
    if !d.knows(&switches[0]) {
        d.give_up_by(&[(
            &["actor_rollout_ref.actor.kl_loss_coef", "actor_rollout_ref.actor.kl_loss_type"],
            "use_kl_loss is not known",
        )]);
    }
    let keys = ["actor_rollout_ref.actor.kl_loss_coef", "actor_rollout_ref.actor.kl_loss_type"];
    d.skip(&keys, "use_kl_loss is false");
    d.skip(
        &["algorithm.kl_ctrl.kl_coef", "algorithm.kl_penalty", "algorithm.kl_ctrl.type"],
        "use_kl_in_reward is false",
    );
}

fn kl_in_loss(d: &mut Draft<'_>, switch: &[usize], kinds: &[(&str, &'static str)]) {
    let coef = d.number(&["actor_rollout_ref.actor.kl_loss_coef"]).unwrap_or(Got::default(0.001));
    d.put("loss.kl.coef", Got::of(coef.value, &[&coef.from, switch]));
    let key = "actor_rollout_ref.actor.kl_loss_type";
    let is_abs = d.spelled(key).is_some_and(|kind| kind.eq_ignore_ascii_case(ABS_PLUS));
    let kind = d.word(&[key], kinds);
    if is_abs {
        d.note(&places(kind.as_ref()), "verl takes the gradient of k2 and shows the value of abs: imported as k2");
    }
    d.put_or("loss.kl.estimator", kind, "k3");
}

/// How rewards become advantages.
pub(super) fn advantage(d: &mut Draft<'_>) {
    // Baseline and scale; the scale of grpo has a switch.
    const GRPO: (&str, Option<&str>) = ("mean", None);
    const RLOO: (&str, Option<&str>) = ("leave-one-out", Some("none"));
    const WHITENED: (&str, Option<&str>) = ("mean", Some("whiten"));
    let names = [
        ("grpo", GRPO),
        ("grpo_vectorized", GRPO),
        ("rloo", RLOO),
        ("rloo_vectorized", RLOO),
        ("reinforce_plus_plus_baseline", WHITENED),
        // With a critic, which is translated elsewhere.
        ("gae", GRPO),
    ];
    let estimator = d.word(&["algorithm.adv_estimator"], &names);
    if estimator.is_none() {
        d.note(&[], "the file names no adv_estimator; verl's default, gae, needs a critic: grpo is taken");
    }
    let (_, scale) = estimator.as_ref().map_or(GRPO, |estimator| estimator.value);
    d.put_or("advantage.baseline", estimator.clone().map(|estimator| estimator.map(|(baseline, _)| baseline)), "mean");
    let scaled = d.switch(&["algorithm.norm_adv_by_std_in_grpo"]);
    if let Some(scale) = scale {
        d.leave(&places(scaled.as_ref()), "for adv_estimator grpo alone");
        if scale == "whiten" {
            d.note(
                &places(estimator.as_ref()),
                "verl whitens over tokens, so that long completions weigh more; here completions weigh the same",
            );
        }
        d.put_or("advantage.scale", estimator.map(|estimator| estimator.map(|_| scale)), scale);
    } else {
        d.put_or("advantage.scale", scaled.map(|s| s.map(|scaled| if scaled { "group" } else { "none" })), "group");
    }
    d.assume("advantage.std", "sample", "as verl does");
    d.assume("advantage.eps", if scale == Some("whiten") { 1e-8 } else { 1e-6 }, "as verl does");
    d.assume("loss.empty_sequences", "exclude", "as verl does");
}
