//! Log-probs and entropies of rows of logits on a GPU, and the logits' gradient: what stands between the head's GEMMs.
//!
//! Letters: R rows of a chunk, V vocabulary, S ≥ V elements from row to row.

use super::{DeviceValue, Element, Gpu, In, Kernel, Launch, Out, expect_len};
use candle_core::{Result, bail};
use half::bf16;

/// Threads of a row in the forward; the sums' order, and so their bits, depend on it.
pub(super) const ROW_THREADS: usize = 1024;

/// A matrix of logits, R rows of V with S elements from each to the next, and the temperature.
///
/// Rows are read by vectors, and faster, where S is a multiple of 8 (4 for f32).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitsShape {
    /// R.
    pub rows: usize,
    /// V.
    pub vocab: usize,
    /// S.
    pub stride: usize,
    /// Logits are divided by it before the softmax.
    pub temperature: f32,
}

impl LogitsShape {
    pub(super) fn check(&self, op: &str, logits: usize) -> Result<()> {
        let Self { rows, vocab, stride, temperature } = *self;
        if vocab == 0 || stride < vocab || logits < rows.saturating_sub(1) * stride + vocab.min(rows * vocab) {
            bail!("{op}: {logits} logits do not hold {rows} rows of {vocab} with {stride} from each to the next");
        }
        if !(temperature > 0.0 && temperature.is_finite()) {
            bail!("{op}: temperature {temperature} must be positive");
        }
        Ok(())
    }
}

/// log p(target) and entropy of every row, in nats, and what the backward needs to know of it.
///
/// # Shapes
/// logits `[R, S]`, targets `[R]` (on the device and not checked: below V), logprobs and entropies `[R]`, stats `[R, 2]`.
///
/// # Errors
/// When sizes disagree, or the temperature is not positive.
pub fn forward<T: Element>(
    gpu: &Gpu,
    shape: LogitsShape,
    logits: In<'_, T>,
    targets: In<'_, u32>,
    logprobs: Out<'_, f32>,
    entropies: Out<'_, f32>,
    stats: Out<'_, f32>,
) -> Result<()> {
    let op = "logprobs";
    shape.check(op, logits.len())?;
    expect_len(op, "targets", targets.len(), shape.rows)?;
    expect_len(op, "logprobs", logprobs.len(), shape.rows)?;
    expect_len(op, "entropies", entropies.len(), shape.rows)?;
    expect_len(op, "stats", stats.len(), 2 * shape.rows)?;
    let kernel = Kernel::new("logprobs", T::pick("logprobs_forward_f32", "logprobs_forward_bf16"));
    let launch = Launch::new(gpu, kernel).input(logits).long(shape.stride as u64).input(targets);
    let launch = launch.output(logprobs).output(entropies).output(stats).int(shape.vocab);
    launch.float(1.0 / shape.temperature).run([shape.rows, 1, 1], [ROW_THREADS, 1, 1], 0)
}

/// What [`forward`] found, and the gradients of a loss for it.
#[derive(Clone, Debug)]
pub struct RowInputs<'a> {
    /// `[R]`.
    pub targets: In<'a, u32>,
    /// `[R, 2]`, from the forward.
    pub stats: In<'a, f32>,
    /// `[R]`, from the forward.
    pub entropies: In<'a, f32>,
    /// ∂loss/∂logprob, `[R]`.
    pub dlogprobs: In<'a, f32>,
    /// ∂loss/∂entropy, `[R]`; zeros where unset.
    pub dentropies: Option<In<'a, f32>>,
}

/// Types of logits and of a gradient written beside them.
pub trait GradientOf<Y> {
    /// The kernel.
    const KERNEL: &'static str;
}
impl GradientOf<f32> for f32 {
    const KERNEL: &'static str = "logprobs_backward_f32_f32";
}
impl GradientOf<bf16> for f32 {
    const KERNEL: &'static str = "logprobs_backward_f32_bf16";
}
impl GradientOf<bf16> for bf16 {
    const KERNEL: &'static str = "logprobs_backward_bf16_bf16";
}

/// The gradient of dlogprob · log p(target) + dentropy · entropy for the logits of every row.
///
/// # Shapes
/// logits and gradient `[R, S]`; the columns from V on are not written.
///
/// # Errors
/// As [`forward`].
pub fn backward<X, Y>(
    gpu: &Gpu,
    shape: LogitsShape,
    logits: In<'_, X>,
    rows: RowInputs<'_>,
    gradient: Out<'_, Y>,
) -> Result<()>
where
    X: DeviceValue + GradientOf<Y>,
    Y: DeviceValue,
{
    shape.check("logprobs backward", logits.len())?;
    shape.check("logprobs backward", gradient.len())?;
    let launch = Launch::new(gpu, Kernel::new("logprobs", X::KERNEL)).input(logits);
    let launch = row_inputs(launch, &shape, rows)?.output(gradient);
    run_backward(launch, &shape)
}

/// The same in the logits' place.
///
/// # Shapes
/// logits `[R, S]`.
///
/// # Errors
/// As [`forward`].
pub fn backward_in_place<T>(gpu: &Gpu, shape: LogitsShape, logits: Out<'_, T>, rows: RowInputs<'_>) -> Result<()>
where
    T: DeviceValue + GradientOf<T>,
{
    shape.check("logprobs backward", logits.len())?;
    let launch = Launch::new(gpu, Kernel::new("logprobs", T::KERNEL)).output(logits);
    run_backward(row_inputs(launch, &shape, rows)?.same_as(0), &shape)
}

fn row_inputs<'a>(launch: Launch<'a>, shape: &LogitsShape, rows: RowInputs<'a>) -> Result<Launch<'a>> {
    let op = "logprobs backward";
    expect_len(op, "targets", rows.targets.len(), shape.rows)?;
    expect_len(op, "stats", rows.stats.len(), 2 * shape.rows)?;
    expect_len(op, "entropies", rows.entropies.len(), shape.rows)?;
    expect_len(op, "dlogprobs", rows.dlogprobs.len(), shape.rows)?;
    if let Some(dentropies) = &rows.dentropies {
        expect_len(op, "dentropies", dentropies.len(), shape.rows)?;
    }
    let launch = launch.long(shape.stride as u64).input(rows.targets).input(rows.stats).input(rows.entropies);
    Ok(launch.input(rows.dlogprobs).optional_input(rows.dentropies))
}

fn run_backward(launch: Launch<'_>, shape: &LogitsShape) -> Result<()> {
    launch.int(shape.vocab).float(1.0 / shape.temperature).run([shape.rows, 1, 1], [512, 1, 1], 0)
}
