//! QK-norm and rotary embedding of the query and key heads on a GPU.
//!
//! Letters: T rows (tokens), d head width, Hq query heads, Hkv key (and value) heads. A row of the fused projection is
//! `[queries | keys | values]` of W ≥ (Hq + Hkv)·d elements; what follows the keys is not touched.

use super::{Element, Gpu, In, Kernel, Launch, Out, elementwise, expect_len};
use candle_core::{Result, bail};

const THREADS: usize = 256;
/// Blocks of the backward, each with sums of its own for the weights' gradients.
const BACKWARD_BLOCKS: usize = 528;
/// Widest head.
pub const MAX_HEAD_DIM: usize = 512;

/// The heads of a fused row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// T.
    pub rows: usize,
    /// Hq.
    pub q_heads: usize,
    /// Hkv.
    pub kv_heads: usize,
    /// d.
    pub head_dim: usize,
}

/// Weights of the norm of query and key heads, `[d]` each, and its ε.
#[derive(Clone, Debug)]
pub struct QkNorm<'a, T> {
    /// For queries.
    pub q_weight: In<'a, T>,
    /// For keys.
    pub k_weight: In<'a, T>,
    /// ε.
    pub eps: f32,
}

/// The angles of the rows.
#[derive(Clone, Debug)]
pub struct Rotary<'a> {
    /// `[P, d]`: d/2 cosines, then d/2 sines, as the rows of [`RotaryTable`](crate::RotaryTable).
    pub table: In<'a, f32>,
    /// `[T]`, each row's row of the table, not checked: below P. `None`: row t of the table for row t.
    pub positions: Option<In<'a, i32>>,
}

/// q and k = the normalised (where the model does so) and rotated heads.
///
/// # Shapes
/// qkv `[T, W]`, q `[T, Hq·d]`, k `[T, Hkv·d]`.
///
/// # Errors
/// When sizes disagree, or d is odd or above [`MAX_HEAD_DIM`].
pub fn forward<T: Element>(
    gpu: &Gpu,
    shape: HeadShape,
    qkv: In<'_, T>,
    norm: Option<QkNorm<'_, T>>,
    rotary: Rotary<'_>,
    q: Out<'_, T>,
    k: Out<'_, T>,
) -> Result<()> {
    let width = check("rope", &shape, qkv.len(), norm.as_ref(), &rotary)?;
    expect_len("rope", "q", q.len(), shape.rows * shape.q_width())?;
    expect_len("rope", "k", k.len(), shape.rows * shape.kv_width())?;
    let launch = Launch::new(gpu, forward_kernel::<T>()).input(qkv).beyond(0, shape.q_width() * size_of::<T>());
    let (launch, eps) = inputs(launch, width, norm, rotary);
    let launch = launch.output(q).long(shape.q_width() as u64).output(k).long(shape.kv_width() as u64);
    run_forward::<T>(launch, &shape, eps)
}

/// The same in the place of the heads.
///
/// # Shapes
/// qkv `[T, W]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_in_place<T: Element>(
    gpu: &Gpu,
    shape: HeadShape,
    qkv: Out<'_, T>,
    norm: Option<QkNorm<'_, T>>,
    rotary: Rotary<'_>,
) -> Result<()> {
    let width = check("rope", &shape, qkv.len(), norm.as_ref(), &rotary)?;
    let launch = Launch::new(gpu, forward_kernel::<T>()).output(qkv).beyond(0, shape.q_width() * size_of::<T>());
    let (launch, eps) = inputs(launch, width, norm, rotary);
    let launch = launch.same_as(0).long(width as u64).same_as(1).long(width as u64);
    run_forward::<T>(launch, &shape, eps)
}

/// Length of the scratch of [`backward`] with a norm, in f32.
pub fn scratch_len<T: Element>(shape: &HeadShape) -> usize {
    blocks::<T>(shape).min(BACKWARD_BLOCKS) * 2 * shape.head_dim
}

/// Where the gradients of the norms' weights are added, and scratch for their sums.
#[derive(Debug)]
pub struct QkNormGradient<'a> {
    /// Of the queries' weight, `[d]`.
    pub q_weight: Out<'a, f32>,
    /// Of the keys' weight, `[d]`.
    pub k_weight: Out<'a, f32>,
    /// At least [`scratch_len`].
    pub scratch: Out<'a, f32>,
    /// `[2d]`.
    pub sums: Out<'a, f32>,
}

