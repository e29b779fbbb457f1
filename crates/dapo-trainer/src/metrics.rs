//! What a step reports, under the names that users know from TRL.

use crate::critic::CriticUpdate;
use crate::rescore::Corrected;
use crate::sample::{Group, Sample};
use crate::update::Update;
use dapo_loss::{LossConfig, LossMetrics, RolloutCorrection, ValueMetrics};
use dapo_sampler::Account;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// What one training step measured, the same in every repetition of the run.
///
/// `None` (`null` in a log): there was nothing to measure. Reward, accuracy, lengths and token probability are over all
/// completions generated in the step, those of dropped groups included. A step that trains on carried groups alone
/// generates no completions. Entropy, KL and clip shares are over the tokens that updates compute, which leaves out groups
/// with A = 0 where the loss has neither a KL term nor an entropy bonus.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StepMetrics {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean reward.
    pub reward: Option<f64>,
    /// Mean over groups with at least two rewards of the rewards' standard deviation (n − 1).
    pub reward_std: Option<f64>,
    /// Share of these groups whose rewards are all the same.
    pub frac_reward_zero_std: Option<f64>,
    /// Mean of each reward component before weighting, over completions where it did not abstain.
    #[serde(flatten, serialize_with = "component_means")]
    pub components: BTreeMap<String, Option<f64>>,
    /// By component, the mean of each number that it logs, over completions for which it does.
    #[serde(flatten, serialize_with = "log_means")]
    pub logs: BTreeMap<String, BTreeMap<String, f64>>,
    /// Share of correct completions, among those that were judged.
    pub accuracy: Option<f64>,
    /// Mean length in tokens.
    #[serde(rename = "completions/mean_length")]
    pub mean_length: Option<f64>,
    /// Share of completions that used up their tokens.
    #[serde(rename = "completions/clipped_ratio")]
    pub clipped_ratio: Option<f64>,
    /// Mean length of those that stopped by themselves.
    #[serde(rename = "completions/mean_terminated_length")]
    pub mean_terminated_length: Option<f64>,
    /// Mean entropy over the trained tokens and all updates of the step, in nats.
    pub entropy: Option<f64>,
    /// Mean probability of the generated tokens.
    pub mean_token_prob: Option<f64>,
    /// Estimate k1 of KL(old ‖ policy) over all updates of the step.
    pub kl: Option<f64>,
    /// Mean KL estimate to the reference, over the trained tokens (in the loss) or the generated ones (in the reward).
    pub ref_kl: Option<f64>,
    /// Share of tokens with A < 0 and ρ < 1 − ε_low, over all updates of the step.
    #[serde(rename = "clip_ratio/low_mean")]
    pub clip_low: Option<f64>,
    /// Share of tokens with A > 0 and ρ > 1 + ε_high.
    #[serde(rename = "clip_ratio/high_mean")]
    pub clip_high: Option<f64>,
    /// Share of tokens outside the clip range on either side.
    #[serde(rename = "clip_ratio/region_mean")]
    pub clip_region: Option<f64>,
    /// Mean over updates of the gradient norm before clipping.
    pub grad_norm: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Mean over updates of the loss.
    pub loss: Option<f64>,
    /// Largest |log-prob in training − log-prob in the rollout| before the first update, over groups of this step: 0 on a
    /// CPU, where both come from one forward pass; rounding on a GPU. On a CPU it is over the first mini-batch that has such
    /// groups, on a GPU over all. Carried groups were drawn by an earlier policy and count in `kl` alone.
    #[serde(rename = "sampling/logp_difference/max")]
    pub logp_difference_max: Option<f64>,
    /// Mean of these differences.
    #[serde(rename = "sampling/logp_difference/mean")]
    pub logp_difference_mean: Option<f64>,
    /// Mean importance weight of the rollout correction, over all updates of the step; `None`, and left out of a log, where
    /// it has no weights.
    #[serde(rename = "sampling/importance_sampling_ratio/mean", skip_serializing_if = "Option::is_none")]
    pub importance_mean: Option<f64>,
    /// Share of the step's tokens that the rollout correction takes out of the policy loss: of weight 0, or of a rejected
    /// sequence. Left out of a log without a correction.
    #[serde(rename = "sampling/rollout_correction/masked_tokens", skip_serializing_if = "Option::is_none")]
    pub masked_tokens: Option<f64>,
    /// Share of its sequences that have such a token.
    #[serde(rename = "sampling/rollout_correction/masked_sequences", skip_serializing_if = "Option::is_none")]
    pub masked_sequences: Option<f64>,
    /// Share of the groups trained on that were generated in an earlier step, by an earlier policy.
    #[serde(rename = "sampling/stale_fraction")]
    pub stale_fraction: Option<f64>,
    /// Tokens generated so far in the run.
    pub num_tokens: u64,
    /// Groups in the step's account.
    #[serde(flatten, serialize_with = "account_terms")]
    pub dynamic_sampling: Account,
    /// What the critic's updates measured; left out of a log without one.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub critic: Option<CriticMetrics>,
    /// Optimiser updates in the step; 0 when no token was left in the loss, or the step was skipped.
    pub updates: u64,
    /// Steps of the run so far that were skipped because their batch was below the floor of
    /// [`TrainerConfig::min_mini_batch`](crate::TrainerConfig::min_mini_batch); `None`, and left out of a log, without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped_steps: Option<u64>,
}

