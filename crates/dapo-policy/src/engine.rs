//! What the decoder asks of its model on a device.

use crate::batch::Inputs;
use crate::decoder::{Adapters, Trained};
use crate::{
    Completion, GenerationConfig, LayerMemory, LoraConfig, Loss, PolicyError, Request, Segments, TokenLogprobs,
};
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

/// A parameter of a model on a device, by its number among its like.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(any(feature = "cuda", feature = "emulate")),
    expect(dead_code, reason = "only a model on a device looks at the numbers")
)]
pub(crate) enum ParameterId {
    /// In the configuration's order.
    Own(usize),
    /// In the order of the adapters.
    Adapter(usize),
}

/// A model on a device, whatever it computes in. Its weights are 0 until they are written.
pub(crate) trait Engine: fmt::Debug + Send + Sync {
    /// Another model of this shape on the same device.
    fn another(&self, lora: Option<&LoraConfig>, trained: Trained) -> Result<Box<dyn Engine>, PolicyError>;

    fn score(&self, inputs: &Inputs, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError>;

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

    /// Of a parameter that is trained; `None` before any was added.
    fn read_gradient(
        &self,
        gradients: &DeviceGradients,
        parameter: ParameterId,
    ) -> Result<Option<Vec<f32>>, PolicyError>;

    fn read_moments(
        &self,
        moments: &DeviceMoments,
        parameter: ParameterId,
    ) -> Result<(Vec<f32>, Vec<f32>), PolicyError>;

    fn write_moments(
        &self,
        moments: &mut DeviceMoments,
        parameter: ParameterId,
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

    /// Of a parameter that is trained.
    fn read_weight(&self, parameter: ParameterId) -> Result<Vec<f32>, PolicyError>;

    fn write_weight(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError>;
}
