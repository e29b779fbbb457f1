//! The decoder as a policy.

use super::Decoder;
use crate::backend::{Adapters, LogprobPass, Outputs};
use crate::batch::{Loss, TokenBatch, TokenLogprobs};
use crate::check::check_temperature;
use crate::error::PolicyError;
use crate::generate::{generate, generate_each, generate_more, generate_streamed, generate_turns};
use crate::gradients::Gradients;
use crate::policy::{Each, More, Policy, Watch, WatchTokens};
use crate::request::{Completion, GenerationConfig, Request};
use crate::turns::Turns;

impl Decoder {
    /// One completion of a request, the first of its samples, shown to `watch` as it grows: the same as that of
    /// [`generate`](Policy::generate). A CPU shows every token but the first, which comes with the second; a GPU shows several
    /// at a time. The last call has the whole completion. `None`: `watch` ended it.
    ///
    /// # Errors
    /// When a setting or token id is invalid.
    pub fn generate_streamed(
        &self,
        request: &Request,
        config: &GenerationConfig,
        watch: &mut WatchTokens<'_>,
    ) -> Result<Option<Completion>, PolicyError> {
        let request = Request { samples: 1, ..request.clone() };
        config.check(std::slice::from_ref(&request), self.config())?;
        generate_streamed(self.backend.as_ref(), &request, config, watch)
    }
}

impl Policy for Decoder {
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        self.generate_watched(requests, config, &mut |_| ())
    }

    fn generate_watched(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Vec<Completion>>, PolicyError> {
        config.check(requests, self.config())?;
        generate(self.backend.as_ref(), requests, config, watch)
    }

    fn generate_each(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        each: &mut Each<'_>,
    ) -> Result<(), PolicyError> {
        config.check(requests, self.config())?;
        generate_each(self.backend.as_ref(), requests, config, each)
    }

    fn generate_more(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        more: &mut More<'_>,
    ) -> Result<(), PolicyError> {
        config.check(requests, self.config())?;
        generate_more(self.backend.as_ref(), requests, config, more)
    }

    fn generate_turns(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        turns: &mut dyn Turns,
        more: &mut More<'_>,
    ) -> Result<(), PolicyError> {
        config.check(requests, self.config())?;
        generate_turns(self.backend.as_ref(), requests, config, turns, more)
    }

    fn exact_rollout(&self) -> bool {
        self.backend.exact_rollout()
    }

    fn logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        self.score(batch, temperature, Adapters::On)
    }

    fn logprobs_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        self.check_gradients(gradients)?;
        let inputs = batch.inputs(self.config().vocab_size)?;
        check_temperature(temperature)?;
        let logprobs = Some(LogprobPass { temperature, loss });
        self.backward(&inputs, gradients, Outputs { logprobs, values: None })
    }
}
