//! The settings of the loss, with DAPO's values as defaults.

use crate::{
    aggregation::Aggregation,
    batch::{LossBatch, masked_lengths},
    denominator::EmptySequences,
    error::{LossError, expect_config},
    kl::Kl,
    policy::PolicyLoss,
    rollout_correction::{ImportanceLevel, RolloutCorrection},
};

/// Everything that decides which number the loss is.
///
/// ```text
/// loss = Σ_it m_it·weight_i·( e_it·w_it·ℓ_it + kl.coef·KL_it − e_it·entropy_coef·H_it )
/// ```
///
/// ℓ is the policy loss, w the weight of the rollout correction, H the entropy of the token's distribution, e whether H is
/// among the highest. w and e are 1 unless asked for. weight is the [`Denominator`](crate::Denominator)'s. The default is
/// DAPO's: clip-higher, token mean, no KL, no entropy bonus. Write literals with `..LossConfig::default()` or
/// `..LossConfig::of(…)`: minor releases add fields.
///
/// With the feature `serde` every field has a default. That of `aggregation` is the one of the policy loss's paper, as in
/// [`LossConfig::of`]; see [`PolicyLoss`] and [`Aggregation`] for how they are written.
///
/// ```
/// use dapo_loss::{Aggregation, LossConfig, PolicyLoss};
/// let config = LossConfig::default();
/// assert_eq!(config.aggregation, Aggregation::TokenMean);
/// assert_eq!((config.kl.coef, config.entropy_coef), (0.0, 0.0));
///
/// let mut gspo = LossConfig::of("gspo".parse()?);
/// assert_eq!(gspo.aggregation, Aggregation::SeqMeanTokenMean);
/// gspo.entropy_coef = f32::NAN;
/// let error = gspo.validate().unwrap_err();
/// assert_eq!(error.to_string(), "entropy_coef is NaN, expected a finite number >= 0");
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(default, deny_unknown_fields))]
pub struct LossConfig {
    /// The surrogate: a name, or a table with constants of its own.
    #[cfg_attr(feature = "schema", schemars(with = "crate::serde_shapes::PolicyLossTable"))]
    pub policy_loss: PolicyLoss,
    /// How token losses become one number: a name, or a table; in files by default that of the policy loss's paper.
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::serde_shapes::AggregationTable>"))]
    pub aggregation: Aggregation,
    /// Whether sequences without a token count in sequence means.
    pub empty_sequences: EmptySequences,
    /// The KL term in the loss.
    pub kl: Kl,
    /// c_H, the weight of the entropy bonus.
    pub entropy_coef: f32,
    /// ρ, the share of a step's tokens, those with the highest entropy, that have a policy loss and an entropy bonus; 1:
    /// all. The other tokens keep their KL term and their place in the denominator.
    pub top_entropy_quantile: f64,
    /// Correction for a rollout engine whose log-probabilities differ.
    pub rollout_correction: Option<RolloutCorrection>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            policy_loss: PolicyLoss::default(),
            aggregation: Aggregation::default(),
            empty_sequences: EmptySequences::default(),
            kl: Kl::default(),
            entropy_coef: 0.0,
            top_entropy_quantile: 1.0,
            rollout_correction: None,
        }
    }
}

impl LossConfig {
    /// This policy loss with the aggregation of its paper, everything else as DAPO has it.
    pub fn of(policy_loss: PolicyLoss) -> Self {
        Self { policy_loss, aggregation: policy_loss.usual_aggregation(), ..Self::default() }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`LossError::Config`] with the first field outside its range, its value and what is allowed.
    pub fn validate(&self) -> Result<(), LossError> {
        self.policy_loss.validate()?;
        self.aggregation.validate()?;
        if matches!(self.policy_loss, PolicyLoss::Gmpo { .. }) {
            let ok = self.aggregation == Aggregation::SeqMeanTokenMean;
            expect_config(ok, "aggregation", self.aggregation, "seq-mean-token-mean, the only one of gmpo")?;
            let level = self.rollout_correction.map_or(ImportanceLevel::Off, |correction| correction.level);
            let ok = level != ImportanceLevel::Token;
            expect_config(ok, "rollout_correction.level", level, "sequence or off: gmpo has one loss per sequence")?;
            let ok = !self.selects_by_entropy();
            let allowed = "1: gmpo has one loss per sequence";
            expect_config(ok, "top_entropy_quantile", self.top_entropy_quantile, allowed)?;
        }
        let ok = (0.0..=1.0).contains(&self.top_entropy_quantile);
        expect_config(ok, "top_entropy_quantile", self.top_entropy_quantile, "a number from 0 to 1")?;
        self.kl.validate()?;
        let ok = self.entropy_coef.is_finite() && self.entropy_coef >= 0.0;
        expect_config(ok, "entropy_coef", self.entropy_coef, "a finite number >= 0")?;
        self.rollout_correction.map_or(Ok(()), RolloutCorrection::validate)
    }

    /// Whether only tokens with a high entropy have a policy loss.
    pub const fn selects_by_entropy(&self) -> bool {
        self.top_entropy_quantile < 1.0
    }

    /// How many tokens of each sequence are in the loss: those that the mask leaves, without the sequences that the rollout
    /// correction rejects. These are the lengths of the step's [`Denominator`](crate::Denominator).
    ///
    /// Where nothing is rejected they are [`masked_lengths`]. A denominator made from those counts rejected tokens too.
    ///
    /// # Errors
    /// Arrays that disagree in length; [`LossError::Missing`] without rollout log-probabilities, where they decide.
    ///
    /// ```
    /// use dapo_loss::{Advantages, LossBatch, LossConfig, Rejection, RolloutCorrection};
    /// let reject = Some(Rejection::default()); // ratios from 1/2 to 2
    /// let rollout_correction = Some(RolloutCorrection { reject, ..RolloutCorrection::default() });
    /// let config = LossConfig { rollout_correction, ..LossConfig::default() };
    /// let batch = LossBatch::new(&[0, 2, 3], Advantages::PerSequence(&[1.0, -1.0]), &[-1.0, -1.0, -3.0])
    ///     .with_rollout_logprobs(&[-1.0, -1.2, -1.0]);
    /// assert_eq!(config.lengths(&batch)?, [2, 0]); // e^-2 is below 1/2
    /// # Ok::<(), dapo_loss::LossError>(())
    /// ```
    pub fn lengths(&self, batch: &LossBatch<'_>) -> Result<Vec<usize>, LossError> {
        const NAME: &str = "lengths";
        batch.validate(NAME)?;
        let kept = match self.rollout_correction {
            Some(correction) => correction.kept_mask(NAME, batch)?,
            None => None,
        };
        Ok(masked_lengths(batch.cu_seqlens, kept.as_deref().or(batch.mask)))
    }
}
