//! Log-probs of a batch's targets on the device, and the way back. The head runs over chunks of rows.
//!
//! N targets, H hidden size, V vocabulary.

use super::compute::Compute;
use super::forward::{Attend, Pass};
use super::gradients::CudaGradients;
use super::model::Model;
use super::workspace::{HeadMemory, Workspace};
use crate::backend::{Adapters, LayerMemory, LogprobPass, Outputs, ValuePass};
use crate::batch::Inputs;
use crate::batch::{Loss, TokenLogprobs};
use crate::error::PolicyError;
use crate::value_head::ValueHead;
use dapo_kernels::attention::Segments;
use dapo_kernels::cuda::attention::Plan;
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo_kernels::cuda::logprobs::{self, LogitsShape, RowInputs};
use dapo_kernels::cuda::rms_norm::InputGradient;
use dapo_kernels::cuda::{Buffer, In, embedding};
use dapo_kernels::logprobs::{RowGradients, Rows};

/// Logits in memory at a time.
const CHUNK_LOGITS: usize = 128 << 20;

/// A batch as the device needs it.
pub(super) struct Batch<'a> {
    pub(super) token_ids: &'a [u32],
    ids: Buffer<u32>,
    positions: Buffer<i32>,
    plan: Plan,
}

impl Batch<'_> {
    fn pass(&self, adapters: Adapters) -> Pass<'_> {
        Pass { ids: self.ids.view(), positions: self.positions.view(), adapters }
    }
}

