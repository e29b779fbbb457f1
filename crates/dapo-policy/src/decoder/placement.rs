//! The decoder on a device: its weights go there and, for a checkpoint, come back.

use super::{Decoder, Trained};
use crate::engine::Engine;
use crate::{Device, Gradients, ModelConfig, PolicyError};
use candle_core::Tensor;
use dapo_kernels::{values, with_slice_mut};

/// The model on a device that is not the cpu.
fn open(config: &ModelConfig, device: Device, weights: &[Vec<f32>]) -> Result<Box<dyn Engine>, PolicyError> {
    match device {
        Device::Cpu => Err(PolicyError::Internal("the cpu needs no engine".into())),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => {
            let found = crate::cuda_devices()?;
            if ordinal >= found.len() {
                let found = if found.is_empty() { "none".to_owned() } else { found.join("; ") };
                return Err(PolicyError::Setting {
                    field: "device".into(),
                    found: device.to_string(),
                    expected: format!("one of this machine's GPUs, counted from 0: {found}"),
                });
            }
            let gpu = dapo_kernels::cuda::Gpu::open(ordinal)?;
            crate::cuda::engine(gpu.into(), config.clone(), weights, true)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => {
            let _ = (config, weights);
            Err(crate::device::not_built(&device.to_string()))
        }
        #[cfg(feature = "emulate")]
        Device::Emulated { bf16 } => {
            let gpu = dapo_kernels::cuda::Gpu::emulated();
            crate::cuda::engine(gpu.into(), config.clone(), weights, bf16)
        }
    }
}

impl Decoder {
    /// Moves the decoder to a device, where it then generates, scores and learns. Its gradients and moments are made anew.
    ///
    /// # Errors
    /// When this build has no code for the device, there is none, it lacks memory, or the decoder is not one that runs there: with
    /// adapters, or with heads of a width other than 32, 64 or 128.
    pub fn to_device(&mut self, device: Device) -> Result<(), PolicyError> {
        let weights = self.weights()?;
        if device == Device::Cpu {
            if self.engine.take().is_some() {
                self.set_host_weights(&weights)?;
            }
            return Ok(());
        }
        if self.lora.is_some() {
            return Err(PolicyError::Setting {
                field: "lora".into(),
                found: format!("adapters on {device}"),
                expected: "none: adapters are trained on the cpu only".into(),
            });
        }
        self.engine = Some(open(&self.config, device, &weights)?);
        Ok(())
    }

    /// Whether the decoder is on a device.
    pub fn is_on_device(&self) -> bool {
        self.engine.is_some()
    }

    pub(crate) fn engine(&self) -> Option<&dyn Engine> {
        self.engine.as_deref()
    }

    pub(crate) fn engine_mut(&mut self) -> Option<&mut dyn Engine> {
        // A plain `as_deref_mut` would ask for a box that lives as long as 'static.
        match &mut self.engine {
            Some(engine) => Some(engine.as_mut()),
            None => None,
        }
    }

    /// The model's own tensors as they are now, in the order of the configuration.
    fn weights(&self) -> Result<Vec<Vec<f32>>, PolicyError> {
        let own = self.own().into_iter();
        match &self.engine {
            Some(engine) => own.map(|(parameter, _)| engine.read_weight(parameter.index)).collect(),
            None => own.map(|(parameter, _)| Ok(values(&parameter.var)?.to_vec())).collect(),
        }
    }

    fn set_host_weights(&mut self, weights: &[Vec<f32>]) -> Result<(), PolicyError> {
        for ((parameter, _), values) in self.own().into_iter().zip(weights) {
            with_slice_mut(&parameter.var, |own| {
                own.copy_from_slice(values);
                Ok(())
            })?;
        }
        self.repack_own()
    }

    /// Brings the weights that training changed on the device to the host's tensors.
    pub(super) fn refresh_host(&self) -> Result<(), PolicyError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        for (parameter, _) in self.own() {
            let values = engine.read_weight(parameter.index)?;
            with_slice_mut(&parameter.var, |own| {
                own.copy_from_slice(&values);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes the host's tensors to the device.
    pub(super) fn refresh_device(&mut self) -> Result<(), PolicyError> {
        if self.engine.is_none() {
            return Ok(());
        }
        let own = self.own().into_iter();
        let weights = own.map(|(p, _)| Ok(values(&p.var)?.to_vec())).collect::<Result<Vec<_>, PolicyError>>()?;
        match &mut self.engine {
            Some(engine) => engine.write_weights(&weights),
            None => Ok(()),
        }
    }

    /// Puts this decoder where another one is.
    pub(super) fn join(&mut self, other: &Self) -> Result<(), PolicyError> {
        if let Some(engine) = &other.engine {
            self.engine = Some(engine.another(&self.weights()?)?);
        }
        Ok(())
    }

    /// The gradient of one parameter, wherever it is; `None` before any was added.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError> {
        let (Some(engine), Some(on_device)) = (&self.engine, gradients.on_device()) else {
            return Ok(gradients.get(index).cloned());
        };
        debug_assert_eq!(self.trained, Trained::Base, "adapters are trained on the host");
        let Some(values) = engine.read_gradient(on_device, index)? else { return Ok(None) };
        let (_, var) = self.parameters()[index];
        Ok(Some(Tensor::from_vec(values, var.shape(), var.device())?))
    }
}
