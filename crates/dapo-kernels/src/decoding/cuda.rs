//! The inputs of a decoding step, gathered on the device from the sequences that grow there.
//!
//! Letters: n rows of the step.

use super::sampling::Sequences;
use super::{Buffer, Gpu, In, Kernel, Launch, expect_len};
use candle_core::Result;

/// A row for each active sequence, `[n]` each.
#[derive(Debug)]
pub struct StepInputs {
    /// The tokens to compute.
    pub tokens: Buffer<u32>,
    /// Their positions, for [`rope`](super::rope).
    pub rotary_positions: Buffer<i32>,
    /// The same, for [`append`](super::attention::append).
    pub cache_positions: Buffer<u32>,
    /// The rows themselves, and [`NO_SEQUENCE`](super::attention::NO_SEQUENCE) for a sequence that has finished.
    pub cache_rows: Buffer<u32>,
    /// Positions that attention sees: none for a sequence that has finished.
    pub lengths: Buffer<u32>,
}

impl StepInputs {
    /// Room for n rows.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(gpu: &Gpu, rows: usize) -> Result<Self> {
        Ok(Self {
            tokens: gpu.zeros(rows)?,
            rotary_positions: gpu.zeros(rows)?,
            cache_positions: gpu.zeros(rows)?,
            cache_rows: gpu.zeros(rows)?,
            lengths: gpu.zeros(rows)?,
        })
    }

    /// Becomes the inputs of the next step, of which row i belongs to sequence `live[i]`.
    ///
    /// # Shapes
    /// live `[n]`: not checked, as it is on the device; below the number of sequences.
    ///
    /// # Errors
    /// When there is room for another number of rows.
    pub fn gather(&mut self, gpu: &Gpu, live: In<'_, i32>, sequences: &Sequences) -> Result<()> {
        let count = live.len();
        expect_len("decoding", "the inputs", self.tokens.len(), count)?;
        Launch::new(gpu, Kernel::new("decoding", "decoding_inputs"))
            .input(live)
            .input(sequences.tokens.view())
            .input(sequences.positions.view())
            .input(sequences.finished.view())
            .output(self.tokens.view_mut())
            .output(self.rotary_positions.view_mut())
            .output(self.cache_positions.view_mut())
            .output(self.cache_rows.view_mut())
            .output(self.lengths.view_mut())
            .int(count)
            .run([count.div_ceil(128), 1, 1], [128, 1, 1], 0)
    }
}
