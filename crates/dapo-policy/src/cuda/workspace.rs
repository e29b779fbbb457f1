//! Memory of a pass on the device, kept from one to the next. T tokens.

use super::array::Array;

/// What a layer's backward needs of its forward.
#[derive(Debug, Default)]
pub(super) struct Saved<T> {
    /// Queries, keys and values before QK-norm and rotation, where the model has that norm.
    pub(super) plain_qkv: Array<T>,
    /// The same, rotated.
    pub(super) qkv: Array<T>,
    /// Attention's output, `[T, heads · d]`.
    pub(super) attended: Array<T>,
    /// Logarithms of the softmax's sums, `[heads, T]`.
    pub(super) lse: Array<f32>,
    /// The input with attention's part added, `[T, H]`.
    pub(super) middle: Array<T>,
    /// Gate and up, `[T, 2I]`; in the backward their gradients.
    pub(super) gate_up: Array<T>,
}

/// Values of one layer at a time.
#[derive(Debug, Default)]
pub(super) struct Scratch<T> {
    /// Output of a norm, `[T, H]`.
    pub(super) normed: Array<T>,
    /// Output of a projection back to the residual, `[T, H]`; in the backward the gradient of a norm's output.
    pub(super) projected: Array<T>,
    /// SwiGLU's output, `[T, I]`.
    pub(super) activated: Array<T>,
    /// Gradient of SwiGLU's output.
    pub(super) d_activated: Array<T>,
    /// Gradient of attention's output.
    pub(super) d_attended: Array<T>,
    /// Gradients of queries, keys and values.
    pub(super) d_qkv: Array<T>,
    /// Working memory of attention's backward pass.
    pub(super) delta: Array<f32>,
    /// Working memory of the norms.
    pub(super) norm: Array<f32>,
    /// Working memory of QK-norm.
    pub(super) head_norms: Array<f32>,
    /// Sums in f32 that become gradients of other types.
    pub(super) sums: Array<f32>,
    /// Working memory of attention while decoding.
    pub(super) decode: Array<f32>,
    pub(super) low: LowRank<T>,
}

/// Working memory of adapters whose projections read the same input.
#[derive(Debug, Default)]
pub(super) struct LowRank<T> {
    /// What A makes of the input, `[T, n·r]`, and its gradient.
    pub(super) t: Array<T>,
    pub(super) d_t: Array<T>,
}

/// The head's, over rows that predict a target.
#[derive(Debug, Default)]
pub(super) struct HeadMemory<T> {
    /// Rows before and after the final norm, with their gradients, `[N, H]`.
    pub(super) plain: Array<T>,
    pub(super) normed: Array<T>,
    pub(super) d_plain: Array<T>,
    pub(super) d_normed: Array<T>,
    /// A chunk of logits, and their gradient.
    pub(super) logits: Array<f32>,
    pub(super) d_logits: Array<T>,
    /// Of all rows.
    pub(super) logprobs: Array<f32>,
    pub(super) entropies: Array<f32>,
    pub(super) stats: Array<f32>,
    /// Of a chunk.
    pub(super) d_logprobs: Array<f32>,
    pub(super) d_entropies: Array<f32>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Workspace<T> {
    /// Inputs of the layers: of each where a backward follows, else one for all.
    pub(super) inputs: Vec<Array<T>>,
    /// By layer where all is kept, else one for all.
    pub(super) saved: Vec<Saved<T>>,
    pub(super) scratch: Scratch<T>,
    pub(super) head: HeadMemory<T>,
    /// The residual stream behind the last layer; in the backward its gradient.
    pub(super) x: Array<T>,
    /// That gradient's beginnings in f32.
    pub(super) sums: Array<f32>,
}
