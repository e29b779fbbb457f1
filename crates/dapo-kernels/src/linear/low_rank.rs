//! A frozen linear layer with a trained low-rank addition (LoRA, arXiv 2106.09685): y = x·Wᵀ + b + scale · (x·Aᵀ)·Bᵀ.
//!
//! The forward starts with the bits of [`linear`](super::linear) and adds to them in the same pass, so no second
//! output is formed. The backward takes one matmul over W (for x) instead of two; A and B of rank r cost 2·T·r·(in +
//! out) flops forward, and 3·T·r·in + 2·T·r·out multiply-adds backward, where x·Aᵀ is computed again rather than kept.

use super::check;
use crate::matmul::{Lhs, Mode, PackedMatrix, Rhs, matmul};
use crate::tensor::{slice, values};
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

/// The trained addition as slices.
#[derive(Clone, Copy, Debug)]
pub struct LowRankFactors<'a> {
    /// A, `[r, in]`.
    pub a: &'a [f32],
    /// A packed.
    pub packed_a: &'a PackedMatrix,
    /// B, `[out, r]`.
    pub b: &'a [f32],
    /// B packed.
    pub packed_b: &'a PackedMatrix,
    /// α / r.
    pub scale: f32,
}

impl LowRankFactors<'_> {
    fn rank(&self) -> usize {
        self.packed_a.n()
    }

    /// scale · x·Aᵀ, `[T, r]`.
    fn narrowed(&self, x: &[f32]) -> Vec<f32> {
        let mut h = vec![0.0; x.len() / self.packed_a.k() * self.rank()];
        super::forward(x, self.packed_a, None, &mut h);
        for h in &mut h {
            *h *= self.scale;
        }
        h
    }

    /// scale · dy·B, `[T, r]`.
    fn narrowed_gradient(&self, dy: &[f32]) -> Vec<f32> {
        let out = self.packed_b.n();
        let mut dh = vec![0.0; dy.len() / out * self.rank()];
        super::backward_input(dy, self.b, out, &mut dh, false);
        for dh in &mut dh {
            *dh *= self.scale;
        }
        dh
    }

    /// y += scale · (x·Aᵀ)·Bᵀ.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn add_forward(&self, x: &[f32], y: &mut [f32]) {
        let (out, rank) = (self.packed_b.n(), self.rank());
        let mode = Mode { accumulate: true, serial: false };
        let h = self.narrowed(x);
        matmul(h.len() / rank, out, rank, Lhs::rows(&h, rank), Rhs::Packed(self.packed_b), y, out, mode);
    }

    /// dx += dh·A with dh = scale · dy·B.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn add_backward_input(&self, dy: &[f32], dx: &mut [f32]) {
        super::backward_input(&self.narrowed_gradient(dy), self.a, self.rank(), dx, true);
    }

    /// dA (+)= dhᵀ·x with dh = scale · dy·B.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn backward_a(&self, x: &[f32], dy: &[f32], da: &mut [f32], accumulate: bool) {
        super::backward_weight(x, &self.narrowed_gradient(dy), self.rank(), da, accumulate);
    }

    /// dB (+)= dyᵀ·h with h = scale · x·Aᵀ.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn backward_b(&self, x: &[f32], dy: &[f32], db: &mut [f32], accumulate: bool) {
        super::backward_weight(&self.narrowed(x), dy, self.packed_b.n(), db, accumulate);
    }
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
    fn factors<'a>(&'a self, a: &'a [f32], b: &'a [f32]) -> LowRankFactors<'a> {
        LowRankFactors { a, packed_a: &self.packed_a, b, packed_b: &self.packed_b, scale: self.scale }
    }
}

impl CustomOp3 for LowRankLinear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, a, b) = (slice(OP, s1, l1)?, slice(OP, s2, l2)?, slice(OP, s3, l3)?);
        let shape = Shape::from((x.len() / self.packed.k(), self.packed.n()));
        let mut y = vec![0.0; shape.elem_count()];
        let bias = self.bias.as_ref().map(values).transpose()?;
        super::forward(x, &self.packed, bias.as_deref(), &mut y);
        self.factors(a, b).add_forward(x, &mut y);
        Ok((CpuStorage::F32(y), shape))
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
        let zeros = |like: &Tensor| vec![0.0; like.elem_count()];
        let (mut da, mut db) = (zeros(a), zeros(b));
        let mut dx = x.track_op().then(|| zeros(x));
        let (xs, a_values, b_values, dy) = (values(x)?, values(a)?, values(b)?, values(&grad)?);
        let factors = self.factors(&a_values, &b_values);
        factors.backward_a(&xs, &dy, &mut da, false);
        factors.backward_b(&xs, &dy, &mut db, false);
        if let Some(dx) = &mut dx {
            super::backward_input(&dy, &values(&self.weight)?, self.packed.n(), dx, false);
            factors.add_backward_input(&dy, dx);
        }
        let tensor = |data: Vec<f32>, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((dx.map(|dx| tensor(dx, x)).transpose()?, Some(tensor(da, a)?), Some(tensor(db, b)?)))
    }
}
