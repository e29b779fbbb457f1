//! Continuing a backward pass from a gradient that was computed elsewhere.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

const OP: &str = "inject_gradient";

/// A scalar 0 whose backward pass hands `gradient`, times the scalar's own gradient, to `y`:
/// `inject_gradient(y, g)?.backward()` continues a chain that was cut at `y`, without computing Σ y·g.
///
/// # Shapes
/// `gradient` has the shape of `y`.
///
/// # Errors
/// When the shapes differ.
pub fn inject_gradient(y: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if y.dims() != gradient.dims() {
        bail!("{OP}: gradient has shape {:?}, expected {:?}", gradient.dims(), y.dims());
    }
    y.apply_op1(Inject { gradient: gradient.detach() })
}

struct Inject {
    gradient: Tensor,
}

impl CustomOp1 for Inject {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), Shape::from(())))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.gradient.broadcast_mul(upstream)?))
    }
}
