//! Memory of a forward and a backward, kept from one to the next.

use dapo_kernels::logprobs;
use std::sync::{Mutex, PoisonError};

/// What a layer's backward needs of its forward. T tokens.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// The layer's input, `[T, H]`.
    pub(super) input: Vec<f32>,
    /// Queries before QK-norm and rotation, where the model has that norm.
    pub(super) plain_queries: Vec<f32>,
    /// Keys, likewise.
    pub(super) plain_keys: Vec<f32>,
    /// Rotated queries, `[T, heads · d]`.
    pub(super) queries: Vec<f32>,
    /// Rotated keys, `[T, key-value heads · d]`.
    pub(super) keys: Vec<f32>,
    /// Values, likewise.
    pub(super) values: Vec<f32>,
    /// Attention's output, `[T, heads · d]`.
    pub(super) attended: Vec<f32>,
    /// The input with attention's part added, `[T, H]`.
    pub(super) middle: Vec<f32>,
    /// The gate before its activation, `[T, I]`.
    pub(super) gate: Vec<f32>,
    /// What it is multiplied with, `[T, I]`.
    pub(super) up: Vec<f32>,
}

impl Saved {
    /// All values, in the order of [`layer_widths`](crate::activations::layer_widths).
    pub(super) fn fields(&self) -> [&[f32]; 10] {
        let Self { input, plain_queries, plain_keys, queries, keys, values, attended, middle, gate, up } = self;
        [input, plain_queries, plain_keys, queries, keys, values, attended, middle, gate, up]
    }

    /// The same, to be changed.
    pub(super) fn fields_mut(&mut self) -> [&mut Vec<f32>; 10] {
        let Self { input, plain_queries, plain_keys, queries, keys, values, attended, middle, gate, up } = self;
        [input, plain_queries, plain_keys, queries, keys, values, attended, middle, gate, up]
    }
}

/// Values of one layer at a time.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Output of a norm, `[T, H]`.
    pub(super) normed: Vec<f32>,
    /// Output of a projection back to the residual, `[T, H]`; in the backward the gradient of a norm's output.
    pub(super) projected: Vec<f32>,
    /// SwiGLU's output, `[T, I]`; in the backward its gradient.
    pub(super) activated: Vec<f32>,
    /// Gradient of attention's output, `[T, heads · d]`.
    pub(super) d_attended: Vec<f32>,
    /// Gradients of queries, keys and values.
    pub(super) d_queries: Vec<f32>,
    /// As above.
    pub(super) d_keys: Vec<f32>,
    /// As above.
    pub(super) d_values: Vec<f32>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By layer; one for all where nothing is kept.
    pub(super) saved: Vec<Saved>,
    /// Of one layer, put together from what generation kept and what is in `saved`.
    pub(super) assembled: Saved,
    pub(super) scratch: Scratch,
    /// Inputs of the layers that are computed again.
    pub(super) inputs: Vec<Vec<f32>>,
    /// The head's.
    pub(super) head: logprobs::Scratch,
    /// The residual stream, and in the backward its gradient.
    pub(super) x: Vec<f32>,
    /// Rows of it that predict a target, before and after the final norm, with their gradients.
    pub(super) rows: Rows,
}

/// Rows that go to the head, `[N, H]` each.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) plain: Vec<f32>,
    pub(super) normed: Vec<f32>,
    pub(super) d_plain: Vec<f32>,
    pub(super) d_normed: Vec<f32>,
}

/// Where the workspace waits between two passes. Whoever comes while it is taken works with memory of its own.
#[derive(Debug, Default)]
pub(super) struct Store(Mutex<Workspace>);

impl Store {
    pub(super) fn take(&self) -> Workspace {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the workspace up.
    pub(super) fn release(&self) {
        self.take();
    }

    pub(super) fn put(&self, workspace: Workspace) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = workspace;
    }
}
