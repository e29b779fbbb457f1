//! The decoder on a GPU: f32 master weights, gradients and moments of what is trained, activations and products in bf16.
//! What is not trained is there in bf16 alone.
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
mod low_rank;
mod model;
mod optimizer;
mod score;
mod slabs;
mod workspace;

pub(crate) use gradients::{DeviceGradients, DeviceMoments};

use crate::batch::Inputs;
use crate::decoder::{Adapters, Trained};
use crate::engine::{Engine, ParameterId};
use crate::{
    Completion, GenerationConfig, LayerMemory, LoraConfig, Loss, ModelConfig, PolicyError, Request, Segments,
    TokenLogprobs,
};
use compute::Compute;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::cuda::Gpu;
use dapo_kernels::cuda::attention::HEAD_WIDTHS;
use half::bf16;
use model::Model;
use slabs::Place;
use std::sync::Arc;

/// A model on this device, its weights still 0: in bf16, or in f32 for comparisons.
pub(crate) fn engine(
    gpu: Arc<Gpu>,
    config: ModelConfig,
    lora: Option<&LoraConfig>,
    trained: Trained,
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
        return Ok(Box::new(Model::<bf16>::new(gpu, config, lora, trained)?));
    }
    Ok(Box::new(Model::<f32>::new(gpu, config, lora, trained)?))
}

impl<T: Compute> Model<T> {
    /// Where a parameter lies, and the number of its slab among those that are trained.
    fn trained_place(&self, parameter: ParameterId) -> Result<(Place, usize), PolicyError> {
        let place = self.slabs.place(parameter);
        if !self.slabs.trains(place.slab) {
            return Err(PolicyError::Internal(format!("{parameter:?} is asked for, which is not trained")));
        }
        Ok((place, place.slab - self.slabs.trained.start))
    }
}

impl<T: Compute> Engine for Model<T> {
    fn another(&self, lora: Option<&LoraConfig>, trained: Trained) -> Result<Box<dyn Engine>, PolicyError> {
        let (gpu, config) = (Arc::clone(&self.gpu), self.config.clone());
        Ok(Box::new(Model::<T>::new(gpu, config, lora, trained)?))
    }

    fn score(&self, inputs: &Inputs, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError> {
        Model::score(self, inputs, temperature, adapters)
    }

    fn score_backward(
        &self,
        inputs: &Inputs,
        temperature: f32,
        memory: LayerMemory,
        gradients: &mut DeviceGradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        gradients.check(&self.slabs)?;
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

    fn read_gradient(
        &self,
        gradients: &DeviceGradients,
        parameter: ParameterId,
    ) -> Result<Option<Vec<f32>>, PolicyError> {
        gradients.check(&self.slabs)?;
        let (Place { slab, start, len }, _) = self.trained_place(parameter)?;
        let Some(slab) = gradients.get(slab) else { return Ok(None) };
        Ok(Some(self.gpu.read(slab.part(start..start + len)?)?))
    }

    fn read_moments(
        &self,
        moments: &DeviceMoments,
        parameter: ParameterId,
    ) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        moments.check(&self.slabs)?;
        let (Place { start, len, .. }, index) = self.trained_place(parameter)?;
        let (m, v) = &moments.slabs[index];
        Ok((self.gpu.read(m.part(start..start + len)?)?, self.gpu.read(v.part(start..start + len)?)?))
    }

    fn write_moments(
        &self,
        moments: &mut DeviceMoments,
        parameter: ParameterId,
        m: &[f32],
        v: &[f32],
    ) -> Result<(), PolicyError> {
        moments.check(&self.slabs)?;
        let (Place { start, len, .. }, index) = self.trained_place(parameter)?;
        let of = &mut moments.slabs[index];
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
        gradients.check(&self.slabs)?;
        moments.check(&self.slabs)?;
        Ok(Model::adamw(self, gradients, moments, step, max_norm)?)
    }

    fn read_weight(&self, parameter: ParameterId) -> Result<Vec<f32>, PolicyError> {
        let (Place { start, len, .. }, index) = self.trained_place(parameter)?;
        Ok(self.gpu.read(self.master[index].part(start..start + len)?)?)
    }

    fn write_weight(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError> {
        Ok(self.set_weight(self.slabs.place(parameter), values)?)
    }
}
