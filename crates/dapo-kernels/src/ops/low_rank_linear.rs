//! Frozen linear layers with a trained low-rank addition, of tensors.

use super::linear::check;
use crate::linear::{self, LowRankFactors};
use crate::matmul::PackedMatrix;
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
        linear::forward(x, &self.packed, bias.as_deref(), &mut y);
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
            linear::backward_input(&dy, &values(&self.weight)?, self.packed.n(), dx, false);
            factors.add_backward_input(&dy, dx);
        }
        let tensor = |data: Vec<f32>, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((dx.map(|dx| tensor(dx, x)).transpose()?, Some(tensor(da, a)?), Some(tensor(db, b)?)))
    }
}
