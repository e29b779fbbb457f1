//! Attention on a GPU: packed segments forward and backward; decoding over a cache in blocks.
//!
//! Letters: T tokens, Hq and Hk query and key-value heads, d their width. Queries, keys and values of a token lie side
//! by side in one row, as one GEMM of the layer writes them: `[T, (Hq + 2·Hk) · d]`; so do their gradients. bf16 runs
//! on tensor cores with sums in f32; f32 by plain arithmetic.
//!
//! A token's output depends on its sequence alone, to the bit: key blocks are cut by position in the sequence, whether
//! its prompt is shared or not. The decoding kernel sums in another order (and keeps weights in f32), so its results
//! agree with the packed forward's to rounding only.

use super::{Buffer, Element, Gpu, In, Kernel, Launch, Out, expect_len};
use crate::attention::Heads;
use candle_core::{Result, bail};

/// Of kernels for bf16 and f32 and each width, the one that is needed.
macro_rules! pick {
    ($t:ty, $dim:expr, $name:literal) => {
        pick!($t, $dim, $name, "")
    };
    ($t:ty, $dim:expr, $name:literal, $end:literal) => {
        Kernel::new(
            "attention",
            match $dim {
                32 => <$t>::pick(concat!($name, "_f32_d32", $end), concat!($name, "_bf16_d32", $end)),
                64 => <$t>::pick(concat!($name, "_f32_d64", $end), concat!($name, "_bf16_d64", $end)),
                _ => <$t>::pick(concat!($name, "_f32_d128", $end), concat!($name, "_bf16_d128", $end)),
            },
        )
    };
}

#[path = "cuda_decode.rs"]
mod decode;
#[path = "cuda_plan.rs"]
mod plan;

pub use decode::{BlockTable, CacheShape, NO_SEQUENCE, append, copy_blocks, decode, scratch_len};
use plan::check_heads;
pub use plan::{HEAD_WIDTHS, Plan};

/// Threads of a block of packed attention; as `THREADS` in tile.cuh.
const THREADS: usize = 128;

/// A row of queries, keys and values.
fn row_len(heads: Heads) -> usize {
    (heads.query + 2 * heads.key_value) * heads.dim
}

/// 1/√d.
fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// The kernel for inputs T and gradients G.
macro_rules! pick_backward {
    ($t:ty, $g:ty, $dim:expr, $name:literal) => {
        match <$g>::pick(<$t>::pick(false, true), false) {
            true if $dim == 32 => Kernel::new("attention", concat!($name, "_bf16_to_f32_d32")),
            true if $dim == 64 => Kernel::new("attention", concat!($name, "_bf16_to_f32_d64")),
            true => Kernel::new("attention", concat!($name, "_bf16_to_f32_d128")),
            false => pick!($t, $dim, $name),
        }
    };
}

/// softmax(q · kᵀ / √d) · v, each token attending to its segment's past (and its parent's whole), and the logarithms of
/// the softmax's sums, which [`backward`] needs.
///
/// # Shapes
/// qkv `[T, (Hq + 2·Hk) · d]`, out `[T, Hq · d]`, lse `[Hq, T]` in nats.
///
/// # Errors
/// When sizes disagree with the plan.
pub fn forward<T: Element>(gpu: &Gpu, plan: &Plan, qkv: In<'_, T>, out: Out<'_, T>, lse: Out<'_, f32>) -> Result<()> {
    let (heads, tokens) = (plan.heads, plan.tokens);
    expect_len("attention", "qkv", qkv.len(), tokens * row_len(heads))?;
    expect_len("attention", "out", out.len(), tokens * heads.query * heads.dim)?;
    expect_len("attention", "lse", lse.len(), tokens * heads.query)?;
    let launch = inputs(Launch::new(gpu, pick!(T, heads.dim, "attention_forward")), qkv, heads)?;
    let launch = launch.output(out).output(lse).input(plan.segments.view()).input(plan.rows.view());
    let shared = T::pick(0, (128 + 4 * 64) * heads.dim * 2);
    shape(launch, plan).run([plan.rows.len() / 2 * heads.key_value, 1, 1], [THREADS, 1, 1], shared)
}

/// What [`backward`] needs of [`forward`].
#[derive(Clone, Debug)]
pub struct Saved<'a, T> {
    /// Queries, keys and values.
    pub qkv: In<'a, T>,
    /// The output.
    pub out: In<'a, T>,
    /// The logarithms of the softmax's sums.
    pub lse: In<'a, f32>,
}

