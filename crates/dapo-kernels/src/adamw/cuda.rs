//! AdamW on a GPU, with the norm of the gradients and the clip factor kept on the device.

use super::{Gpu, In, Kernel, Launch, Out, expect_len};
use crate::adamw::AdamWStep;
use candle_core::Result;
use half::bf16;

/// Elements whose squares are summed by one block.
const STRETCH: usize = 1 << 16;

/// Updates f32 master weights and moments in place, and writes their bf16 copy, as [`adamw`](crate::adamw::adamw()).
///
/// The gradient is multiplied by `factor`, a value on the device (the second of [`clip_factor`]), and `step.grad_scale` is
/// not used; nothing changes where the factor is NaN.
///
/// # Shapes
/// param, grad, m, v and copy `[n]`; factor `[1]`.
///
/// # Errors
/// When lengths differ.
pub fn adamw(
    gpu: &Gpu,
    param: Out<'_, f32>,
    grad: In<'_, f32>,
    m: Out<'_, f32>,
    v: Out<'_, f32>,
    copy: Option<Out<'_, bf16>>,
    factor: In<'_, f32>,
    step: &AdamWStep,
) -> Result<()> {
    let len = param.len();
    for (name, other) in [("grad", grad.len()), ("m", m.len()), ("v", v.len())] {
        expect_len("adamw", name, other, len)?;
    }
    if let Some(copy) = &copy {
        expect_len("adamw", "copy", copy.len(), len)?;
    }
    expect_len("adamw", "factor", factor.len(), 1)?;
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
    let keep = (1.0 - f64::from(step.lr) * f64::from(step.weight_decay)) as f32;
    let rate = (f64::from(step.lr) / correction(step.beta1)) as f32;
    let inverse_sqrt_correction2 = (1.0 / correction(step.beta2).sqrt()) as f32;
    let launch = Launch::new(gpu, Kernel::new("adamw", "adamw_step")).output(param).input(grad).output(m).output(v);
    let launch = launch.optional_output(copy).input(factor).long(len as u64);
    let launch = launch.float(step.beta1).float(step.beta2).float(step.eps);
    let launch = launch.float(keep).float(rate).float(inverse_sqrt_correction2);
    launch.run([len.div_ceil(4 * 256).min(1 << 16), 1, 1], [256, 1, 1], 0)
}

/// How many sums [`square_sums`] writes for a gradient of `len` values.
pub fn square_sums_len(len: usize) -> usize {
    len.div_ceil(STRETCH)
}

/// Writes the sum of squares of each stretch of 65,536 values, in f64.
///
/// # Shapes
/// grad `[n]`, sums [`square_sums_len`]`(n)`: the gradients of all parameters take neighbouring parts of one array.
///
/// # Errors
/// When the lengths disagree.
pub fn square_sums(gpu: &Gpu, grad: In<'_, f32>, sums: Out<'_, f64>) -> Result<()> {
    let len = grad.len();
    expect_len("square_sums", "sums", sums.len(), square_sums_len(len))?;
    let launch = Launch::new(gpu, Kernel::new("adamw", "adamw_square_sums")).input(grad).long(len as u64);
    launch.output(sums).run([square_sums_len(len), 1, 1], [512, 1, 1], 0)
}

/// Writes the norm of all gradients and the factor that clips it to `max_norm`.
///
/// factor = min(1, max_norm / (norm + 1e-6)), and NaN where the norm is not finite.
///
/// # Shapes
/// sums: all that [`square_sums`] wrote, in a fixed order; norm_and_factor `[2]`.
///
/// # Errors
/// When norm_and_factor has another length.
pub fn clip_factor(gpu: &Gpu, sums: In<'_, f64>, max_norm: f32, norm_and_factor: Out<'_, f32>) -> Result<()> {
    expect_len("clip_factor", "norm_and_factor", norm_and_factor.len(), 2)?;
    let count = sums.len() as u64;
    let launch = Launch::new(gpu, Kernel::new("adamw", "adamw_clip_factor")).input(sums).long(count);
    launch.float(max_norm).output(norm_and_factor).run([1, 1, 1], [1024, 1, 1], 0)
}
