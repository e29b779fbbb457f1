//! Linear layers: y = x · Wᵀ + b over weights packed once per update.
//!
//! Forward 2·T·out·in flops over the packed copy; backward the same twice, for the gradient of x (over W as it is
//! stored) and of W. A weight that records no gradient (a frozen one) costs no backward product and no memory for it.

mod low_rank;

pub use low_rank::{LowRank, low_rank_linear};

use crate::matmul::{Lhs, Mode, PackedMatrix, Rhs, matmul};
use crate::tensor::{check_last, slice, with_slice};
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

/// x · Wᵀ (+ bias), row by row.
fn project(x: &[f32], packed: &PackedMatrix, bias: Option<&[f32]>) -> Vec<f32> {
    let (n, k) = (packed.n(), packed.k());
    let m = x.len() / k;
    let mut y = Vec::with_capacity(m * n);
    match bias {
        Some(bias) => (0..m).for_each(|_| y.extend_from_slice(bias)),
        None => y.resize(m * n, 0.0),
    }
    let mode = Mode { accumulate: bias.is_some(), serial: false };
    matmul(m, n, k, Lhs::rows(x, k), Rhs::Packed(packed), &mut y, n, mode);
    y
}

struct Linear {
    packed: Arc<PackedMatrix>,
}

impl Linear {
    fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let shape = Shape::from((x.len() / self.packed.k(), self.packed.n()));
        (CpuStorage::F32(project(x, &self.packed, bias)), shape)
    }
}

fn backward(x: &Tensor, weight: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let grad = grad.contiguous()?;
    let (m, n, k) = (x.dim(0)?, weight.dim(0)?, weight.dim(1)?);
    let product = |rows: usize, columns: usize, sum: usize, lhs: Lhs<'_>, rhs: Rhs<'_>| {
        let mut out = vec![0.0; rows * columns];
        matmul(rows, columns, sum, lhs, rhs, &mut out, columns, Mode::default());
        Tensor::from_vec(out, (rows, columns), x.device())
    };
    with_slice(&grad, |g| {
        let dx = if x.track_op() {
            let dx = with_slice(weight, |w| product(m, k, n, Lhs::rows(g, n), Rhs::Rows { data: w, stride: k }));
            Some(dx?)
        } else {
            None
        };
        let dw = if weight.track_op() {
            let dw = with_slice(x, |x| product(n, k, m, Lhs::transposed(g, n), Rhs::Rows { data: x, stride: k }));
            Some(dw?)
        } else {
            None
        };
        Ok((dx, dw))
    })
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
