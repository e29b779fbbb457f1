//! The loss mathematics of DAPO and its relatives, on plain slices and on Candle tensors.
//!
//! DAPO (Decoupled Clip and Dynamic sAmpling Policy Optimization, arXiv 2503.14476) fine-tunes a language model on its own
//! completions: it draws a group of completions for a prompt, rewards each, and makes the better ones more probable. This
//! crate holds the part that is mathematics: from rewards to advantages, from log-probabilities to one loss and its
//! gradient. It knows no model, no tokenizer and no optimiser, and fits under any of them.
//!
//! It is neither a trainer nor a source of rewards: it takes numbers and returns numbers. Nor does it compute
//! log-probabilities from logits.
//!
//! The whole way in one example, for a step that is a single micro-batch:
//!
//! ```
//! use dapo_loss::{AdvantageNorm, Advantages, LossBatch, LossConfig, group_advantages, policy_loss_single};
//! // Two completions of one prompt, of two tokens each; the first is correct.
//! let advantages = group_advantages(&[1.0, -1.0], &AdvantageNorm::default())?;
//! let old_logprobs = [-1.2, -0.3, -0.8, -2.0]; // when they were generated
//! let logprobs = [-0.7, -0.3, -0.9, -2.6]; // under the policy being trained
//! let batch = LossBatch::new(&[0, 2, 4], Advantages::PerSequence(advantages.values()), &old_logprobs);
//! let output = policy_loss_single(&LossConfig::default(), batch, &logprobs)?;
//! // The first token's ratio e^0.5 is above 1.28, the last one's e^-0.6 below 0.8: neither has a gradient.
//! assert_eq!((output.gradient[0], output.gradient[3]), (0.0, 0.0));
//! # Ok::<(), dapo_loss::LossError>(())
//! ```
//!
//! # From rewards to advantages
//!
//! A completion is compared with the others of its group. With R_1 … R_G the rewards of one prompt's group,
//!
//! ```text
//! A_i = (R_i − mean(R)) / (std(R) + eps)
//! ```
//!
//! and every token of completion i inherits A_i. A group whose rewards are all equal teaches nothing: its advantages are
//! exactly 0. [`group_advantages`] computes this for a group, [`batch_advantages`] for many; [`AdvantageNorm`] chooses the
//! baseline and the scale. A reward may abstain (`None`): the values stay aligned with the completions, and
//! [`GroupAdvantages`] tells which ones are members. [`gae()`] computes PPO's token-level advantages from a value
//! function, [`token_rewards`] what it starts from, and [`value_loss`] fits the value function to the returns.
//!
//! ```
//! use dapo_loss::{AdvantageNorm, group_advantages};
//! let advantages = group_advantages(&[1.0, -1.0, -1.0, -1.0], &AdvantageNorm::default())?;
//! // mean −1/2, std 1
//! let values = advantages.values();
//! assert!((values[0] - 1.5).abs() < 1e-5 && (values[1] + 0.5).abs() < 1e-5);
//! # Ok::<(), dapo_loss::LossError>(())
//! ```
//!
//! # From ratios to token losses
//!
//! While the policy is updated it moves away from the behaviour policy, which generated the completions. The probability
//! ratio of a token,
//!
//! ```text
//! ρ = π(token) / π_old(token) = exp(logp − old),
//! ```
//!
//! weights the token's loss, and a clip range bounds it:
//!
//! ```text
//! ℓ = max(−A·ρ, −A·clip(ρ, 1 − ε_low, 1 + ε_high))
//!
//!        A > 0                      A < 0
//!   ℓ │\                       ℓ │          /
//!     │ \                        │         /
//!     │  \_______                │________/
//!     └────┴───── ρ              └───────┴─── ρ
//!       1+ε_high                      1−ε_low
//! ```
//!
//! A token with A > 0 becomes more probable until ρ reaches 1 + ε_high, one with A < 0 less probable until
//! 1 − ε_low; beyond, its gradient is exactly 0.
//! DAPO's first idea, *clip-higher*, is to let ε_high (0.28) exceed ε_low (0.2), so that improbable tokens may grow.
//! [`token::clipped_surrogate`] is this formula for one token, and its neighbours in [`token`] are the variants that
//! [`PolicyLoss`] names: the dual clip, GSPO, CISPO, SAPO, GMPO.
//!
//! # From token losses to one loss
//!
//! DAPO's second idea is to average over *tokens*: in a mean of sequence means, a token of a long completion counts for
//! less than one of a short completion. [`Aggregation`] has both, and Dr. GRPO's constant.
//!
//! Whatever the mode, the loss is a weighted sum, and its weights belong to the whole optimiser step. A step is usually
//! split into micro-batches; averaging within each, then over them, weighs tokens by the company they happen to keep. So
//! the [`Denominator`] of the step is computed first, and is an argument that cannot be left out:
//!
//! ```
//! use dapo_loss::{
//!     Advantages, Denominator, EmptySequences, LossBatch, LossConfig, TokenChunk, policy_loss,
//! };
//! let config = LossConfig::default(); // DAPO: ε 0.2 and 0.28, token mean, no KL
//! let denominator = Denominator::of_step(config.aggregation, &[2, 1, 3], EmptySequences::Exclude).unwrap();
//!
//! // Two micro-batches of that step: sequences of 2 + 1 tokens, and one of 3.
//! let mut loss = 0.0;
//! for (cu_seqlens, advantages, old) in [
//!     (&[0, 2, 3][..], &[1.0, -1.0][..], &[-1.0, -1.0, -1.0][..]),
//!     (&[0, 3], &[0.5], &[-1.0, -1.0, -1.0]),
//! ] {
//!     let batch = LossBatch::new(cu_seqlens, Advantages::PerSequence(advantages), old);
//!     let logprobs = old; // nothing has moved yet: ρ = 1
//!     let mut gradient = [0.0; 3];
//!     let output = policy_loss(&config, denominator, batch, TokenChunk::whole(logprobs), gradient.as_mut_slice().into())?;
//!     assert_eq!(gradient[0], -advantages[0] / 6.0);
//!     loss += output.loss;
//! }
//! // −(1 + 1 − 1 + 0.5 + 0.5 + 0.5) / 6
//! assert!((loss + 2.5 / 6.0).abs() < 1e-7);
//! # Ok::<(), dapo_loss::LossError>(())
//! ```
//!
//! Completions without a single token left, and steps without any, need a decision: [`EmptySequences`] says whether the
//! former count, and [`Denominator::of_step`] returns `None` for the latter. A batch with more tokens than the
//! denominator's step is an error.
//!
//! # KL, entropy and rollout correction
//!
//! Two optional terms join the token losses before they are summed (both are off in DAPO, and cost nothing then): a
//! KL term that ties the policy to a reference ([`Kl`], [`KlEstimator`]; [`kl_in_reward`] is its older form inside the
//! reward), and an entropy bonus. If another engine generated the completions, [`RolloutCorrection`] corrects
//! for its slightly different probabilities: by truncated or masked weights, and by rejecting sequences.
//! [`LossConfig::top_entropy_quantile`] leaves the policy loss to the tokens with the highest entropy.
//!
//! # One pass, in any chunks
//!
//! Sequences lie end to end without padding, cut at `cu_seqlens`; a byte mask takes tokens out. [`LossPlan`] evaluates
//! any contiguous run of tokens in one fused pass, loss and gradient together. So a model's head can be run chunk by
//! chunk and never hold the logits of a whole batch. Sums run in f64 in an order fixed by the positions of the tokens:
//! the loss has the same bits for any number of threads. The gradient has them for any chunks, packing and padding.
//! [`policy_loss`] is the plan and its evaluation in one call, [`policy_loss_single`] makes the denominator and the
//! gradients too. [`LossMetrics`] has what the pass measured: sums and counts that add.
//!
//! With the feature `candle` (on by default) `tensor::policy_loss` is the same as a differentiable operation on Candle
//! tensors: `loss.backward()` gives these gradients; `candle_core` is re-exported, so that its version is the right one.
//! Without the feature no Candle is built. With the feature `cuda` tensors on an NVIDIA GPU are computed there. The
//! feature `serde` makes the settings readable from configuration files: `policy_loss = "gspo"`, or a table with any of
//! its fields; `schema` gives their JSON schema, too.
//!
//! Inputs are checked: lengths that disagree, settings outside their range and numbers that are not finite are a
//! [`LossError`] that names the array, the sequence and the position.

