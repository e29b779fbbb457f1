//! The policy for training loops of one's own: log-probs and entropies as differentiable Candle tensors.
//!
//! [`PolicyVars`] holds a decoder and a [`Var`] for each of its trainable tensors. [`PolicyVars::token_logprobs`] scores a
//! packed batch; `backward` on whatever is computed from the result hands every variable its gradient, so that any
//! optimiser of candle-nn can change it. A loop:
//!
//! 1. [`decoder`](PolicyVars::decoder) generates completions;
//! 2. [`token_logprobs`](PolicyVars::token_logprobs) scores them, a loss such as `dapo_loss::tensor::policy_loss` makes one
//!    number of that, and `backward` gives the gradients;
//! 3. the optimiser's `step` changes the variables. The decoder takes over their values before it is used again.
//!
//! `examples/candle_loop.rs` of the workspace is such a loop. [`Trainer`] and `AdamW` of `dapo-trainer` need no graph, no
//! second copy of the weights and one forward pass less.
//!
//! ```
//! use candle_nn::{Optimizer, SGD};
//! use dapo_policy::{Decoder, ModelConfig, Segments, TokenBatch, candle::PolicyVars};
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let config = ModelConfig { num_hidden_layers: 1, vocab_size: 50, ..ModelConfig::qwen3_0_6b() };
//! let mut policy = PolicyVars::new(Decoder::random(config, 0)?)?;
//! let mut optimizer = SGD::new(policy.vars(), 0.01)?;
//! // One sequence of four tokens, of which the last two are scored.
//! let segments = Segments::new([(4, None)])?.into();
//! let batch = TokenBatch { token_ids: vec![3, 14, 15, 9], segments, targets: vec![2, 3] };
//! let mut losses = Vec::new();
//! for _ in 0..2 {
//!     let loss = policy.token_logprobs(&batch, 1.0)?.logprobs.sum_all()?.neg()?;
//!     optimizer.backward_step(&loss)?;
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[1] < losses[0]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Trainer`]: https://docs.rs/dapo-trainer

mod graph;

use crate::batch::TokenBatch;
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::policy::Policy;
use candle_core::{Device, Tensor, Var};
use graph::{Scored, Shared};
use std::ops::Deref;
use std::sync::Arc;

/// A decoder whose trainable tensors are variables.
///
/// The variables are on the host in f32, wherever the decoder is, and are the truth: before each use the decoder takes over
/// the values that differ from its own. Nothing else can change its weights, and [`decoder`](PolicyVars::decoder) lends
/// it for reading only.
#[derive(Debug)]
pub struct PolicyVars {
    names: Vec<String>,
    vars: Vec<Var>,
    shared: Arc<Shared>,
}

/// Log-probs and entropies of a batch's targets, as one differentiable operation's results.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenTensors {
    /// log p(token | its past) in nats, `[T]` in the order of [`TokenBatch::targets`].
    pub logprobs: Tensor,
    /// Entropy in nats of the distribution that the token was drawn from, `[T]`.
    pub entropies: Tensor,
}

impl PolicyVars {
    /// Makes variables of a decoder's trainable tensors: all of them or, where it has adapters, those of the adapters.
    ///
    /// # Errors
    /// When the decoder trains nothing (a frozen copy), or its tensors cannot be read.
    pub fn new(decoder: Decoder) -> Result<Self, PolicyError> {
        let names: Vec<String> = decoder.parameters().into_iter().map(|(name, _)| name.to_owned()).collect();
        if names.is_empty() {
            return Err(PolicyError::Setting {
                field: "decoder".into(),
                found: "one without trainable tensors".into(),
                expected: "at least one".into(),
            });
        }
        let tensors = decoder.trainable_tensors()?;
        // A copy: a tensor may be a handle to the decoder's own memory.
        let vars = names.iter().map(|name| Var::from_tensor(&tensors[name].detach())).collect::<Result<_, _>>()?;
        Ok(Self { names, vars, shared: Shared::new(decoder).into() })
    }

    /// The variables, in the order of [`Decoder::parameters`], as optimisers take them.
    pub fn vars(&self) -> Vec<Var> {
        self.vars.clone()
    }

    /// The variables with their names, in the same order.
    pub fn named_vars(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.names.iter().map(String::as_str).zip(&self.vars)
    }

    /// The decoder with the variables' present values: to generate, to score without gradients, to save.
    ///
    /// # Errors
    /// When the device fails.
    pub fn decoder(&mut self) -> Result<impl Deref<Target = Decoder> + '_, PolicyError> {
        self.shared.follow(&self.vars)?;
        Ok(self.shared.read())
    }

    /// Log-probs and entropies of the batch's targets under the variables' present values, differentiable in all of them;
    /// logits are divided by `temperature`.
    ///
    /// The values are those of [`Policy::logprobs`], bit for bit. `backward` computes the forward pass again and then the
    /// decoder's backward pass, once for both results; in between no activations are kept. It uses the weights of this
    /// call: once the decoder has taken over others, it is an error.
    ///
    /// # Errors
    /// When the batch is inconsistent, the temperature not positive, or the device fails.
    pub fn token_logprobs(&mut self, batch: &TokenBatch, temperature: f32) -> Result<TokenTensors, PolicyError> {
        self.shared.follow(&self.vars)?;
        let (scores, version) = {
            let decoder = self.shared.read();
            (decoder.logprobs(batch, temperature)?, decoder.version())
        };
        let count = scores.logprobs.len();
        let rows = [scores.logprobs, scores.entropies].concat();
        let values = Tensor::from_vec(rows, (2, count), &Device::Cpu)?;
        let scored = Scored { shared: Arc::clone(&self.shared), version, batch: batch.clone(), temperature };
        let results = scored.of(&values, &self.vars)?;
        Ok(TokenTensors { logprobs: results.get(0)?, entropies: results.get(1)? })
    }
}
