//! Log-probs and entropies of tokens from the hidden states that predict them, without the logits of a whole batch.
//!
//! The language-model head runs over chunks of rows: logits of a chunk, one pass per row for the maximum, one for the
//! sum of exponentials and the entropy; and, where a gradient is wanted, the logits' gradient in their place and two
//! matmuls for the gradients of hidden states and head. Three matmuls in all, and memory for one chunk of logits.

mod cpu;

pub use cpu::{RowStats, pick, row_stats, row_stats_by_block};

use crate::buffer::sized;
use crate::matmul::{Lhs, Mode, PackedMatrix, Rhs, matmul};
use crate::threads;
use candle_core::{Result, bail};

/// Most rows of logits in memory at a time, for a vocabulary of `vocab`: 48 MiB of them. The head's weight and its
/// gradient pass through the CPU once per chunk, so more rows are faster.
pub fn chunk_rows(vocab: usize) -> usize {
    ((12 << 20) / vocab.max(1)).clamp(16, 1024)
}

/// Runs of at most `chunk_rows` of `rows` rows, of about equal length: first row and number.
fn chunks(rows: usize, vocab: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(chunk_rows(vocab));
    (0..count).map(move |i| (rows * i / count, rows * (i + 1) / count - rows * i / count))
}

/// Log-probs of the targets and entropies of the distributions, in nats, of a run of rows.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Index of the first row.
    pub start: usize,
    /// log p(target).
    pub logprobs: &'a [f32],
    /// −Σ p log p.
    pub entropies: &'a [f32],
}

/// Gradients of a loss with respect to the log-probs and entropies of a run of rows; to be filled by the caller.
#[derive(Debug)]
pub struct RowGradients<'a> {
    /// ∂loss/∂logprob, zero on entry.
    pub logprobs: &'a mut [f32],
    /// ∂loss/∂entropy, zero on entry.
    pub entropies: &'a mut [f32],
}

/// Memory that the head works with, a chunk of logits above all; worth keeping from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    logits: Vec<f32>,
    logprobs: Vec<f32>,
    entropies: Vec<f32>,
    dlogprobs: Vec<f32>,
    dentropies: Vec<f32>,
}

/// The language-model head over given hidden states.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The weight, `[V, H]`, packed.
    pub packed: &'a PackedMatrix,
    /// Logits are divided by this before the softmax.
    pub temperature: f32,
}