/// The gradients of the heads (dq `[T, Hq·d]`, dk `[T, Hkv·d]`) turned into those of the fused rows' queries and keys; and,
/// where they are asked for, those of the norm's weights added to what is there.
///
/// # Shapes
/// qkv and d_qkv `[T, W]`.
///
/// # Errors
/// As [`forward`]; and when the gradient of a norm is asked for that is not there.
pub fn backward<T: Element>(
    gpu: &Gpu,
    shape: HeadShape,
    qkv: In<'_, T>,
    norm: Option<QkNorm<'_, T>>,
    rotary: Rotary<'_>,
    dq: In<'_, T>,
    dk: In<'_, T>,
    d_qkv: Out<'_, T>,
    norm_gradient: Option<QkNormGradient<'_>>,
) -> Result<()> {
    let width = check("rope backward", &shape, qkv.len(), norm.as_ref(), &rotary)?;
    expect_len("rope backward", "dq", dq.len(), shape.rows * shape.q_width())?;
    expect_len("rope backward", "dk", dk.len(), shape.rows * shape.kv_width())?;
    expect_len("rope backward", "d_qkv", d_qkv.len(), qkv.len())?;
    let launch = Launch::new(gpu, backward_kernel::<T>()).input(qkv).beyond(0, shape.q_width() * size_of::<T>());
    let normed = norm.is_some();
    let (launch, eps) = inputs(launch, width, norm, rotary);
    let launch = launch.input(dq).long(shape.q_width() as u64).input(dk).long(shape.kv_width() as u64);
    let launch = launch.output(d_qkv).beyond(11, shape.q_width() * size_of::<T>()).long(width as u64);
    run_backward::<T>(gpu, launch, &shape, eps, normed, norm_gradient)
}

/// The same where the heads' gradients already lie in the fused rows, in their place.
///
/// # Shapes
/// qkv and d_qkv `[T, W]`.
///
/// # Errors
/// As [`backward`].
pub fn backward_in_place<T: Element>(
    gpu: &Gpu,
    shape: HeadShape,
    qkv: In<'_, T>,
    norm: Option<QkNorm<'_, T>>,
    rotary: Rotary<'_>,
    d_qkv: Out<'_, T>,
    norm_gradient: Option<QkNormGradient<'_>>,
) -> Result<()> {
    let width = check("rope backward", &shape, qkv.len(), norm.as_ref(), &rotary)?;
    expect_len("rope backward", "d_qkv", d_qkv.len(), qkv.len())?;
    let launch = Launch::new(gpu, backward_kernel::<T>()).input(qkv).beyond(0, shape.q_width() * size_of::<T>());
    let normed = norm.is_some();
    let (launch, eps) = inputs(launch, width, norm, rotary);
    let launch = launch.output(d_qkv).long(width as u64).beyond(7, shape.q_width() * size_of::<T>());
    let launch = launch.long(width as u64).same_as(7).same_as(9).long(width as u64);
    run_backward::<T>(gpu, launch, &shape, eps, normed, norm_gradient)
}

impl HeadShape {
    fn q_width(&self) -> usize {
        self.q_heads * self.head_dim
    }

    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

fn forward_kernel<T: Element>() -> Kernel {
    Kernel::new("rope", T::pick("rope_forward_f32", "rope_forward_bf16"))
}

fn backward_kernel<T: Element>() -> Kernel {
    Kernel::new("rope", T::pick("rope_backward_f32", "rope_backward_bf16"))
}

/// Arguments 2 to 6: the stride, the norm's weights, the table and the positions; and the norm's ε.
fn inputs<'a, T: Element>(
    launch: Launch<'a>,
    width: usize,
    norm: Option<QkNorm<'a, T>>,
    rotary: Rotary<'a>,
) -> (Launch<'a>, f32) {
    let (q_weight, k_weight, eps) = match norm {
        Some(norm) => (Some(norm.q_weight), Some(norm.k_weight), norm.eps),
        None => (None, None, 0.0),
    };
    let launch = launch.long(width as u64).optional_input(q_weight).optional_input(k_weight);
    (launch.input(rotary.table).optional_input(rotary.positions), eps)
}

