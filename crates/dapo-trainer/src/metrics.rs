//! What a step reports, under the names that users know from TRL.

use crate::{Group, TrainingGroup};
use dapo_loss::LossMetrics;
use dapo_policy::FinishReason;
use dapo_sampler::Account;
use serde::Serialize;
use std::collections::BTreeMap;

/// The numbers of one training step. Completion figures are over all groups that were generated in the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Steps before this one.
    pub step: u64,
    /// Mean reward.
    pub reward: f64,
    /// Mean over groups of the rewards' standard deviation (n − 1).
    pub reward_std: f64,
    /// Share of groups whose rewards are all the same.
    pub frac_reward_zero_std: f64,
    /// Mean of each reward component before weighting, over completions where it did not abstain.
    #[serde(rename = "rewards")]
    pub components: BTreeMap<String, f64>,
    /// Share of right completions.
    pub accuracy: f64,
    /// Mean length in tokens.
    #[serde(rename = "completions/mean_length")]
    pub mean_length: f64,
    /// Share of completions that used up their tokens.
    #[serde(rename = "completions/clipped_ratio")]
    pub clipped_ratio: f64,
    /// Mean length of those that stopped by themselves.
    #[serde(rename = "completions/mean_terminated_length")]
    pub mean_terminated_length: f64,
    /// Mean entropy over the trained tokens, first pass, in nats.
    pub entropy: f64,
    /// Mean probability of the generated tokens.
    pub mean_token_prob: f64,
    /// Estimate k1 of KL(old ‖ policy) over all updates of the step.
    pub kl: f64,
    /// Share of tokens with A < 0 and ρ < 1 − ε_low, over all updates of the step.
    #[serde(rename = "clip_ratio/low_mean")]
    pub clip_low: f64,
    /// Share of tokens with A > 0 and ρ > 1 + ε_high.
    #[serde(rename = "clip_ratio/high_mean")]
    pub clip_high: f64,
    /// Share of tokens outside the clip range on either side.
    #[serde(rename = "clip_ratio/region_mean")]
    pub clip_region: f64,
    /// Mean over updates of the gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Mean over updates of the loss.
    pub loss: f64,
    /// Largest |log-prob in training − log-prob in the roll-out| at the first update, this step's groups: 0, as both
    /// come from one forward.
    #[serde(rename = "sampling/logp_difference/max")]
    pub logp_difference_max: f64,
    /// Its mean.
    #[serde(rename = "sampling/logp_difference/mean")]
    pub logp_difference_mean: f64,
    /// Tokens generated so far in the run.
    pub num_tokens: u64,
    /// Groups in the step's account.
    pub dynamic_sampling: Account,
    /// Optimiser updates in the step; 0 when no token was left in the loss.
    pub updates: u64,
    /// Seconds for the step.
    pub step_time: f64,
    /// Of these, seconds for roll-outs and rewards.
    pub rollout_time: f64,
    /// Generated tokens per second of the step.
    pub tokens_per_second: f64,
}

/// Figures of generated groups.
pub(crate) fn of_groups<'a>(metrics: &mut StepMetrics, groups: impl Iterator<Item = &'a Group>) {
    let (mut completions, mut right, mut tokens, mut terminated, mut terminated_tokens) =
        (0u64, 0u64, 0u64, 0u64, 0u64);
    let (mut probability, mut rewards, mut rewarded) = (0.0, 0.0, 0u64);
    let (mut stds, mut flat, mut count) = (0.0, 0u64, 0u64);
    let mut components: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    for group in groups {
        let totals: Vec<f64> = group.rewards.iter().filter_map(|r| r.total).collect();
        let std = sample_std(&totals);
        stds += std;
        flat += u64::from(std == 0.0);
        count += 1;
        rewards += totals.iter().sum::<f64>();
        rewarded += totals.len() as u64;
        right += group.rewards.iter().filter(|r| r.correct == Some(true)).count() as u64;
        for component in group.rewards.iter().flat_map(|r| &r.components) {
            let sum = components.entry(component.name.clone()).or_default();
            if let Some(value) = component.value {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        for completion in &group.completions {
            completions += 1;
            tokens += completion.token_ids.len() as u64;
            if completion.finish_reason == FinishReason::Stop {
                terminated += 1;
                terminated_tokens += completion.token_ids.len() as u64;
            }
            probability += completion.logprobs.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        }
    }
    let ratio = |a: f64, b: u64| a / b.max(1) as f64;
    metrics.reward = ratio(rewards, rewarded);
    metrics.reward_std = ratio(stds, count);
    metrics.frac_reward_zero_std = ratio(flat as f64, count);
    metrics.components = components.into_iter().map(|(name, (sum, n))| (name, ratio(sum, n))).collect();
    metrics.accuracy = ratio(right as f64, completions);
    metrics.mean_length = ratio(tokens as f64, completions);
    metrics.clipped_ratio = ratio((completions - terminated) as f64, completions);
    metrics.mean_terminated_length = ratio(terminated_tokens as f64, terminated);
    metrics.mean_token_prob = ratio(probability, tokens);
    metrics.num_tokens += tokens;
}

fn sample_std(values: &[f64]) -> f64 {
    if values.len() < 2 || values.iter().all(|v| *v == values[0]) {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Figures of the step's updates.
pub(crate) fn of_updates(metrics: &mut StepMetrics, updates: &[Update]) {
    let mut all = LossMetrics::default();
    for update in updates {
        all += update.metrics;
    }
    let n = updates.len().max(1) as f64;
    metrics.updates = updates.len() as u64;
    metrics.loss = updates.iter().map(|u| u.loss).sum::<f64>() / n;
    metrics.grad_norm = updates.iter().map(|u| u.grad_norm).sum::<f64>() / n;
    metrics.kl = all.approx_kl();
    metrics.clip_low = all.clip_low();
    metrics.clip_high = all.clip_high();
    metrics.clip_region = all.clip_region();
    metrics.entropy = all.mean_entropy();
}

/// One optimiser update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Update {
    /// The loss before the update.
    pub loss: f64,
    /// Norm of its gradient before clipping.
    pub grad_norm: f64,
    /// What the loss saw.
    pub metrics: LossMetrics,
    /// Σ |log-prob − old log-prob| over the tokens in the loss.
    pub difference_sum: f64,
}

/// Completions that are trained, and their tokens in the loss.
pub(crate) fn loss_lengths(groups: &[TrainingGroup]) -> Vec<usize> {
    groups.iter().flat_map(|g| &g.sequences).map(crate::TrainingSequence::loss_tokens).collect()
}