impl Head<'_> {
    /// Distance between rows of logits: the vocabulary and a little more, since rows a multiple of a page apart would
    /// share a few sets of every cache.
    pub fn stride(&self) -> usize {
        self.packed.n().next_multiple_of(16) + 16
    }

    /// logits = hidden · weightᵀ, `[N, stride]` in place of what `logits` held; what follows the vocabulary means
    /// nothing.
    pub fn logits(&self, hidden: &[f32], logits: &mut Vec<f32>) {
        let (vocab, width, stride) = (self.packed.n(), self.packed.k(), self.stride());
        let rows = hidden.len() / width;
        let logits = sized(logits, rows * stride);
        let packed = Rhs::Packed(self.packed);
        matmul(rows, vocab, width, Lhs::rows(hidden, width), packed, logits, stride, Mode::default());
    }

    fn check(&self, hidden: &[f32], targets: &[u32]) -> Result<()> {
        let (vocab, width) = (self.packed.n(), self.packed.k());
        if hidden.len() != targets.len() * width {
            bail!("logprobs: {} hidden values for {} targets, expected {width} each", hidden.len(), targets.len());
        }
        if let Some(row) = targets.iter().position(|t| *t as usize >= vocab) {
            bail!("logprobs: target {} in row {row} is outside the vocabulary of {vocab}", targets[row]);
        }
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            bail!("logprobs: temperature {} must be positive", self.temperature);
        }
        Ok(())
    }

    /// log p(target) and entropy of every row.
    ///
    /// # Shapes
    /// hidden `[N, H]`, N targets → N log-probs, N entropies.
    ///
    /// # Errors
    /// When sizes disagree, a target is outside the vocabulary, or the temperature is not positive.
    pub fn logprobs(&self, hidden: &[f32], targets: &[u32], scratch: &mut Scratch) -> Result<(Vec<f32>, Vec<f32>)> {
        self.check(hidden, targets)?;
        let (mut logprobs, mut entropies) = (vec![0.0; targets.len()], vec![0.0; targets.len()]);
        let (vocab, width) = (self.packed.n(), self.packed.k());
        let logits = &mut scratch.logits;
        for (start, n) in chunks(targets.len(), vocab) {
            self.logits(&hidden[start * width..][..n * width], logits);
            self.stats(logits, &targets[start..][..n], &mut logprobs[start..], &mut entropies[start..]);
        }
        Ok((logprobs, entropies))
    }

    fn stats(&self, logits: &[f32], targets: &[u32], logprobs: &mut [f32], entropies: &mut [f32]) -> Vec<RowStats> {
        let (vocab, stride) = (self.packed.n(), self.stride());
        let stats = threads::map(targets.len(), |i| row_stats(&logits[i * stride..][..vocab], self.temperature));
        for (i, (stats, target)) in stats.iter().zip(targets).enumerate() {
            logprobs[i] = stats.logprob(logits[i * stride + *target as usize]);
            entropies[i] = stats.entropy;
        }
        stats
    }

    /// Log-probs and entropies chunk by chunk; `loss` is shown each chunk and fills in its gradients. Those of the
    /// hidden states replace what `hidden_grad` held. Those of the head go to `weight_grad`: added to what is there if
    /// its second part says so, in its place otherwise.
    ///
    /// # Shapes
    /// hidden and hidden_grad `[N, H]`, N targets, weight_grad `[V, H]`.
    ///
    /// # Errors
    /// As [`Head::logprobs`]; and what `loss` returns.
    pub fn backward<E: From<candle_core::Error>>(
        &self,
        hidden: &[f32],
        targets: &[u32],
        mut weight_grad: Option<(&mut [f32], bool)>,
        hidden_grad: &mut Vec<f32>,
        scratch: &mut Scratch,
        mut loss: impl FnMut(Rows<'_>, RowGradients<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.check(hidden, targets)?;
        let (vocab, width, stride) = (self.packed.n(), self.packed.k(), self.stride());
        sized(hidden_grad, hidden.len());
        let Scratch { logits, logprobs, entropies, dlogprobs, dentropies } = scratch;
        for (start, n) in chunks(targets.len(), vocab) {
            let (targets, hidden) = (&targets[start..][..n], &hidden[start * width..][..n * width]);
            self.logits(hidden, logits);
            for values in [&mut *logprobs, entropies, dlogprobs, dentropies] {
                values.clear();
                values.resize(n, 0.0);
            }
            let stats = self.stats(logits, targets, logprobs, entropies);
            loss(Rows { start, logprobs, entropies }, RowGradients { logprobs: dlogprobs, entropies: dentropies })?;
            threads::for_each_chunk([logits], [stride], |i, [row]| {
                cpu::logits_gradient(&mut row[..vocab], stats[i], targets[i] as usize, dlogprobs[i], dentropies[i]);
            });
            let weight = Rhs::Transposed(self.packed);
            let dh = &mut hidden_grad[start * width..][..n * width];
            matmul(n, width, vocab, Lhs::rows(logits, stride), weight, dh, width, Mode::default());
            if let Some((dw, accumulate)) = &mut weight_grad {
                let products = self.packed.products();
                let mode = Mode { accumulate: *accumulate, products, ..Mode::default() };
                let rhs = Rhs::Rows { data: hidden, stride: width };
                matmul(vocab, width, n, Lhs::transposed(logits, stride), rhs, dw, width, mode);
                *accumulate = true;
            }
        }
        Ok(())
    }
}
