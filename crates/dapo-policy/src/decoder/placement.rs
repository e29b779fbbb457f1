//! The decoder on a device: its weights go there and, for a checkpoint, come back.

use super::{Decoder, Trained};
use crate::engine::{Engine, ParameterId};
use crate::{Device, Gradients, LoraConfig, ModelConfig, PolicyError};
use candle_core::Tensor;
use dapo_kernels::with_slice_mut;

/// The model on a device that is not the cpu, its weights still 0.
fn open(
    config: &ModelConfig,
    lora: Option<&LoraConfig>,
    trained: Trained,
    device: Device,
) -> Result<Box<dyn Engine>, PolicyError> {
    match device {
        Device::Cpu => Err(PolicyError::Internal("the cpu needs no engine".into())),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => {
            if ordinal >= crate::cuda_device_count() {
                let found = crate::cuda_devices()?;
                let found = if found.is_empty() { "none".to_owned() } else { found.join("; ") };
                return Err(PolicyError::Setting {
                    field: "device".into(),
                    found: device.to_string(),
                    expected: format!("one of this machine's GPUs, counted from 0: {found}"),
                });
            }
            let gpu = dapo_kernels::cuda::Gpu::open(ordinal)?;
            crate::cuda::engine(gpu.into(), config.clone(), lora, trained, true)
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) => {
            let _ = (config, lora, trained);
            Err(crate::device::not_built(&device.to_string()))
        }
        #[cfg(feature = "emulate")]
        Device::Emulated { bf16 } => {
            let gpu = dapo_kernels::cuda::Gpu::emulated();
            crate::cuda::engine(gpu.into(), config.clone(), lora, trained, bf16)
        }
    }
}

impl Decoder {
    /// Moves the decoder to a device, where it then generates, scores and learns. Its gradients and moments are made anew.
    ///
    /// # Errors
    /// When this build has no code for the device, there is none, it lacks memory, or the decoder's heads have a width other
    /// than 32, 64 or 128.
    pub fn to_device(&mut self, device: Device) -> Result<(), PolicyError> {
        self.refresh_host()?;
        if device == Device::Cpu {
            self.engine = None;
            return Ok(());
        }
        let engine = open(&self.config, self.lora.as_ref(), self.trained, device)?;
        self.enter(engine)
    }

    /// Goes on in an engine, with the host's weights.
    pub(super) fn enter(&mut self, engine: Box<dyn Engine>) -> Result<(), PolicyError> {
        let mut engine = engine;
        for (id, parameter) in self.all_parameters() {
            engine.write_weight(id, &parameter.values()?)?;
        }
        self.engine = Some(engine);
        self.clear_packed();
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

    /// A parameter that is trained, by its place among [`parameters`](Decoder::parameters).
    pub(crate) fn trained_id(&self, index: usize) -> ParameterId {
        if self.trained == Trained::Adapters { ParameterId::Adapter(index) } else { ParameterId::Own(index) }
    }

    /// Brings what training changed on the device to the host's tensors.
    pub(super) fn refresh_host(&self) -> Result<(), PolicyError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        for (index, (_, var)) in self.parameters().into_iter().enumerate() {
            let values = engine.read_weight(self.trained_id(index))?;
            with_slice_mut(var, |own| {
                own.copy_from_slice(&values);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Takes the host's tensors, those that may have changed there, to the device.
    pub(super) fn refresh_device(&mut self) -> Result<(), PolicyError> {
        let Some(mut engine) = self.engine.take() else { return Ok(()) };
        let adapters_alone = self.trained == Trained::Adapters;
        let changed = |id: &ParameterId| !adapters_alone || matches!(id, ParameterId::Adapter(_));
        let outcome = self
            .all_parameters()
            .into_iter()
            .filter(|(id, _)| changed(id))
            .try_for_each(|(id, parameter)| engine.write_weight(id, &parameter.values()?));
        self.engine = Some(engine);
        outcome
    }

    /// Puts this decoder, a reference, where another one is.
    pub(super) fn join(&mut self, other: &Self) -> Result<(), PolicyError> {
        match &other.engine {
            Some(engine) => self.enter(engine.another(self.lora.as_ref(), self.trained)?),
            None => Ok(()),
        }
    }

    /// The gradient of one parameter, wherever it is; `None` before any was added.
    ///
    /// # Errors
    /// When the device fails.
    pub fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError> {
        let (Some(engine), Some(on_device)) = (&self.engine, gradients.on_device()) else {
            return Ok(gradients.get(index).cloned());
        };
        let Some(values) = engine.read_gradient(on_device, self.trained_id(index))? else { return Ok(None) };
        let (_, var) = self.parameters()[index];
        Ok(Some(Tensor::from_vec(values, var.shape(), var.device())?))
    }
}
