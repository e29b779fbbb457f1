//! PPO's critic, for `adv_estimator` `gae`.
//!
//! Sources of meaning: `verl/trainer/config/critic/*.yaml`, `verl/workers/critic/dp_critic.py`, and
//! `compute_gae_advantage_return` in `core_algos.py`.

use super::rest::OPTIMIZER;
use super::training::adamw;
use crate::draft::{Draft, Rules, places};

const ESTIMATOR: &str = "algorithm.adv_estimator";

/// Keys that have verl's meaning with a critic alone.
const KEYS: &[&str] =
    &["critic.*", "algorithm.gamma", "algorithm.lam", "trainer.critic_warmup", "trainer.max_critic_ckpt_to_keep"];

/// What becomes of them without one.
pub(super) const NONE: Rules = &[(KEYS, "no critic: the group is the baseline")];

/// What has no effect beside the critic's settings.
pub(super) const RULES: Rules = &[
    (
        &["critic.optim.num_cycles", "critic.optim.total_training_steps", "critic.optim.lr_decay_steps"],
        "the schedule falls once, over train.steps",
    ),
    (&["critic.optim.*"], OPTIMIZER),
    (
        &[
            "critic.ppo_micro_batch_size*",
            "critic.ppo_max_token_len*",
            "critic.ppo_infer_*",
            "critic.forward_*",
            "critic.use_dynamic_bsz",
        ],
        "micro-batches are bounded by train.micro_batch_tokens",
    ),
    (&["critic.shuffle", "critic.data_loader_seed"], "the critic's mini-batches are the policy's"),
    (&["critic.checkpoint.*"], "checkpoints hold all that exact resumption needs"),
    (&["trainer.max_critic_ckpt_to_keep"], "a checkpoint has policy and critic: output.keep_checkpoints"),
    (KEYS, "how the critic is computed, not what"),
];

/// Settings that the critic has in common with the policy: verl's key, that of the policy, its default there, and why.
const COMMON: [(&str, &str, &str, &str); 7] = [
    ("critic.model.path", "actor_rollout_ref.model.path", "", "the critic begins as the policy does, with values of 0"),
    ("critic.model.lora_rank", "actor_rollout_ref.model.lora_rank", "0", ADAPTERS),
    ("critic.model.lora_alpha", "actor_rollout_ref.model.lora_alpha", "16", ADAPTERS),
    ("critic.model.target_modules", "actor_rollout_ref.model.target_modules", "all-linear", ADAPTERS),
    (
        "critic.ppo_mini_batch_size",
        "actor_rollout_ref.actor.ppo_mini_batch_size",
        "256",
        "the critic's mini-batches are the policy's",
    ),
    ("critic.ppo_epochs", "actor_rollout_ref.actor.ppo_epochs", "1", "the critic's passes are the policy's"),
    (
        "critic.loss_agg_mode",
        "actor_rollout_ref.actor.loss_agg_mode",
        "token-mean",
        "the value loss is divided as the policy's",
    ),
];

const ADAPTERS: &str = "the critic has the adapters that the policy has";

/// Whether the file asks for a critic: it names `gae`, or no estimator, which is verl's `gae`, and settings of a critic.
pub(super) fn is_asked_for(d: &Draft<'_>) -> bool {
    match d.spelled(ESTIMATOR) {
        Some(name) => name.trim().eq_ignore_ascii_case("gae"),
        None => d.has_prefix("critic."),
    }
}

/// How values become advantages.
pub(super) fn advantage(d: &mut Draft<'_>) {
    let estimator = d.word(&[ESTIMATOR], &[("gae", "own")]);
    let from = places(estimator.as_ref());
    d.put_or("critic.layers", estimator, "own");
    let gamma = d.number(&["algorithm.gamma"]);
    d.put_or("critic.gamma", gamma, 1.0);
    let lambda = d.number(&["algorithm.lam"]);
    d.put_or("critic.lambda", lambda, 1.0);
    d.assume("critic.whiten", true, "as verl does");
    d.note(
        &from,
        "where verl expects nothing after a truncated completion, here the critic's value of its last state follows",
    );
    d.skip(&["algorithm.norm_adv_by_std_in_grpo"], "for adv_estimator grpo alone");
    d.assume("loss.empty_sequences", "exclude", "as verl does");
}

/// How the critic learns.
pub(super) fn translate(d: &mut Draft<'_>, steps: Option<i64>) {
    let clip = d.number(&["critic.cliprange_value"]);
    d.put_or("critic.clip", clip, 0.5);
    let warmup = d.count(&["trainer.critic_warmup"], 0);
    if let Some(warmup) = warmup.as_ref().filter(|warmup| warmup.value > 0 && d.knows(&warmup.from)) {
        d.note(&warmup.from, format!("verl's policy learns from step {} on, counted from 1", warmup.value));
    }
    d.put_or("critic.warmup_steps", warmup.map(|warmup| warmup.map(|step| (step - 1).max(0))), 0);
    adamw(d, "critic", "critic.optimizer", 1e-5, steps);
    for (key, of_policy, default, reason) in COMMON {
        let policy = d.spelled(of_policy).unwrap_or_else(|| default.to_owned());
        let is_same = d.spelled(key).is_none_or(|own| own == policy || own == "null");
        let rules: [(&[&str], &str); 1] = [(&[key], reason)];
        if is_same { d.skip_by(&rules) } else { d.give_up_by(&rules) }
    }
    d.give_up_by(&[(
        &["critic.model.override_config.*", "critic.model.external_lib", "critic.model.lora.*"],
        "the model is what its folder says",
    )]);
}
