//! A frozen linear layer with a trained low-rank addition (LoRA, arXiv 2106.09685): y = x·Wᵀ + b + scale · (x·Aᵀ)·Bᵀ.
//!
//! The forward starts with the bits of [`linear`](super::linear) and goes on adding in the same pass, so no second
//! output is formed. The backward takes one product over W (for x) instead of two; A and B of rank r cost 2·T·r·(in +
//! out) flops forward, and 3·T·r·in + 2·T·r·out multiply-adds backward, where x·Aᵀ is computed again rather than kept.

use super::{check, project};
use crate::matmul::{Lhs, Mode, PackedMatrix, Rhs, matmul};
use crate::tensor::{slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "low_rank_linear";

/// The trained addition: two factors, their packed copies, and what their product is multiplied by.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// A, `[r, in]`.
    pub a: &'a Tensor,
    /// `PackedMatrix::from_transposed` of A's present values.
    pub packed_a: &'a Arc<PackedMatrix>,
    /// B, `[out, r]`.
    pub b: &'a Tensor,
    /// `PackedMatrix::from_transposed` of B's present values.
    pub packed_b: &'a Arc<PackedMatrix>,
    /// α / r.
    pub scale: f32,
}

/// y = x · Wᵀ (+ bias) + scale · (x · Aᵀ) · Bᵀ, differentiable in x, A and B.
///
/// # Shapes
/// x `[T, in]`, weight `[out, in]`, bias `[out]`, A `[r, in]`, B `[out, r]` → `[T, out]`. `packed` is
/// `PackedMatrix::from_transposed` of the weight's present values.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these, or the weight or bias records gradients: they would get none.
pub fn low_rank_linear(
    x: &Tensor,
    weight: &Tensor,
    packed: &Arc<PackedMatrix>,
    bias: Option<&Tensor>,
    low_rank: LowRank<'_>,
) -> Result<Tensor> {
    check(OP, x, weight, packed, bias)?;
    if weight.track_op() || bias.is_some_and(Tensor::track_op) {
        bail!("{OP}: the weight or its bias records gradients, expected frozen ones");
    }
    let LowRank { a, packed_a, b, packed_b, scale } = low_rank;
    let ((out, width), rank) = (weight.dims2()?, packed_a.n());
    let packed_dims = |p: &PackedMatrix| [p.n(), p.k()];
    for (name, dims, packed, expected) in
        [("A", a.dims(), packed_dims(packed_a), [rank, width]), ("B", b.dims(), packed_dims(packed_b), [out, rank])]
    {
        if dims != expected || packed != expected {
            bail!("{OP}: {name} has shape {dims:?} (packed {packed:?}), expected {expected:?}");
        }
    }
    let op = LowRankLinear {
        weight: weight.clone(),
        packed: Arc::clone(packed),
        bias: bias.cloned(),
        packed_a: Arc::clone(packed_a),
        packed_b: Arc::clone(packed_b),
        scale,
    };
    x.apply_op3(a, b, op)
}

struct LowRankLinear {
    weight: Tensor,
    packed: Arc<PackedMatrix>,
    bias: Option<Tensor>,
    packed_a: Arc<PackedMatrix>,
    packed_b: Arc<PackedMatrix>,
    scale: f32,
}

impl LowRankLinear {
    /// scale · x·Aᵀ, `[T, r]`.
    fn narrowed(&self, x: &[f32]) -> Vec<f32> {
        let mut h = project(x, &self.packed_a, None);
        for h in &mut h {
            *h *= self.scale;
        }
        h
    }

    fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = project(x, &self.packed, bias);
        let (out, rank) = (self.packed_b.n(), self.packed_b.k());
        let mode = Mode { accumulate: true, serial: false };
        let h = self.narrowed(x);
        matmul(h.len() / rank, out, rank, Lhs::rows(&h, rank), Rhs::Packed(&self.packed_b), &mut y, out, mode);
        y
    }

    /// With h = scale · x·Aᵀ and dh = scale · dy·B: dB = dyᵀ·h, dA = dhᵀ·x, dx = dy·W + dh·A.
    fn backward(&self, x: &[f32], a: &[f32], b: &[f32], dy: &[f32], want_dx: bool) -> Result<Gradients> {
        let (out, width, rank) = (self.packed.n(), self.packed.k(), self.packed_b.k());
        let rows = x.len() / width;
        let product = |m: usize, n: usize, k: usize, lhs: Lhs<'_>, data: &[f32]| {
            let mut c = vec![0.0; m * n];
            matmul(m, n, k, lhs, Rhs::Rows { data, stride: n }, &mut c, n, Mode::default());
            c
        };
        let mut dh = product(rows, rank, out, Lhs::rows(dy, out), b);
        for dh in &mut dh {
            *dh *= self.scale;
        }
        let da = product(rank, width, rows, Lhs::transposed(&dh, rank), x);
        let db = product(out, rank, rows, Lhs::transposed(dy, out), &self.narrowed(x));
        let dx = if want_dx {
            let mut dx = with_slice(&self.weight, |w| Ok(product(rows, width, out, Lhs::rows(dy, out), w)))?;
            let mode = Mode { accumulate: true, serial: false };
            let a = Rhs::Rows { data: a, stride: width };
            matmul(rows, width, rank, Lhs::rows(&dh, rank), a, &mut dx, width, mode);
            Some(dx)
        } else {
            None
        };
        Ok(Gradients { dx, da, db })
    }
}

struct Gradients {
    dx: Option<Vec<f32>>,
    da: Vec<f32>,
    db: Vec<f32>,
}

impl CustomOp3 for LowRankLinear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(OP, s1, l1)?;
        let y = match &self.bias {
            Some(bias) => with_slice(bias, |bias| Ok(self.forward(x, Some(bias))))?,
            None => self.forward(x, None),
        };
        Ok((CpuStorage::F32(y), Shape::from((x.len() / self.packed.k(), self.packed.n()))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let Gradients { dx, da, db } = with_slice(x, |xs| {
            with_slice(a, |a| with_slice(b, |b| with_slice(&grad, |dy| self.backward(xs, a, b, dy, x.track_op()))))
        })?;
        let tensor = |data: Vec<f32>, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((dx.map(|dx| tensor(dx, x)).transpose()?, Some(tensor(da, a)?), Some(tensor(db, b)?)))
    }
}
