//! Metrics of the loss: sums and counts, so that chunks, micro-batches and ranks add up.

/// The loss of a batch or of a part of it, with its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct LossOutput {
    /// The part's contribution to the loss of the step.
    pub loss: f64,
    /// Sums and counts over the part's tokens.
    pub metrics: LossMetrics,
}

impl std::ops::AddAssign for LossOutput {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.metrics += other.metrics;
    }
}

/// Sums and counts over tokens in the loss; parts of a step add with `+=`.
///
/// ```
/// use dapo_loss::LossMetrics;
/// let (mut a, mut b) = (LossMetrics::default(), LossMetrics::default());
/// (a.tokens, a.clipped_high, a.ratio_sum) = (3, 1, 3.5);
/// (b.tokens, b.clipped_high, b.ratio_sum) = (1, 1, 1.5);
/// a += b;
/// assert_eq!((a.clip_high(), a.mean_ratio()), (0.5, 1.25));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LossMetrics {
    /// Tokens in the loss.
    pub tokens: u64,
    /// The policy loss's share of the loss.
    pub policy_loss: f64,
    /// The KL term's share of the loss.
    pub kl_loss: f64,
    /// The entropy bonus's share of the loss (never positive).
    pub entropy_loss: f64,
    /// Tokens with A < 0 whose ratio is below the clip range.
    pub clipped_low: u64,
    /// Tokens with A > 0 whose ratio is above the clip range.
    pub clipped_high: u64,
    /// Tokens with A < 0 held by the dual clip.
    pub dual_clipped: u64,
    /// Tokens whose log-ratio exceeds ±20 and was clamped.
    pub clamped: u64,
    /// Σ ρ.
    pub ratio_sum: f64,
    /// Σ (logp − old), clamped to ±20 each.
    pub log_ratio_sum: f64,
    /// max |logp − old|, before the clamp.
    pub max_abs_log_ratio: f32,
    /// Σ of the KL estimates to the reference, where a KL term is configured.
    pub ref_kl_sum: f64,
    /// Σ of the entropies, where given.
    pub entropy_sum: f64,
    /// Tokens for which an entropy was given.
    pub entropy_tokens: u64,
    /// Σ of the importance weights, where a rollout correction is configured.
    pub importance_sum: f64,
    /// Tokens whose importance weight was truncated to a bound.
    pub importance_capped: u64,
    /// Tokens whose importance weight is 0, as their ratio is outside the band.
    pub importance_masked: u64,
    /// Tokens that left the loss because their sequence was rejected; they are no part of `tokens`.
    pub rejected: u64,
    /// Σ |old − rollout|, where a rollout correction is configured.
    pub rollout_difference_sum: f64,
    /// max |old − rollout|.
    pub max_rollout_difference: f32,
}

impl std::ops::AddAssign for LossMetrics {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.policy_loss += other.policy_loss;
        self.kl_loss += other.kl_loss;
        self.entropy_loss += other.entropy_loss;
        self.clipped_low += other.clipped_low;
        self.clipped_high += other.clipped_high;
        self.dual_clipped += other.dual_clipped;
        self.clamped += other.clamped;
        self.ratio_sum += other.ratio_sum;
        self.log_ratio_sum += other.log_ratio_sum;
        self.max_abs_log_ratio = self.max_abs_log_ratio.max(other.max_abs_log_ratio);
        self.ref_kl_sum += other.ref_kl_sum;
        self.entropy_sum += other.entropy_sum;
        self.entropy_tokens += other.entropy_tokens;
        self.importance_sum += other.importance_sum;
        self.importance_capped += other.importance_capped;
        self.importance_masked += other.importance_masked;
        self.rejected += other.rejected;
        self.rollout_difference_sum += other.rollout_difference_sum;
        self.max_rollout_difference = self.max_rollout_difference.max(other.max_rollout_difference);
    }
}

impl LossMetrics {
    /// The number of fields.
    pub const FIELDS: usize = 20;

