//! What the decoder asks of its model on a device.

use crate::batch::Inputs;
use crate::{Completion, GenerationConfig, LayerMemory, Loss, PolicyError, Request, Segments, TokenLogprobs};
use dapo_kernels::adamw::AdamWStep;
use std::fmt;

#[cfg(any(feature = "cuda", feature = "emulate"))]
pub(crate) use crate::cuda::{DeviceGradients, DeviceMoments};

/// There are no gradients on a device in this build.
#[cfg(not(any(feature = "cuda", feature = "emulate")))]
#[derive(Debug)]
pub(crate) enum DeviceGradients {}

#[cfg(not(any(feature = "cuda", feature = "emulate")))]
impl DeviceGradients {
    pub(crate) fn clear(&mut self) {
        match *self {}
    }
}

/// There are no moments on a device in this build.
#[cfg(not(any(feature = "cuda", feature = "emulate")))]
#[derive(Debug)]
pub(crate) enum DeviceMoments {}

/// A model on a device, whatever it computes in. Parameters go by their numbers.
pub(crate) trait Engine: fmt::Debug + Send + Sync {
    /// Another model on the same device, with these weights.
    fn another(&self, weights: &[Vec<f32>]) -> Result<Box<dyn Engine>, PolicyError>;

    fn score(&self, inputs: &Inputs, temperature: f32) -> Result<TokenLogprobs, PolicyError>;

    fn score_backward(
        &self,
        inputs: &Inputs,
        temperature: f32,
        memory: LayerMemory,
        gradients: &mut DeviceGradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError>;

    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError>;

    /// `[T, V]`.
    fn logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError>;

    fn new_gradients(&self) -> Result<DeviceGradients, PolicyError>;

    fn new_moments(&self) -> Result<DeviceMoments, PolicyError>;

    fn read_gradient(&self, gradients: &DeviceGradients, parameter: usize) -> Result<Option<Vec<f32>>, PolicyError>;

    fn read_moments(&self, moments: &DeviceMoments, parameter: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError>;

    fn write_moments(
        &self,
        moments: &mut DeviceMoments,
        parameter: usize,
        m: &[f32],
        v: &[f32],
    ) -> Result<(), PolicyError>;

    /// Clips the gradients and updates what has one; returns the norm before clipping. Nothing changes where that is not finite.
    fn adamw(
        &mut self,
        gradients: &DeviceGradients,
        moments: &mut DeviceMoments,
        step: &AdamWStep,
        max_norm: f32,
    ) -> Result<f64, PolicyError>;

    fn read_weight(&self, parameter: usize) -> Result<Vec<f32>, PolicyError>;

    /// Takes the weights of all parameters.
    fn write_weights(&mut self, weights: &[Vec<f32>]) -> Result<(), PolicyError>;
}
