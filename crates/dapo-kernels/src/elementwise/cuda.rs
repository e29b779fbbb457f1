//! Conversions and sums of whole arrays on a GPU, and sums of a matrix's columns.

use super::{DeviceValue, Gpu, In, Kernel, Launch, Out, expect_len};
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
    cast(gpu, "cast_f32_bf16", x, y)
}

/// y = x as f32.
///
/// # Errors
/// When the lengths differ.
pub fn bf16_to_f32(gpu: &Gpu, x: In<'_, bf16>, y: Out<'_, f32>) -> Result<()> {
    cast(gpu, "cast_bf16_f32", x, y)
}

fn cast<X: DeviceValue, Y: DeviceValue>(gpu: &Gpu, kernel: &'static str, x: In<'_, X>, y: Out<'_, Y>) -> Result<()> {
    let len = x.len();
    expect_len("cast", "y", y.len(), len)?;
    run(Launch::new(gpu, Kernel::new("elementwise", kernel)).input(x).output(y), len)
}

/// Pairs of types for which [`axpy`] has a kernel.
pub trait AxpyInto<Y> {
    /// The kernel's name.
    const KERNEL: &'static str;
}
impl AxpyInto<f32> for f32 {
    const KERNEL: &'static str = "axpy_f32_f32";
}
impl AxpyInto<bf16> for bf16 {
    const KERNEL: &'static str = "axpy_bf16_bf16";
}
impl AxpyInto<f32> for bf16 {
    const KERNEL: &'static str = "axpy_bf16_f32";
}

/// y ← y + a·x, for f32 and f32, bf16 and bf16, bf16 and f32.
///
/// # Errors
/// When the lengths differ.
pub fn axpy<X, Y>(gpu: &Gpu, a: f32, x: In<'_, X>, y: Out<'_, Y>) -> Result<()>
where
    X: DeviceValue + AxpyInto<Y>,
    Y: DeviceValue,
{
    let len = x.len();
    expect_len("axpy", "y", y.len(), len)?;
    run(Launch::new(gpu, Kernel::new("elementwise", X::KERNEL)).float(a).input(x).output(y), len)
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
