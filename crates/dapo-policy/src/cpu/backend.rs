//! What the decoder asks of a model, answered by the CPU.

use super::generator::CpuGenerator;
use super::gradients::{CpuGradients, CpuMoments};
use super::model::Model;
use crate::backend::{
    Adapters, Backend, Compute, Generation, LayerMemory, ModelSpec, Outputs, ParameterId, Trained, WeightFormat,
};
use crate::batch::{Inputs, TokenLogprobs};
use crate::device::Device;
use crate::error::PolicyError;
use crate::gradients::{GradientMemory, Gradients};
use crate::lora::LoraConfig;
use crate::moments::Moments;
use crate::request::{GenerationConfig, Request};
use crate::value_head::ValueHead;
use candle_core::Tensor;
use dapo_kernels::adamw::AdamWStep;
use dapo_kernels::attention::Segments;
use dapo_kernels::{threads, values};
use std::collections::BTreeMap;

impl Backend for Model {
    fn device(&self) -> Device {
        Device::Cpu
    }

    fn exact_rollout(&self) -> bool {
        true
    }

    fn adapt(&mut self, lora: &LoraConfig, factors: BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        self.put_on(lora, factors)?;
        self.spec.lora = Some(lora.clone());
        self.spec.trained = Trained::Adapters;
        self.apply_formats()
    }

    fn set_formats(&mut self, weights: WeightFormat, compute: Compute) -> Result<(), PolicyError> {
        (self.spec.weights, self.spec.compute) = (weights, compute);
        self.apply_formats()
    }

    fn frozen(&self, tensors: BTreeMap<String, Tensor>) -> Result<Box<dyn Backend>, PolicyError> {
        let spec = ModelSpec { lora: None, trained: Trained::Nothing, ..self.spec.clone() };
        Ok(Box::new(Self::new(spec, tensors)?))
    }

    fn read(&self, parameter: ParameterId) -> Result<Tensor, PolicyError> {
        let found = self.parameters(parameter.set).into_iter().find(|p| p.index == parameter.index);
        found.ok_or_else(|| unknown(parameter))?.read()
    }

