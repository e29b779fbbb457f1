//! QK-norm and rotary embedding of tensors.

use crate::rope::{self, Normed, RotaryTable};
use crate::tensor::{check_last, slice, with_slice};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "norm_rope";

/// Rotates the heads of `x` after normalising each with `norm` (weight and ε), if given.
///
/// # Shapes
/// x `[T, heads · d]`, norm weight `[d]`, a table of T rows → `[T, heads · d]`.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn norm_rope(x: &Tensor, norm: Option<(&Tensor, f32)>, table: &Arc<RotaryTable>) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let head_dim = table.head_dim();
    if rows != table.rows() || width % head_dim != 0 {
        bail!("{OP}: x has shape {:?}, expected {} rows of heads of {head_dim}", x.dims(), table.rows());
    }
    let table = Arc::clone(table);
    match norm {
        None => x.apply_op1(NormRope { table, eps: 0.0 }),
        Some((weight, eps)) => {
            check_last(OP, "norm weight", weight.dims(), 1, head_dim)?;
            x.apply_op2(weight, NormRope { table, eps })
        }
    }
}

struct NormRope {
    table: Arc<RotaryTable>,
    eps: f32,
}

impl CustomOp1 for NormRope {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = slice(OP, s1, l1)?.to_vec();
        rope::forward(&mut y, None, &self.table);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_slice(&grad.contiguous()?, |g| Ok(g.to_vec()))?;
        rope::backward(None, &mut dx, &self.table, None);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

impl CustomOp2 for NormRope {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(OP, s1, l1)?, slice(OP, s2, l2)?);
        let mut y = x.to_vec();
        rope::forward(&mut y, Some((weight, self.eps)), &self.table);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut dx = with_slice(&grad.contiguous()?, |g| Ok(g.to_vec()))?;
        let mut dw = vec![0.0; weight.elem_count()];
        with_slice(x, |x| {
            with_slice(weight, |weight| {
                rope::backward(Some(Normed { x, weight, eps: self.eps }), &mut dx, &self.table, Some(&mut dw));
                Ok(())
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = weight.track_op().then(|| Tensor::from_vec(dw, weight.shape(), x.device())).transpose()?;
        Ok((Some(dx), dw))
    }
}