/// A critic's figures of a step, over its updates, under verl's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CriticMetrics {
    /// Mean over updates of the value loss, without its coefficient.
    #[serde(rename = "critic/vf_loss")]
    pub loss: Option<f64>,
    /// Share of tokens whose loss is that of the clipped value.
    #[serde(rename = "critic/vf_clipfrac")]
    pub clip_fraction: Option<f64>,
    /// Mean value.
    #[serde(rename = "critic/vpred_mean")]
    pub value: Option<f64>,
    /// Mean return.
    #[serde(rename = "critic/returns/mean")]
    pub mean_return: Option<f64>,
    /// 1 − Var(R − V) / Var(R): 1 for values that foresee every return, 0 or less for those that foresee nothing.
    #[serde(rename = "critic/vf_explained_var")]
    pub explained_variance: Option<f64>,
    /// Mean norm of the gradient before clipping; that of policy and critic together with shared layers.
    #[serde(rename = "critic/grad_norm")]
    pub grad_norm: Option<f64>,
    /// Learning rate.
    #[serde(rename = "critic/lr")]
    pub lr: f64,
}

/// Figures of a critic's updates.
pub(crate) fn of_critic(updates: &[CriticUpdate], lr: f64) -> CriticMetrics {
    let mut all = ValueMetrics::default();
    for update in updates {
        all += update.output.metrics;
    }
    let mean = |of: fn(&CriticUpdate) -> f64| share(updates.iter().map(of).sum(), updates.len() as u64);
    let of_tokens = |value: f64| (all.tokens > 0).then_some(value);
    CriticMetrics {
        loss: mean(|update| update.output.loss),
        clip_fraction: of_tokens(all.clip_fraction()),
        value: of_tokens(all.mean_value()),
        mean_return: of_tokens(all.mean_return()),
        explained_variance: of_tokens(all.explained_variance()),
        grad_norm: mean(|update| update.grad_norm),
        lr,
    }
}

/// As `rewards/NAME/mean`.
fn component_means<S: Serializer>(
    components: &BTreeMap<String, Option<f64>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(components.iter().map(|(name, mean)| (format!("rewards/{name}/mean"), mean)))
}

/// As `rewards/NAME/KEY`.
fn log_means<S: Serializer>(logs: &BTreeMap<String, BTreeMap<String, f64>>, serializer: S) -> Result<S::Ok, S::Error> {
    let of_component = |(name, means): (&String, &BTreeMap<String, f64>)| -> Vec<(String, f64)> {
        means.iter().map(|(key, mean)| (format!("rewards/{name}/{key}"), *mean)).collect()
    };
    serializer.collect_map(logs.iter().flat_map(of_component))
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
    /// Of these, seconds for rollouts and rewards.
    pub rollout_time: f64,
    /// Of these, seconds for reference log-probs in the loss and for updates.
    pub update_time: f64,
    /// Of the seconds for rollouts and rewards, those in which completions were scored and none was generated.
    pub reward_time: f64,
    /// Generated tokens per second of the step.
    pub tokens_per_second: f64,
}

/// Sums over generated groups, round after round.
#[derive(Debug, Default)]
pub(crate) struct GroupSums {
    completions: u64,
    correct: u64,
    judged: u64,
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
    logs: BTreeMap<String, BTreeMap<String, (f64, u64)>>,
}

