//! From the rewards of groups to the advantages of their samples; the values by which groups are kept or dropped.

use crate::error::TrainerError;
use crate::sample::{Group, Sample, SampleOutcome};
use dapo_loss::{AdvantageNorm, batch_advantages};
use dapo_reward::{OverlongFilter, RewardSum};
use dapo_sampler::FilterMetric;

/// The filter metric of a run: it must be something that the rewards measure. `acc` is the total reward where none of them
/// judges what is correct.
pub(crate) fn settled_metric(metric: &FilterMetric, rewards: &RewardSum) -> Result<FilterMetric, TrainerError> {
    let name = match metric {
        FilterMetric::Acc if !rewards.judges() => return Ok(FilterMetric::SeqReward),
        FilterMetric::Acc | FilterMetric::SeqReward | FilterMetric::SeqFinalReward => return Ok(metric.clone()),
        FilterMetric::Score => "accuracy",
        FilterMetric::Component(name) => name,
    };
    if rewards.names().any(|known| known == name) {
        return Ok(metric.clone());
    }
    let names: Vec<&str> = rewards.names().collect();
    let expected = format!("acc, seq_reward, seq_final_reward, or a reward component: {}", names.join(", "));
    Err(TrainerError::setting("sampler.metric", metric, &expected))
}

/// The filter metric of each sample; `None` for one that has no place in its group's baseline: its reward is unknown, or
/// it is dropped as overlong.
pub(crate) fn filter_metric(metric: &FilterMetric, group: &Group, filter: OverlongFilter) -> Vec<Option<f64>> {
    let of = |sample: &Sample| member_reward(sample, filter).and_then(|_| metric_of(metric, sample));
    group.samples.iter().map(of).collect()
}

fn metric_of(metric: &FilterMetric, sample: &Sample) -> Option<f64> {
    let component = |name: &str| sample.reward.components.iter().find(|c| c.name == name).and_then(|c| c.value);
    match metric {
        FilterMetric::Acc => sample.accuracy(),
        FilterMetric::Score => component("accuracy"),
        FilterMetric::SeqReward => sample.reward.total,
        FilterMetric::SeqFinalReward => sample.final_reward(),
        FilterMetric::Component(name) => component(name),
    }
}

/// The final reward of a sample that has a place in its group's baseline.
fn member_reward(sample: &Sample, filter: OverlongFilter) -> Option<f64> {
    sample.final_reward().filter(|_| filter.keeps_member(sample.is_truncated()))
}

/// Sets advantage and outcome of every sample of the groups that are trained on; there is no advantage outside a group's
/// baseline.
///
/// # Errors
/// [`TrainerError::Loss`] when a group has fewer than two members, or a reward is not finite; nothing has changed then.
pub(crate) fn set_advantages(
    groups: &mut [&mut Group],
    norm: &AdvantageNorm,
    filter: OverlongFilter,
) -> Result<(), TrainerError> {
    let samples = groups.iter().flat_map(|group| &group.samples);
    let rewards: Vec<Option<f64>> = samples.map(|sample| member_reward(sample, filter)).collect();
    let sizes: Vec<usize> = groups.iter().map(|group| group.samples.len()).collect();
    let advantages = batch_advantages(&rewards, &sizes, norm).map_err(|error| {
        let draws: Vec<u64> = groups.iter().map(|group| group.draw).collect();
        TrainerError::of_group(error, &draws)
    })?;
    let samples = groups.iter_mut().flat_map(|group| &mut group.samples);
    for (sample, advantage) in samples.zip(advantages.to_options()) {
        set_outcome(sample, advantage, filter);
    }
    Ok(())
}

/// Sets the outcome of every sample of the groups whose advantages a critic gives; until then they are 0.
pub(crate) fn set_members(groups: &mut [&mut Group], filter: OverlongFilter) {
    for sample in groups.iter_mut().flat_map(|group| &mut group.samples) {
        let advantage = member_reward(sample, filter).map(|_| 0.0);
        set_outcome(sample, advantage, filter);
    }
}

fn set_outcome(sample: &mut Sample, advantage: Option<f32>, filter: OverlongFilter) {
    sample.advantage = advantage;
    sample.outcome = match advantage {
        None => SampleOutcome::OutsideBaseline,
        Some(_) if filter.keeps_tokens(sample.is_truncated()) => SampleOutcome::InLoss,
        Some(_) => SampleOutcome::Masked,
    };
}
