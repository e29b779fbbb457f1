//! Log-probs of a batch's targets, the way back, and what shows the model's inside.

use super::forward::Context;
use super::gradients::CpuGradients;
use super::kept::{Assembly, Missing, Use};
use super::model::Model;
use super::workspace::{Rows, Workspace};
use crate::backend::{Adapters, LayerMemory, LogprobPass, Outputs, ValuePass};
use crate::batch::{Inputs, TokenLogprobs};
use crate::error::PolicyError;
use crate::value_head::ValueHead;
use dapo_kernels::attention::Segments;
use dapo_kernels::buffer::{emptied, sized};

/// Rows of width H, copied one after another in place of what `copies` held.
fn gather(x: &[f32], width: usize, rows: &[usize], copies: &mut Vec<f32>) {
    let copies = emptied(copies, rows.len() * width);
    for row in rows {
        copies.extend_from_slice(&x[row * width..][..width]);
    }
}

impl Model {
    /// The final norm's output at the tokens that predict a target, `[N, H]`.
    fn predicting_rows(&self, inputs: &Inputs, adapters: Adapters) -> Result<Vec<f32>, PolicyError> {
        let (mut rows, mut normed) = (Vec::new(), Vec::new());
        let mut take = |x: &[f32]| {
            gather(x, self.spec.config.hidden_size, &inputs.predictors, &mut rows);
            self.final_norm(&rows, &mut normed)
        };
        let kept = if adapters == Adapters::On { self.kept.assembly(inputs, Use::Look)? } else { None };
        if let Some(mut kept) = kept {
            let mut workspace = self.store.take();
            self.forward_of_missing(&mut kept, None, &mut workspace)?;
            take(&workspace.x)?;
            self.store.put(workspace);
        } else {
            self.forward(&inputs.token_ids, &inputs.segments, adapters, |_| (), take)?;
        }
        Ok(normed)
    }

    /// A forward of what is not kept of a batch, after which the workspace's `x` has the last layer's output of all of it.
    fn forward_of_missing(
        &self,
        kept: &mut Assembly<'_>,
        memory: Option<LayerMemory>,
        workspace: &mut Workspace,
    ) -> Result<(), PolicyError> {
        let Missing { token_ids, segments } = &kept.missing;
        workspace.x.clear();
        workspace.inputs.clear();
        if !token_ids.is_empty() {
            let table = self.rotary_table(&segments.positions());
            self.embed(token_ids, &mut workspace.x)?;
            let context = Context { table: &table, adapters: Adapters::On };
            self.layers_forward(context, segments, workspace, memory, |_| ())?;
        }
        let Workspace { assembled, x, .. } = workspace;
        std::mem::swap(&mut assembled.input, x);
        kept.last(&assembled.input, x);
        Ok(())
    }

    pub(super) fn values(&self, inputs: &Inputs, head: &ValueHead) -> Result<Vec<f32>, PolicyError> {
        Ok(head.values(&self.predicting_rows(inputs, Adapters::On)?))
    }

    pub(super) fn score(
        &self,
        inputs: &Inputs,
        temperature: f32,
        adapters: Adapters,
    ) -> Result<TokenLogprobs, PolicyError> {
        let normed = self.predicting_rows(inputs, adapters)?;
        let mut workspace = self.store.take();
        let (logprobs, entropies) =
            self.with_head(temperature, |head| Ok(head.logprobs(&normed, &inputs.targets, &mut workspace.head)?))?;
        self.store.put(workspace);
        Ok(TokenLogprobs { logprobs, entropies })
    }

    pub(super) fn backward(
        &self,
        inputs: &Inputs,
        memory: LayerMemory,
        gradients: &mut CpuGradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError> {
        let Inputs { token_ids, segments, predictors, targets } = inputs;
        let width = self.spec.config.hidden_size;
        let table = self.rotary_table(&segments.positions());
        let context = Context { table: &table, adapters: Adapters::On };
        let mut workspace = self.store.take();
        let mut kept = self.kept.assembly(inputs, Use::Up)?;
        if let Some(kept) = &mut kept {
            self.forward_of_missing(kept, Some(memory), &mut workspace)?;
        } else {
            self.embed(token_ids, &mut workspace.x)?;
            self.layers_forward(context, segments, &mut workspace, Some(memory), |_| ())?;
        }

        let Workspace { head: scratch, x, rows, .. } = &mut workspace;
        gather(x, width, predictors, &mut rows.plain);
        self.final_norm(&rows.plain, &mut rows.normed)?;
        if let Some(LogprobPass { temperature, loss }) = outputs.logprobs {
            self.with_head(temperature, |head| {
                if !self.trains_own() {
                    return head.backward(&rows.normed, targets, None, &mut rows.d_normed, scratch, loss);
                }
                let mut outcome = Ok(());
                self.head().write(gradients, |dw, accumulate| {
                    let Rows { normed, d_normed, .. } = rows;
                    outcome = head.backward(normed, targets, Some((dw, accumulate)), d_normed, scratch, loss);
                })?;
                outcome
            })?;
        } else {
            sized(&mut rows.d_normed, rows.normed.len()).fill(0.0);
        }
        if let Some(ValuePass { head, loss }) = outputs.values {
            head.backward(&rows.normed, &mut rows.d_normed, loss)?;
        }
        sized(&mut rows.d_plain, rows.plain.len()).fill(0.0);
        self.final_norm_backward(&rows.plain, &rows.d_normed, &mut rows.d_plain, gradients)?;
        // From here on the last output makes room for its gradient; rows that predict several tokens add up.
        x.fill(0.0);
        for (gradient, row) in rows.d_plain.chunks_exact(width).zip(predictors) {
            x[row * width..][..width].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
        self.layers_backward(context, segments, kept, &mut workspace, gradients)?;
        if self.trains_own() {
            // Each token's gradient goes to its row of the embeddings, in the order of the tokens.
            self.embeddings.add(gradients, |sum| {
                for (token, g) in token_ids.iter().zip(workspace.x.chunks_exact(width)) {
                    sum[*token as usize * width..][..width].iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
                }
            })?;
        }
        self.store.put(workspace);
        Ok(())
    }

    /// Logits of every token, `[T, V]`.
    pub(super) fn all_logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError> {
        let hidden = self.all_hidden_states(token_ids, segments)?.pop();
        let hidden = hidden.ok_or_else(|| PolicyError::Internal("no hidden states".into()))?;
        let mut logits = Vec::new();
        self.with_head(1.0, |head| {
            let (vocab, stride) = (self.spec.config.vocab_size, head.stride());
            head.logits(&hidden, &mut logits);
            for row in 0..token_ids.len() {
                logits.copy_within(row * stride..row * stride + vocab, row * vocab);
            }
            logits.truncate(token_ids.len() * vocab);
            Ok(())
        })?;
        Ok(logits)
    }

    /// The embeddings, the output of every layer but the last, and the final norm's output, each `[T, H]`.
    pub(super) fn all_hidden_states(
        &self,
        token_ids: &[u32],
        segments: &Segments,
    ) -> Result<Vec<Vec<f32>>, PolicyError> {
        let (mut states, mut normed) = (Vec::new(), Vec::new());
        self.forward(
            token_ids,
            segments,
            Adapters::On,
            |x| states.push(x.to_vec()),
            |x| self.final_norm(x, &mut normed),
        )?;
        // The last layer's output is seen after the norm.
        states.pop();
        states.push(normed);
        Ok(states)
    }
}
