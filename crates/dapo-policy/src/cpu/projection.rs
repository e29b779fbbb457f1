//! Linear layers of the decoder, each with a low-rank adapter where one was put on it.

use super::gradients::CpuGradients;
use super::parameter::{Parameter, Source};
use crate::backend::{Adapters, Trained};
use crate::error::PolicyError;
use crate::lora;
use dapo_kernels::buffer::sized;
use dapo_kernels::{LowRankFactors, linear};

/// A linear layer: weight, optional bias, and the adapter where there is one.
#[derive(Debug)]
pub(super) struct Projection {
    weight: Parameter,
    bias: Option<Parameter>,
    /// Outputs and inputs.
    shape: (usize, usize),
    adapter: Option<Adapter>,
}

/// The trained factors of a low-rank addition.
#[derive(Debug)]
struct Adapter {
    a: Parameter,
    b: Parameter,
    scale: f32,
}

impl Adapter {
    fn with_factors(&self, f: impl FnOnce(LowRankFactors<'_>)) -> Result<(), PolicyError> {
        let (a, b) = (self.a.values()?, self.b.values()?);
        let (packed_a, packed_b) = (self.a.packed()?, self.b.packed()?);
        f(LowRankFactors { a: &a, packed_a, b: &b, packed_b, scale: self.scale });
        Ok(())
    }
}

impl Projection {
    pub(super) fn new(source: &mut Source, module: &str, bias: bool) -> Result<Self, PolicyError> {
        let weight = source.take_packed(&format!("{module}.weight"))?;
        let bias = if bias { Some(source.take(&format!("{module}.bias"))?) } else { None };
        let shape = weight.shape().dims2()?;
        Ok(Self { weight, bias, shape, adapter: None })
    }

    /// y ← x · Wᵀ + b, and the adapter's addition. x `[T, in]`, y `[T, out]`.
    pub(super) fn forward(&self, x: &[f32], adapters: Adapters, y: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (out, width) = self.shape;
        let y = sized(y, x.len() / width * out);
        let bias = self.bias.as_ref().map(Parameter::values).transpose()?;
        linear::forward(x, self.weight.packed()?, bias.as_deref(), y);
        match &self.adapter {
            Some(adapter) if adapters == Adapters::On => adapter.with_factors(|factors| factors.add_forward(x, y)),
            _ => Ok(()),
        }
    }

    /// dx ← dy · W and the adapter's part; added to what dx holds where `accumulate` says so.
    pub(super) fn backward_input(&self, dy: &[f32], accumulate: bool, dx: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (out, width) = self.shape;
        let dx = sized(dx, dy.len() / out * width);
        linear::backward_input_packed(dy, self.weight.packed()?, dx, accumulate);
        match &self.adapter {
            Some(adapter) => adapter.with_factors(|factors| factors.add_backward_input(dy, dx)),
            None => Ok(()),
        }
    }

    /// The gradients of what is trained of this layer, for its input and the gradient of its output.
    pub(super) fn backward_weights(
        &self,
        x: &[f32],
        dy: &[f32],
        trained: Trained,
        gradients: &mut CpuGradients,
    ) -> Result<(), PolicyError> {
        match (trained, &self.adapter) {
            (Trained::Base, _) => {
                let (out, _) = self.shape;
                let products = self.weight.packed()?.products();
                self.weight.write(gradients, |dw, add| linear::backward_weight(x, dy, out, dw, add, products))?;
                match &self.bias {
                    Some(bias) => bias.add(gradients, |db| linear::backward_bias(dy, db)),
                    None => Ok(()),
                }
            }
            (Trained::Adapters, Some(adapter)) => {
                let mut outcome = Ok(());
                adapter.with_factors(|factors| {
                    let a = adapter.a.write(gradients, |da, add| factors.backward_a(x, dy, da, add));
                    outcome = a.and_then(|()| adapter.b.write(gradients, |db, add| factors.backward_b(x, dy, db, add)));
                })?;
                outcome
            }
            _ => Ok(()),
        }
    }

    /// Puts the adapter of this module on it.
    pub(super) fn put_on(&mut self, source: &mut Source, module: &str, scale: f32) -> Result<(), PolicyError> {
        let (a, b) = (source.take(&lora::name_of_a(module))?, source.take(&lora::name_of_b(module))?);
        self.adapter = Some(Adapter { a, b, scale });
        Ok(())
    }

    /// Weight and bias.
    pub(super) fn own(&self) -> impl Iterator<Item = &Parameter> {
        [&self.weight].into_iter().chain(&self.bias)
    }

    /// The same, to be changed.
    pub(super) fn own_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        [&mut self.weight].into_iter().chain(&mut self.bias)
    }

    /// The adapter's factors.
    pub(super) fn factors(&self) -> impl Iterator<Item = &Parameter> {
        self.adapter.iter().flat_map(|adapter| [&adapter.a, &adapter.b])
    }

    /// The same, to be changed.
    pub(super) fn factors_mut(&mut self) -> impl Iterator<Item = &mut Parameter> {
        self.adapter.iter_mut().flat_map(|adapter| [&mut adapter.a, &mut adapter.b])
    }
}
