//! What a step reports, under the names that users know from TRL.

use crate::{Group, Update};
use dapo_loss::LossMetrics;
use dapo_policy::FinishReason;
use dapo_sampler::Account;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The numbers of one training step, the same in every repetition of the run. Completion figures are over all groups that
/// were generated in the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean reward.
    pub reward: f64,
    /// Mean over groups of the rewards' standard deviation (n − 1).
    pub reward_std: f64,
    /// Share of groups whose rewards are all the same.
    pub frac_reward_zero_std: f64,
    /// Mean of each reward component before weighting, over completions where it did not abstain.
    #[serde(flatten, serialize_with = "component_means")]
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
    /// Mean entropy over the trained tokens and all updates of the step, in nats.
    pub entropy: f64,
    /// Mean probability of the generated tokens.
    pub mean_token_prob: f64,
    /// Estimate k1 of KL(old ‖ policy) over all updates of the step.
    pub kl: f64,
    /// Mean KL estimate to the reference, over the trained tokens (in the loss) or the generated ones (in the reward); 0
    /// without a reference.
    pub ref_kl: f64,
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
    /// Largest |log-prob in training − log-prob in the roll-out| before the first update, over this step's groups: 0 on a CPU,
    /// where both come from one forward; rounding on a GPU. Carried groups were drawn by an earlier policy and count in `kl` alone.
    #[serde(rename = "sampling/logp_difference/max")]
    pub logp_difference_max: f64,
    /// Its mean.
    #[serde(rename = "sampling/logp_difference/mean")]
    pub logp_difference_mean: f64,
    /// Tokens generated so far in the run.
    pub num_tokens: u64,
    /// Groups in the step's account.
    #[serde(flatten, serialize_with = "account_terms")]
    pub dynamic_sampling: Account,
    /// Optimiser updates in the step; 0 when no token was left in the loss.
    pub updates: u64,
}

/// As `rewards/NAME/mean`.
fn component_means<S: Serializer>(components: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(components.iter().map(|(name, mean)| (format!("rewards/{name}/mean"), mean)))
}

/// As `dynamic_sampling/TERM`.
fn account_terms<S: Serializer>(account: &Account, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(account.terms().map(|(name, count)| (format!("dynamic_sampling/{name}"), count)))
}

/// How long a step took; these differ from repetition to repetition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepTimings {
    /// Number of the step, from 1.
    pub step: u64,
    /// Seconds for the step.
    pub step_time: f64,
    /// Of these, seconds for roll-outs and rewards.
    pub rollout_time: f64,
    /// Of these, seconds for reference log-probs in the loss and for updates.
    pub update_time: f64,
    /// Generated tokens per second of the step.
    pub tokens_per_second: f64,
}

/// Sums over generated groups, round after round.
#[derive(Debug, Default)]
pub(crate) struct GroupSums {
    completions: u64,
    right: u64,
    tokens: u64,
    terminated: u64,
    terminated_tokens: u64,
    probability: f64,
    rewards: f64,
    rewarded: u64,
    stds: f64,
    flat: u64,
    groups: u64,
    components: BTreeMap<String, (f64, u64)>,
}

impl GroupSums {
    pub(crate) fn add(&mut self, group: &Group) {
        let totals: Vec<f64> = (0..group.completions.len()).filter_map(|i| group.final_reward(i)).collect();
        let std = sample_std(&totals);
        self.stds += std;
        self.flat += u64::from(std == 0.0);
        self.groups += 1;
        self.rewards += totals.iter().sum::<f64>();
        self.rewarded += totals.len() as u64;
        self.right += group.rewards.iter().filter(|r| r.correct == Some(true)).count() as u64;
        for component in group.rewards.iter().flat_map(|r| &r.components) {
            let sum = self.components.entry(component.name.clone()).or_default();
            if let Some(value) = component.value {
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
        for completion in &group.completions {
            self.completions += 1;
            self.tokens += completion.token_ids.len() as u64;
            if completion.finish_reason == FinishReason::Stop {
                self.terminated += 1;
                self.terminated_tokens += completion.token_ids.len() as u64;
            }
            self.probability += completion.logprobs.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        }
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn write(self, metrics: &mut StepMetrics) {
        let ratio = |a: f64, b: u64| a / b.max(1) as f64;
        metrics.reward = ratio(self.rewards, self.rewarded);
        metrics.reward_std = ratio(self.stds, self.groups);
        metrics.frac_reward_zero_std = ratio(self.flat as f64, self.groups);
        metrics.components = self.components.into_iter().map(|(name, (sum, n))| (name, ratio(sum, n))).collect();
        metrics.accuracy = ratio(self.right as f64, self.completions);
        metrics.mean_length = ratio(self.tokens as f64, self.completions);
        metrics.clipped_ratio = ratio((self.completions - self.terminated) as f64, self.completions);
        metrics.mean_terminated_length = ratio(self.terminated_tokens as f64, self.terminated);
        metrics.mean_token_prob = ratio(self.probability, self.tokens);
        metrics.num_tokens += self.tokens;
    }
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
    metrics.ref_kl += all.ref_kl();
    metrics.clip_low = all.clip_low();
    metrics.clip_high = all.clip_high();
    metrics.clip_region = all.clip_region();
    metrics.entropy = all.mean_entropy();
}
