//! QK-norm and rotary position embedding of the query or key heads, in one pass.
//!
//! Each head vector is normalised (where the model has QK-norm) and then rotated: with halves a and b,
//! (a·cos − b·sin, b·cos + a·sin), angles position · θ^(−2i/d). One read and one write (8 bytes an element).

mod cpu;

pub use cpu::{Normed, backward, forward};

use crate::threads;

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

    /// d, the width of a head.
    pub(crate) fn head_dim(&self) -> usize {
        2 * self.half
    }

    pub(crate) fn rows(&self) -> usize {
        self.data.len() / (2 * self.half)
    }
}
