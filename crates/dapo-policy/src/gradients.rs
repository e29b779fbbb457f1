//! Accumulated gradients of a policy's parameters.

use crate::error::{PolicyError, elsewhere};
use candle_core::Tensor;
use dapo_kernels::adamw::squared_norm;
use dapo_kernels::values;
use std::any::Any;
use std::fmt;

/// Gradients as a backend keeps them.
pub(crate) trait GradientMemory: Any + fmt::Debug + Send + Sync {
    /// No gradients again, in the memory that is there.
    fn clear(&mut self);

    /// No gradients again; on the CPU their memory is given up.
    fn release(&mut self);

    /// One parameter's gradient; `None` before any was added, and where gradients are not on the host.
    fn get(&self, index: usize) -> Option<&Tensor>;
}

/// The gradient of every parameter, summed over the micro-batches of an optimiser step; in the order of
/// [`Decoder::parameters`](crate::Decoder::parameters).
#[derive(Debug, Default)]
pub struct Gradients {
    parameters: usize,
    /// Made by the backend that adds the first one.
    memory: Option<Box<dyn GradientMemory>>,
}

impl Gradients {
    /// No gradients yet, for `parameters` parameters.
    pub fn new(parameters: usize) -> Self {
        Self { parameters, memory: None }
    }

    /// No gradients again, in the memory that is there.
    pub fn clear(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.clear();
        }
    }

    /// No gradients again; on the CPU their memory is given up.
    pub fn release(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.release();
        }
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.parameters
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.parameters == 0
    }

    /// A backend's gradients; `None` before any was added.
    pub(crate) fn memory<T: GradientMemory>(&self) -> Result<Option<&T>, PolicyError> {
        let Some(memory) = &self.memory else { return Ok(None) };
        let memory: &dyn Any = memory.as_ref();
        memory.downcast_ref().map(Some).ok_or_else(|| elsewhere("gradients"))
    }

    /// A backend's gradients, made on first use.
    pub(crate) fn memory_mut<T: GradientMemory>(
        &mut self,
        new: impl FnOnce() -> Result<T, PolicyError>,
    ) -> Result<&mut T, PolicyError> {
        let memory = match &mut self.memory {
            Some(memory) => memory,
            none => none.insert(Box::new(new()?)),
        };
        let memory: &mut dyn Any = memory.as_mut();
        memory.downcast_mut().ok_or_else(|| elsewhere("gradients"))
    }

    /// One parameter's gradient on the host; `None` before any was added, and for those of a decoder on a device, which
    /// [`Decoder::gradient`](crate::Decoder::gradient) reads.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.memory.as_ref()?.get(index)
    }

    /// √Σ g² over all parameters whose gradients are on the host, in f64.
    ///
    /// # Errors
    /// When a gradient cannot be read.
    pub fn norm(&self) -> Result<f64, PolicyError> {
        Ok(self.squared_norm()?.sqrt())
    }

    /// Σ g², likewise.
    pub(crate) fn squared_norm(&self) -> Result<f64, PolicyError> {
        let mut sum = 0.0;
        for tensor in (0..self.len()).filter_map(|index| self.get(index)) {
            sum += squared_norm(&values(tensor)?);
        }
        Ok(sum)
    }
}