    /// All fields bit for bit, a word each, to send them to another process.
    pub fn to_words(&self) -> [u64; Self::FIELDS] {
        // Without `..`: a field cannot be forgotten.
        let Self {
            tokens,
            policy_loss,
            kl_loss,
            entropy_loss,
            clipped_low,
            clipped_high,
            dual_clipped,
            clamped,
            ratio_sum,
            log_ratio_sum,
            max_abs_log_ratio,
            ref_kl_sum,
            entropy_sum,
            entropy_tokens,
            importance_sum,
            importance_capped,
            importance_masked,
            rejected,
            rollout_difference_sum,
            max_rollout_difference,
        } = *self;
        [
            tokens,
            policy_loss.to_bits(),
            kl_loss.to_bits(),
            entropy_loss.to_bits(),
            clipped_low,
            clipped_high,
            dual_clipped,
            clamped,
            ratio_sum.to_bits(),
            log_ratio_sum.to_bits(),
            max_abs_log_ratio.to_bits().into(),
            ref_kl_sum.to_bits(),
            entropy_sum.to_bits(),
            entropy_tokens,
            importance_sum.to_bits(),
            importance_capped,
            importance_masked,
            rejected,
            rollout_difference_sum.to_bits(),
            max_rollout_difference.to_bits().into(),
        ]
    }

    /// What [`to_words`](Self::to_words) gave.
    pub fn from_words(words: [u64; Self::FIELDS]) -> Self {
        let [
            tokens,
            policy_loss,
            kl_loss,
            entropy_loss,
            clipped_low,
            clipped_high,
            dual_clipped,
            clamped,
            ratio_sum,
            log_ratio_sum,
            max_abs_log_ratio,
            ref_kl_sum,
            entropy_sum,
            entropy_tokens,
            importance_sum,
            importance_capped,
            importance_masked,
            rejected,
            rollout_difference_sum,
            max_rollout_difference,
        ] = words;
        Self {
            tokens,
            policy_loss: f64::from_bits(policy_loss),
            kl_loss: f64::from_bits(kl_loss),
            entropy_loss: f64::from_bits(entropy_loss),
            clipped_low,
            clipped_high,
            dual_clipped,
            clamped,
            ratio_sum: f64::from_bits(ratio_sum),
            log_ratio_sum: f64::from_bits(log_ratio_sum),
            max_abs_log_ratio: f32::from_bits(max_abs_log_ratio as u32),
            ref_kl_sum: f64::from_bits(ref_kl_sum),
            entropy_sum: f64::from_bits(entropy_sum),
            entropy_tokens,
            importance_sum: f64::from_bits(importance_sum),
            importance_capped,
            importance_masked,
            rejected,
            rollout_difference_sum: f64::from_bits(rollout_difference_sum),
            max_rollout_difference: f32::from_bits(max_rollout_difference as u32),
        }
    }

    /// A sum over tokens as their mean; 0 without tokens.
    fn mean(&self, sum: f64) -> f64 {
        sum / self.tokens.max(1) as f64
    }

    /// Share of tokens with A < 0 and ρ < 1 − ε_low.
    pub fn clip_low(&self) -> f64 {
        self.mean(self.clipped_low as f64)
    }

    /// Share of tokens with A > 0 and ρ > 1 + ε_high.
    pub fn clip_high(&self) -> f64 {
        self.mean(self.clipped_high as f64)
    }

    /// Share of tokens clipped on either side.
    pub fn clip_region(&self) -> f64 {
        self.mean((self.clipped_low + self.clipped_high) as f64)
    }

    /// Mean ρ: 1 on-policy.
    pub fn mean_ratio(&self) -> f64 {
        self.mean(self.ratio_sum)
    }

    /// Estimate k1 of KL(old‖π) in nats per token: mean of old − logp.
    pub fn approx_kl(&self) -> f64 {
        // `0.0 −` keeps 0 positive.
        self.mean(0.0 - self.log_ratio_sum)
    }

    /// Estimate k3 of KL(old‖π) in nats per token: mean of ρ − 1 − log ρ. Less noisy than k1.
    pub fn approx_kl_k3(&self) -> f64 {
        self.mean(self.ratio_sum - self.tokens as f64 - self.log_ratio_sum)
    }

    /// Mean KL estimate to the reference, in nats per token.
    pub fn ref_kl(&self) -> f64 {
        self.mean(self.ref_kl_sum)
    }

    /// Mean entropy in nats over the tokens for which one was given; 0 without any.
    pub fn mean_entropy(&self) -> f64 {
        self.entropy_sum / self.entropy_tokens.max(1) as f64
    }

    /// Mean importance weight of the tokens in the loss, those of weight 0 included.
    pub fn mean_importance(&self) -> f64 {
        self.mean(self.importance_sum)
    }

    /// Share of tokens that the rollout correction takes out of the policy loss: of weight 0, or rejected.
    pub fn masked_by_correction(&self) -> f64 {
        (self.importance_masked + self.rejected) as f64 / (self.tokens + self.rejected).max(1) as f64
    }

    /// Mean |old − rollout|, in nats.
    pub fn mean_rollout_difference(&self) -> f64 {
        self.mean(self.rollout_difference_sum)
    }
}
