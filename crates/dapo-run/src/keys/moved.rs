//! Second names, and keys of older versions, which still work.

/// Tables that go by a second name.
pub(crate) const ALIASES: [(&str, &str); 1] = [("rewards.soft_overlong_punishment", "rewards.soft_overlong")];

/// The old key that says that `kl.coef` is the coefficient of a KL in the reward.
pub(crate) const IN_REWARD: &str = "kl.in_reward";

/// Tables that are gone, whose keys have moved, and the tables that took their place.
const OLD_TABLES: [(&str, &[&str]); 2] =
    [("kl", &["loss.kl", "reference_sync"]), ("loss.truncated_importance", &["loss.rollout_correction"])];

/// Keys that have moved: the old one and the new one. `kl.in_reward` says which of two keys `kl.coef` is.
const MOVED: [(&str, &str); 25] = [
    ("kl.coef", "loss.kl.coef"),
    ("kl.estimator", "loss.kl.estimator"),
    ("kl.times_ratio", "loss.kl.times_ratio"),
    ("kl.sync_every", "reference_sync.every"),
    ("kl.sync_mixup", "reference_sync.mixup"),
    ("loss.clip_low", "loss.policy_loss.clip.low"),
    ("loss.clip_high", "loss.policy_loss.clip.high"),
    ("loss.dual_clip", "loss.policy_loss.dual_clip"),
    ("loss.tau_positive", "loss.policy_loss.tau_positive"),
    ("loss.tau_negative", "loss.policy_loss.tau_negative"),
    ("loss.norm_len", "loss.aggregation.max_len"),
    ("loss.truncated_importance.cap", "loss.rollout_correction.high"),
    ("loss.truncated_importance.level", "loss.rollout_correction.level"),
    ("sampler.per_prompt_max_samples", "sampler.per_prompt.max_samples"),
    ("sampler.per_prompt_increment", "sampler.per_prompt.increment"),
    ("rewards.accuracy.right", "rewards.accuracy.correct"),
    ("rewards.accuracy.wrong", "rewards.accuracy.incorrect"),
    ("rewards.accuracy.extract", "rewards.accuracy.grader.profile.rules"),
    ("rewards.accuracy.ignore_case", "rewards.accuracy.grader.ignore_case"),
    ("rewards.accuracy.ignore_whitespace", "rewards.accuracy.grader.ignore_whitespace"),
    ("rewards.accuracy.ignore_punctuation", "rewards.accuracy.grader.ignore_punctuation"),
    ("rewards.accuracy.ignore_articles", "rewards.accuracy.grader.ignore_articles"),
    ("rewards.length.min_wrong", "rewards.length.min_incorrect"),
    ("rewards.length.max_wrong", "rewards.length.max_incorrect"),
    ("train.epochs", "train.updates_per_batch"),
];

/// Keys whose 0 (or empty string) stood for what now has a word of its own: the key, what goes with it, and the word.
const ZEROS: [(&str, &str, &str); 18] = [
    ("lora.rank", "lora", "none"),
    ("data.limit", "data.limit", "none"),
    ("data.system", "data.system", "none"),
    ("rollout.top_k", "rollout.top_k", "none"),
    ("rollout.cache_mib", "rollout.cache_mib", "none"),
    ("sampler.gen_batch_min", "sampler.gen_batch_min", "1"),
    ("sampler.gen_batch_max", "sampler.gen_batch_max", "none"),
    ("sampler.per_prompt.max_samples", "sampler.per_prompt", "none"),
    ("rewards.soft_overlong.max_len", "rewards.soft_overlong.max_len", "none"),
    ("rewards.soft_overlong.cache_len", "rewards.soft_overlong.cache_len", "none"),
    ("rewards.proportional_overlong.threshold", "rewards.proportional_overlong.threshold", "none"),
    ("loss.policy_loss.dual_clip", "loss.policy_loss.dual_clip", "none"),
    ("loss.aggregation.max_len", "loss.aggregation.max_len", "none"),
    ("reference_sync.every", "reference_sync.every", "none"),
    ("optimizer.max_grad_norm", "optimizer.max_grad_norm", "inf"),
    ("eval.every", "eval.every", "none"),
    ("eval.max_new_tokens", "eval.max_new_tokens", "none"),
    ("eval.limit", "eval.limit", "none"),
];

/// Keys of which one takes the place of the other: a count, and what the count is computed from.
pub(crate) const EITHER: [(&str, &str); 3] = [
    ("train.steps", "train.passes"),
    ("optimizer.warmup_steps", "optimizer.warmup_ratio"),
    ("critic.optimizer.warmup_steps", "critic.optimizer.warmup_ratio"),
];

/// The keys that have moved, under their old names.
pub(crate) fn old_keys() -> impl Iterator<Item = &'static str> {
    MOVED.iter().map(|(old, _)| *old)
}

/// The tables that took the place of an old one; `None` for other paths.
pub(crate) fn in_place_of(path: &str) -> Option<&'static [&'static str]> {
    OLD_TABLES.iter().find(|(old, _)| *old == path).map(|(_, new)| *new)
}

/// The key that took the place of an old one.
pub(crate) fn moved(path: &str) -> Option<&'static str> {
    MOVED.iter().find(|(old, _)| *old == path).map(|(_, new)| *new)
}

/// What a value of 0 means for a key where other trainers, and earlier versions, write 0 for "none": the key or table that
/// it is about, and the word that says so. `None` where 0 is a number like others, or the value is not 0.
pub fn zero(path: &str, value: &str) -> Option<(&'static str, &'static str)> {
    let is_zero = value.parse::<f64>() == Ok(0.0) || matches!(value, "\"\"" | "''");
    ZEROS.iter().find(|(key, ..)| *key == path && is_zero).map(|(_, what, word)| (*what, *word))
}

/// The path with second and old names replaced.
pub(crate) fn canonical(path: &str) -> String {
    if let Some(new) = moved(path) {
        return new.to_owned();
    }
    for (alias, name) in ALIASES {
        if let Some(rest) = path.strip_prefix(alias)
            && (rest.is_empty() || rest.starts_with('.'))
        {
            return format!("{name}{rest}");
        }
    }
    path.to_owned()
}
