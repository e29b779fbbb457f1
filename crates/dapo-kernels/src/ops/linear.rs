//! Linear layers of tensors.

use crate::linear;
use crate::matmul::{PackedMatrix, Products};
use crate::tensor::{check_last, slice, values};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "linear";

/// A weight as [`linear()`] reads it: a copy of its present values, to be made again after they change.
///
/// # Shapes
/// weight `[out, in]`.
///
/// # Errors
/// When the weight is not a contiguous f32 matrix on the CPU.
pub fn pack(weight: &Tensor) -> Result<Arc<PackedMatrix>> {
    let (out, width) = weight.dims2()?;
    Ok(PackedMatrix::from_transposed(&values(weight)?, out, width).into())
}

/// y = x · Wᵀ (+ bias).
///
/// # Shapes
/// x `[T, in]`, weight `[out, in]`, bias `[out]` → `[T, out]`. `packed` is `PackedMatrix::from_transposed` of the weight's
/// present values.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn linear(x: &Tensor, weight: &Tensor, packed: &Arc<PackedMatrix>, bias: Option<&Tensor>) -> Result<Tensor> {
    check(OP, x, weight, packed, bias)?;
    let op = Linear { packed: Arc::clone(packed) };
    match bias {
        None => x.apply_op2(weight, op),
        Some(bias) => x.apply_op3(weight, bias, op),
    }
}

pub(super) fn check(op: &str, x: &Tensor, weight: &Tensor, packed: &PackedMatrix, bias: Option<&Tensor>) -> Result<()> {
    let (out, width) = weight.dims2()?;
    check_last(op, "x", x.dims(), 2, width)?;
    if (packed.n(), packed.k()) != (out, width) {
        bail!("{op}: packed weight is [{}, {}], expected [{out}, {width}]", packed.n(), packed.k());
    }
    bias.map_or(Ok(()), |bias| check_last(op, "bias", bias.dims(), 1, out))
}

struct Linear {
    packed: Arc<PackedMatrix>,
}

impl Linear {
    fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let shape = Shape::from((x.len() / self.packed.k(), self.packed.n()));
        let mut y = vec![0.0; shape.elem_count()];
        linear::forward(x, &self.packed, bias, &mut y);
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
    let dx = filled(x, &|dx| linear::backward_input(&dy, &w_values, out, dx, false))?;
    let dw = filled(weight, &|dw| linear::backward_weight(&x_values, &dy, out, dw, false, Products::F32))?;
    Ok((dx, dw))
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(slice(OP, s1, l1)?, None))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        backward(x, weight, grad)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        OP
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
        Ok(self.forward(slice(OP, s1, l1)?, Some(slice(OP, s3, l3)?)))
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