impl<T: Compute> Model<T> {
    pub(super) fn batch<'a>(&self, token_ids: &'a [u32], segments: &Segments) -> Result<Batch<'a>, PolicyError> {
        let positions: Vec<i32> = segments.positions().into_iter().map(|p| p as i32).collect();
        let longest = positions.iter().max().map_or(0, |p| *p as usize + 1);
        if longest > self.config.max_position_embeddings {
            return Err(PolicyError::Setting {
                field: "segments".into(),
                found: format!("a sequence of {longest} tokens"),
                expected: format!("at most the model's {}", self.config.max_position_embeddings),
            });
        }
        Ok(Batch {
            token_ids,
            ids: self.gpu.upload(token_ids)?,
            positions: self.gpu.upload(&positions)?,
            plan: Plan::new(&self.gpu, segments, self.heads())?,
        })
    }

    /// Distance between rows of logits.
    pub(super) fn logits_stride(&self) -> usize {
        self.config.vocab_size.next_multiple_of(8)
    }

    pub(super) fn logits_shape(&self, rows: usize, temperature: f32) -> LogitsShape {
        LogitsShape { rows, vocab: self.config.vocab_size, stride: self.logits_stride(), temperature }
    }

    /// logits = normed · headᵀ, `[rows, stride]`.
    pub(super) fn logits_of(
        &self,
        normed: In<'_, T>,
        logits: &mut super::array::Array<f32>,
    ) -> candle_core::Result<()> {
        let (width, vocab, stride) = (self.config.hidden_size, self.config.vocab_size, self.logits_stride());
        let rows = normed.len() / width;
        let (a, b) = (Matrix::rows(normed, width), Matrix::rows(self.compute[self.slabs.head].view(), width));
        let out = logits.sized(&self.gpu, rows * stride)?;
        gemm(&self.gpu, Form::RightTransposed, [rows, vocab, width], a, b, out, stride, Output::Write)
    }

    /// Logits of every token, `[T, V]`.
    pub(super) fn all_logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError> {
        let batch = self.batch(token_ids, segments)?;
        let mut workspace = self.take_workspace();
        self.forward(&batch.pass(Adapters::On), &mut Attend::Packed(&batch.plan), None, &mut workspace)?;
        let normed = workspace.head.normed.sized(&self.gpu, token_ids.len() * self.config.hidden_size)?;
        self.norm(workspace.x.view()?, self.slabs.norm, normed)?;
        self.logits_of(workspace.head.normed.view()?, &mut workspace.head.logits)?;
        let logits = self.gpu.read(workspace.head.logits.view()?)?;
        self.put_workspace(workspace);
        let rows = logits.chunks_exact(self.logits_stride());
        Ok(rows.flat_map(|row| &row[..self.config.vocab_size]).copied().collect())
    }

    /// The rows that predict, under the final norm.
    fn gather_rows(&self, inputs: &Inputs, workspace: &mut Workspace<T>) -> Result<Buffer<u32>, PolicyError> {
        let (gpu, width) = (&self.gpu, self.config.hidden_size);
        let rows: Vec<u32> = inputs.predictors.iter().map(|row| *row as u32).collect();
        let HeadMemory { plain, normed, .. } = &mut workspace.head;
        let gathered = plain.sized(gpu, rows.len() * width)?;
        embedding::gather(gpu, workspace.x.view()?, gpu.upload(&rows)?.view(), width, gathered)?;
        self.norm(plain.view()?, self.slabs.norm, normed.sized(gpu, rows.len() * width)?)?;
        Ok(gpu.upload(&inputs.targets)?)
    }

    /// Rows of logits at a time, of about equal number: first row and number.
    fn chunks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<T> {
        let most = (CHUNK_LOGITS / self.logits_stride()).clamp(16, 8192);
        let count = rows.div_ceil(most);
        (0..count).map(move |i| (rows * i / count, rows * (i + 1) / count - rows * i / count))
    }

    /// Logits of a chunk, and log-probs, entropies and statistics of its rows.
    fn score_chunk(
        &self,
        (start, n): (usize, usize),
        ids: &Buffer<u32>,
        temperature: f32,
        head: &mut HeadMemory<T>,
    ) -> candle_core::Result<()> {
        let width = self.config.hidden_size;
        self.logits_of(head.normed.part(start * width, n * width)?, &mut head.logits)?;
        let (logprobs, entropies) = (head.logprobs.part_mut(start, n)?, head.entropies.part_mut(start, n)?);
        let (shape, stats) = (self.logits_shape(n, temperature), head.stats.part_mut(2 * start, 2 * n)?);
        let ids = ids.part(start..start + n)?;
        logprobs::forward(&self.gpu, shape, head.logits.view()?, ids, logprobs, entropies, stats)
    }

    fn size_rows(&self, rows: usize, head: &mut HeadMemory<T>) -> candle_core::Result<()> {
        head.logprobs.sized(&self.gpu, rows)?;
        head.entropies.sized(&self.gpu, rows)?;
        head.stats.sized(&self.gpu, 2 * rows)?;
        Ok(())
    }

    /// A value head's values of the states that the targets are chosen in.
    pub(super) fn values(&self, inputs: &Inputs, head: &ValueHead) -> Result<Vec<f32>, PolicyError> {
        let batch = self.batch(&inputs.token_ids, &inputs.segments)?;
        let mut workspace = self.take_workspace();
        self.forward(&batch.pass(Adapters::On), &mut Attend::Packed(&batch.plan), None, &mut workspace)?;
        self.gather_rows(inputs, &mut workspace)?;
        let rows = T::read(&self.gpu, workspace.head.normed.view()?)?;
        self.put_workspace(workspace);
        Ok(head.values(&rows))
    }

    pub(super) fn score(
        &self,
        inputs: &Inputs,
        temperature: f32,
        adapters: Adapters,
    ) -> Result<TokenLogprobs, PolicyError> {
        let batch = self.batch(&inputs.token_ids, &inputs.segments)?;
        let mut workspace = self.take_workspace();
        self.forward(&batch.pass(adapters), &mut Attend::Packed(&batch.plan), None, &mut workspace)?;
        let ids = self.gather_rows(inputs, &mut workspace)?;
        let head = &mut workspace.head;
        self.size_rows(inputs.targets.len(), head)?;
        for chunk in self.chunks(inputs.targets.len()) {
            self.score_chunk(chunk, &ids, temperature, head)?;
        }
        let (logprobs, entropies) = (self.gpu.read(head.logprobs.view()?)?, self.gpu.read(head.entropies.view()?)?);
        self.put_workspace(workspace);
        Ok(TokenLogprobs { logprobs, entropies })
    }

    pub(super) fn backward(
        &self,
        inputs: &Inputs,
        memory: LayerMemory,
        gradients: &mut CudaGradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError> {
        let batch = self.batch(&inputs.token_ids, &inputs.segments)?;
        let (gpu, width) = (&self.gpu, self.config.hidden_size);
        let pass = batch.pass(Adapters::On);
        let mut workspace = self.take_workspace();
        self.forward(&pass, &mut Attend::Packed(&batch.plan), Some(memory), &mut workspace)?;
        let ids = self.gather_rows(inputs, &mut workspace)?;
        let head = &mut workspace.head;
        let rows = inputs.targets.len();
        head.d_normed.sized(gpu, rows * width)?;
        match outputs.logprobs {
            Some(LogprobPass { temperature, loss }) => {
                self.size_rows(rows, head)?;
                for (start, n) in self.chunks(rows) {
                    self.score_chunk((start, n), &ids, temperature, head)?;
                    self.head_backward((start, n), &ids, temperature, head, gradients, loss)?;
                }
            }
            None => gpu.fill_zero(head.d_normed.view_mut()?)?,
        }
        if let Some(ValuePass { head: values, loss }) = outputs.values {
            let mut d_normed = T::read(gpu, head.d_normed.view()?)?;
            values.backward(&T::read(gpu, head.normed.view()?)?, &mut d_normed, loss)?;
            gpu.write(&d_normed, workspace.sums.sized(gpu, rows * width)?)?;
            T::from_floats(gpu, workspace.sums.view()?, head.d_normed.view_mut()?)?;
        }
        // Rows that predict several tokens add up, in f32 and in their order.
        let HeadMemory { plain, d_plain, d_normed, .. } = head;
        let into = InputGradient::Write(d_plain.sized(gpu, rows * width)?);
        let scratch = &mut workspace.scratch.norm;
        self.norm_backward(plain.view()?, self.slabs.norm, d_normed.view()?, into, scratch, gradients)?;
        let predictors: Vec<u32> = inputs.predictors.iter().map(|row| *row as u32).collect();
        let occurrences = embedding::Occurrences::of(&predictors).upload(gpu)?;
        let len = batch.token_ids.len() * width;
        gpu.fill_zero(workspace.sums.sized(gpu, len)?)?;
        embedding::accumulate(gpu, d_plain.view()?, &occurrences, width, workspace.sums.view_mut()?)?;
        T::from_floats(gpu, workspace.sums.view()?, workspace.x.sized(gpu, len)?)?;

        self.layers_backward(&pass, &batch.plan, memory, &mut workspace, gradients)?;
        if self.slabs.trains(self.slabs.embeddings) {
            self.embeddings_backward(batch.token_ids, workspace.x.view()?, gradients)?;
        }
        self.put_workspace(workspace);
        Ok(())
    }

    /// Shows the loss a chunk, and takes its gradients back to the rows under the norm and to the head.
    fn head_backward(
        &self,
        (start, n): (usize, usize),
        ids: &Buffer<u32>,
        temperature: f32,
        head: &mut HeadMemory<T>,
        gradients: &mut CudaGradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        let (gpu, width, vocab, stride) =
            (&self.gpu, self.config.hidden_size, self.config.vocab_size, self.logits_stride());
        let logprobs = gpu.read(head.logprobs.part(start, n)?)?;
        let entropies = gpu.read(head.entropies.part(start, n)?)?;
        let (mut d_logprobs, mut d_entropies) = (vec![0.0; n], vec![0.0; n]);
        let rows = Rows { start, logprobs: &logprobs, entropies: &entropies };
        loss(rows, RowGradients { logprobs: &mut d_logprobs, entropies: &mut d_entropies })?;
        gpu.write(&d_logprobs, head.d_logprobs.sized(gpu, n)?)?;
        gpu.write(&d_entropies, head.d_entropies.sized(gpu, n)?)?;
        let inputs = RowInputs {
            targets: ids.part(start..start + n)?,
            stats: head.stats.part(2 * start, 2 * n)?,
            entropies: head.entropies.part(start, n)?,
            dlogprobs: head.d_logprobs.view()?,
            dentropies: Some(head.d_entropies.view()?),
        };
        let d_logits = head.d_logits.sized(gpu, n * stride)?;
        T::logits_gradient(gpu, self.logits_shape(n, temperature), head.logits.view()?, inputs, d_logits)?;
        let d_logits = || Ok::<_, candle_core::Error>(Matrix { data: head.d_logits.view()?, stride });
        let weight = Matrix::rows(self.compute[self.slabs.head].view(), width);
        let d_normed = head.d_normed.part_mut(start * width, n * width)?;
        gemm(gpu, Form::Plain, [n, width, vocab], d_logits()?, weight, d_normed, width, Output::Write)?;
        if !self.slabs.trains(self.slabs.head) {
            return Ok(());
        }
        let normed = Matrix::rows(head.normed.part(start * width, n * width)?, width);
        let (dw, into) = gradients.target(self.slabs.head);
        gemm(gpu, Form::LeftTransposed, [vocab, width, n], d_logits()?, normed, dw, width, into)?;
        Ok(())
    }
}
