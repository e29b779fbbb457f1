//! What a trainer asks of a policy, and how the decoder answers.

use crate::decoder::{Attend, LayerMemory, Tracking, check_total};
use crate::{Completion, Decoder, GenerationConfig, Gradients, PolicyError, Request, Segments};
use candle_core::{Tensor, Var};
use dapo_kernels::logprobs::{RowGradients, Rows};
use dapo_kernels::{RotaryTable, inject_gradient, with_slice, with_slice_mut};
use std::sync::Arc;

/// Tokens of a packed batch, and which of them are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    /// All tokens, segment after segment.
    pub token_ids: Vec<u32>,
    /// The sequences; a completion's segment may name its prompt's as parent.
    pub segments: Arc<Segments>,
    /// Indices of the tokens to score, ascending: completion tokens.
    pub targets: Vec<usize>,
}

impl TokenBatch {
    /// For each target, the token whose hidden state predicts it: its predecessor in the sequence.
    fn predictors(&self) -> Result<Vec<usize>, PolicyError> {
        check_total(&self.token_ids, &self.segments)?;
        let segments = self.segments.list();
        let mut current = 0;
        let mut predictors = Vec::with_capacity(self.targets.len());
        for (i, target) in self.targets.iter().enumerate() {
            if i > 0 && self.targets[i - 1] >= *target || *target >= self.token_ids.len() {
                return Err(self.invalid(i, "an index above the one before it and below the number of tokens"));
            }
            while segments[current].start + segments[current].len <= *target {
                current += 1;
            }
            let segment = &segments[current];
            let predictor = match self.segments.parent(segment) {
                _ if *target > segment.start => target - 1,
                Some(parent) => parent.start + parent.len - 1,
                None => return Err(self.invalid(i, "a token with a predecessor")),
            };
            predictors.push(predictor);
        }
        Ok(predictors)
    }

    fn invalid(&self, i: usize, expected: &str) -> PolicyError {
        PolicyError::Setting {
            field: format!("targets[{i}]"),
            found: self.targets[i].to_string(),
            expected: expected.into(),
        }
    }

    fn target_ids(&self) -> Vec<u32> {
        self.targets.iter().map(|t| self.token_ids[*t]).collect()
    }
}

/// Log-probs and entropies of a batch's targets, in nats, in the targets' order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenLogprobs {
    /// log p(token | its past).
    pub logprobs: Vec<f32>,
    /// Entropy of the distribution that the token was drawn from.
    pub entropies: Vec<f32>,
}

/// A model that completes prompts and learns from how its completions were judged.
pub trait Policy {
    /// Completions of each request, in order.
    ///
    /// # Errors
    /// When a setting or token id is invalid.
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError>;

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
        loss: &mut dyn FnMut(Rows<'_>, RowGradients<'_>) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError>;
}

/// Rows of a `[T, H]` tensor, copied one after another.
fn gather(x: &Tensor, rows: &[usize]) -> Result<Vec<f32>, PolicyError> {
    let width = x.dim(1)?;
    Ok(with_slice(x, |x| Ok(rows.iter().flat_map(|r| &x[r * width..][..width]).copied().collect()))?)
}

impl Decoder {
    /// Log-probs and entropies of the targets, nothing recorded.
    pub(crate) fn score(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        tracking: Tracking,
    ) -> Result<TokenLogprobs, PolicyError> {
        let predictors = batch.predictors()?;
        let hidden = self.states(&batch.token_ids, &batch.segments, tracking)?.pop();
        let hidden = hidden.ok_or_else(|| PolicyError::Internal("no hidden states".into()))?;
        let rows = gather(&hidden, &predictors)?;
        let (logprobs, entropies) =
            self.with_head(temperature, |head| Ok(head.logprobs(&rows, &batch.target_ids())?))?;
        Ok(TokenLogprobs { logprobs, entropies })
    }
}

