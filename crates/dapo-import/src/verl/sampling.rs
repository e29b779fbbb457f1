//! Rollouts and dynamic sampling.

use super::rewards::has_function;
use crate::{
    draft::{Draft, Got, places},
    parts,
};

/// How completions are generated; returns their longest length.
pub(super) fn rollout(d: &mut Draft<'_>, has_critic: bool) -> Got<i64> {
    let group = d.count(&["actor_rollout_ref.rollout.n"], 1);
    if has_critic {
        d.put_or("rollout.group_size", group, 1);
    } else if let Some(group) = group {
        if group.value == 1 && d.knows(&group.from) {
            d.refuse(&group.from, "at least 2: a group of one has no baseline");
        }
        d.put("rollout.group_size", group);
    } else {
        let why = "verl's default is a group of 1, which has no baseline";
        d.note(&[], format!("set rollout.group_size: {why}"));
        d.leave_unset("rollout.group_size", why);
    }
    let other = "actor_rollout_ref.rollout.response_length";
    let longest = match d.count(&["data.max_response_length"], 1) {
        Some(longest) => longest,
        None => d.count(&[other], 1).unwrap_or(Got::default(512)),
    };
    d.skip(&[other], "data.max_response_length counts");
    d.put_or("rollout.max_new_tokens", Some(longest.clone()), 512);
    let temperature = d.number(&["actor_rollout_ref.rollout.temperature"]);
    d.put_or("rollout.temperature", temperature, 1.0);
    let top_p = d.number(&["actor_rollout_ref.rollout.top_p"]);
    d.put_or("rollout.top_p", top_p, 1.0);
    let top_k = d.integer(&["actor_rollout_ref.rollout.top_k"]);
    d.put_or("rollout.top_k", top_k.map(|top_k| top_k.map(|k| k.max(0))), 0);
    let min_p = d.number(&["actor_rollout_ref.rollout.min_p"]);
    let penalty = d.number(&["actor_rollout_ref.rollout.repetition_penalty"]);
    parts::sampler(d, min_p, penalty);
    let ignores = d.switch(&["actor_rollout_ref.rollout.ignore_eos"]);
    d.put_or("rollout.ignore_eos", ignores, false);
    longest
}

/// Which groups are trained on; returns how many a step has, and whether some are filtered.
pub(super) fn sampler(d: &mut Draft<'_>) -> (Got<i64>, bool) {
    let dynamic = d.switch(&["algorithm.filter_groups.enable"]);
    // The asynchronous trainer wants a 0 there.
    let least = i64::from(!d.has_prefix("async_training."));
    let train = d.count(&["data.train_batch_size"], least);
    let generated = d.count(&["data.gen_batch_size"], 1);
    if train.as_ref().is_some_and(|train| train.value == 0 && d.knows(&train.from)) {
        return (streamed(d, train.as_ref(), generated.as_ref(), dynamic), false);
    }
    let is_dynamic = dynamic.as_ref().is_some_and(|dynamic| dynamic.value);
    d.put_or("sampler.dynamic", dynamic, false);
    let unused = ["algorithm.filter_groups.metric", "algorithm.filter_groups.max_num_gen_batches"];
    if !is_dynamic {
        d.skip(&unused, "algorithm.filter_groups.enable is false");
        return (plain_batch(d, train, generated), false);
    }
    // Where a function of the file scores, acc and score are what it returns.
    let has_function = has_function(d);
    let scored = |name| if has_function && ["acc", "score"].contains(&name) { "custom" } else { name };
    let metrics = ["acc", "score", "seq_reward", "seq_final_reward"].map(|name| (name, scored(name)));
    match d.word(&["algorithm.filter_groups.metric"], &metrics) {
        Some(metric) => d.put("sampler.metric", metric),
        None if has_function => d.assume("sampler.metric", "custom", "what the reward function returns"),
        None => d.note(&[], "the file names no metric to filter groups by; sampler.metric stays acc"),
    }
    let train = train.unwrap_or(Got::default(1024));
    d.put_or("sampler.train_batch", Some(train.clone()), 1024);
    d.put_or("sampler.gen_batch", generated, train.value);
    let rounds = d.integer(&["algorithm.filter_groups.max_num_gen_batches"]);
    if rounds.as_ref().is_none_or(|rounds| rounds.value <= 0) {
        d.note(&places(rounds.as_ref()), "verl generates without end; here 0 ends after one full pass over the data");
    }
    d.put_or("sampler.max_gen_rounds", rounds.map(|rounds| rounds.map(|n| n.max(0))), 0);
    d.assume("sampler.surplus", "discard", "as verl does");
    d.assume("sampler.on_exhausted", "error", "as verl does");
    (train, true)
}

/// The fully asynchronous trainer takes `require_batches` mini-batches at a time from a stream of single prompts.
fn streamed(
    d: &mut Draft<'_>,
    train: Option<&Got<i64>>,
    generated: Option<&Got<i64>>,
    dynamic: Option<Got<bool>>,
) -> Got<i64> {
    let batches = d.count(&["async_training.require_batches"], 1);
    let size = d.peek_count("actor_rollout_ref.actor.ppo_mini_batch_size").unwrap_or(256);
    let prompts = size.saturating_mul(batches.as_ref().map_or(1, |batches| batches.value));
    let prompts = Got::of(prompts, &[&places(train), &places(batches.as_ref())]);
    d.note(
        &prompts.from,
        "verl's asynchronous trainer has no train_batch_size: a step here has require_batches × ppo_mini_batch_size prompts; \
         rollouts are never stale here",
    );
    d.put("sampler.train_batch", prompts.clone());
    d.put("sampler.gen_batch", prompts.clone());
    d.put_or("sampler.dynamic", dynamic, false);
    d.leave(&places(generated), "prompts are generated by the batch");
    d.skip(
        &["algorithm.filter_groups.metric", "algorithm.filter_groups.max_num_gen_batches"],
        "the asynchronous trainer does not filter groups",
    );
    prompts
}

/// Without dynamic sampling a step trains on all that one round generates.
fn plain_batch(d: &mut Draft<'_>, train: Option<Got<i64>>, generated: Option<Got<i64>>) -> Got<i64> {
    let train = train.unwrap_or(Got::default(1024));
    let prompts = match generated {
        Some(generated) if generated.value != train.value => {
            d.note(
                &generated.from,
                "without filter_groups verl trains on all prompts it generates for, and so on gen_batch_size of them",
            );
            d.leave(&train.from, "gen_batch_size counts, as verl has it without filter_groups");
            generated
        }
        Some(generated) => Got::of(train.value, &[&train.from, &generated.from]),
        None => train,
    };
    d.put_or("sampler.train_batch", Some(prompts.clone()), 1024);
    d.put_or("sampler.gen_batch", Some(prompts.clone()), 1024);
    prompts
}
