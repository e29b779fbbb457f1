//! The loss of tokens on a GPU: the clipped surrogate with its KL and entropy terms, loss and gradient in one pass.
//!
//! What [`LossPlan`](crate::LossPlan) does for slices, for arrays on a device and the policy losses `dapo` and `ppo`. The
//! sequences are not needed: every token carries its advantage and, by [`token_weights`], its share of the step's
//! denominator. The sums stay on the device, where the parts of a step add up, until [`DeviceSums::output`] reads them.
//!
//! `tensor::policy_loss` does all of this for tensors. The launches are those of `dapo_kernels`, on a device or, with the
//! feature `emulate`, on the CPU.

use candle_core::{Error, Result};
use dapo_kernels::cuda::policy_loss::{
    KlEstimate, LossTerms, TOTALS, TokenArrays, TokenGradients, Totals, forward_backward, scratch_len,
};
use dapo_kernels::cuda::{Buffer, Gpu};

use crate::{
    batch::masked_lengths,
    config::LossConfig,
    denominator::Denominator,
    error::{LossError, expect_config, expect_given},
    kl::KlEstimator,
    metrics::{LossMetrics, LossOutput},
    policy::PolicyLoss,
};

/// The version of the kernels whose [`Gpu`] this module takes.
pub use dapo_kernels;

const NAME: &str = "policy_loss";

/// The weight of every token in the step's loss: what the kernel takes in place of sequences, mask and denominator.
///
/// # Shapes
/// N + 1 offsets and T mask bytes in, T weights out: 0 where the mask is 0.
///
/// ```
/// use dapo_loss::{Aggregation, Denominator, EmptySequences, cuda::token_weights};
/// let denominator = Denominator::of_step(Aggregation::SeqMeanTokenMean, &[1, 2], EmptySequences::Exclude).unwrap();
/// assert_eq!(token_weights(&denominator, &[0, 2, 4], Some(&[0, 1, 1, 1])), [0.0, 0.5, 0.25, 0.25]);
/// ```
///
/// # Panics
/// When an offset lies beyond the mask, or offsets decrease.
pub fn token_weights(denominator: &Denominator, cu_seqlens: &[usize], mask: Option<&[u8]>) -> Vec<f32> {
    let lengths = masked_lengths(cu_seqlens, mask);
    let mut weights = Vec::with_capacity(cu_seqlens.last().copied().unwrap_or(0));
    for (ends, length) in cu_seqlens.windows(2).zip(lengths) {
        let weight = denominator.weight(length) as f32;
        let kept = |t: usize| mask.is_none_or(|mask| mask[t] != 0);
        weights.extend((ends[0]..ends[1]).map(|t| if kept(t) { weight } else { 0.0 }));
    }
    weights
}

/// Whether a GPU computes the loss of these settings; others are computed on slices.
pub fn has_kernel(config: &LossConfig) -> bool {
    terms(config).is_ok()
}

/// The settings as the kernel takes them.
fn terms(config: &LossConfig) -> std::result::Result<LossTerms, LossError> {
    let PolicyLoss::Ppo { clip, dual_clip } = config.policy_loss else {
        let allowed = "ppo, the only one on a device";
        return Err(LossError::Config { field: "policy_loss", value: config.policy_loss.name().into(), allowed });
    };
    let given = if config.rollout_correction.is_some() { "given" } else { "none" };
    expect_config(given == "none", "rollout_correction", given, "none on a device")?;
    let quantile = config.top_entropy_quantile;
    expect_config(!config.selects_by_entropy(), "top_entropy_quantile", quantile, "1 on a device")?;
    Ok(LossTerms {
        clip_low: clip.low,
        clip_high: clip.high,
        dual_clip: dual_clip.unwrap_or(f32::INFINITY),
        kl_coef: config.kl.coef,
        kl_estimate: match config.kl.estimator {
            KlEstimator::K1 => KlEstimate::K1,
            KlEstimator::K2 => KlEstimate::K2,
            KlEstimator::K3 => KlEstimate::K3,
            KlEstimator::Abs => KlEstimate::Abs,
            estimator @ (KlEstimator::K1Plus | KlEstimator::K3Plus) => {
                let allowed = "k1, k2, k3 or abs on a device";
                return Err(LossError::Config { field: "kl.estimator", value: estimator.name().into(), allowed });
            }
        },
        kl_times_ratio: config.kl.times_ratio,
        entropy_coef: config.entropy_coef,
    })
}

