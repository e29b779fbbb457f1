//! The settings of the loss, with DAPO's values as defaults.

use crate::{
    aggregation::Aggregation,
    denominator::EmptySequences,
    error::{LossError, expect_config},
    importance::{ImportanceLevel, TruncatedImportance},
    kl::Kl,
    policy::PolicyLoss,
};

/// Everything that decides which number the loss is.
///
/// ```text
/// loss = Σ_it m_it·weight_i·( w_it·ℓ_it + kl.coef·KL_it − entropy_coef·H_it )
/// ```
///
/// ℓ is the policy loss, w the truncated importance weight (1 unless asked for), H the entropy of the token's
/// distribution, weight the [`Denominator`](crate::Denominator)'s. The default is DAPO's: clip-higher, token mean, no KL,
/// no entropy bonus. Write literals with `..LossConfig::default()` or `..LossConfig::of(…)`: minor releases add fields.
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
#[derive(Debug, Clone, Copy, PartialEq, Default)]
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
    /// Correction for a rollout engine whose log-probabilities differ.
    pub truncated_importance: Option<TruncatedImportance>,
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
            let level = self.truncated_importance.map_or(ImportanceLevel::Sequence, |importance| importance.level);
            let ok = level == ImportanceLevel::Sequence;
            expect_config(ok, "truncated_importance.level", level, "sequence, the only one of gmpo")?;
        }
        self.kl.validate()?;
        let ok = self.entropy_coef.is_finite() && self.entropy_coef >= 0.0;
        expect_config(ok, "entropy_coef", self.entropy_coef, "a finite number >= 0")?;
        self.truncated_importance.map_or(Ok(()), TruncatedImportance::validate)
    }
}
