//! What the decoder asks of a model, answered by a GPU.

use super::compute::Compute;
use super::generator::CudaGenerator;
use super::gradients::{CudaGradients, CudaMoments};
use super::model::Model;
use super::slabs::Place;
use crate::backend::{
    Adapters, Backend, Generation, LayerMemory, ModelSpec, Outputs, ParameterId, ParameterSet, Trained, WeightFormat,
};
use crate::batch::{Inputs, TokenLogprobs};
use crate::check::check_tensor;
use crate::device::Device;
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::lora::LoraConfig;
use crate::moments::Moments;
use crate::request::{GenerationConfig, Request};
use crate::value_head::ValueHead;
use candle_core::Tensor;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::attention::Segments;
use dapo_kernels::cuda::Gpu;
use dapo_kernels::cuda::attention::HEAD_WIDTHS;
use dapo_kernels::{values, with_slice_mut};
use half::bf16;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model with these weights, by name, on a GPU, whose name here is `device`: in bf16, or emulated in f32 for comparisons.
pub(crate) fn open(
    gpu: Arc<Gpu>,
    device: Device,
    spec: ModelSpec,
    tensors: BTreeMap<String, Tensor>,
) -> Result<Box<dyn Backend>, PolicyError> {
    if !HEAD_WIDTHS.contains(&spec.config.head_dim) {
        return Err(PolicyError::Setting {
            field: "head_dim".into(),
            found: spec.config.head_dim.to_string(),
            expected: "32, 64 or 128 on a GPU".into(),
        });
    }
    match device {
        #[cfg(feature = "emulate")]
        Device::Emulated { bf16: false } => Ok(Box::new(CudaBackend::<f32>::new(gpu, device, spec, tensors)?)),
        _ => Ok(Box::new(CudaBackend::<bf16>::new(gpu, device, spec, tensors)?)),
    }
}

/// A model on a GPU that computes in T, and what of it stays on the host.
#[derive(Debug)]
struct CudaBackend<T> {
    device: Device,
    spec: ModelSpec,
    model: Model<T>,
    /// Shapes of what is trained.
    shapes: Vec<Vec<usize>>,
    /// The model's own tensors where they are not trained: the GPU has rounded copies of them.
    frozen: Vec<Tensor>,
}

impl<T: Compute> CudaBackend<T> {
    fn new(
        gpu: Arc<Gpu>,
        device: Device,
        spec: ModelSpec,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self, PolicyError> {
        let (mut tensors, mut frozen) = (tensors, Vec::new());
        let mut model = Model::new(gpu, spec.config.clone(), spec.lora.as_ref(), spec.trained)?;
        for set in [ParameterSet::Own, ParameterSet::Adapters] {
            for (index, (name, shape)) in spec.shapes(set)?.into_iter().enumerate() {
                let tensor = tensors.remove(&name);
                check_tensor(&name, &shape, tensor.as_ref())?;
                let Some(tensor) = tensor else { continue };
                model.set_weight(model.slabs.place(ParameterId { set, index }), &values(&tensor)?)?;
                match (set, spec.trained) {
                    // A reference's values may change later: they are its own.
                    (ParameterSet::Own, Trained::Nothing) => frozen.push(tensor.copy()?.detach()),
                    (ParameterSet::Own, Trained::Adapters) => frozen.push(tensor.detach()),
                    _ => {}
                }
            }
        }
        let trained = spec.trained.set().map_or(Ok(Vec::new()), |set| spec.shapes(set))?;
        let shapes = trained.into_iter().map(|(_, shape)| shape).collect();
        Ok(Self { device, spec, model, shapes, frozen })
    }

    /// Where a tensor that is trained lies, and the number of its slab among those that are.
    fn trained_place(&self, index: usize) -> Result<(Place, usize), PolicyError> {
        let set = self.spec.trained.set().ok_or_else(|| PolicyError::Internal("nothing is trained".into()))?;
        let place = self.model.slabs.place(ParameterId { set, index });
        Ok((place, place.slab - self.model.slabs.trained.start))
    }
}

impl<T: Compute> Backend for CudaBackend<T> {
    fn device(&self) -> Device {
        self.device
    }

    fn exact_rollout(&self) -> bool {
        false
    }

    fn adapt(&mut self, lora: &LoraConfig, factors: BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        let mut tensors = factors;
        for (index, (name, _)) in self.spec.shapes(ParameterSet::Own)?.into_iter().enumerate() {
            tensors.insert(name, self.read(ParameterId { set: ParameterSet::Own, index })?);
        }
        let config = self.spec.config.clone();
        let ModelSpec { weights, compute, .. } = self.spec;
        let spec = ModelSpec { config, lora: Some(lora.clone()), trained: Trained::Adapters, weights, compute };
        *self = Self::new(Arc::clone(&self.model.gpu), self.device, spec, tensors)?;
        Ok(())
    }

    fn set_formats(&mut self, weights: WeightFormat, compute: crate::backend::Compute) -> Result<(), PolicyError> {
        (self.spec.weights, self.spec.compute) = (weights, compute);
        Ok(())
    }

