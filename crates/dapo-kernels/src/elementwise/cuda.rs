//! Conversions and sums of whole arrays on a GPU, and sums of a matrix's columns.

use super::{Element, Gpu, In, Kernel, Launch, Out, expect_len};
use candle_core::{Result, bail};
use half::bf16;

const THREADS: usize = 256;
/// Elements that a thread takes at a time.
const VECTOR: usize = 8;
/// Enough to fill a large device many times over; threads take what is left in turns.
const MAX_BLOCKS: usize = 8192;

fn run(launch: Launch<'_>, len: usize) -> Result<()> {
    let blocks = len.div_ceil(VECTOR * THREADS).min(MAX_BLOCKS);
    launch.long(len as u64).run([blocks, 1, 1], [THREADS, 1, 1], 0)
}

/// y = x, rounded to bf16.
///
/// # Errors
/// When the lengths differ.
pub fn f32_to_bf16(gpu: &Gpu, x: In<'_, f32>, y: Out<'_, bf16>) -> Result<()> {
    let len = x.len();
    expect_len("cast", "y", y.len(), len)?;
    run(Launch::new(gpu, Kernel::new("elementwise", "cast_f32_bf16")).input(x).output(y), len)
}

/// y ← y + a·x.
///
/// # Errors
/// When the lengths differ.
pub fn axpy<T: Element>(gpu: &Gpu, a: f32, x: In<'_, T>, y: Out<'_, T>) -> Result<()> {
    let len = x.len();
    expect_len("axpy", "y", y.len(), len)?;
    let kernel = Kernel::new("elementwise", T::pick("axpy_f32_f32", "axpy_bf16_bf16"));
    run(Launch::new(gpu, kernel).float(a).input(x).output(y), len)
}

/// total ← total + the sum of the matrix's rows, in a fixed order.
///
/// # Shapes
/// matrix `[R, C]`, total `[C]`.
///
/// # Errors
/// When the matrix has no whole rows of C.
pub fn sum_columns(gpu: &Gpu, matrix: In<'_, f32>, total: Out<'_, f32>) -> Result<()> {
    let (len, width) = (matrix.len(), total.len());
    if width == 0 || !len.is_multiple_of(width) {
        bail!("sum_columns: a matrix of {len} values has no whole rows of {width}");
    }
    let launch = Launch::new(gpu, Kernel::new("elementwise", "sum_columns_f32")).input(matrix).output(total);
    launch.int(len / width).int(width).run([width.div_ceil(32), 1, 1], [32, 16, 1], 0)
}
