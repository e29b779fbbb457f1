//! TRL's `PPOConfig`, which ms-swift's `rlhf_type` `ppo` has too.
//!
//! Sources of meaning: `ppo_config.py` and `ppo_trainer.py` of `trl/experimental/ppo`, and ms-swift's `rlhf_args.py`.

use super::batch::{ceil, completions_of_update};
use super::{Batch, Defaults, evaluation, optimizer, output, rollout};
use crate::draft::{Draft, Got, Rules, places};
use crate::parts;

/// Keys that GRPO's trainers do not have.
const KEYS: [&str; 10] = [
    "num_ppo_epochs",
    "cliprange",
    "cliprange_value",
    "vf_coef",
    "lam",
    "whiten_rewards",
    "kl_coef",
    "missing_eos_penalty",
    "num_mini_batches",
    "sft_model_path",
];

/// Keys of the policy's optimizer, which is the critic's too.
const OPTIMIZER: [(&str, &str); 10] = [
    ("critic.optimizer.lr", "optimizer.lr"),
    ("critic.optimizer.warmup_steps", "optimizer.warmup_steps"),
    ("critic.optimizer.warmup_ratio", "optimizer.warmup_ratio"),
    ("critic.optimizer.schedule", "optimizer.schedule"),
    ("critic.optimizer.min_lr_ratio", "optimizer.min_lr_ratio"),
    ("critic.optimizer.beta1", "optimizer.beta1"),
    ("critic.optimizer.beta2", "optimizer.beta2"),
    ("critic.optimizer.eps", "optimizer.eps"),
    ("critic.optimizer.weight_decay", "optimizer.weight_decay"),
    ("critic.optimizer.max_grad_norm", "optimizer.max_grad_norm"),
];

/// Keys without which training differs.
const CHANGES: Rules = &[
    (
        &["reward_model*", "reward_adapters"],
        "reward models cannot be carried over: set rewards.NAME.url to a server that scores",
    ),
    (&["missing_eos_penalty"], "no reward looks for the end token; rewards.soft_overlong punishes length"),
    (&["stop_token_id"], "completions end at the model's end tokens, and at the texts of rollout.stop"),
    (&["value_model*", "value_adapters"], "the critic begins as the policy does, with values of 0"),
    (&["model_adapter_name", "ref_adapter_name"], "a model has one adapter; the reference is the model without it"),
    (&["reward_shaping_*"], "not offered here"),
];

/// Keys without an effect here.
const RULES: Rules = &[
    (&["stop_token"], "completions end at the model's end tokens"),
    (&["vf_coef"], "the critic has an optimizer of its own, whose steps do not depend on the scale of its loss"),
    (&["local_rollout_forward_batch_size"], "rollout.cache_mib bounds how many completions are generated at a time"),
    (&["num_sample_generations"], "completions of evaluations and of every step are in the run folder"),
    (
        &["world_size", "num_total_batches", "micro_batch_size", "local_batch_size", "batch_size", "*mini_batch_size"],
        "TRL computes it from the other counts",
    ),
    (&["exp_name"], "the run folder is named when the run is started"),
    (&["max_steps", "train_iters"], "total_episodes or the passes over the data count"),
];

/// Whether the file is one of PPO's.
pub(crate) fn is_ppo(d: &Draft<'_>) -> bool {
    // The older RLOOTrainer has most of these keys.
    d.has(&KEYS) && !d.has(&["rloo_k"])
}

/// Everything of PPO's but model, data and what only one of the sources has.
pub(crate) fn ppo(d: &mut Draft<'_>, defaults: &Defaults, has_validation: bool) {
    rollout(d, defaults);
    d.assume("rollout.group_size", 1, "PPO completes a prompt once");
    d.assume("sampler.dynamic", false, "TRL trains on every completion");
    let completions = batch(d, defaults);
    let batch = Batch::of_rollouts();
    if !d.has(&["reward_funcs"]) {
        d.note(&[], "PPO's reward is a model's: set rewards.NAME.url or another reward; until then answers are judged");
    }
    loss(d);
    critic(d);
    let steps = steps(d, &completions);
    d.skip(&["max_grad_norm"], "TRL's PPO does not clip gradients");
    optimizer(d, &Defaults { max_grad_norm: f64::INFINITY, ..*defaults }, &batch, steps);
    for (critic, policy) in OPTIMIZER {
        d.assume_same(critic, policy, "one optimizer trains both there");
    }
    evaluation(d, &batch, has_validation);
    output(d, &batch, steps);
    let is_shaped = ["length", "repetition", "eos"].iter().any(|what| {
        d.spelled(&format!("reward_shaping_enable_{what}")).is_some_and(|on| on.eq_ignore_ascii_case("true"))
    });
    if !is_shaped {
        d.skip_by(&[(&["reward_shaping_*"], "no shaping is switched on")]);
    }
    d.give_up_by(CHANGES);
    d.skip_by(RULES);
}

