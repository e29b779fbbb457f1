//! Linear layers of the decoder, with packed weights and, where asked for, a low-rank adapter.

use super::parameter::{Parameter, Source, Tracking};
use crate::{PolicyError, lora};
use candle_core::{Tensor, Var};
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{LowRank, linear, low_rank_linear, with_slice};
use std::sync::Arc;

/// A linear layer: weight, optional bias, the packed copy of the weight, and the adapter where there is one.
#[derive(Debug)]
pub(super) struct Projection {
    pub(super) weight: Parameter,
    pub(super) bias: Option<Parameter>,
    packed: Arc<PackedMatrix>,
    pub(super) adapter: Option<Adapter>,
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

    /// `base` says whether weight and bias are recorded, `tracking` whether the adapter is.
    pub(super) fn forward(&self, x: &Tensor, tracking: Tracking, base: Tracking) -> Result<Tensor, PolicyError> {
        let (weight, bias) = (self.weight.tensor(base), self.bias.as_ref().map(|b| b.tensor(base)));
        match &self.adapter {
            Some(adapter) if tracking != Tracking::DetachedBase => {
                let (a, b) = (adapter.a.tensor(tracking), adapter.b.tensor(tracking));
                let Adapter { packed_a, packed_b, scale, .. } = adapter;
                let addition = LowRank { a: &a, packed_a, b: &b, packed_b, scale: *scale };
                Ok(low_rank_linear(x, &weight, &self.packed, bias.as_ref(), addition)?)
            }
            _ => Ok(linear(x, &weight, &self.packed, bias.as_ref())?),
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