/// Blocks for one head a group of lanes. What a group is depends on addresses too; the kernels stride over the rest.
fn blocks<T: Element>(shape: &HeadShape) -> usize {
    let (half, vector) = (shape.head_dim / 2, 16 / size_of::<T>());
    let lanes = if half.is_multiple_of(vector) && (half / vector).is_power_of_two() { half / vector } else { 32 };
    (shape.rows * (shape.q_heads + shape.kv_heads)).div_ceil(THREADS / lanes.min(32))
}

fn sizes<'a>(launch: Launch<'a>, shape: &HeadShape, eps: f32) -> Launch<'a> {
    launch.int(shape.rows).int(shape.q_heads).int(shape.kv_heads).int(shape.head_dim).float(eps)
}

fn run_forward<T: Element>(launch: Launch<'_>, shape: &HeadShape, eps: f32) -> Result<()> {
    sizes(launch, shape, eps).run([blocks::<T>(shape), 1, 1], [THREADS, 1, 1], 0)
}

fn run_backward<T: Element>(
    gpu: &Gpu,
    launch: Launch<'_>,
    shape: &HeadShape,
    eps: f32,
    normed: bool,
    norm_gradient: Option<QkNormGradient<'_>>,
) -> Result<()> {
    let blocks = blocks::<T>(shape).min(BACKWARD_BLOCKS);
    let d = shape.head_dim;
    match (normed, norm_gradient) {
        (_, None) => sizes(launch.optional_output::<f32>(None), shape, eps).run([blocks, 1, 1], [THREADS, 1, 1], 0),
        (true, Some(mut gradient)) => {
            expect_len("rope backward", "q_weight", gradient.q_weight.len(), d)?;
            expect_len("rope backward", "k_weight", gradient.k_weight.len(), d)?;
            expect_len("rope backward", "sums", gradient.sums.len(), 2 * d)?;
            let mut partial = gradient.scratch.slice_mut(0..blocks * 2 * d)?;
            // Of the groups by vectors or by warps, those that need more: 2d floats each.
            let vector = 16 / size_of::<T>();
            let shared = (THREADS * 4 * vector).max(THREADS / 32 * 2 * d) * size_of::<f32>();
            sizes(launch.output(partial.reborrow()), shape, eps).run([blocks, 1, 1], [THREADS, 1, 1], shared)?;
            gpu.fill_zero(gradient.sums.reborrow())?;
            elementwise::sum_columns(gpu, partial.view(), gradient.sums.reborrow())?;
            elementwise::axpy(gpu, 1.0, gradient.sums.view().slice(0..d)?, gradient.q_weight)?;
            elementwise::axpy(gpu, 1.0, gradient.sums.view().slice(d..2 * d)?, gradient.k_weight)
        }
        (false, Some(_)) => bail!("rope backward: the gradient of a norm that is not there"),
    }
}

fn check<T>(
    op: &str,
    shape: &HeadShape,
    len: usize,
    norm: Option<&QkNorm<'_, T>>,
    rotary: &Rotary<'_>,
) -> Result<usize> {
    let HeadShape { rows, q_heads, kv_heads, head_dim } = *shape;
    if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > MAX_HEAD_DIM {
        bail!("{op}: head_dim is {head_dim}, expected an even number up to {MAX_HEAD_DIM}");
    }
    let least = (q_heads + kv_heads) * head_dim;
    if rows == 0 || !len.is_multiple_of(rows) || len / rows < least {
        bail!("{op}: qkv has {len} values, expected {rows} rows of at least {least}");
    }
    if let Some(norm) = norm {
        expect_len(op, "the queries' norm weight", norm.q_weight.len(), head_dim)?;
        expect_len(op, "the keys' norm weight", norm.k_weight.len(), head_dim)?;
    }
    if let Some(positions) = &rotary.positions {
        expect_len(op, "positions", positions.len(), rows)?;
    }
    let table = rotary.table.len();
    if !table.is_multiple_of(head_dim) || (rotary.positions.is_none() && table < rows * head_dim) {
        bail!("{op}: the table has {table} values, expected rows of {head_dim}, one for each of {rows} tokens");
    }
    Ok(len / rows)
}
