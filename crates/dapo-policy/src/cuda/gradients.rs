//! Accumulated gradients, and AdamW's moments, on the device: in f32, slab by slab.

use super::slabs::Slabs;
use crate::error::PolicyError;
use crate::gradients::GradientMemory;
use crate::moments::MomentMemory;
use candle_core::{Result, Tensor};
use dapo_kernels::cuda::gemm::Output;
use dapo_kernels::cuda::{Buffer, Gpu, In, Out};
use std::ops::Range;

/// The gradients of all slabs that are trained.
#[derive(Debug)]
pub(super) struct CudaGradients {
    /// Number of the first.
    first: usize,
    slabs: Vec<Buffer<f32>>,
    /// Whether a slab holds anything of this step.
    written: Vec<bool>,
}

impl CudaGradients {
    pub(super) fn new(gpu: &Gpu, slabs: &Slabs) -> Result<Self> {
        let lens = slabs.trained_lens();
        let of = lens.iter().map(|len| gpu.zeros(*len)).collect::<Result<_>>()?;
        Ok(Self { first: slabs.trained.start, slabs: of, written: vec![false; lens.len()] })
    }

    /// Fails where they were made for a decoder that trains something else.
    pub(super) fn check(&self, slabs: &Slabs) -> std::result::Result<(), PolicyError> {
        let lens = self.slabs.iter().map(Buffer::len);
        let same = self.first == slabs.trained.start && lens.eq(slabs.trained_lens().iter().copied());
        if same { Ok(()) } else { Err(of_another("gradients")) }
    }

    /// Those that hold anything of this step: by their place among the slabs that are trained.
    pub(super) fn written(&self) -> impl Iterator<Item = (usize, In<'_, f32>)> {
        let slabs = self.slabs.iter().zip(&self.written).enumerate();
        slabs.filter(|(_, (_, written))| **written).map(|(i, (slab, _))| (i, slab.view()))
    }

    /// A slab, where it holds anything of this step.
    pub(super) fn slab(&self, slab: usize) -> Option<&Buffer<f32>> {
        let index = slab - self.first;
        self.written[index].then(|| &self.slabs[index])
    }

    /// A slab, and whether to overwrite it or to add to it.
    pub(super) fn target(&mut self, slab: usize) -> (Out<'_, f32>, Output) {
        let index = slab - self.first;
        let written = std::mem::replace(&mut self.written[index], true);
        (self.slabs[index].view_mut(), if written { Output::Add } else { Output::Write })
    }

    /// A slab to add to.
    pub(super) fn adding(&mut self, gpu: &Gpu, slab: usize) -> Result<Out<'_, f32>> {
        self.prepare(gpu, slab)?;
        Ok(self.slabs[slab - self.first].view_mut())
    }

    /// Two slabs to add to, the first before the second.
    pub(super) fn adding_two(&mut self, gpu: &Gpu, a: usize, b: usize) -> Result<(Out<'_, f32>, Out<'_, f32>)> {
        self.prepare(gpu, a)?;
        self.prepare(gpu, b)?;
        let (before, after) = self.slabs.split_at_mut(b - self.first);
        Ok((before[a - self.first].view_mut(), after[0].view_mut()))
    }

    /// Replaces a part of a slab.
    pub(super) fn set(&mut self, gpu: &Gpu, slab: usize, part: Range<usize>, values: &[f32]) -> Result<()> {
        self.prepare(gpu, slab)?;
        gpu.write(values, self.slabs[slab - self.first].part_mut(part)?)
    }

    fn prepare(&mut self, gpu: &Gpu, slab: usize) -> Result<()> {
        let index = slab - self.first;
        if !std::mem::replace(&mut self.written[index], true) {
            gpu.fill_zero(self.slabs[index].view_mut())?;
        }
        Ok(())
    }
}

impl GradientMemory for CudaGradients {
    fn clear(&mut self) {
        self.written.fill(false);
    }

    fn release(&mut self) {
        self.clear();
    }

    fn get(&self, _index: usize) -> Option<&Tensor> {
        None
    }
}

/// First and second moments of all slabs that are trained.
#[derive(Debug)]
pub(super) struct CudaMoments {
    pub(super) slabs: Vec<(Buffer<f32>, Buffer<f32>)>,
}

impl CudaMoments {
    pub(super) fn new(gpu: &Gpu, slabs: &Slabs) -> Result<Self> {
        let zeros = |len: &usize| Ok((gpu.zeros(*len)?, gpu.zeros(*len)?));
        Ok(Self { slabs: slabs.trained_lens().iter().map(zeros).collect::<Result<_>>()? })
    }

    /// Fails where they were made for a decoder that trains something else.
    pub(super) fn check(&self, slabs: &Slabs) -> std::result::Result<(), PolicyError> {
        let lens = self.slabs.iter().map(|(m, _)| m.len());
        if lens.eq(slabs.trained_lens().iter().copied()) { Ok(()) } else { Err(of_another("moments")) }
    }
}

impl MomentMemory for CudaMoments {}

fn of_another(field: &str) -> PolicyError {
    let (found, expected) = ("those of a decoder that trains other tensors".into(), "those of this one".into());
    PolicyError::Setting { field: field.into(), found, expected }
}
