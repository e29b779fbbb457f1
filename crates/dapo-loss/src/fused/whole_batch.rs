//! The loss of a whole micro-batch in one call.

use crate::{
    batch::{LossBatch, LossGradients, TokenChunk},
    config::LossConfig,
    denominator::Denominator,
    error::{LossError, expect_len},
    fused::loss_plan::{LossPlan, NAME},
    metrics::{LossMetrics, LossOutput},
};

/// The loss of a whole micro-batch and its derivative with respect to the log-probabilities.
///
/// ```text
/// loss = Σ_it m_it·weight_i·( e_it·w_it·ℓ_it + kl.coef·KL_it − e_it·entropy_coef·H_it )
/// ```
///
/// [`LossPlan::new`], [`LossPlan::set_sequence_ratios`] and [`LossPlan::set_entropies`] where needed, and
/// [`LossPlan::evaluate`] in one call. A quantile of entropies is that of this micro-batch; a step of several sets theirs
/// with [`LossPlan::set_entropy_threshold`]. Where the
/// micro-batch is the whole optimiser step, [`policy_loss_single`] is simpler.
///
/// # Shapes
/// `chunk` covers the whole batch ([`TokenChunk::whole`]); `gradients` are as long. The loss is dimensionless.
///
/// # Errors
/// Those of the three steps.
///
/// ```
/// use dapo_loss::{
///     Advantages, Denominator, EmptySequences, LossBatch, LossConfig, TokenChunk, masked_lengths, policy_loss,
/// };
/// let config = LossConfig::default();
/// let advantages = Advantages::PerSequence(&[1.0, -1.0]);
/// let batch = LossBatch::new(&[0, 3, 5], advantages, &[0.0, -1.0, -1.0, -1.0, -1.0])
///     .with_mask(&[0, 1, 1, 1, 1]); // the first token belongs to the prompt
/// let lengths = masked_lengths(batch.cu_seqlens, batch.mask);
/// let denominator = Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude).unwrap();
///
/// // Ratios 1.5 (clipped to 1.28, A > 0), 1, 1.5 (free, A < 0), 0.5 (clipped to 0.8, A < 0).
/// let logprobs = [0.0, -1.0 + 1.5_f32.ln(), -1.0, -1.0 + 1.5_f32.ln(), -1.0 + 0.5_f32.ln()];
/// let mut gradient = [0.0; 5];
/// let output = policy_loss(&config, denominator, batch, TokenChunk::whole(&logprobs), gradient.as_mut_slice().into())?;
///
/// assert!((output.loss - (-1.28 - 1.0 + 1.5 + 0.8) / 4.0).abs() < 1e-6);
/// assert_eq!(gradient[..3], [0.0, 0.0, -0.25]);
/// assert!((gradient[3] - 1.5 / 4.0).abs() < 1e-6 && gradient[4] == 0.0);
/// assert_eq!((output.metrics.clip_high(), output.metrics.clip_low()), (0.25, 0.25));
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
///
/// Source: DAPO Eq. 8.
pub fn policy_loss(
    config: &LossConfig,
    denominator: Denominator,
    batch: LossBatch<'_>,
    chunk: TokenChunk<'_>,
    gradients: LossGradients<'_>,
) -> Result<LossOutput, LossError> {
    let mut plan = LossPlan::new(config, denominator, batch)?;
    expect_len(NAME, "logprobs", chunk.logprobs.len(), batch.tokens())?;
    plan.set_sequence_ratios(chunk.logprobs)?;
    if let Some(entropies) = chunk.entropies {
        plan.set_entropies(entropies)?;
    }
    plan.evaluate(chunk, gradients)
}

/// A loss with its gradients, as [`policy_loss_single`] returns them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LossWithGradients {
    /// The loss of the step.
    pub loss: f64,
    /// ∂loss/∂logprobs, one value per token; 0 where the mask is 0.
    pub gradient: Vec<f32>,
    /// ∂loss/∂entropies, where entropies were given.
    pub entropy_gradient: Option<Vec<f32>>,
    /// Sums and counts over the tokens in the loss.
    pub metrics: LossMetrics,
}

/// The loss of an optimiser step that is a single micro-batch, with its gradients.
///
/// [`policy_loss`] with the denominator made from the batch itself. *Not for a step of several micro-batches or ranks*:
/// their losses would be averaged each by itself. They share one [`Denominator`].
///
/// # Shapes
/// `logprobs` are the T log-probabilities under the current policy, as a slice, an array or a vector; or a
/// [`TokenChunk`] of the whole batch, to give entropies too. The gradients have T values.
///
/// # Errors
/// Those of [`policy_loss`]; [`LossError::NoTokens`] when the mask leaves no token at all.
///
/// ```
/// use dapo_loss::{Advantages, LossBatch, LossConfig, TokenChunk, policy_loss_single};
/// let batch = LossBatch::new(&[0, 2, 3], Advantages::PerSequence(&[1.0, -2.0]), &[-1.0, -1.0, -1.0]);
/// let output = policy_loss_single(&LossConfig::default(), batch, &[-1.0, -1.0, -1.0])?;
/// assert_eq!((output.loss, output.metrics.tokens), (0.0, 3));
/// assert_eq!(output.gradient, [-1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0]);
///
/// let config = LossConfig { entropy_coef: 0.75, ..LossConfig::default() };
/// let chunk = TokenChunk::whole(&[-1.0, -1.0, -1.0]).with_entropies(&[2.0, 1.0, 0.0]);
/// let output = policy_loss_single(&config, batch, chunk)?;
/// assert!((output.metrics.entropy_loss + 0.75).abs() < 1e-7);
/// assert_eq!(output.entropy_gradient.unwrap(), [-0.25; 3]);
/// # Ok::<(), dapo_loss::LossError>(())
/// ```
pub fn policy_loss_single<'a>(
    config: &LossConfig,
    batch: LossBatch<'_>,
    logprobs: impl Into<TokenChunk<'a>>,
) -> Result<LossWithGradients, LossError> {
    let chunk = logprobs.into();
    batch.validate(NAME)?;
    let denominator = Denominator::of_step(config.aggregation, &config.lengths(&batch)?, config.empty_sequences)
        .ok_or(LossError::NoTokens { function: NAME })?;
    let mut gradient = vec![0.0; chunk.logprobs.len()];
    let mut entropy_gradient = chunk.entropies.map(|entropies| vec![0.0; entropies.len()]);
    let gradients = LossGradients { logprobs: &mut gradient, entropies: entropy_gradient.as_deref_mut() };
    let LossOutput { loss, metrics } = policy_loss(config, denominator, batch, chunk, gradients)?;
    Ok(LossWithGradients { loss, gradient, entropy_gradient, metrics })
}
