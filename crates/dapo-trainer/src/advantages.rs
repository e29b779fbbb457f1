//! From groups of rewards to sequences with advantages; the values by which groups are kept or dropped.

use crate::{Group, TrainerError, TrainingGroup, TrainingSequence};
use dapo_loss::{AdvantageNorm, batch_advantages};
use dapo_reward::OverlongFilter;
use dapo_sampler::FilterMetric;

/// The filter metric of each completion; `None` for one that has no place in its group's baseline: its reward is
/// unknown, or it is dropped as overlong.
pub(crate) fn filter_metric(metric: &FilterMetric, group: &Group, filter: OverlongFilter) -> Vec<Option<f64>> {
    let component =
        |name: &str, i: usize| group.rewards[i].components.iter().find(|c| c.name == name).and_then(|c| c.value);
    let value = |i: usize| match metric {
        FilterMetric::Acc => group.rewards[i].correct.map(|correct| if correct { 1.0 } else { 0.0 }),
        FilterMetric::Score => component("accuracy", i),
        FilterMetric::SeqReward => group.rewards[i].total,
        FilterMetric::SeqFinalReward => group.final_reward(i),
        FilterMetric::Component(name) => component(name, i),
    };
    let members = members(group, filter);
    members.iter().enumerate().map(|(i, reward)| reward.and_then(|_| value(i))).collect()
}

/// The final reward of each completion that has a place in its group's baseline.
fn members(group: &Group, filter: OverlongFilter) -> Vec<Option<f64>> {
    let reward = |i| group.final_reward(i).filter(|_| filter.keeps_member(group.is_truncated(i)));
    (0..group.completions.len()).map(reward).collect()
}

/// The advantage of every completion of every group; `None` for those outside their group's baseline.
///
/// # Errors
/// When a group has fewer than two members, or a reward is not finite.
pub(crate) fn advantages(
    groups: &[&Group],
    norm: &AdvantageNorm,
    filter: OverlongFilter,
) -> Result<Vec<Vec<Option<f32>>>, TrainerError> {
    let rewards: Vec<Vec<Option<f64>>> = groups.iter().map(|group| members(group, filter)).collect();
    let sizes: Vec<usize> = rewards.iter().map(Vec::len).collect();
    let mut all = batch_advantages(&rewards.concat(), &sizes, norm)?.to_options().into_iter();
    Ok(sizes.into_iter().map(|size| all.by_ref().take(size).collect()).collect())
}

/// A group with its advantages, ready to be packed.
pub(crate) fn training_group(
    group: &Group,
    advantages: &[Option<f32>],
    filter: OverlongFilter,
    on_policy: bool,
) -> TrainingGroup {
    let sequence = |(i, advantage): (usize, &Option<f32>)| {
        let completion = &group.completions[i];
        Some(TrainingSequence {
            token_ids: completion.token_ids.clone(),
            old_logprobs: completion.logprobs.clone(),
            ref_logprobs: None,
            advantage: (*advantage)?,
            in_loss: filter.keeps_tokens(group.is_truncated(i)),
        })
    };
    let sequences = advantages.iter().enumerate().filter_map(sequence).collect();
    TrainingGroup { prompt_ids: group.prompt.token_ids.clone(), sequences, on_policy }
}
