//! The update on the device: norm, clipping and AdamW, without a word from the host in between.

use super::compute::Compute;
use super::gradients::{CudaGradients, CudaMoments};
use super::model::Model;
use candle_core::Result;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::cuda::adamw::{clip_factor, square_sums, square_sums_len};

impl<T: Compute> Model<T> {
    /// √Σ w² over the master weights.
    pub(super) fn weights_norm(&self) -> Result<f64> {
        let gpu = &self.gpu;
        let count: usize = self.master.iter().map(|master| square_sums_len(master.len())).sum();
        if count == 0 {
            return Ok(0.0);
        }
        let mut sums = gpu.zeros::<f64>(count)?;
        let mut end = 0;
        for master in &self.master {
            let start = end;
            end += square_sums_len(master.len());
            square_sums(gpu, master.view(), sums.part_mut(start..end)?)?;
        }
        Ok(gpu.read(sums.view())?.iter().sum::<f64>().sqrt())
    }

    /// Clips the gradients and updates what has one; returns the norm before clipping, that of `beside` (Σ g²) included.
    /// Nothing changes where that is not finite.
    pub(super) fn adamw(
        &mut self,
        gradients: &CudaGradients,
        moments: &mut CudaMoments,
        step: &AdamWStep,
        max_norm: f32,
        beside: f64,
    ) -> Result<f64> {
        let gpu = &self.gpu;
        let trained = self.slabs.trained.clone();
        let count: usize = gradients.written().map(|(_, gradient)| square_sums_len(gradient.len())).sum();
        if count == 0 {
            return Ok(beside.sqrt());
        }
        // The last sum is that of what is beside.
        let mut sums = gpu.zeros::<f64>(count + 1)?;
        gpu.write(&[beside], sums.part_mut(count..count + 1)?)?;
        let mut end = 0;
        for (_, gradient) in gradients.written() {
            let start = end;
            end += square_sums_len(gradient.len());
            square_sums(gpu, gradient, sums.part_mut(start..end)?)?;
        }
        let mut norm_and_factor = gpu.zeros::<f32>(2)?;
        clip_factor(gpu, sums.view(), max_norm, norm_and_factor.view_mut())?;
        for (index, gradient) in gradients.written() {
            let (m, v) = &mut moments.slabs[index];
            let (param, copy) = (self.master[index].view_mut(), self.compute[trained.start + index].view_mut());
            let factor = norm_and_factor.part(1..2)?;
            T::adamw(gpu, param, gradient, (m.view_mut(), v.view_mut()), copy, factor, step)?;
        }
        Ok(f64::from(gpu.read(norm_and_factor.view())?[0]))
    }
}
