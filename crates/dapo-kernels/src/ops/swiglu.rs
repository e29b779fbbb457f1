//! SwiGLU of tensors.

use crate::swiglu;
use crate::tensor::{slice, with_slice};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

const OP: &str = "swiglu";

/// y = silu(gate) · up, element by element.
///
/// # Errors
/// When the shapes differ, or a tensor is not contiguous f32.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("{OP}: up has shape {:?}, expected that of gate, {:?}", up.dims(), gate.dims());
    }
    gate.apply_op2(up, SwiGlu)
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (slice(OP, s1, l1)?, slice(OP, s2, l2)?);
        let mut y = vec![0.0; gate.len()];
        swiglu::forward(gate, up, &mut y);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let values = |x: &Tensor| with_slice(x, |x| Ok(x.to_vec()));
        let (mut d_gate, mut d_up) = (values(gate)?, values(up)?);
        swiglu::backward(&mut d_gate, &mut d_up, &mut values(&grad.contiguous()?)?);
        let d_gate = Tensor::from_vec(d_gate, gate.shape(), gate.device())?;
        let d_up = Tensor::from_vec(d_up, gate.shape(), gate.device())?;
        Ok((Some(d_gate), Some(d_up)))
    }
}
