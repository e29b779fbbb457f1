//! Accumulated gradients, and AdamW's moments, on the device: in f32, slab by slab.

use super::slabs::Slabs;
use candle_core::Result;
use dapo_kernels::cuda::gemm::Output;
use dapo_kernels::cuda::{Buffer, Gpu, Out};

/// The gradients of all slabs.
#[derive(Debug)]
pub(crate) struct DeviceGradients {
    pub(super) slabs: Vec<Buffer<f32>>,
    /// Whether a slab holds anything of this step.
    pub(super) written: Vec<bool>,
}

impl DeviceGradients {
    pub(super) fn new(gpu: &Gpu, slabs: &Slabs) -> Result<Self> {
        let written = vec![false; slabs.lens.len()];
        Ok(Self { slabs: slabs.lens.iter().map(|len| gpu.zeros(*len)).collect::<Result<_>>()?, written })
    }

    /// No gradients again, in the memory that is there.
    pub(crate) fn clear(&mut self) {
        self.written.fill(false);
    }

    /// A slab, and whether to overwrite it or to add to it.
    pub(super) fn target(&mut self, slab: usize) -> (Out<'_, f32>, Output) {
        let written = std::mem::replace(&mut self.written[slab], true);
        (self.slabs[slab].view_mut(), if written { Output::Add } else { Output::Write })
    }

    /// A slab to add to.
    pub(super) fn adding(&mut self, gpu: &Gpu, slab: usize) -> Result<Out<'_, f32>> {
        self.prepare(gpu, slab)?;
        Ok(self.slabs[slab].view_mut())
    }

    /// Two slabs to add to, the first before the second.
    pub(super) fn adding_two(&mut self, gpu: &Gpu, a: usize, b: usize) -> Result<(Out<'_, f32>, Out<'_, f32>)> {
        self.prepare(gpu, a)?;
        self.prepare(gpu, b)?;
        let (before, after) = self.slabs.split_at_mut(b);
        Ok((before[a].view_mut(), after[0].view_mut()))
    }

    fn prepare(&mut self, gpu: &Gpu, slab: usize) -> Result<()> {
        if !std::mem::replace(&mut self.written[slab], true) {
            gpu.fill_zero(self.slabs[slab].view_mut())?;
        }
        Ok(())
    }
}

/// First and second moments of all slabs.
#[derive(Debug)]
pub(crate) struct DeviceMoments {
    pub(super) slabs: Vec<(Buffer<f32>, Buffer<f32>)>,
}

impl DeviceMoments {
    pub(super) fn new(gpu: &Gpu, slabs: &Slabs) -> Result<Self> {
        let zeros = |len: &usize| Ok((gpu.zeros(*len)?, gpu.zeros(*len)?));
        Ok(Self { slabs: slabs.lens.iter().map(zeros).collect::<Result<_>>()? })
    }
}