/// Completions of a step, in how many portions and how often they are trained on; returns the completions.
fn batch(d: &mut Draft<'_>, defaults: &Defaults) -> Got<i64> {
    let update = completions_of_update(d, defaults);
    let portions = d.count(&["num_mini_batches"], 1).unwrap_or(Got::default(1));
    let total = update.total.value.saturating_mul(portions.value);
    let total = Got::of(total, &[&update.total.from, &portions.from]);
    if !update.has_processes && d.knows(&total.from) {
        d.note(
            &total.from,
            "the source multiplies this by its number of processes, which the file does not tell: taken as 1",
        );
    }
    d.put_or("sampler.train_batch", Some(total.clone()), 1);
    d.put_or("sampler.gen_batch", Some(total.clone()), 1);
    d.put_or("train.mini_batches", Some(portions), 1);
    let passes = d.count(&["num_ppo_epochs"], 1);
    d.put_or("train.updates_per_batch", passes, 4);
    total
}

/// Rollout steps of the run; `None` where it is counted in passes over the data.
fn steps(d: &mut Draft<'_>, completions: &Got<i64>) -> Option<i64> {
    let epochs = d.number(&["num_train_epochs", "max_epochs"]);
    let Some(episodes) = d.count(&["total_episodes"], 1) else {
        d.put_or("train.passes", epochs, 3.0);
        return None;
    };
    let unknown: &[usize] = if d.knows(&completions.from) { &[] } else { &completions.from };
    let steps = Got::of(ceil(episodes.value, completions.value.max(1)), &[&episodes.from, unknown]);
    let count = d.knows(&steps.from).then_some(steps.value);
    d.put("train.steps", steps);
    d.leave(&places(epochs.as_ref()), "total_episodes counts");
    count
}

/// The policy loss, and the KL penalty on tokens.
fn loss(d: &mut Draft<'_>) {
    d.assume("loss.policy_loss.name", "dapo", "PPO's loss");
    let clip = d.number(&["cliprange"]);
    parts::clip_low(d, clip.clone(), 0.2);
    d.put_or("loss.policy_loss.clip.high", clip, 0.2);
    d.assume("loss.aggregation.name", "token-mean", "TRL's is the mean of a micro-batch's tokens");
    let coef = d.number(&["kl_coef"]);
    d.put_or("rewards.kl_coef", coef, 0.05);
    if let Some(estimator) = d.word(&["kl_estimator"], &[("k1", true), ("k3", false)]) {
        let reason = "the KL in the reward is always k1";
        if estimator.value { d.leave(&estimator.from, reason) } else { d.give_up(&estimator.from, reason) }
    }
}

/// How values become advantages, and how they are learnt.
fn critic(d: &mut Draft<'_>) {
    d.assume("critic.layers", "own", "TRL's value model is one of its own");
    let gamma = d.number(&["gamma"]);
    d.put_or("critic.gamma", gamma, 1.0);
    let lambda = d.number(&["lam"]);
    d.put_or("critic.lambda", lambda, 0.95);
    let clip = d.number(&["cliprange_value"]);
    d.put_or("critic.clip", clip, 0.2);
    d.assume("critic.whiten", true, "as TRL does");
    if let Some(whitened) = d.switch(&["whiten_rewards"]) {
        let reason = "advantages are whitened, rewards are not";
        if whitened.value { d.give_up(&whitened.from, reason) } else { d.leave(&whitened.from, reason) }
    }
    d.note(
        &[],
        "TRL's value model begins as the reward model, here the critic begins as the policy; and where TRL expects nothing \
         after a truncated completion, here the critic's value of its last state follows",
    );
}
