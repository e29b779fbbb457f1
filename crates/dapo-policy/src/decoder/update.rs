//! The update of a decoder's parameters, and what it goes by.

use super::Decoder;
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::moments::Moments;
use candle_core::Tensor;
use dapo_kernels::adamw::AdamWStep;

impl Decoder {
    /// The gradient of one parameter, wherever it is; `None` before any was added.
    ///
    /// # Errors
    /// When the gradients belong to a decoder elsewhere, or the device fails.
    pub fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError> {
        self.backend.gradient(gradients, index)
    }

    /// Replaces the gradient of one parameter by `values`, in the order of the tensor.
    ///
    /// # Errors
    /// When a length differs, the gradients belong to a decoder elsewhere, or the device fails.
    pub fn set_gradient(&self, gradients: &mut Gradients, index: usize, values: &[f32]) -> Result<(), PolicyError> {
        self.check_gradients(gradients)?;
        self.backend.set_gradient(gradients, index, values)
    }

    /// √Σ w² over the trainable tensors, NaN or infinite where one of them is.
    ///
    /// # Errors
    /// When the device fails.
    pub fn weights_norm(&self) -> Result<f64, PolicyError> {
        self.backend.weights_norm()
    }

    /// Clips the gradients by their global norm, updates every parameter that has one in place, and returns the norm before
    /// clipping. Where that is not finite, nothing has changed.
    ///
    /// The factor is `max_norm / (norm + 1e-6)` where that is below 1, as torch's `clip_grad_norm_`; `step.grad_scale`
    /// is not used.
    ///
    /// # Errors
    /// When gradients or moments belong to a decoder elsewhere, or the device fails.
    pub fn adamw(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        step: &AdamWStep,
        max_norm: f64,
    ) -> Result<f64, PolicyError> {
        self.backend.adamw(gradients, moments, step, max_norm, 0.0)
    }
}

impl Moments {
    /// Zeros for every parameter of a decoder.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn zeros(policy: &Decoder) -> Result<Self, PolicyError> {
        policy.backend.moments()
    }

    /// The moments of one parameter.
    ///
    /// # Errors
    /// When the device fails, or they belong to a decoder elsewhere.
    pub fn read(&self, policy: &Decoder, index: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        policy.backend.read_moments(self, index)
    }

    /// Takes the moments of one parameter.
    ///
    /// # Errors
    /// As [`Moments::read`], and when a length differs.
    pub fn write(&mut self, policy: &Decoder, index: usize, m: &[f32], v: &[f32]) -> Result<(), PolicyError> {
        policy.backend.write_moments(self, index, m, v)
    }
}