    fn write(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError> {
        let found = self.parameters_mut(parameter.set).into_iter().find(|p| p.index == parameter.index);
        found.ok_or_else(|| unknown(parameter))?.set(values)
    }

    fn write_rounded(&mut self, parameter: ParameterId, values: &[f32]) -> Result<(), PolicyError> {
        let found = self.parameters_mut(parameter.set).into_iter().find(|p| p.index == parameter.index);
        found.ok_or_else(|| unknown(parameter))?.set_rounded(values)
    }

    fn score(&self, inputs: &Inputs, temperature: f32, adapters: Adapters) -> Result<TokenLogprobs, PolicyError> {
        threads::enter(|| Model::score(self, inputs, temperature, adapters))
    }

    fn values(&self, inputs: &Inputs, head: &ValueHead) -> Result<Vec<f32>, PolicyError> {
        threads::enter(|| Model::values(self, inputs, head))
    }

    fn backward(
        &self,
        inputs: &Inputs,
        memory: LayerMemory,
        gradients: &mut Gradients,
        outputs: Outputs<'_>,
    ) -> Result<(), PolicyError> {
        let gradients = gradients.memory_mut(|| Ok(CpuGradients::new(self.trained_len())))?;
        threads::enter(|| Model::backward(self, inputs, memory, gradients, outputs))
    }

    fn generate(
        &self,
        requests: &[Request],
        config: &GenerationConfig,
        work: &mut Generation<'_>,
    ) -> Result<(), PolicyError> {
        self.store.release();
        let mut generator = CpuGenerator::new(self, requests, config)?;
        threads::enter(|| work(&mut generator))
    }

    fn release_activations(&self, is_wanted: &dyn Fn(u64, usize) -> bool) {
        self.kept.retain(is_wanted);
    }

    fn kept_tokens(&self) -> usize {
        self.kept.tokens()
    }

    fn logits(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<f32>, PolicyError> {
        self.all_logits(token_ids, segments)
    }

    fn hidden_states(&self, token_ids: &[u32], segments: &Segments) -> Result<Vec<Vec<f32>>, PolicyError> {
        self.all_hidden_states(token_ids, segments)
    }

    fn gradient(&self, gradients: &Gradients, index: usize) -> Result<Option<Tensor>, PolicyError> {
        Ok(gradients.memory::<CpuGradients>()?.and_then(|gradients| gradients.get(index)).cloned())
    }

    fn set_gradient(&self, gradients: &mut Gradients, index: usize, values: &[f32]) -> Result<(), PolicyError> {
        let mut parameters = self.spec.trained.set().map(|set| self.parameters(set)).into_iter().flatten();
        let shape = parameters.find(|parameter| parameter.index == index).map(|parameter| parameter.shape().clone());
        let Some(shape) = shape.filter(|shape| shape.elem_count() == values.len()) else {
            return Err(PolicyError::Setting {
                field: format!("gradient {index}"),
                found: format!("{} values", values.len()),
                expected: "as many as a trained tensor has".into(),
            });
        };
        let gradients = gradients.memory_mut(|| Ok(CpuGradients::new(self.trained_len())))?;
        gradients.write(index, &shape, |gradient, _| gradient.copy_from_slice(values))
    }

    fn moments(&self) -> Result<Moments, PolicyError> {
        let Some(set) = self.spec.trained.set() else { return Ok(Moments::new(CpuMoments(Vec::new()))) };
        let mut sizes: Vec<(usize, usize)> =
            self.parameters(set).into_iter().map(|p| (p.index, p.shape().elem_count())).collect();
        sizes.sort_unstable();
        Ok(Moments::new(CpuMoments(sizes.into_iter().map(|(_, n)| (vec![0.0; n], vec![0.0; n])).collect())))
    }

    fn read_moments(&self, moments: &Moments, index: usize) -> Result<(Vec<f32>, Vec<f32>), PolicyError> {
        Ok(moments.memory::<CpuMoments>()?.0[index].clone())
    }

    fn write_moments(&self, moments: &mut Moments, index: usize, m: &[f32], v: &[f32]) -> Result<(), PolicyError> {
        let of = &mut moments.memory_mut::<CpuMoments>()?.0[index];
        for (name, values, len) in [("m", m, of.0.len()), ("v", v, of.1.len())] {
            if values.len() != len {
                return Err(PolicyError::Setting {
                    field: name.into(),
                    found: format!("{} values", values.len()),
                    expected: len.to_string(),
                });
            }
        }
        *of = (m.to_vec(), v.to_vec());
        Ok(())
    }

    fn weights_norm(&self) -> Result<f64, PolicyError> {
        let Some(set) = self.spec.trained.set() else { return Ok(0.0) };
        threads::enter(|| {
            let mut sum = 0.0;
            for parameter in self.parameters(set) {
                sum += parameter.squared_norm()?;
            }
            Ok(sum.sqrt())
        })
    }

    fn adamw(
        &mut self,
        gradients: &Gradients,
        moments: &mut Moments,
        step: &AdamWStep,
        max_norm: f64,
        beside: f64,
    ) -> Result<f64, PolicyError> {
        let moments = &mut moments.memory_mut::<CpuMoments>()?.0;
        threads::enter(|| {
            let norm = (gradients.squared_norm()? + beside).sqrt();
            let (Some(gradients), Some(set)) = (gradients.memory::<CpuGradients>()?, self.spec.trained.set()) else {
                return Ok(norm);
            };
            if !norm.is_finite() {
                return Ok(norm);
            }
            let step = AdamWStep { grad_scale: (max_norm / (norm + 1e-6)).min(1.0) as f32, ..*step };
            for parameter in self.parameters_mut(set) {
                let Some(gradient) = gradients.get(parameter.index) else { continue };
                let (gradient, (m, v)) = (values(gradient)?, &mut moments[parameter.index]);
                parameter.adamw(&gradient, m, v, &step)?;
            }
            Ok(norm)
        })
    }
}

fn unknown(parameter: ParameterId) -> PolicyError {
    PolicyError::Internal(format!("{parameter:?} is asked for, which the model does not have"))
}
