//! Linear layers: y = x · Wᵀ + b over weights packed once per update.
//!
//! Forward 2·T·out·in flops over the packed copy; backward the same twice, for the gradient of x (over W as it is
//! stored) and of W. A weight that records no gradient (a frozen one) costs no backward matmul and no memory for it.

mod low_rank;

pub use low_rank::{LowRank, LowRankFactors, low_rank_linear};

use crate::matmul::{Lhs, Mode, PackedMatrix, Rhs, matmul};
use crate::tensor::{check_last, slice, values};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// y = x · Wᵀ (+ bias).
///
/// # Shapes
/// x `[T, in]`, weight `[out, in]`, bias `[out]` → `[T, out]`. `packed` is `PackedMatrix::from_transposed` of the weight's
/// present values.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn linear(x: &Tensor, weight: &Tensor, packed: &Arc<PackedMatrix>, bias: Option<&Tensor>) -> Result<Tensor> {
    check("linear", x, weight, packed, bias)?;
    let op = Linear { packed: Arc::clone(packed) };
    match bias {
        None => x.apply_op2(weight, op),
        Some(bias) => x.apply_op3(weight, bias, op),
    }
}

fn check(op: &str, x: &Tensor, weight: &Tensor, packed: &PackedMatrix, bias: Option<&Tensor>) -> Result<()> {
    let (out, width) = weight.dims2()?;
    check_last(op, "x", x.dims(), 2, width)?;
    if (packed.n(), packed.k()) != (out, width) {
        bail!("{op}: packed weight is [{}, {}], expected [{out}, {width}]", packed.n(), packed.k());
    }
    bias.map_or(Ok(()), |bias| check_last(op, "bias", bias.dims(), 1, out))
}

/// y ← x · Wᵀ (+ bias).
///
/// # Shapes
/// x `[T, in]`, packed `[in, out]`, bias `[out]`, y `[T, out]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward(x: &[f32], packed: &PackedMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
    let (n, k) = (packed.n(), packed.k());
    let m = rows(x, k, y, n);
    if let Some(bias) = bias {
        y.chunks_exact_mut(n).for_each(|y| y.copy_from_slice(bias));
    }
    let mode = Mode { accumulate: bias.is_some(), serial: false };
    matmul(m, n, k, Lhs::rows(x, k), Rhs::Packed(packed), y, n, mode);
}

/// dx (+)= dy · W.
///
/// # Shapes
/// dy `[T, out]`, weight `[out, in]`, dx `[T, in]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward_input(dy: &[f32], weight: &[f32], out: usize, dx: &mut [f32], accumulate: bool) {
    let k = weight.len() / out;
    let m = rows(dy, out, dx, k);
    let weight = Rhs::Rows { data: weight, stride: k };
    matmul(m, k, out, Lhs::rows(dy, out), weight, dx, k, Mode { accumulate, serial: false });
}

/// dW (+)= dyᵀ · x.
///
/// # Shapes
/// x `[T, in]`, dy `[T, out]`, dw `[out, in]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward_weight(x: &[f32], dy: &[f32], out: usize, dw: &mut [f32], accumulate: bool) {
    let k = dw.len() / out;
    let m = rows(dy, out, x, k);
    let x = Rhs::Rows { data: x, stride: k };
    matmul(out, k, m, Lhs::transposed(dy, out), x, dw, k, Mode { accumulate, serial: false });
}

/// Adds the sum of the rows of dy, in order: the gradient of a bias.
///
/// # Shapes
/// dy `[T, out]`, db `[out]`.
pub fn backward_bias(dy: &[f32], db: &mut [f32]) {
    for row in dy.chunks_exact(db.len()) {
        db.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// Number of rows of two matrices of different widths.
fn rows(a: &[f32], a_width: usize, b: &[f32], b_width: usize) -> usize {
    let rows = a.len() / a_width;
    assert!(a.len() == rows * a_width && b.len() == rows * b_width, "linear: rows of {a_width} and {b_width} differ");
    rows
}

struct Linear {
    packed: Arc<PackedMatrix>,
}

impl Linear {
    fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let shape = Shape::from((x.len() / self.packed.k(), self.packed.n()));
        let mut y = vec![0.0; shape.elem_count()];
        forward(x, &self.packed, bias, &mut y);
        (CpuStorage::F32(y), shape)
    }
}

fn backward(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let grad = grad.contiguous()?;
    let out = weight.dim(0)?;
    let dy = values(&grad)?;
    let filled = |like: &Tensor, fill: &dyn Fn(&mut [f32])| {
        if !like.track_op() {
            return Ok(None);
        }
        let mut data = vec![0.0; like.elem_count()];
        fill(&mut data);
        Tensor::from_vec(data, like.shape(), like.device()).map(Some)
    };
    let (x_values, w_values) = (values(x)?, values(weight)?);
    let dx = filled(x, &|dx| backward_input(&dy, &w_values, out, dx, false))?;
    let dw = filled(weight, &|dw| backward_weight(&x_values, &dy, out, dw, false))?;
    Ok((dx, dw))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(slice("linear", s1, l1)?, None))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, weight, grad)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        _: &CpuStorage,
        _: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(slice("linear", s1, l1)?, Some(slice("linear", s3, l3)?)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = backward(x, weight, grad)?;
        let db = if bias.track_op() { Some(grad.sum(0)?) } else { None };
        Ok((dx, dw, db))
    }
}