mod advantage;
mod aggregation;
mod batch;
mod config;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub mod cuda;
mod denominator;
mod entropy_quantile;
mod error;
mod exp;
mod fused;
mod gae;
mod kl;
mod metrics;
mod named;
mod policy;
mod rollout_correction;
#[cfg(feature = "serde")]
mod serde_config;
#[cfg(feature = "serde")]
mod serde_shapes;
#[cfg(feature = "candle")]
pub mod tensor;
pub mod token;
mod value;

pub use advantage::{
    AdvantageNorm, AdvantageScale, Baseline, GroupAdvantages, StdEstimator, batch_advantages, group_advantages,
};
pub use aggregation::Aggregation;
pub use batch::{Advantages, LossBatch, LossGradients, TokenChunk, masked_lengths};
pub use config::LossConfig;
pub use denominator::{Denominator, EmptySequences, StepCounts};
pub use entropy_quantile::top_entropy_threshold;
pub use error::LossError;
pub use fused::{
    loss_plan::LossPlan,
    whole_batch::{LossWithGradients, policy_loss, policy_loss_single},
};
pub use gae::{Gae, GaeBatch, TokenKl, batch_gae, gae, token_rewards, whiten};
pub use kl::{Kl, KlEstimator, kl_in_reward};
pub use metrics::{LossMetrics, LossOutput};
pub use policy::{ClipRange, PolicyLoss};
pub use rollout_correction::{ImportanceLevel, Outside, RejectBy, Rejection, RolloutCorrection, SequenceCorrection};
pub use value::{ValueBatch, ValueLoss, ValueMetrics, ValueOutput, value_loss};

/// The version of Candle whose tensors [`tensor`] takes.
#[cfg(feature = "candle")]
pub use candle_core;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
