//! What a trainer asks of a policy, and how the decoder answers.

use crate::batch::Inputs;
use crate::decoder::{Adapters, Context, Rows, Workspace};
use crate::{Completion, Decoder, GenerationConfig, Gradients, PolicyError, Request, TokenBatch};
use dapo_kernels::logprobs::{self, RowGradients};
use dapo_kernels::threads;

/// Log-probs and entropies of a batch's targets, in nats, in the targets' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// log p(token | its past).
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that the token was drawn from.
    pub entropies: Vec<f32>,
}

/// A loss of log-probs: sees a run of rows and fills in its gradients with respect to them.
pub type Loss<'a> = dyn FnMut(logprobs::Rows<'_>, RowGradients<'_>) -> Result<(), PolicyError> + Send + 'a;

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

fn check_temperature(temperature: f32) -> Result<(), PolicyError> {
    if temperature > 0.0 && temperature.is_finite() {
        return Ok(());
    }
    let expected = "a finite number above 0".into();
    Err(PolicyError::Setting { field: "temperature".into(), found: temperature.to_string(), expected })
}

/// Rows of width H, copied one after another in place of what `copies` held.
fn gather(x: &[f32], width: usize, rows: &[usize], copies: &mut Vec<f32>) {
    copies.clear();
    for row in rows {
        copies.extend_from_slice(&x[row * width..][..width]);
    }
}

impl Decoder {
    /// Log-probs and entropies of the targets, nothing recorded.
    pub(crate) fn score(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        adapters: Adapters,
    ) -> Result<TokenLogprobs, PolicyError> {
        let inputs = batch.inputs(self.config().vocab_size)?;
        check_temperature(temperature)?;
        if inputs.targets.is_empty() {
            return Ok(TokenLogprobs::default());
        }
        if let Some(engine) = self.engine() {
            return engine.score(&inputs, temperature, adapters);
        }
        threads::enter(|| {
            let (mut rows, mut normed) = (Vec::new(), Vec::new());
            self.forward(
                &inputs.token_ids,
                &inputs.segments,
                adapters,
                |_| (),
                |x| {
                    gather(x, self.config().hidden_size, &inputs.predictors, &mut rows);
                    self.final_norm(&rows, &mut normed)
                },
            )?;
            let mut workspace = self.workspace().take();
            let (logprobs, entropies) = self
                .with_head(temperature, |head| Ok(head.logprobs(&normed, &inputs.targets, &mut workspace.head)?))?;
            self.workspace().put(workspace);
            Ok(TokenLogprobs { logprobs, entropies })
        })
    }

    fn score_backward(
        &self,
        inputs: &Inputs,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        let Inputs { token_ids, segments, predictors, targets } = inputs;
        let width = self.config().hidden_size;
        let table = self.rotary_table(&segments.positions());
        let context = Context { table: &table, adapters: Adapters::On };
        let mut workspace = self.workspace().take();
        self.embed(token_ids, &mut workspace.x)?;
        self.layers_forward(context, segments, &mut workspace, Some(self.layer_memory()), |_| ())?;

        let Workspace { head: scratch, x, rows, .. } = &mut workspace;
        gather(x, width, predictors, &mut rows.plain);
        self.final_norm(&rows.plain, &mut rows.normed)?;
        self.with_head(temperature, |head| {
            if !self.trains_own() {
                return head.backward(&rows.normed, targets, None, &mut rows.d_normed, scratch, loss);
            }
            let mut outcome = Ok(());
            self.head_parameter().write(gradients, |dw, accumulate| {
                let Rows { normed, d_normed, .. } = rows;
                outcome = head.backward(normed, targets, Some((dw, accumulate)), d_normed, scratch, loss);
            })?;
            outcome
        })?;
        rows.d_plain.clear();
        rows.d_plain.resize(rows.plain.len(), 0.0);
        self.final_norm_backward(&rows.plain, &rows.d_normed, &mut rows.d_plain, gradients)?;
        // From here on the last output makes room for its gradient; rows that predict several tokens add up.
        x.fill(0.0);
        for (gradient, row) in rows.d_plain.chunks_exact(width).zip(predictors) {
            x[row * width..][..width].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
        self.layers_backward(context, segments, &mut workspace, gradients)?;
        if self.trains_own() {
            // Each token's gradient goes to its row of the embeddings, in the order of the tokens.
            self.embedding_parameter().add(gradients, |sum| {
                for (token, g) in token_ids.iter().zip(workspace.x.chunks_exact(width)) {
                    sum[*token as usize * width..][..width].iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
                }
            })?;
        }
        self.workspace().put(workspace);
        Ok(())
    }
}

impl Policy for Decoder {
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        crate::generate::validate(self, requests, config)?;
        match self.engine() {
            Some(engine) => engine.generate(requests, config),
            None => crate::generate::generate(self, requests, config),
        }
    }

    fn exact_rollout(&self) -> bool {
        self.engine().is_none()
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
        let parameters = self.parameters().len();
        if gradients.len() != parameters || parameters == 0 {
            return Err(PolicyError::Setting {
                field: "gradients".into(),
                found: format!("{} gradients for {parameters} trainable tensors", gradients.len()),
                expected: "one for each, and at least one".into(),
            });
        }
        let inputs = batch.inputs(self.config().vocab_size)?;
        check_temperature(temperature)?;
        if inputs.targets.is_empty() {
            return Ok(());
        }
        if let Some(engine) = self.engine() {
            let memory = self.layer_memory();
            return engine.score_backward(&inputs, temperature, memory, gradients.on(engine)?, loss);
        }
        threads::enter(|| self.score_backward(&inputs, temperature, gradients, loss))
    }
}