/// The sums of a step on a device, and scratch for those of its parts.
#[derive(Debug)]
pub struct DeviceSums {
    totals: Buffer<f64>,
    scratch: Buffer<f64>,
}

impl DeviceSums {
    /// Zeros, with scratch for parts of at most `tokens` tokens.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(gpu: &Gpu, tokens: usize) -> Result<Self> {
        Ok(Self { totals: gpu.zeros(TOTALS)?, scratch: gpu.zeros(scratch_len(tokens).max(1))? })
    }

    /// Waits for the launches so far; loss and metrics. `entropies` says whether entropies were given.
    ///
    /// # Errors
    /// When the device fails; [`LossError::DeviceNotFinite`] or [`LossError::Overflow`], wrapped, when a value that counts
    /// or the loss was not finite.
    pub fn output(&self, gpu: &Gpu, entropies: bool) -> Result<LossOutput> {
        let mut values = [0.0; TOTALS];
        values.copy_from_slice(&gpu.read(self.totals.view())?);
        output(&Totals::from_values(values), entropies).map_err(Error::wrap)
    }
}

fn output(sums: &Totals, entropies: bool) -> std::result::Result<LossOutput, LossError> {
    if sums.not_finite > 0.0 {
        return Err(LossError::DeviceNotFinite { function: NAME, tokens: sums.not_finite as u64 });
    }
    let loss = sums.policy_loss + sums.kl_loss + sums.entropy_loss;
    if !loss.is_finite() {
        return Err(LossError::Overflow { function: NAME, value: loss });
    }
    let metrics = LossMetrics {
        tokens: sums.tokens as u64,
        policy_loss: sums.policy_loss,
        kl_loss: sums.kl_loss,
        entropy_loss: sums.entropy_loss,
        clipped_low: sums.clipped_low as u64,
        clipped_high: sums.clipped_high as u64,
        dual_clipped: sums.dual_clipped as u64,
        clamped: sums.clamped as u64,
        ratio_sum: sums.ratio,
        log_ratio_sum: sums.log_ratio,
        max_abs_log_ratio: sums.max_abs_log_ratio as f32,
        ref_kl_sum: sums.ref_kl,
        entropy_sum: sums.entropy,
        entropy_tokens: if entropies { sums.tokens as u64 } else { 0 },
        ..LossMetrics::default()
    };
    Ok(LossOutput { loss, metrics })
}

/// Launches the loss of these tokens: writes its gradients and adds its sums to those of the step.
///
/// # Shapes
/// T values in every array; weights as [`token_weights`] gives them.
///
/// # Errors
/// Settings outside their range or without a kernel ([`has_kernel`]), and something needed that is not given, as wrapped
/// [`LossError`]s; lengths that disagree or exceed the scratch; what the device refuses.
pub fn policy_loss(
    gpu: &Gpu,
    config: &LossConfig,
    tokens: TokenArrays<'_>,
    gradients: TokenGradients<'_>,
    sums: &mut DeviceSums,
) -> Result<()> {
    let terms = check(config, &tokens).map_err(Error::wrap)?;
    forward_backward(gpu, &terms, tokens, gradients, sums.scratch.view_mut(), sums.totals.view_mut())
}

fn check(config: &LossConfig, tokens: &TokenArrays<'_>) -> std::result::Result<LossTerms, LossError> {
    config.validate()?;
    expect_given(NAME, "ref_logprobs", "kl.coef", config.kl.coef != 0.0, tokens.ref_logprobs.is_some())?;
    expect_given(NAME, "entropies", "entropy_coef", config.entropy_coef != 0.0, tokens.entropies.is_some())?;
    terms(config)
}