impl GroupSums {
    /// Nothing yet, of these reward components.
    pub(crate) fn of<'a>(components: impl Iterator<Item = &'a str>) -> Self {
        Self { components: components.map(|name| (name.to_owned(), (0.0, 0))).collect(), ..Self::default() }
    }

    pub(crate) fn add(&mut self, group: &Group) {
        let totals: Vec<f64> = group.samples.iter().filter_map(Sample::final_reward).collect();
        if totals.len() >= 2 {
            let std = sample_std(&totals);
            self.stds += std;
            self.flat += u64::from(std == 0.0);
            self.groups += 1;
        }
        self.rewards += totals.iter().sum::<f64>();
        self.rewarded += totals.len() as u64;
        for sample in &group.samples {
            self.completions += 1;
            self.correct += u64::from(sample.reward.correct == Some(true));
            self.judged += u64::from(sample.reward.correct.is_some());
            for component in &sample.reward.components {
                let sum = self.components.entry(component.name.clone()).or_default();
                if let Some(value) = component.value {
                    *sum = (sum.0 + value, sum.1 + 1);
                }
                if !component.log.is_empty() {
                    let logs = self.logs.entry(component.name.clone()).or_default();
                    for (key, value) in &component.log {
                        let sum = logs.entry(key.clone()).or_default();
                        *sum = (sum.0 + value, sum.1 + 1);
                    }
                }
            }
            let tokens = sample.completion.token_ids.len() as u64;
            self.tokens += tokens;
            if !sample.is_truncated() {
                self.terminated += 1;
                self.terminated_tokens += tokens;
            }
            self.probability += sample.completion.logprobs.iter().map(|l| f64::from(*l).exp()).sum::<f64>();
        }
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn write(self, metrics: &mut StepMetrics) {
        let truncated = self.completions - self.terminated;
        metrics.reward = share(self.rewards, self.rewarded);
        metrics.reward_std = share(self.stds, self.groups);
        metrics.frac_reward_zero_std = share(self.flat as f64, self.groups);
        metrics.components = self.components.into_iter().map(|(name, (sum, n))| (name, share(sum, n))).collect();
        let means = |sums: BTreeMap<String, (f64, u64)>| {
            sums.into_iter().filter_map(|(key, (sum, n))| Some((key, share(sum, n)?))).collect()
        };
        metrics.logs = self.logs.into_iter().map(|(name, sums)| (name, means(sums))).collect();
        metrics.accuracy = share(self.correct as f64, self.judged);
        metrics.mean_length = share(self.tokens as f64, self.completions);
        metrics.clipped_ratio = share(truncated as f64, self.completions);
        metrics.mean_terminated_length = share(self.terminated_tokens as f64, self.terminated);
        metrics.mean_token_prob = share(self.probability, self.tokens);
        metrics.num_tokens += self.tokens;
    }
}

/// Figures of the rollout correction, where there is one.
pub(crate) fn of_correction(metrics: &mut StepMetrics, corrected: Option<Corrected>) {
    if let Some(Corrected { sequences, masked_sequences, tokens, masked_tokens }) = corrected {
        metrics.masked_tokens = share(masked_tokens as f64, tokens);
        metrics.masked_sequences = share(masked_sequences as f64, sequences);
    }
}

/// The `count`th part of a sum; nothing of nothing.
pub(crate) fn share(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn sample_std(values: &[f64]) -> f64 {
    if values.len() < 2 || values.iter().all(|v| *v == values[0]) {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Figures of the step's updates; `has_reference` where their loss has a KL term.
pub(crate) fn of_updates(metrics: &mut StepMetrics, updates: &[Update], loss: &LossConfig, has_reference: bool) {
    let mut all = LossMetrics::default();
    for update in updates {
        all += update.metrics;
    }
    metrics.updates = updates.len() as u64;
    if updates.is_empty() {
        return;
    }
    let mean = |of: fn(&Update) -> f64| share(updates.iter().map(of).sum(), updates.len() as u64);
    metrics.loss = mean(|update| update.loss);
    metrics.grad_norm = mean(|update| update.grad_norm);
    if all.tokens == 0 {
        return;
    }
    metrics.kl = Some(all.approx_kl());
    metrics.clip_low = Some(all.clip_low());
    metrics.clip_high = Some(all.clip_high());
    metrics.clip_region = Some(all.clip_region());
    metrics.entropy = Some(all.mean_entropy());
    let has_weights = loss.rollout_correction.is_some_and(RolloutCorrection::has_weights);
    metrics.importance_mean = has_weights.then(|| all.mean_importance());
    if has_reference {
        metrics.ref_kl = Some(all.ref_kl());
    }
}
