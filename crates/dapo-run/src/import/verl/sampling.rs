//! Roll-outs and dynamic sampling.

use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

/// How completions are generated; returns their longest length.
pub(super) fn rollout(d: &mut Draft<'_>) -> Result<Got<i64>, ImportError> {
    let group = d.count(&["actor_rollout_ref.rollout.n"], 1)?;
    if group.as_ref().is_none_or(|group| group.value == 1) {
        let from = group.as_ref().map(|group| group.from.clone()).unwrap_or_default();
        d.note(&from, "actor_rollout_ref.rollout.n is 1 in verl unless set; a group of one has no baseline: set rollout.group_size");
    }
    d.put_or("rollout.group_size", group, 1);
    let other = "actor_rollout_ref.rollout.response_length";
    let longest = match d.count(&["data.max_response_length"], 1)? {
        Some(longest) => longest,
        None => d.count(&[other], 1)?.unwrap_or(Got { value: 512, from: Vec::new() }),
    };
    d.skip(&[other], "data.max_response_length counts");
    d.put_or("rollout.max_new_tokens", Some(longest.clone()), 512);
    let temperature = d.number(&["actor_rollout_ref.rollout.temperature"])?;
    d.put_or("rollout.temperature", temperature, 1.0);
    let top_p = d.number(&["actor_rollout_ref.rollout.top_p"])?;
    d.put_or("rollout.top_p", top_p, 1.0);
    let top_k = d.integer(&["actor_rollout_ref.rollout.top_k"])?;
    d.put_or("rollout.top_k", top_k.map(|top_k| top_k.map(|k| k.max(0))), 0);
    Ok(longest)
}

/// Which groups are trained on; returns how many a step has.
pub(super) fn sampler(d: &mut Draft<'_>) -> Result<Got<i64>, ImportError> {
    let dynamic = d.switch(&["algorithm.filter_groups.enable"])?;
    let train = d.count(&["data.train_batch_size"], 1)?;
    let generated = d.count(&["data.gen_batch_size"], 1)?;
    let is_dynamic = dynamic.as_ref().is_some_and(|dynamic| dynamic.value);
    d.put_or("sampler.dynamic", dynamic, false);
    let unused = ["algorithm.filter_groups.metric", "algorithm.filter_groups.max_num_gen_batches"];
    if !is_dynamic {
        d.skip(&unused, "algorithm.filter_groups.enable is false");
        return Ok(plain_batch(d, train, generated));
    }
    let metrics = ["acc", "score", "seq_reward", "seq_final_reward"].map(|name| (name, name));
    match d.word(&["algorithm.filter_groups.metric"], &metrics)? {
        Some(metric) => d.put("sampler.metric", metric),
        None => d.note(&[], "the file names no metric to filter groups by; sampler.metric stays acc"),
    }
    let train = train.unwrap_or(Got { value: 1024, from: Vec::new() });
    d.put_or("sampler.train_batch", Some(train.clone()), 1024);
    d.put_or("sampler.gen_batch", generated, train.value);
    let rounds = d.integer(&["algorithm.filter_groups.max_num_gen_batches"])?;
    if rounds.as_ref().is_none_or(|rounds| rounds.value <= 0) {
        let from = rounds.as_ref().map(|rounds| rounds.from.clone()).unwrap_or_default();
        d.note(&from, "verl generates without end; here 0 ends after one full pass over the data");
    }
    d.put_or("sampler.max_gen_rounds", rounds.map(|rounds| rounds.map(|n| n.max(0))), 0);
    d.assume("sampler.surplus", "discard", "as verl does");
    d.assume("sampler.on_exhausted", "error", "as verl does");
    Ok(train)
}

/// Without dynamic sampling a step trains on all that one round generates.
fn plain_batch(d: &mut Draft<'_>, train: Option<Got<i64>>, generated: Option<Got<i64>>) -> Got<i64> {
    let train = train.unwrap_or(Got { value: 1024, from: Vec::new() });
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