impl Policy for Decoder {
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        crate::generate::generate(self, requests, config)
    }

    fn logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        self.score(batch, temperature, Tracking::Detached)
    }

    fn logprobs_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut dyn FnMut(Rows<'_>, RowGradients<'_>) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let parameters = self.parameters().len();
        if gradients.len() != parameters || parameters == 0 {
            return Err(PolicyError::Setting {
                field: "gradients".into(),
                found: format!("{} gradients for {parameters} trainable tensors", gradients.len()),
                expected: "one for each, and at least one".into(),
            });
        }
        let predictors = batch.predictors()?;
        let pass = Pass::forward(self, batch)?;
        let normed = self.final_norm(pass.output.as_tensor(), Tracking::Record)?;
        let rows = gather(&normed, &predictors)?;
        let head = self.head_parameter();
        let head_gradient = self.trains_own().then(|| gradients.zeros_or_present(head.index, &head.var)).transpose()?;
        let rows_gradient = self.with_head(temperature, |head| {
            let Some(head_gradient) = head_gradient else {
                return head.backward(&rows, &batch.target_ids(), None, &mut *loss);
            };
            let mut outcome = Ok(Vec::new());
            with_slice_mut(&head_gradient, |dw| {
                outcome = head.backward(&rows, &batch.target_ids(), Some(dw), &mut *loss);
                Ok(())
            })?;
            outcome
        })?;
        let width = self.config().hidden_size;
        let mut spread = vec![0.0f32; batch.token_ids.len() * width];
        for (gradient, row) in rows_gradient.chunks_exact(width).zip(&predictors) {
            spread[row * width..][..width].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
        let spread = Tensor::from_vec(spread, normed.shape(), normed.device())?;
        pass.backward(self, batch, &inject_gradient(&normed, &spread)?, gradients)
    }
}

/// A forward whose layers are cut apart, so that each one's graph is short-lived and its gradients are stored at once.
struct Pass {
    table: Arc<RotaryTable>,
    /// Input of every layer.
    inputs: Vec<Var>,
    /// Output of every layer, with its graph; empty when layers are computed again.
    outputs: Vec<Tensor>,
    /// The last layer's output.
    output: Var,
}

impl Pass {
    fn forward(decoder: &Decoder, batch: &TokenBatch) -> Result<Self, PolicyError> {
        let table = decoder.rotary_table(&batch.segments.positions());
        let mut x = Var::from_tensor(&decoder.embed(&batch.token_ids)?)?;
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let tracking = match decoder.layer_memory() {
            LayerMemory::Keep => Tracking::Record,
            LayerMemory::Recompute => Tracking::Detached,
        };
        for i in 0..decoder.num_layers() {
            let input = if tracking == Tracking::Record { recorded(decoder, i, &x) } else { x.as_detached_tensor() };
            let y = decoder.layer(i, &input, &table, &mut Attend::Packed(&batch.segments), tracking)?;
            inputs.push(x);
            x = Var::from_tensor(&y.detach())?;
            if tracking == Tracking::Record {
                outputs.push(y);
            }
        }
        Ok(Self { table, inputs, outputs, output: x })
    }

    fn backward(
        mut self,
        decoder: &Decoder,
        batch: &TokenBatch,
        loss: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), PolicyError> {
        let parameters = decoder.parameters();
        let mut collect = |loss: &Tensor, input: &Var| -> Result<Option<Tensor>, PolicyError> {
            let mut store = loss.backward()?;
            for (index, (_, var)) in parameters.iter().enumerate() {
                if let Some(gradient) = store.remove(var) {
                    gradients.add(index, gradient.detach())?;
                }
            }
            Ok(store.remove(input).map(|gradient| gradient.detach()))
        };
        let lost = || PolicyError::Internal("a layer's input got no gradient".into());
        let mut gradient = collect(loss, &self.output)?;
        while let Some(input) = self.inputs.pop() {
            let i = self.inputs.len();
            let y = match self.outputs.pop() {
                Some(y) => y,
                None => decoder.layer(
                    i,
                    &recorded(decoder, i, &input),
                    &self.table,
                    &mut Attend::Packed(&batch.segments),
                    Tracking::Record,
                )?,
            };
            gradient = collect(&inject_gradient(&y, &gradient.ok_or_else(lost)?)?, &input)?;
        }
        if decoder.trains_own() {
            embedding_backward(decoder, batch, &gradient.ok_or_else(lost)?, gradients)?;
        }
        Ok(())
    }
}

/// A layer's input in a forward that records; the first layer's needs a gradient only where the embeddings are trained.
fn recorded(decoder: &Decoder, layer: usize, input: &Var) -> Tensor {
    if layer > 0 || decoder.trains_own() { input.as_tensor().clone() } else { input.as_detached_tensor() }
}

/// Adds each token's gradient to its row of the embedding matrix, in the order of the tokens.
fn embedding_backward(
    decoder: &Decoder,
    batch: &TokenBatch,
    gradient: &Tensor,
    gradients: &mut Gradients,
) -> Result<(), PolicyError> {
    let embeddings = decoder.embedding_parameter();
    let sum = gradients.zeros_or_present(embeddings.index, &embeddings.var)?;
    let width = decoder.config().hidden_size;
    with_slice(gradient, |g| {
        with_slice_mut(&sum, |sum| {
            for (token, g) in batch.token_ids.iter().zip(g.chunks_exact(width)) {
                sum[*token as usize * width..][..width].iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
            }
            Ok(())
        })
    })?;
    Ok(())
}
