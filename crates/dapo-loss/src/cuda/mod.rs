//! The loss of tokens on a GPU: the clipped surrogate with its KL and entropy terms, one launch for loss and gradient.
//!
//! What [`LossPlan`](crate::LossPlan) does for slices, for arrays on a device and the policy losses `dapo` and `ppo`. The
//! sequences are not needed: every token carries its advantage and, by [`token_weights`], its share of the step's
//! denominator. The sums stay on the device, where the parts of a step add up, until [`LossSums::output`] reads them.

mod call;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulate")]
mod emulated;

use crate::{
    batch::masked_lengths,
    denominator::Denominator,
    error::LossError,
    metrics::{LossMetrics, LossOutput},
};

#[cfg(feature = "cuda")]
pub use driver::{DeviceBatch, DeviceGradients, DeviceSums, policy_loss};
#[cfg(feature = "emulate")]
pub use emulated::{EmulatedBatch, policy_loss_emulated};

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

/// Number of sums that the kernel keeps.
pub const SUMS: usize = 16;

/// The kernel's sums, as read from the device. Parts of a step have been added up there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums(pub [f64; SUMS]);

impl LossSums {
    /// Loss and metrics; `entropies` says whether entropies were given.
    ///
    /// # Errors
    /// When a value that counts was not finite.
    pub fn output(&self, entropies: bool) -> Result<LossOutput, LossError> {
        let [policy_loss, kl_loss, entropy_loss, ratio_sum, log_ratio_sum, ref_kl_sum, entropy_sum, ..] = self.0;
        let [.., tokens, low, high, dual, clamped, not_finite, largest, _, _] = self.0;
        if not_finite > 0.0 {
            return Err(LossError::DeviceNotFinite { function: "policy_loss", tokens: not_finite as u64 });
        }
        let metrics = LossMetrics {
            tokens: tokens as u64,
            policy_loss,
            kl_loss,
            entropy_loss,
            clipped_low: low as u64,
            clipped_high: high as u64,
            dual_clipped: dual as u64,
            clamped: clamped as u64,
            ratio_sum,
            log_ratio_sum,
            max_abs_log_ratio: largest as f32,
            ref_kl_sum,
            entropy_sum,
            entropy_tokens: if entropies { tokens as u64 } else { 0 },
            ..LossMetrics::default()
        };
        Ok(LossOutput { loss: policy_loss + kl_loss + entropy_loss, metrics })
    }
}
