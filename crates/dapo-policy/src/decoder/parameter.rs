//! Tensors of a decoder.

use crate::{Gradients, PolicyError};
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;
use std::ops::Deref;

/// A tensor with its name, and its place among the tensors it is trained with (the model's own, or the adapters).
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) index: usize,
    pub(crate) var: Var,
}

impl Parameter {
    /// Its present values.
    pub(crate) fn values(&self) -> Result<impl Deref<Target = [f32]>, PolicyError> {
        Ok(dapo_kernels::values(&self.var)?)
    }

    /// Lets `f` write its gradient, as [`Gradients::write`] does.
    pub(crate) fn write(&self, gradients: &mut Gradients, f: impl FnOnce(&mut [f32], bool)) -> Result<(), PolicyError> {
        gradients.write(self.index, &self.var, f)
    }

    /// Lets `f` add to its gradient.
    pub(crate) fn add(&self, gradients: &mut Gradients, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
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
        Ok(Parameter { name: name.to_owned(), index, var: Var::from_tensor(&tensor.detach())? })
    }
}

/// Fails unless the tensor is there, of the shape and in f32.
pub(super) fn check_tensor(name: &str, shape: &[usize], found: Option<&Tensor>) -> Result<(), PolicyError> {
    let found = match found {
        None => "nothing".to_owned(),
        Some(tensor) if tensor.dims() != shape => format!("a tensor of shape {:?}", tensor.dims()),
        Some(tensor) if tensor.dtype() != DType::F32 => format!("a tensor of type {:?}", tensor.dtype()),
        Some(_) => return Ok(()),
    };
    let expected = format!("an f32 tensor of shape {shape:?}");
    Err(PolicyError::Setting { field: name.to_owned(), found, expected })
}
