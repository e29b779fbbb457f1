//! The bias of a linear layer on a GPU, and its gradient.
//!
//! Letters: T rows (tokens), N columns.

use super::{Element, Gpu, In, Kernel, Launch, Out, row_threads};
use candle_core::{Result, bail};

/// y\[t\] ← y\[t\] + bias.
///
/// # Shapes
/// y `[T, N]`, bias `[N]`.
///
/// # Errors
/// When y has no whole rows of N.
pub fn add<T: Element>(gpu: &Gpu, y: Out<'_, T>, bias: In<'_, T>) -> Result<()> {
    let width = bias.len();
    let rows = rows("bias", y.len(), width)?;
    let kernel = Kernel::new("bias", T::pick("bias_add_f32", "bias_add_bf16"));
    let launch = Launch::new(gpu, kernel).output(y).input(bias).int(width);
    launch.run([rows, 1, 1], [row_threads(width, 1), 1, 1], 0)
}

/// gradient ← gradient + the sum of dy's rows, in a fixed order.
///
/// # Shapes
/// dy `[T, N]`, gradient `[N]`.
///
/// # Errors
/// When dy has no whole rows of N.
pub fn accumulate<T: Element>(gpu: &Gpu, dy: In<'_, T>, gradient: Out<'_, f32>) -> Result<()> {
    let width = gradient.len();
    let rows = rows("bias gradient", dy.len(), width)?;
    let kernel = Kernel::new("bias", T::pick("bias_sum_f32", "bias_sum_bf16"));
    let launch = Launch::new(gpu, kernel).input(dy).output(gradient).int(rows).int(width);
    launch.run([width.div_ceil(32), 1, 1], [32, 16, 1], 0)
}

fn rows(op: &str, len: usize, width: usize) -> Result<usize> {
    if width == 0 || !len.is_multiple_of(width) {
        bail!("{op}: a matrix of {len} values has no whole rows of {width}");
    }
    Ok(len / width)
}
