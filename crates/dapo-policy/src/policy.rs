//! What a trainer asks of a policy.

use crate::batch::{Loss, TokenBatch, TokenLogprobs};
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::request::{Completion, GenerationConfig, Request};
use crate::turns::Turns;
use std::ops::ControlFlow;

/// Is shown a request's number and its new completions, and says how many more it wants.
pub type More<'a> = dyn FnMut(usize, Vec<Completion>) -> usize + Send + 'a;

/// Is shown how far a generation is, each time that this has changed.
pub type Watch<'a> = dyn FnMut(GenerationProgress) + Send + 'a;

/// How far a generation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenerationProgress {
    /// Requests whose completions have all ended.
    pub requests: usize,
    /// Completions that have ended.
    pub completions: usize,
    /// Tokens of these, and of those that have not ended; of the latter a GPU counts a few too many.
    pub tokens: u64,
}

/// Is shown a request's number and its completions.
pub type Each<'a> = dyn FnMut(usize, Vec<Completion>) + Send + 'a;

/// Is shown the tokens of a completion so far, and says whether it is to continue.
pub type WatchTokens<'a> = dyn FnMut(&[u32]) -> ControlFlow<()> + Send + 'a;

/// A model that completes prompts and learns from how its completions were judged.
pub trait Policy {
    /// Completions of each request, in order.
    ///
    /// # Errors
    /// When a setting or token id is invalid.
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError>;

    /// As [`generate`](Policy::generate); `watch` is shown how far it is.
    ///
    /// # Errors
    /// As there.
    fn generate_watched(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Vec<Completion>>, PolicyError> {
        let groups = self.generate(requests, config)?;
        let completions = || groups.iter().flatten();
        watch(GenerationProgress {
            requests: requests.len(),
            completions: completions().count(),
            tokens: completions().map(|completion| completion.token_ids.len() as u64).sum(),
        });
        Ok(groups)
    }

    /// Completions of each request, each shown to `each` once all of its own are there, in any order. A request of no samples
    /// is not shown.
    ///
    /// # Errors
    /// As [`Policy::generate`].
    fn generate_each(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        each: &mut Each<'_>,
    ) -> Result<(), PolicyError> {
        let groups = self.generate(requests, config)?.into_iter().enumerate();
        groups.filter(|(number, _)| requests[*number].samples > 0).for_each(|(number, group)| each(number, group));
        Ok(())
    }

    /// Completions of each request, and more of them for as long as `more` asks for some.
    ///
    /// `more` is shown a request's number and completions, in order, once all are there: first the request's `samples`, then
    /// each time as many as it asked for. They are those that one request for all of them would have. A request of no samples
    /// is not shown. A policy may keep the prompts meanwhile, and continue with other requests.
    ///
    /// # Errors
    /// As [`Policy::generate`].
    fn generate_more(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        more: &mut More<'_>,
    ) -> Result<(), PolicyError> {
        let mut open: Vec<(usize, Request)> = requests.iter().cloned().enumerate().collect();
        loop {
            open.retain(|(_, request)| request.samples > 0);
            if open.is_empty() {
                return Ok(());
            }
            let requests: Vec<Request> = open.iter().map(|(_, request)| request.clone()).collect();
            for ((number, request), group) in open.iter_mut().zip(self.generate(&requests, config)?) {
                request.first_sample += group.len();
                request.samples = more(*number, group);
            }
        }
    }

    /// As [`generate_more`](Policy::generate_more), with completions of several turns between which somebody else
    /// speaks: [`GenerationConfig::turns`] bounds what they say. The model's tokens are drawn as in one completion, and
    /// its log-probs are those of the whole conversation.
    ///
    /// # Errors
    /// As [`Policy::generate`], what `turns` returns, and where a policy has completions of one turn only, as by default.
    fn generate_turns(
        &self,
        _requests: &[Request],
        _config: &GenerationConfig,
        _turns: &mut dyn Turns,
        _more: &mut More<'_>,
    ) -> Result<(), PolicyError> {
        let (found, expected) =
            ("somebody who speaks between them", "nobody: this policy makes completions of one turn");
        Err(PolicyError::Setting { field: "turns".into(), found: found.into(), expected: expected.into() })
    }

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

    /// Scores the targets chunk by chunk; `loss` is shown each chunk's log-probs and entropies and fills in the
    /// gradients of the loss with respect to them; the parameters' gradients are added to `gradients`.
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
