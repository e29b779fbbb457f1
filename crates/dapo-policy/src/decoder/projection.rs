//! Linear layers of the decoder, with packed weights and, where asked for, a low-rank adapter.

use super::Trained;
use super::parameter::{Parameter, Source};
use super::workspace::sized;
use crate::{Gradients, PolicyError, lora};
use candle_core::{Tensor, Var};
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{LowRankFactors, linear, with_slice};
use std::sync::{Arc, OnceLock};

/// A linear layer: weight, optional bias, the packed copy of the weight, and the adapter where there is one.
#[derive(Debug)]
pub(super) struct Projection {
    pub(super) weight: Parameter,
    pub(super) bias: Option<Parameter>,
    /// Outputs and inputs.
    shape: (usize, usize),
    packed: Packed,
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
    packed_a: Packed,
    packed_b: Packed,
    scale: f32,
}

/// A weight's copy as products read it: made when the first one does, so that a decoder on a device has none.
#[derive(Debug, Default)]
pub(super) struct Packed(OnceLock<Arc<PackedMatrix>>);

impl Packed {
    /// The copy of this weight.
    pub(super) fn of(&self, weight: &Var) -> Result<&Arc<PackedMatrix>, PolicyError> {
        if let Some(packed) = self.0.get() {
            return Ok(packed);
        }
        let (n, k) = weight.dims2()?;
        let packed = with_slice(weight, |w| Ok(Arc::new(PackedMatrix::from_transposed(w, n, k))))?;
        Ok(self.0.get_or_init(|| packed))
    }

    /// Follows a change of the weight, where there is a copy.
    pub(super) fn renew(&mut self, weight: &Var) -> Result<(), PolicyError> {
        let Some(packed) = self.0.get_mut() else { return Ok(()) };
        let Some(packed) = Arc::get_mut(packed) else {
            self.clear();
            return Ok(());
        };
        with_slice(weight, |w| {
            packed.repack_transposed(w);
            Ok(())
        })?;
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.0.take();
    }
}

impl Adapter {
    pub(super) fn new(source: &mut Source, module: &str, scale: f32) -> Result<Self, PolicyError> {
        let (a, b) = (source.take(&lora::name_of_a(module))?, source.take(&lora::name_of_b(module))?);
        Ok(Self { a, b, packed_a: Packed::default(), packed_b: Packed::default(), scale })
    }

    fn with_factors(&self, f: impl FnOnce(LowRankFactors<'_>)) -> Result<(), PolicyError> {
        let (a, b) = (self.a.values()?, self.b.values()?);
        let (packed_a, packed_b) = (self.packed_a.of(&self.a.var)?, self.packed_b.of(&self.b.var)?);
        f(LowRankFactors { a: &a, packed_a, b: &b, packed_b, scale: self.scale });
        Ok(())
    }

    fn repack(&mut self) -> Result<(), PolicyError> {
        self.packed_a.renew(&self.a.var)?;
        self.packed_b.renew(&self.b.var)
    }
}

impl Projection {
    pub(super) fn new(source: &mut Source, module: &str, bias: bool) -> Result<Self, PolicyError> {
        let weight = source.take(&format!("{module}.weight"))?;
        let bias = if bias { Some(source.take(&format!("{module}.bias"))?) } else { None };
        let shape = weight.var.dims2()?;
        Ok(Self { weight, bias, shape, packed: Packed::default(), adapter: None })
    }

    /// y ← x · Wᵀ + b, and the adapter's addition. x `[T, in]`, y `[T, out]`.
    pub(super) fn forward(&self, x: &[f32], adapters: Adapters, y: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (out, width) = self.shape;
        let y = sized(y, x.len() / width * out);
        let bias = self.bias.as_ref().map(Parameter::values).transpose()?;
        linear::forward(x, self.packed.of(&self.weight.var)?, bias.as_deref(), y);
        match &self.adapter {
            Some(adapter) if adapters == Adapters::On => adapter.with_factors(|factors| factors.add_forward(x, y)),
            _ => Ok(()),
        }
    }

    /// dx ← dy · W and the adapter's part; added to what dx holds where `accumulate` says so.
    pub(super) fn backward_input(&self, dy: &[f32], accumulate: bool, dx: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (out, width) = self.shape;
        let dx = sized(dx, dy.len() / out * width);
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
                let (out, _) = self.shape;
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
        self.packed.renew(&self.weight.var)
    }

    pub(super) fn repack_adapter(&mut self) -> Result<(), PolicyError> {
        self.adapter.as_mut().map_or(Ok(()), Adapter::repack)
    }

    /// Gives up what products on the host read.
    pub(super) fn clear_packed(&mut self) {
        self.packed.clear();
        if let Some(adapter) = &mut self.adapter {
            adapter.packed_a.clear();
            adapter.packed_b.clear();
        }
    }
}
