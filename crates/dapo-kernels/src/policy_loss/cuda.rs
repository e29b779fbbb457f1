//! The clipped policy loss of tokens on a GPU: loss, gradient and what is measured, in two launches.
//!
//! The sequences are not needed: each of the T tokens carries its advantage and its weight in the loss. The parts of a
//! step add up in [`Totals`], which stay on the device.
//!
//! ```text
//! loss = Σ_t w_t · (max(−A·ρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high)) + β·KL_t − c_H·H_t),   ρ = exp(logp − old)
//! ```

use super::{Gpu, In, Kernel, Launch, Out, expect_len};
use candle_core::{Result, bail};

const OP: &str = "policy_loss";
/// As in the kernel.
const THREADS: usize = 256;
const TOKENS_A_BLOCK: usize = 2048;

/// Numbers of [`Totals`], as the device keeps them: two of them are not used.
pub const TOTALS: usize = 16;

/// An estimate of the KL divergence of a token, k = logp − ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlEstimate {
    /// k.
    K1 = 1,
    /// k² / 2.
    K2 = 2,
    /// e^−k + k − 1, k bounded to ±20 and the value to 10.
    K3 = 3,
    /// |k|.
    Abs = 4,
}

/// What the loss is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossTerms {
    /// ε_low.
    pub clip_low: f32,
    /// ε_high.
    pub clip_high: f32,
    /// Upper bound of ρ where A < 0; infinite without a dual clip.
    pub dual_clip: f32,
    /// β; 0 leaves the KL term and its measurements out.
    pub kl_coef: f32,
    /// How KL is estimated.
    pub kl_estimate: KlEstimate,
    /// Whether the estimate is multiplied by ρ.
    pub kl_times_ratio: bool,
    /// c_H.
    pub entropy_coef: f32,
}

/// Arrays of T values.
#[derive(Clone, Debug)]
pub struct TokenArrays<'a> {
    /// log π(token), in nats.
    pub logprobs: In<'a, f32>,
    /// Under the policy that generated the tokens.
    pub old_logprobs: In<'a, f32>,
    /// Under the reference, where β is not 0.
    pub ref_logprobs: Option<In<'a, f32>>,
    /// H, in nats.
    pub entropies: Option<In<'a, f32>>,
    /// A.
    pub advantages: In<'a, f32>,
    /// w; a token of weight 0 is not looked at.
    pub weights: In<'a, f32>,
}

/// Where the derivatives of the loss go, T values each.
#[derive(Debug)]
pub struct TokenGradients<'a> {
    /// ∂loss/∂logprobs.
    pub logprobs: Out<'a, f32>,
    /// ∂loss/∂entropies.
    pub entropies: Option<Out<'a, f32>>,
}

/// Sums over the tokens whose weight is not 0, read from a device.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Σ w·(clipped loss).
    pub policy_loss: f64,
    /// Σ w·β·KL.
    pub kl_loss: f64,
    /// −Σ w·c_H·H.
    pub entropy_loss: f64,
    /// Σ ρ.
    pub ratio: f64,
    /// Σ ln ρ.
    pub log_ratio: f64,
    /// Σ KL.
    pub ref_kl: f64,
    /// Σ H.
    pub entropy: f64,
    /// How many tokens they are.
    pub tokens: f64,
    /// Of these, with ρ < 1 − ε_low and A < 0.
    pub clipped_low: f64,
    /// With ρ > 1 + ε_high and A > 0.
    pub clipped_high: f64,
    /// With ρ above the dual clip and A < 0.
    pub dual_clipped: f64,
    /// With |ln ρ| ≥ 20, where it is bounded.
    pub clamped: f64,
    /// With a value that is NaN or infinite.
    pub not_finite: f64,
    /// Largest |logp − old|.
    pub max_abs_log_ratio: f64,
}

impl Totals {
    /// The numbers as the device keeps them.
    pub fn from_values(values: [f64; TOTALS]) -> Self {
        let [policy_loss, kl_loss, entropy_loss, ratio, log_ratio, ref_kl, entropy, tokens, ..] = values;
        let [.., clipped_low, clipped_high, dual_clipped, clamped, not_finite, max_abs_log_ratio, _, _] = values;
        Self {
            policy_loss,
            kl_loss,
            entropy_loss,
            ratio,
            log_ratio,
            ref_kl,
            entropy,
            tokens,
            clipped_low,
            clipped_high,
            dual_clipped,
            clamped,
            not_finite,
            max_abs_log_ratio,
        }
    }
}

/// Values of the scratch memory for T tokens.
pub fn scratch_len(tokens: usize) -> usize {
    tokens.div_ceil(TOKENS_A_BLOCK) * TOTALS
}

/// Writes the gradients of these tokens' loss and adds their sums to `totals`.
///
/// # Shapes
/// T values in every array of `tokens` and `gradients`; `scratch` at least [`scratch_len`] of T, `totals` [`TOTALS`].
///
/// # Errors
/// When sizes disagree, or the device fails.
pub fn forward_backward(
    gpu: &Gpu,
    terms: &LossTerms,
    tokens: TokenArrays<'_>,
    gradients: TokenGradients<'_>,
    mut scratch: Out<'_, f64>,
    totals: Out<'_, f64>,
) -> Result<()> {
    let count = tokens.logprobs.len();
    let optional = |array: &Option<In<'_, f32>>| array.as_ref().map_or(count, In::len);
    for (array, len) in [
        ("old_logprobs", tokens.old_logprobs.len()),
        ("ref_logprobs", optional(&tokens.ref_logprobs)),
        ("entropies", optional(&tokens.entropies)),
        ("advantages", tokens.advantages.len()),
        ("weights", tokens.weights.len()),
        ("gradients.logprobs", gradients.logprobs.len()),
        ("gradients.entropies", gradients.entropies.as_ref().map_or(count, Out::len)),
    ] {
        expect_len(OP, array, len, count)?;
    }
    expect_len(OP, "totals", totals.len(), TOTALS)?;
    if scratch.len() < scratch_len(count) {
        bail!("{OP}: scratch has {} values, expected {}", scratch.len(), scratch_len(count));
    }
    if count == 0 {
        return Ok(());
    }
    let blocks = count.div_ceil(TOKENS_A_BLOCK);
    Launch::new(gpu, Kernel::new(OP, "policy_loss_forward"))
        .input(tokens.logprobs)
        .input(tokens.old_logprobs)
        .optional_input(tokens.ref_logprobs.filter(|_| terms.kl_coef != 0.0))
        .optional_input(tokens.entropies)
        .input(tokens.advantages)
        .input(tokens.weights)
        .output(gradients.logprobs)
        .optional_output(gradients.entropies)
        .output(scratch.reborrow())
        .int(count)
        .float(terms.clip_low)
        .float(terms.clip_high)
        .float(terms.dual_clip)
        .float(terms.kl_coef)
        .int(terms.kl_estimate as usize)
        .int(usize::from(terms.kl_times_ratio))
        .float(terms.entropy_coef)
        .run([blocks, 1, 1], [THREADS, 1, 1], 0)?;
    Launch::new(gpu, Kernel::new(OP, "policy_loss_totals")).input(scratch.view()).int(blocks).output(totals).run(
        [1, 1, 1],
        [32 * TOTALS, 1, 1],
        0,
    )
}
