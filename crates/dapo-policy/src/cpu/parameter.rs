//! Tensors of the model, with the copies that matmuls read.

use super::gradients::CpuGradients;
use crate::check::check_tensor;
use crate::error::PolicyError;
use candle_core::{Tensor, Var};
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{with_slice, with_slice_mut};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A tensor with its name, and its place among the tensors it is numbered with (the model's own, or the adapters).
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) index: usize,
    pub(super) var: Var,
    /// A matrix's copy as matmuls read it, made when the first one does.
    packed: OnceLock<Arc<PackedMatrix>>,
}

impl Parameter {
    /// The present values.
    pub(super) fn values(&self) -> Result<impl Deref<Target = [f32]>, PolicyError> {
        Ok(dapo_kernels::values(&self.var)?)
    }

    /// The packed copy of a matrix.
    pub(super) fn packed(&self) -> Result<&Arc<PackedMatrix>, PolicyError> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let (n, k) = self.var.dims2()?;
        let packed = with_slice(&self.var, |w| Ok(Arc::new(PackedMatrix::from_transposed(w, n, k))))?;
        Ok(self.packed.get_or_init(|| packed))
    }

    /// Takes other values.
    pub(super) fn set(&mut self, values: &[f32]) -> Result<(), PolicyError> {
        if values.len() != self.var.elem_count() {
            let expected = format!("{} values", self.var.elem_count());
            return Err(PolicyError::Setting {
                field: self.name.clone(),
                found: format!("{} values", values.len()),
                expected,
            });
        }
        self.change(|own| {
            own.copy_from_slice(values);
        })
    }

    /// Lets `f` change the values, and the packed copy, where there is one, follow.
    pub(super) fn change(&mut self, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        with_slice_mut(&self.var, |values| {
            f(values);
            Ok(())
        })?;
        let Some(packed) = self.packed.get_mut() else { return Ok(()) };
        let Some(packed) = Arc::get_mut(packed) else {
            self.packed.take();
            return Ok(());
        };
        with_slice(&self.var, |values| {
            packed.repack_transposed(values);
            Ok(())
        })?;
        Ok(())
    }

    /// Lets `f` write its gradient, as [`CpuGradients::write`] does.
    pub(super) fn write(
        &self,
        gradients: &mut CpuGradients,
        f: impl FnOnce(&mut [f32], bool),
    ) -> Result<(), PolicyError> {
        gradients.write(self.index, &self.var, f)
    }

    /// Lets `f` add to its gradient.
    pub(super) fn add(&self, gradients: &mut CpuGradients, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        gradients.add(self.index, &self.var, f)
    }
}

/// Takes tensors out of a map one by one, checked against the names and shapes that were announced.
pub(super) struct Source {
    names: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Source {
    /// Checks that every listed tensor is there.
    pub(super) fn new(
        shapes: Vec<(String, Vec<usize>)>,
        tensors: BTreeMap<String, Tensor>,
    ) -> Result<Self, PolicyError> {
        for (name, shape) in &shapes {
            check_tensor(name, shape, tensors.get(name))?;
        }
        Ok(Self { names: shapes.into_iter().map(|(name, _)| name).collect(), tensors })
    }

    /// Takes a tensor out; its values are copied, so that nobody else can change them.
    pub(super) fn take(&mut self, name: &str) -> Result<Parameter, PolicyError> {
        let missing = || {
            PolicyError::Internal(format!("the decoder needs a parameter {name} that its configuration does not list"))
        };
        let index = self.names.iter().position(|n| n == name).ok_or_else(missing)?;
        let tensor = self.tensors.remove(name).ok_or_else(missing)?;
        Ok(Parameter {
            name: name.to_owned(),
            index,
            var: Var::from_tensor(&tensor.detach())?,
            packed: OnceLock::new(),
        })
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }
}
