//! A frozen linear layer with a trained low-rank addition (LoRA, arXiv 2106.09685): y = x·Wᵀ + b + scale · (x·Aᵀ)·Bᵀ.
//!
//! The forward starts with the bits of [`linear`](super::linear) and adds to them in the same pass, so no second
//! output is formed. The backward takes one matmul over W (for x) instead of two; A and B of rank r cost 2·T·r·(in +
//! out) flops forward, and 3·T·r·in + 2·T·r·out multiply-adds backward, where x·Aᵀ is computed again rather than kept.

use crate::matmul::{Lhs, Mode, PackedMatrix, Products, Rhs, matmul};

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
        let mode = Mode { accumulate: true, ..Mode::default() };
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
        super::backward_weight(x, &self.narrowed_gradient(dy), self.rank(), da, accumulate, Products::F32);
    }

    /// dB (+)= dyᵀ·h with h = scale · x·Aᵀ.
    ///
    /// # Panics
    /// When a slice has another length.
    pub fn backward_b(&self, x: &[f32], dy: &[f32], db: &mut [f32], accumulate: bool) {
        super::backward_weight(&self.narrowed(x), dy, self.packed_b.n(), db, accumulate, Products::F32);
    }
}
