//! QK-norm and rotary position embedding of the query or key heads, in one pass.
//!
//! Each head vector is normalised (where the model has QK-norm) and then rotated: with halves a and b,
//! (a·cos − b·sin, b·cos + a·sin), angles position · θ^(−2i/d). One read and one write (8 bytes an element).

mod cpu;

pub use cpu::{Normed, backward, forward};

use crate::tensor::{check_last, slice, with_slice};
use crate::threads;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

/// Cosines and sines for the positions of a batch.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    half: usize,
    /// Angle per position.
    frequencies: Vec<f32>,
    /// Factor of cosines and sines.
    scale: f32,
    /// Per row: the `half` cosines, then the `half` sines.
    data: Vec<f32>,
}

impl RotaryTable {
    /// The table for `positions`, in their order; angles are f32 products as in the reference implementations.
    pub fn new(positions: &[u32], head_dim: usize, theta: f64) -> Self {
        let frequency = |i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32;
        Self::with_frequencies(positions, (0..head_dim / 2).map(frequency).collect(), 1.0)
    }

    /// The table of angles position · frequency, for heads of width d = 2 · `frequencies.len()`. Cosines and sines are
    /// multiplied by `scale`.
    pub fn with_frequencies(positions: &[u32], frequencies: Vec<f32>, scale: f32) -> Self {
        let mut table = Self { half: frequencies.len(), frequencies, scale, data: Vec::new() };
        table.set(positions);
        table
    }

    /// Becomes the table for other positions, in the memory that it has.
    pub fn set(&mut self, positions: &[u32]) {
        let size = 2 * self.half;
        self.data.resize(positions.len() * size, 0.0);
        let Self { half, frequencies, scale, data } = self;
        threads::for_each_chunk([data], [64 * size], |block, [rows]| {
            for (row, position) in rows.chunks_exact_mut(size).zip(&positions[64 * block..]) {
                let (cosines, sines) = row.split_at_mut(*half);
                for ((cos, sin), frequency) in cosines.iter_mut().zip(sines).zip(&*frequencies) {
                    let (s, c) = f64::from(*position as f32 * frequency).sin_cos();
                    (*cos, *sin) = (c as f32 * *scale, s as f32 * *scale);
                }
            }
        });
    }

    /// Row by row the cosines, then the sines: `[positions, d]`.
    pub fn values(&self) -> &[f32] {
        &self.data
    }

    fn rows(&self) -> usize {
        self.data.len() / (2 * self.half)
    }
}

/// Rotates the heads of `x` after normalising each with `norm` (weight and ε), if given.
///
/// # Shapes
/// x `[T, heads · d]`, norm weight `[d]`, a table of T rows → `[T, heads · d]`.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn norm_rope(x: &Tensor, norm: Option<(&Tensor, f32)>, table: &Arc<RotaryTable>) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let head_dim = 2 * table.half;
    if rows != table.rows() || width % head_dim != 0 {
        bail!("norm_rope: x has shape {:?}, expected {} rows of heads of {head_dim}", x.dims(), table.rows());
    }
    let table = Arc::clone(table);
    match norm {
        None => x.apply_op1(NormRope { table, eps: 0.0 }),
        Some((weight, eps)) => {
            check_last("norm_rope", "norm weight", weight.dims(), 1, head_dim)?;
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
        "rope"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut y = slice("rope", s1, l1)?.to_vec();
        forward(&mut y, None, &self.table);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut dx = with_slice(&grad.contiguous()?, |g| Ok(g.to_vec()))?;
        backward(None, &mut dx, &self.table, None);
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

impl CustomOp2 for NormRope {
    fn name(&self) -> &'static str {
        "norm_rope"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice("norm_rope", s1, l1)?, slice("norm_rope", s2, l2)?);
        let mut y = x.to_vec();
        forward(&mut y, Some((weight, self.eps)), &self.table);
        Ok((CpuStorage::F32(y), l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut dx = with_slice(&grad.contiguous()?, |g| Ok(g.to_vec()))?;
        let mut dw = vec![0.0; weight.elem_count()];
        with_slice(x, |x| {
            with_slice(weight, |weight| {
                backward(Some(Normed { x, weight, eps: self.eps }), &mut dx, &self.table, Some(&mut dw));
                Ok(())
            })
        })?;
        let dx = Tensor::from_vec(dx, x.shape(), x.device())?;
        let dw = weight.track_op().then(|| Tensor::from_vec(dw, weight.shape(), x.device())).transpose()?;
        Ok((Some(dx), dw))
    }
}
