//! Linear layers of the decoder, with packed weights and, where asked for, a low-rank adapter.

use super::Trained;
use super::parameter::{Parameter, Source};
use super::workspace::sized;
use crate::{Gradients, PolicyError, lora};
use candle_core::{Tensor, Var};
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{LowRankFactors, linear, with_slice};
use std::sync::Arc;

/// A linear layer: weight, optional bias, the packed copy of the weight, and the adapter where there is one.
#[derive(Debug)]
pub(super) struct Projection {
    pub(super) weight: Parameter,
    pub(super) bias: Option<Parameter>,
    packed: Arc<PackedMatrix>,
    pub(super) adapter: Option<Adapter>,
}

/// Whether adapters take part in a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adapters {
    /// They do, where there are any.
    On,
    /// The model without them.
    Off,
}

/// The trained factors of a low-rank addition, with their packed copies.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) a: Parameter,
    pub(super) b: Parameter,
    packed_a: Arc<PackedMatrix>,
    packed_b: Arc<PackedMatrix>,
    scale: f32,
}

impl Adapter {
    pub(super) fn new(source: &mut Source, module: &str, scale: f32) -> Result<Self, PolicyError> {
        let (a, b) = (source.take(&lora::name_of_a(module))?, source.take(&lora::name_of_b(module))?);
        let (packed_a, packed_b) = (pack(&a.var)?, pack(&b.var)?);
        Ok(Self { a, b, packed_a, packed_b, scale })
    }

    fn with_factors(&self, f: impl FnOnce(LowRankFactors<'_>)) -> Result<(), PolicyError> {
        let (a, b) = (self.a.values()?, self.b.values()?);
        let Self { packed_a, packed_b, scale, .. } = self;
        f(LowRankFactors { a: &a, packed_a, b: &b, packed_b, scale: *scale });
        Ok(())
    }

    fn repack(&mut self) -> Result<(), PolicyError> {
        repack(&mut self.packed_a, &self.a.var)?;
        repack(&mut self.packed_b, &self.b.var)
    }
}

impl Projection {
    pub(super) fn new(source: &mut Source, module: &str, bias: bool) -> Result<Self, PolicyError> {
        let weight = source.take(&format!("{module}.weight"))?;
        let bias = if bias { Some(source.take(&format!("{module}.bias"))?) } else { None };
        let packed = pack(&weight.var)?;
        Ok(Self { weight, bias, packed, adapter: None })
    }

    /// y ← x · Wᵀ + b, and the adapter's addition. x `[T, in]`, y `[T, out]`.
    pub(super) fn forward(&self, x: &[f32], adapters: Adapters, y: &mut Vec<f32>) -> Result<(), PolicyError> {
        let y = sized(y, x.len() / self.packed.k() * self.packed.n());
        let bias = self.bias.as_ref().map(Parameter::values).transpose()?;
        linear::forward(x, &self.packed, bias.as_deref(), y);
        match &self.adapter {
            Some(adapter) if adapters == Adapters::On => adapter.with_factors(|factors| factors.add_forward(x, y)),
            _ => Ok(()),
        }
    }

    /// dx ← dy · W and the adapter's part; added to what dx holds where `accumulate` says so.
    pub(super) fn backward_input(&self, dy: &[f32], accumulate: bool, dx: &mut Vec<f32>) -> Result<(), PolicyError> {
        let out = self.packed.n();
        let dx = sized(dx, dy.len() / out * self.packed.k());
        linear::backward_input(dy, &self.weight.values()?, out, dx, accumulate);
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
        gradients: &mut Gradients,
    ) -> Result<(), PolicyError> {
        match (trained, &self.adapter) {
            (Trained::Base, _) => {
                let out = self.packed.n();
                self.weight.write(gradients, |dw, add| linear::backward_weight(x, dy, out, dw, add))?;
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

    /// The weight as a model without adapters would have it.
    pub(super) fn merged_weight(&self) -> Result<Tensor, PolicyError> {
        match &self.adapter {
            Some(adapter) => lora::merge(&self.weight.var, &adapter.a.var, &adapter.b.var, adapter.scale),
            None => Ok(self.weight.var.as_detached_tensor()),
        }
    }

    pub(super) fn repack_weight(&mut self) -> Result<(), PolicyError> {
        repack(&mut self.packed, &self.weight.var)
    }

    pub(super) fn repack_adapter(&mut self) -> Result<(), PolicyError> {
        self.adapter.as_mut().map_or(Ok(()), Adapter::repack)
    }
}

pub(super) fn pack(weight: &Var) -> Result<Arc<PackedMatrix>, PolicyError> {
    let (n, k) = weight.dims2()?;
    Ok(with_slice(weight, |w| Ok(Arc::new(PackedMatrix::from_transposed(w, n, k))))?)
}

pub(super) fn repack(packed: &mut Arc<PackedMatrix>, weight: &Var) -> Result<(), PolicyError> {
    if let Some(packed) = Arc::get_mut(packed) {
        with_slice(weight, |w| {
            packed.repack_transposed(w);
            Ok(())
        })?;
    } else {
        *packed = pack(weight)?;
    }
    Ok(())
}
