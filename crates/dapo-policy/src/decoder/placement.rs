//! Where the decoder computes.

use super::Decoder;
use crate::backend::{Backend, ModelSpec};
use crate::cpu;
use crate::device::Device;
use crate::error::PolicyError;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// A model with these weights, by name, on a device.
fn open(device: Device, spec: ModelSpec, tensors: BTreeMap<String, Tensor>) -> Result<Box<dyn Backend>, PolicyError> {
    match device {
        Device::Cpu => Ok(Box::new(cpu::Model::new(spec, tensors)?)),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => {
            if ordinal >= crate::device::cuda_device_count() {
                let found = crate::device::cuda_devices()?;
                let found = if found.is_empty() { "none".to_owned() } else { found.join("; ") };
                return Err(PolicyError::Setting {
                    field: "device".into(),
                    found: device.to_string(),
                    expected: format!("one of this machine's GPUs, counted from 0: {found}"),
                });
            }
            crate::cuda::open(dapo_kernels::cuda::Gpu::open(ordinal)?.into(), device, spec, tensors)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => Err(crate::device::not_built(&device.to_string())),
        #[cfg(feature = "emulate")]
        Device::Emulated { .. } => crate::cuda::open(dapo_kernels::cuda::Gpu::emulated().into(), device, spec, tensors),
    }
}

impl Decoder {
    /// Moves the decoder to a device, where it then generates, scores and learns. Its gradients and moments are made anew.
    ///
    /// # Errors
    /// When this build has no code for the device, the machine has no such device, it lacks memory, or the decoder's
    /// heads have a width other than 32, 64 or 128.
    pub fn to_device(&mut self, device: Device) -> Result<(), PolicyError> {
        if device != self.backend.device() {
            self.backend = open(device, self.spec.clone(), self.all_tensors()?)?;
        }
        Ok(())
    }

    /// A copy on the same device that shares nothing with this decoder and trains tensors of the same names: a critic's layers.
    ///
    /// # Errors
    /// When a tensor cannot be read, or the device lacks memory.
    pub fn trainable_copy(&self) -> Result<Self, PolicyError> {
        let backend = open(self.backend.device(), self.spec.clone(), self.all_tensors()?)?;
        let (own, factors, layer_memory) = (self.own.clone(), self.factors.clone(), self.layer_memory);
        Ok(Self { spec: self.spec.clone(), own, factors, layer_memory, backend })
    }

    /// Whether the decoder is on a device other than the CPU.
    pub fn is_on_device(&self) -> bool {
        self.backend.device() != Device::Cpu
    }
}
