//! What a trainer asks of a policy.

use crate::batch::{Loss, TokenBatch, TokenLogprobs};
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::request::{Completion, GenerationConfig, Request};

/// A model that completes prompts and learns from how its completions were judged.
pub trait Policy {
    /// Completions of each request, in order.
    ///
    /// # Errors
    /// When a setting or token id is invalid.
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError>;

    /// Whether a completion's log-probs are those that [`logprobs`](Policy::logprobs) gives for its tokens, bit for bit.
    /// Where they are not, a trainer takes the latter as the log-probs of the policy that generated them.
    fn exact_rollout(&self) -> bool {
        true
    }

    /// Scores the targets of a batch; logits are divided by `temperature`.
    ///
    /// # Errors
    /// When the batch is inconsistent or the temperature not positive.
    fn logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError>;

    /// Scores the targets chunk by chunk; `loss` is shown each chunk's log-probs and entropies and fills in the gradients of the
    /// loss with respect to them; the parameters' gradients are added to `gradients`.
    ///
    /// # Errors
    /// As [`Policy::logprobs`], and what `loss` returns.
    fn logprobs_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError>;
}
