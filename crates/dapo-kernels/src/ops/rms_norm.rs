//! RMSNorm of tensors.

use crate::rms_norm;
use crate::tensor::{check_last, slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

const OP: &str = "rms_norm";

/// y = x / √(mean over the last dimension of x² + eps) · weight.
///
/// # Shapes
/// x `[T, H]`, weight `[H]` → `[T, H]`.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let width = weight.dims1()?;
    check_last(OP, "x", x.dims(), 2, width)?;
    x.apply_op2(weight, RmsNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(OP, s1, l1)?, slice(OP, s2, l2)?);
        let mut y = vec![0.0; x.len()];
        rms_norm::forward(x, weight, self.eps, &mut y);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (mut dx, mut dw) = (vec![0.0; x.elem_count()], vec![0.0; weight.elem_count()]);
        with_slice(x, |x| {
            with_slice(weight, |w| {
                with_slice(&grad, |g| {
                    rms_norm::backward(x, w, g, self.eps, &mut dx, Some(&mut dw));
                    Ok(())
                })
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = weight.track_op().then(|| Tensor::from_vec(dw, weight.shape(), x.device())).transpose()?;
        Ok((Some(dx), dw))
    }
}