    fn frozen(&self, tensors: BTreeMap<String, Tensor>) -> Result<Box<dyn Backend>, PolicyError> {
        let config = self.spec.config.clone();
        let ModelSpec { weights, compute, .. } = self.spec;
        let spec = ModelSpec { config, lora: None, trained: Trained::Nothing, weights, compute };
        Ok(Box::new(Self::new(Arc::clone(&self.model.gpu), self.device, spec, tensors)?))
    }

    fn read(&self, parameter: ParameterId) -> Result<Tensor, PolicyError> {
        if self.spec.trained.set() != Some(parameter.set) {
            return Ok(self.frozen[parameter.index].clone());
        }
        let (Place { start, len, .. }, slab) = self.trained_place(parameter.index)?;
        let values = self.model.gpu.read(self.model.master[slab].part(start..start + len)?)?;
        Ok(Tensor::from_vec(values, self.shapes[parameter.index].as_slice(), &candle_core::Device::Cpu)?)
    }

    fn write(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError> {
        self.model.set_weight(self.model.slabs.place(parameter), values)?;
        if self.spec.trained.set() != Some(parameter.set) {
            with_slice_mut(&self.frozen[parameter.index], |own| {
                own.copy_from_slice(values);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn score(&self, inputs: &Inputs, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError> {
        self.model.score(inputs, temperature, adapters)
    }

    fn values(&self, inputs: &Inputs, head: &ValueHead) -> Result<Vec<f32>, PolicyError> {
        self.model.values(inputs, head)
    }

    fn backward(
        &self,
        inputs: &Inputs,
        memory: LayerMemory,
        gradients: &mut Gradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError> {
        let slabs = &self.model.slabs;
        let gradients = gradients.memory_mut(|| Ok(CudaGradients::new(&self.model.gpu, slabs)?))?;
        gradients.check(slabs)?;
        self.model.backward(inputs, memory, gradients, outputs)
    }

    fn generate(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        work: &mut Generation<'_>,
    ) -> Result<(), PolicyError> {
        let mut generator = CudaGenerator::new(&self.model, requests, config)?;
        work(&mut generator)?;
        generator.finish();
        Ok(())
    }

    fn logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError> {
        self.model.all_logits(token_ids, segments)
    }

    fn hidden_states(&self, _token_ids: &[u32], _segments: &Segments) -> Result<Vec<Vec<f32>>, PolicyError> {
        Err(PolicyError::Setting {
            field: "device".into(),
            found: "a GPU".into(),
            expected: "cpu, to look at hidden states".into(),
        })
    }

    fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError> {
        let Some(gradients) = gradients.memory::<CudaGradients>()? else { return Ok(None) };
        gradients.check(&self.model.slabs)?;
        let (Place { slab, start, len }, _) = self.trained_place(index)?;
        let Some(slab) = gradients.slab(slab) else { return Ok(None) };
        let values = self.model.gpu.read(slab.part(start..start + len)?)?;
        Ok(Some(Tensor::from_vec(values, self.shapes[index].as_slice(), &candle_core::Device::Cpu)?))
    }

    fn set_gradient(&self, gradients: &mut Gradients, index: usize, values: &[f32]) -> Result<(), PolicyError> {
        let gpu = &self.model.gpu;
        let gradients = gradients.memory_mut(|| Ok(CudaGradients::new(gpu, &self.model.slabs)?))?;
        gradients.check(&self.model.slabs)?;
        let (Place { slab, start, len }, _) = self.trained_place(index)?;
        Ok(gradients.set(gpu, slab, start..start + len, values)?)
    }

    fn moments(&self) -> Result<Moments, PolicyError> {
        Ok(Moments::new(CudaMoments::new(&self.model.gpu, &self.model.slabs)?))
    }

    fn read_moments(&self, moments: &Moments, index: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        let (moments, gpu) = (moments.memory::<CudaMoments>()?, &self.model.gpu);
        moments.check(&self.model.slabs)?;
        let (Place { start, len, .. }, slab) = self.trained_place(index)?;
        let (m, v) = &moments.slabs[slab];
        Ok((gpu.read(m.part(start..start + len)?)?, gpu.read(v.part(start..start + len)?)?))
    }

    fn write_moments(&self, moments: &mut Moments, index: usize, m: &[f32], v: &[f32]) -> Result<(), PolicyError> {
        let (moments, gpu) = (moments.memory_mut::<CudaMoments>()?, &self.model.gpu);
        moments.check(&self.model.slabs)?;
        let (Place { start, len, .. }, slab) = self.trained_place(index)?;
        let of = &mut moments.slabs[slab];
        gpu.write(m, of.0.part_mut(start..start + len)?)?;
        Ok(gpu.write(v, of.1.part_mut(start..start + len)?)?)
    }

    fn weights_norm(&self) -> Result<f64, PolicyError> {
        Ok(self.model.weights_norm()?)
    }

    fn adamw(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        step: &AdamWStep,
        max_norm: f64,
        beside: f64,
    ) -> Result<f64, PolicyError> {
        let Some(gradients) = gradients.memory::<CudaGradients>()? else { return Ok(0.0) };
        let moments = moments.memory_mut::<CudaMoments>()?;
        gradients.check(&self.model.slabs)?;
        moments.check(&self.model.slabs)?;
        Ok(self.model.adamw(gradients, moments, step, max_norm as f32, beside)?)
    }
}
