//! SwiGLU on a GPU, on the output of the fused gate and up projection.
//!
//! Letters: T rows (tokens), I inner width; a fused row is `[gate | up]` of 2I.

use super::{Element, Gpu, In, Kernel, Launch, Out, expect_len, row_threads};
use candle_core::{Result, bail};

/// y = silu(gate) · up.
///
/// # Shapes
/// fused `[T, 2I]`, y `[T, I]`; `width` is I.
///
/// # Errors
/// When sizes disagree.
pub fn forward<T: Element>(gpu: &Gpu, fused: In<'_, T>, width: usize, y: Out<'_, T>) -> Result<()> {
    let rows = check("swiglu", fused.len(), width)?;
    expect_len("swiglu", "y", y.len(), rows * width)?;
    let kernel = T::pick("swiglu_forward_f32", "swiglu_forward_bf16");
    run::<T>(Launch::new(gpu, Kernel::new("swiglu", kernel)).input(fused).output(y), rows, width)
}

/// The gradient of [`forward`] for the fused rows.
///
/// # Shapes
/// fused `[T, 2I]`, dy `[T, I]`, d_fused `[T, 2I]`.
///
/// # Errors
/// When sizes disagree.
pub fn backward<T: Element>(
    gpu: &Gpu,
    fused: In<'_, T>,
    width: usize,
    dy: In<'_, T>,
    d_fused: Out<'_, T>,
) -> Result<()> {
    let rows = check("swiglu backward", fused.len(), width)?;
    expect_len("swiglu backward", "dy", dy.len(), rows * width)?;
    expect_len("swiglu backward", "d_fused", d_fused.len(), fused.len())?;
    let launch = Launch::new(gpu, backward_kernel::<T>()).input(fused).input(dy).output(d_fused);
    run::<T>(launch, rows, width)
}

/// The same, written over the fused rows.
///
/// # Shapes
/// fused `[T, 2I]`, dy `[T, I]`.
///
/// # Errors
/// When sizes disagree.
pub fn backward_in_place<T: Element>(gpu: &Gpu, fused: Out<'_, T>, width: usize, dy: In<'_, T>) -> Result<()> {
    let rows = check("swiglu backward", fused.len(), width)?;
    expect_len("swiglu backward", "dy", dy.len(), rows * width)?;
    run::<T>(Launch::new(gpu, backward_kernel::<T>()).output(fused).input(dy).same_as(0), rows, width)
}

fn backward_kernel<T: Element>() -> Kernel {
    Kernel::new("swiglu", T::pick("swiglu_backward_f32", "swiglu_backward_bf16"))
}

fn run<T: Element>(launch: Launch<'_>, rows: usize, width: usize) -> Result<()> {
    launch.int(width).run([rows, 1, 1], [row_threads(width, 16 / size_of::<T>()), 1, 1], 0)
}

fn check(op: &str, len: usize, width: usize) -> Result<usize> {
    if width == 0 || !len.is_multiple_of(2 * width) {
        bail!("{op}: {len} fused values are no whole rows of 2 * {width}");
    }
    Ok(len / (2 * width))
}
