//! The decoder on a GPU: f32 master weights, gradients and moments, activations and products in bf16.
//!
//! The same code runs on the kernels' emulation (feature `emulate`), which is how it is tested without a GPU, in f32 too.
//! Sums are in another order than on the CPU, and a roll-out's in another than a training pass's: results agree to rounding,
//! not to the bit; each of them is the same on every run.

mod array;
mod backward;
mod blocks;
mod compute;
mod forward;
mod generate;
mod gradients;
mod model;
mod optimizer;
mod score;
mod slabs;
mod workspace;

pub(crate) use gradients::{DeviceGradients, DeviceMoments};

use crate::batch::Inputs;
use crate::engine::Engine;
use crate::{
    Completion, GenerationConfig, LayerMemory, Loss, ModelConfig, PolicyError, Request, Segments, TokenLogprobs,
};
use compute::Compute;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::cuda::attention::HEAD_WIDTHS;
use dapo_kernels::cuda::{Buffer, Gpu};
use half::bf16;
use model::Model;
use slabs::Place;
use std::sync::Arc;

/// A model on this device: in bf16, or in f32 for comparisons.
pub(crate) fn engine(
    gpu: Arc<Gpu>,
    config: ModelConfig,
    weights: &[Vec<f32>],
    in_bf16: bool,
) -> Result<Box<dyn Engine>, PolicyError> {
    if !HEAD_WIDTHS.contains(&config.head_dim) {
        return Err(PolicyError::Setting {
            field: "head_dim".into(),
            found: config.head_dim.to_string(),
            expected: "32, 64 or 128 on a GPU".into(),
        });
    }
    if in_bf16 {
        return Ok(Box::new(Model::<bf16>::new(gpu, config, weights)?));
    }
    Ok(Box::new(Model::<f32>::new(gpu, config, weights)?))
}

impl<T: Compute> Model<T> {
    fn read_part(&self, slabs: &[Buffer<f32>], parameter: usize) -> Result<Vec<f32>, PolicyError> {
        let Place { slab, start, len } = self.slabs.places[parameter];
        Ok(self.gpu.read(slabs[slab].part(start..start + len)?)?)
    }
}

impl<T: Compute> Engine for Model<T> {
    fn another(&self, weights: &[Vec<f32>]) -> Result<Box<dyn Engine>, PolicyError> {
        Ok(Box::new(Model::<T>::new(Arc::clone(&self.gpu), self.config.clone(), weights)?))
    }

    fn score(&self, inputs: &Inputs, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        Model::score(self, inputs, temperature)
    }

    fn score_backward(
        &self,
        inputs: &Inputs,
        temperature: f32,
        memory: LayerMemory,
        gradients: &mut DeviceGradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        Model::score_backward(self, inputs, temperature, memory, gradients, loss)
    }

    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        self.complete(requests, config)
    }

    fn logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError> {
        self.all_logits(token_ids, segments)
    }

    fn new_gradients(&self) -> Result<DeviceGradients, PolicyError> {
        Ok(DeviceGradients::new(&self.gpu, &self.slabs)?)
    }

    fn new_moments(&self) -> Result<DeviceMoments, PolicyError> {
        Ok(DeviceMoments::new(&self.gpu, &self.slabs)?)
    }

    fn read_gradient(&self, gradients: &DeviceGradients, parameter: usize) -> Result<Option<Vec<f32>>, PolicyError> {
        if !gradients.written[self.slabs.places[parameter].slab] {
            return Ok(None);
        }
        self.read_part(&gradients.slabs, parameter).map(Some)
    }

    fn read_moments(&self, moments: &DeviceMoments, parameter: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        let Place { slab, start, len } = self.slabs.places[parameter];
        let (m, v) = &moments.slabs[slab];
        Ok((self.gpu.read(m.part(start..start + len)?)?, self.gpu.read(v.part(start..start + len)?)?))
    }

    fn write_moments(
        &self,
        moments: &mut DeviceMoments,
        parameter: usize,
        m: &[f32],
        v: &[f32],
    ) -> Result<(), PolicyError> {
        let Place { slab, start, len } = self.slabs.places[parameter];
        let of = &mut moments.slabs[slab];
        self.gpu.write(m, of.0.part_mut(start..start + len)?)?;
        Ok(self.gpu.write(v, of.1.part_mut(start..start + len)?)?)
    }

    fn adamw(
        &mut self,
        gradients: &DeviceGradients,
        moments: &mut DeviceMoments,
        step: &AdamWStep,
        max_norm: f32,
    ) -> Result<f64, PolicyError> {
        Ok(Model::adamw(self, gradients, moments, step, max_norm)?)
    }

    fn read_weight(&self, parameter: usize) -> Result<Vec<f32>, PolicyError> {
        self.read_part(&self.master, parameter)
    }

    fn write_weights(&mut self, weights: &[Vec<f32>]) -> Result<(), PolicyError> {
        Ok(self.set_weights(weights)?)
    }
}
