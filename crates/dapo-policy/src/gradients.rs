//! Accumulated gradients of a policy's parameters.

use crate::PolicyError;
use candle_core::Tensor;
use dapo_kernels::adamw::{add_assign, squared_norm};
use dapo_kernels::{with_slice, with_slice_mut};

/// The gradient of every parameter, summed over the micro-batches of an optimiser step; in the order of
/// [`Decoder::parameters`](crate::Decoder::parameters).
#[derive(Debug, Default)]
pub struct Gradients {
    tensors: Vec<Option<Tensor>>,
}

impl Gradients {
    /// No gradients yet, for `parameters` parameters.
    pub fn new(parameters: usize) -> Self {
        Self { tensors: vec![None; parameters] }
    }

    pub(crate) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Adds to one parameter's gradient. The tensor may be kept and changed: it must not share its storage.
    pub(crate) fn add(&mut self, index: usize, gradient: Tensor) -> Result<(), PolicyError> {
        match &self.tensors[index] {
            None => self.tensors[index] = Some(gradient),
            Some(sum) => with_slice(&gradient, |g| {
                with_slice_mut(sum, |sum| {
                    add_assign(sum, g);
                    Ok(())
                })
            })?,
        }
        Ok(())
    }

    /// The gradient of a parameter that is written in place, zero at first.
    pub(crate) fn zeros_or_present(&mut self, index: usize, like: &Tensor) -> Result<Tensor, PolicyError> {
        if let Some(tensor) = &self.tensors[index] {
            return Ok(tensor.clone());
        }
        let zeros = Tensor::from_vec(vec![0.0f32; like.elem_count()], like.shape(), like.device())?;
        self.tensors[index] = Some(zeros.clone());
        Ok(zeros)
    }

    /// One parameter's gradient; `None` before any was added.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.tensors[index].as_ref()
    }

    /// √Σ g² over all parameters, in f64.
    ///
    /// # Errors
    /// When a gradient cannot be read.
    pub fn norm(&self) -> Result<f64, PolicyError> {
        let mut sum = 0.0;
        for tensor in self.tensors.iter().flatten() {
            sum += with_slice(tensor, |g| Ok(squared_norm(g)))?;
        }
        Ok(sum.sqrt())
    }
}
