//! Memory of a forward and a backward, kept from one to the next.

use dapo_kernels::logprobs;
use std::sync::{Mutex, PoisonError};

/// Memory of an update that is kept through the roll-outs that follow, at most: asking for it anew takes a part of the time of a
/// small model's step, and a vanishing part of a large one's.
pub const KEPT_BYTES: usize = 1 << 30;

/// What a layer's backward needs of its forward. T tokens.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The layer's input, `[T, H]`.
    pub(crate) input: Vec<f32>,
    /// Queries before QK-norm and rotation, where the model has that norm.
    pub(crate) plain_queries: Vec<f32>,
    /// Keys, likewise.
    pub(crate) plain_keys: Vec<f32>,
    /// Rotated queries, `[T, heads · d]`.
    pub(crate) queries: Vec<f32>,
    /// Rotated keys, `[T, key-value heads · d]`.
    pub(crate) keys: Vec<f32>,
    /// Values, likewise.
    pub(crate) values: Vec<f32>,
    /// Attention's output, `[T, heads · d]`.
    pub(crate) attended: Vec<f32>,
    /// The input with attention's part added, `[T, H]`.
    pub(crate) middle: Vec<f32>,
    /// The gate before its activation, `[T, I]`.
    pub(crate) gate: Vec<f32>,
    /// What it is multiplied with, `[T, I]`.
    pub(crate) up: Vec<f32>,
}

/// Values of one layer at a time.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Output of a norm, `[T, H]`.
    pub(crate) normed: Vec<f32>,
    /// Output of a projection back to the residual, `[T, H]`; in the backward the gradient of a norm's output.
    pub(crate) projected: Vec<f32>,
    /// SwiGLU's output, `[T, I]`; in the backward its gradient.
    pub(crate) activated: Vec<f32>,
    /// Gradient of attention's output, `[T, heads · d]`.
    pub(crate) d_attended: Vec<f32>,
    /// Gradients of queries, keys and values.
    pub(crate) d_queries: Vec<f32>,
    /// As above.
    pub(crate) d_keys: Vec<f32>,
    /// As above.
    pub(crate) d_values: Vec<f32>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// By layer; one for all where nothing is kept.
    pub(crate) saved: Vec<Saved>,
    pub(crate) scratch: Scratch,
    /// Inputs of the layers that are computed again.
    pub(crate) inputs: Vec<Vec<f32>>,
    /// The head's.
    pub(crate) head: logprobs::Scratch,
    /// The residual stream, and in the backward its gradient.
    pub(crate) x: Vec<f32>,
    /// Rows of it that predict a target, before and after the final norm, with their gradients.
    pub(crate) rows: Rows,
}

impl Workspace {
    fn bytes(&self) -> usize {
        let saved = self.saved.iter().map(|s| {
            let ends = [&s.input, &s.attended, &s.middle, &s.gate, &s.up, &s.values];
            let heads = [&s.plain_queries, &s.plain_keys, &s.queries, &s.keys];
            ends.iter().chain(&heads).map(|values| values.capacity()).sum::<usize>()
        });
        let inputs = self.inputs.iter().map(Vec::capacity);
        4 * (saved.sum::<usize>() + inputs.sum::<usize>()) + self.head.bytes()
    }
}

/// Rows that go to the head, `[N, H]` each.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) plain: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) d_plain: Vec<f32>,
    pub(crate) d_normed: Vec<f32>,
}

/// Where the workspace waits between two passes. Whoever comes while it is taken works with memory of its own.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<Workspace>);

impl Store {
    pub(crate) fn take(&self) -> Workspace {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the workspace up if it is larger than `KEPT_BYTES`.
    pub(crate) fn release_large(&self) {
        let workspace = self.take();
        if workspace.bytes() <= KEPT_BYTES {
            self.put(workspace);
        }
    }

    pub(crate) fn put(&self, workspace: Workspace) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = workspace;
    }
}

/// A buffer of `len` elements; what they hold does not matter.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}
