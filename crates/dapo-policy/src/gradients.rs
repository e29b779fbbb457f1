//! Accumulated gradients of a policy's parameters.

use crate::PolicyError;
use crate::engine::{DeviceGradients, Engine};
use candle_core::Tensor;
use dapo_kernels::adamw::squared_norm;
use dapo_kernels::{values, with_slice_mut};

/// The gradient of every parameter, summed over the micro-batches of an optimiser step; in the order of
/// [`Decoder::parameters`](crate::Decoder::parameters).
#[derive(Debug, Default)]
pub struct Gradients {
    slots: Vec<Slot>,
    /// Of a decoder on a device, there.
    device: Option<DeviceGradients>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    tensor: Option<Tensor>,
    /// Whether the tensor holds anything of this step.
    written: bool,
}

impl Gradients {
    /// No gradients yet, for `parameters` parameters.
    pub fn new(parameters: usize) -> Self {
        Self { slots: vec![Slot::default(); parameters], device: None }
    }

    /// No gradients again, in the memory that is there.
    pub fn clear(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.written = false);
        if let Some(device) = &mut self.device {
            device.clear();
        }
    }

    /// No gradients again; memory beyond [`KEPT_BYTES`](crate::KEPT_BYTES) is given up.
    pub fn release_large(&mut self) {
        let elements: usize = self.slots.iter().filter_map(|slot| slot.tensor.as_ref()).map(Tensor::elem_count).sum();
        if 4 * elements > crate::KEPT_BYTES {
            self.slots.fill(Slot::default());
        }
        self.clear();
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Lets `f` write one parameter's gradient, `like` whose shape it has: adding to what is there if its second argument
    /// is true, overwriting otherwise.
    pub(crate) fn write(
        &mut self,
        index: usize,
        like: &Tensor,
        f: impl FnOnce(&mut [f32], bool),
    ) -> Result<(), PolicyError> {
        let slot = &mut self.slots[index];
        let tensor = match &mut slot.tensor {
            Some(tensor) => tensor,
            none => none.insert(Tensor::from_vec(vec![0.0f32; like.elem_count()], like.shape(), like.device())?),
        };
        let accumulate = std::mem::replace(&mut slot.written, true);
        with_slice_mut(tensor, |gradient| {
            f(gradient, accumulate);
            Ok(())
        })?;
        Ok(())
    }

    /// Lets `f` add to one parameter's gradient.
    pub(crate) fn add(&mut self, index: usize, like: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        self.write(index, like, |gradient, accumulate| {
            if !accumulate {
                gradient.fill(0.0);
            }
            f(gradient);
        })
    }

    /// The gradients on the engine's device, made where they are not there yet.
    pub(crate) fn on(&mut self, engine: &dyn Engine) -> Result<&mut DeviceGradients, PolicyError> {
        match &mut self.device {
            Some(device) => Ok(device),
            none => Ok(none.insert(engine.new_gradients()?)),
        }
    }

    pub(crate) fn on_device(&self) -> Option<&DeviceGradients> {
        self.device.as_ref()
    }

    /// One parameter's gradient on the host; `None` before any was added, and for those of a decoder on a device, which
    /// [`Decoder::gradient`](crate::Decoder::gradient) reads.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.slots[index].tensor.as_ref().filter(|_| self.slots[index].written)
    }

    /// √Σ g² over all parameters whose gradients are on the host, in f64.
    ///
    /// # Errors
    /// When a gradient cannot be read.
    pub fn norm(&self) -> Result<f64, PolicyError> {
        let mut sum = 0.0;
        for tensor in (0..self.len()).filter_map(|index| self.get(index)) {
            sum += squared_norm(&values(tensor)?);
        }
        Ok(sum.sqrt())
    }
}
