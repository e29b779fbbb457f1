//! RMSNorm on a GPU, with the residual sum before it and the residual gradient behind it.
//!
//! Letters: T rows (tokens), H width.

use super::{Element, Gpu, In, Kernel, Launch, Out, elementwise, expect_len, row_threads};
use candle_core::{Result, bail};

/// Blocks of the backward, each with a sum of its own for the weight's gradient. Fixed, so that results do not depend on
/// the size of the device.
const BACKWARD_BLOCKS: usize = 528;

/// Widest row: it is held in shared memory as f32.
pub const MAX_WIDTH: usize = 12_288;

/// y = x / √(mean(x²) + eps) · weight, row by row.
///
/// # Shapes
/// x `[T, H]`, weight `[H]`, y `[T, H]`.
///
/// # Errors
/// When sizes disagree, or H is above [`MAX_WIDTH`].
pub fn forward<T: Element>(gpu: &Gpu, x: In<'_, T>, weight: In<'_, T>, eps: f32, y: Out<'_, T>) -> Result<()> {
    let (rows, width) = check("rms_norm", x.len(), &weight)?;
    expect_len("rms_norm", "y", y.len(), x.len())?;
    let launch = Launch::new(gpu, forward_kernel::<T>()).input(x);
    let launch = launch.optional_input::<T>(None).input(weight).optional_output::<T>(None);
    launch_forward::<T>(launch.output(y), rows, width, eps)
}

/// sum = x + delta, and y = `forward`(sum).
///
/// # Shapes
/// x, delta, sum and y `[T, H]`, weight `[H]`.
///
/// # Errors
/// As [`forward`].
pub fn forward_add<T: Element>(
    gpu: &Gpu,
    x: In<'_, T>,
    delta: In<'_, T>,
    weight: In<'_, T>,
    eps: f32,
    sum: Out<'_, T>,
    y: Out<'_, T>,
) -> Result<()> {
    let (rows, width) = check("rms_norm", x.len(), &weight)?;
    for (name, len) in [("delta", delta.len()), ("sum", sum.len()), ("y", y.len())] {
        expect_len("rms_norm", name, len, x.len())?;
    }
    let launch = Launch::new(gpu, forward_kernel::<T>()).input(x).input(delta).input(weight).output(sum).output(y);
    launch_forward::<T>(launch, rows, width, eps)
}

/// Length of the scratch of [`backward`], in f32.
pub fn scratch_len(rows: usize, width: usize) -> usize {
    rows.min(BACKWARD_BLOCKS) * width
}

/// Where the gradient of x goes.
#[derive(Debug)]
pub enum InputGradient<'a, T> {
    /// It is written.
    Write(Out<'a, T>),
    /// It is added to what is there: the gradient of the residual stream.
    Add(Out<'a, T>),
}

/// Where the gradient of the weight is added, and scratch for its sums.
#[derive(Debug)]
pub struct WeightGradient<'a> {
    /// `[H]`.
    pub weight: Out<'a, f32>,
    /// At least [`scratch_len`].
    pub scratch: Out<'a, f32>,
}

/// The gradients of [`forward`] for x and, where it is asked for, for the weight.
///
/// # Shapes
/// x and dy `[T, H]`, weight `[H]`, dx `[T, H]`.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Element>(
    gpu: &Gpu,
    x: In<'_, T>,
    weight: In<'_, T>,
    eps: f32,
    dy: In<'_, T>,
    dx: InputGradient<'_, T>,
    dweight: Option<WeightGradient<'_>>,
) -> Result<()> {
    let (rows, width) = check("rms_norm backward", x.len(), &weight)?;
    expect_len("rms_norm backward", "dy", dy.len(), x.len())?;
    let (dx, residual) = match dx {
        InputGradient::Write(dx) => (dx, false),
        InputGradient::Add(dx) => (dx, true),
    };
    expect_len("rms_norm backward", "dx", dx.len(), x.len())?;
    let kernel = T::pick("rms_norm_backward_f32", "rms_norm_backward_bf16");
    let launch = Launch::new(gpu, Kernel::new("rms_norm", kernel)).input(x).input(weight).input(dy);
    let launch = if residual { launch.output(dx).same_as(3) } else { launch.optional_input::<T>(None).output(dx) };
    let run = |launch: Launch<'_>, shared| {
        let launch = launch.int(rows).int(width).float(eps);
        launch.run([rows.min(BACKWARD_BLOCKS), 1, 1], [threads::<T>(width), 1, 1], shared)
    };
    let Some(WeightGradient { weight: dweight, mut scratch }) = dweight else {
        return run(launch.optional_output::<f32>(None), 0);
    };
    expect_len("rms_norm backward", "dweight", dweight.len(), width)?;
    let mut partial = scratch.slice_mut(0..scratch_len(rows, width))?;
    run(launch.output(partial.reborrow()), width * size_of::<f32>())?;
    elementwise::sum_columns(gpu, partial.view(), dweight)
}

fn forward_kernel<T: Element>() -> Kernel {
    Kernel::new("rms_norm", T::pick("rms_norm_forward_f32", "rms_norm_forward_bf16"))
}

fn launch_forward<T: Element>(launch: Launch<'_>, rows: usize, width: usize, eps: f32) -> Result<()> {
    launch.int(width).float(eps).run([rows, 1, 1], [threads::<T>(width), 1, 1], width * size_of::<f32>())
}

fn threads<T: Element>(width: usize) -> usize {
    row_threads(width, 16 / size_of::<T>())
}

fn check<T>(op: &str, len: usize, weight: &In<'_, T>) -> Result<(usize, usize)> {
    let width = weight.len();
    if width == 0 || width > MAX_WIDTH || !len.is_multiple_of(width) {
        bail!("{op}: x has {len} values, weight {width}; expected whole rows of 1 to {MAX_WIDTH}");
    }
    Ok((len / width, width))
}