/// The gradients of [`forward`] for queries, keys and values, given that of its output. They are written, not added.
/// `delta` is scratch.
///
/// # Shapes
/// saved as in [`forward`], dout `[T, Hq · d]`, delta `[Hq, T]`, dqkv `[T, (Hq + 2·Hk) · d]`: of the inputs' type, or
/// f32.
///
/// # Errors
/// When sizes disagree with the plan, or the gradients of f32 are to be bf16.
#[expect(clippy::needless_pass_by_value, reason = "views are passed by value throughout")]
pub fn backward<T: Element, G: Element>(
    gpu: &Gpu,
    plan: &Plan,
    saved: Saved<'_, T>,
    dout: In<'_, T>,
    mut delta: Out<'_, f32>,
    mut dqkv: Out<'_, G>,
) -> Result<()> {
    let (heads, tokens) = (plan.heads, plan.tokens);
    let (rows, stride) = (tokens * heads.query, row_len(heads));
    let Saved { qkv, out, lse } = saved;
    for (name, len) in [("qkv", qkv.len()), ("dqkv", dqkv.len())] {
        expect_len("attention backward", name, len, tokens * stride)?;
    }
    for (name, len) in [("out", out.len()), ("dout", dout.len())] {
        expect_len("attention backward", name, len, rows * heads.dim)?;
    }
    for (name, len) in [("lse", lse.len()), ("delta", delta.len())] {
        expect_len("attention backward", name, len, rows)?;
    }
    if T::pick(true, false) && G::pick(false, true) {
        bail!("attention backward: gradients of f32 in bf16, expected f32");
    }
    Launch::new(gpu, pick!(T, heads.dim, "attention_delta"))
        .input(out)
        .input(dout.clone())
        .output(delta.reborrow())
        .int(tokens)
        .int(heads.query)
        .run([(rows * heads.dim / 8).div_ceil(256), 1, 1], [256, 1, 1], 0)?;

    let saved = |launch, plan: &'_ Plan| -> Result<_> {
        let launch: Launch<'_> = inputs(launch, qkv.clone(), plan.heads)?;
        Ok(launch.input(dout.clone()).input(lse.clone()))
    };
    let kv_offset = heads.query * heads.dim;
    let launch = saved(Launch::new(gpu, pick_backward!(T, G, heads.dim, "attention_backward_keys")), plan)?;
    let launch = launch.input(delta.view()).output(dqkv.slice_mut(kv_offset..tokens * stride)?);
    let launch = launch.input(plan.segments.view()).input(plan.keys.view());
    let launch = shape(launch.input(plan.children_begin.view()).input(plan.children.view()), plan);
    launch.int(heads.key_value * heads.dim).int(stride).run(
        [plan.keys.len() / 2 * heads.key_value, 1, 1],
        [THREADS, 1, 1],
        T::pick(0, (2 * 64 + 4 * 64) * heads.dim * 2 + 2 * 3 * 64 * 4),
    )?;

    let launch = saved(Launch::new(gpu, pick_backward!(T, G, heads.dim, "attention_backward_queries")), plan)?;
    let launch = launch.input(delta.view()).output(dqkv).input(plan.segments.view()).input(plan.rows.view());
    shape(launch, plan).int(stride).run(
        [plan.rows.len() / 2 * heads.key_value, 1, 1],
        [THREADS, 1, 1],
        T::pick(0, (2 * 128 + 4 * 32) * heads.dim * 2),
    )
}

/// Pointers to queries, keys and values.
fn inputs<'a, T: Element>(launch: Launch<'a>, qkv: In<'a, T>, heads: Heads) -> Result<Launch<'a>> {
    let (end, keys) = (qkv.len(), heads.query * heads.dim);
    let values = keys + heads.key_value * heads.dim;
    let (k, v) = (qkv.slice(keys..end)?, qkv.slice(values..end)?);
    Ok(launch.input(qkv).input(k).input(v))
}

/// The numbers of `Shape` in tile.cuh.
fn shape<'a>(launch: Launch<'a>, plan: &Plan) -> Launch<'a> {
    let (heads, stride) = (plan.heads, row_len(plan.heads));
    let group = heads.per_key_value();
    let scale = scale(heads.dim);
    let launch = launch.int(plan.tokens).int(heads.key_value).int(group).int((1usize << 30).div_ceil(group));
    launch.int(stride).int(stride).int(stride).float(scale).float(scale * std::f32::consts::LOG2_E)
}
