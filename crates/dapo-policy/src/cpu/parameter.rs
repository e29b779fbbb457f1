//! Tensors of the model, as matmuls read them.

use super::gradients::CpuGradients;
use crate::backend::WeightFormat;
use crate::check::check_tensor;
use crate::error::PolicyError;
use candle_core::{Device, Shape, Tensor, Var};
use dapo_kernels::matmul::PackedMatrix;
use dapo_kernels::{bf16, values, with_slice, with_slice_mut};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::OnceLock;

/// A tensor with its name, and its place among the tensors it is numbered with (the model's own, or the adapters).
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) index: usize,
    shape: Shape,
    form: Form,
}

/// Where the values are. An update changes f32 values; what is rounded follows.
#[derive(Debug)]
enum Form {
    /// In f32. A matrix's packed copy is made when the first matmul reads it.
    Full { values: Var, packed: OnceLock<PackedMatrix> },
    /// A vector, and its values rounded to bf16 and widened.
    RoundedVector { values: Var, rounded: Var },
    /// A matrix in bf16, and the f32 values of which it is the rounded copy, where there are any.
    RoundedMatrix { values: Option<Var>, packed: PackedMatrix },
}

impl Parameter {
    pub(super) fn new(name: &str, index: usize, tensor: &Tensor) -> Result<Self, PolicyError> {
        let form = Form::Full { values: Var::from_tensor(&tensor.detach())?, packed: OnceLock::new() };
        Ok(Self { name: name.to_owned(), index, shape: tensor.shape().clone(), form })
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The values that computations use, of a tensor that is not a matrix in bf16.
    pub(super) fn values(&self) -> Result<impl Deref<Target = [f32]>, PolicyError> {
        let packed_alone = || PolicyError::Internal(format!("{} is read as if it were not packed", self.name));
        self.unpacked()?.ok_or_else(packed_alone)
    }

    /// The values that computations use; `None` of a matrix in bf16.
    pub(super) fn unpacked(&self) -> Result<Option<impl Deref<Target = [f32]>>, PolicyError> {
        match &self.form {
            Form::Full { values: own, .. } | Form::RoundedVector { rounded: own, .. } => Ok(Some(values(own)?)),
            Form::RoundedMatrix { .. } => Ok(None),
        }
    }

    /// A matrix, packed.
    pub(super) fn packed(&self) -> Result<&PackedMatrix, PolicyError> {
        match &self.form {
            Form::RoundedMatrix { packed, .. } => Ok(packed),
            Form::Full { values, packed } => {
                if let Some(packed) = packed.get() {
                    return Ok(packed);
                }
                let (n, k) = self.shape.dims2()?;
                let new = with_slice(values, |w| Ok(PackedMatrix::from_transposed(w, n, k)))?;
                Ok(packed.get_or_init(|| new))
            }
            Form::RoundedVector { .. } => Err(PolicyError::Internal(format!("{} is read as a matrix", self.name))),
        }
    }

    /// Appends rows of a matrix to `copies`.
    pub(super) fn append_rows(&self, rows: &[u32], copies: &mut Vec<f32>) -> Result<(), PolicyError> {
        let (_, width) = self.shape.dims2()?;
        if let Some(table) = self.unpacked()? {
            for row in rows {
                copies.extend_from_slice(&table[*row as usize * width..][..width]);
            }
            return Ok(());
        }
        let packed = self.packed()?;
        for row in rows {
            packed.append_row(*row as usize, copies);
        }
        Ok(())
    }

    /// The f32 values: a handle where there are any, else the rounded values.
    pub(super) fn read(&self) -> Result<Tensor, PolicyError> {
        match &self.form {
            Form::Full { values, .. }
            | Form::RoundedVector { values, .. }
            | Form::RoundedMatrix { values: Some(values), .. } => Ok(values.as_detached_tensor()),
            Form::RoundedMatrix { values: None, packed } => {
                let mut values = vec![0.0; self.shape.elem_count()];
                packed.unpack_transposed(&mut values);
                Ok(Tensor::from_vec(values, &self.shape, &Device::Cpu)?)
            }
        }
    }

    /// Takes other values. Of a matrix in bf16 they are kept in f32 from now on: what follows others by small steps would not
    /// move otherwise.
    pub(super) fn set(&mut self, values: &[f32]) -> Result<(), PolicyError> {
        if values.len() != self.shape.elem_count() {
            return Err(PolicyError::Setting {
                field: self.name.clone(),
                found: format!("{} values", values.len()),
                expected: format!("{} values", self.shape.elem_count()),
            });
        }
        self.change(|own| {
            own.copy_from_slice(values);
        })
    }

    /// Lets `f` change the f32 values; what is made of them follows.
    pub(super) fn change(&mut self, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        if let Form::RoundedMatrix { values: None, .. } = self.form {
            let own = Var::from_tensor(&self.read()?)?;
            if let Form::RoundedMatrix { values, .. } = &mut self.form {
                *values = Some(own);
            }
        }
        let (Form::Full { values: own, .. }
        | Form::RoundedVector { values: own, .. }
        | Form::RoundedMatrix { values: Some(own), .. }) = &self.form
        else {
            return Err(PolicyError::Internal(format!("{} has no values to change", self.name)));
        };
        let changed = own.as_detached_tensor();
        with_slice_mut(&changed, |own| {
            f(own);
            Ok(())
        })?;
        let changed = values(&changed)?;
        match &mut self.form {
            Form::Full { packed, .. } => {
                if let Some(packed) = packed.get_mut() {
                    packed.repack_transposed(&changed);
                }
            }
            Form::RoundedMatrix { packed, .. } => packed.repack_transposed(&changed),
            Form::RoundedVector { rounded, .. } => with_slice_mut(rounded, |rounded| {
                rounded.copy_from_slice(&changed);
                bf16::round(rounded);
                Ok(())
            })?,
        }
        Ok(())
    }

    /// Computes with the f32 values from now on, or with these rounded to bf16.
    pub(super) fn set_format(&mut self, format: WeightFormat) -> Result<(), PolicyError> {
        if (format == WeightFormat::F32) == matches!(self.form, Form::Full { .. }) {
            return Ok(());
        }
        // A matrix that is in bf16 alone is unpacked.
        let tensor = self.read()?;
        let own = match &self.form {
            Form::RoundedMatrix { values: None, .. } => Var::from_tensor(&tensor)?,
            Form::Full { values, .. }
            | Form::RoundedVector { values, .. }
            | Form::RoundedMatrix { values: Some(values), .. } => values.clone(),
        };
        self.form = match (format, self.shape.dims()) {
            (WeightFormat::F32, _) => Form::Full { values: own, packed: OnceLock::new() },
            (WeightFormat::Bf16, &[n, k]) => {
                let packed = with_slice(&own, |w| Ok(PackedMatrix::rounded_from_transposed(w, n, k)))?;
                Form::RoundedMatrix { values: Some(own), packed }
            }
            (WeightFormat::Bf16, _) => {
                let rounded = Var::from_tensor(&own.copy()?)?;
                with_slice_mut(&rounded, |rounded| {
                    bf16::round(rounded);
                    Ok(())
                })?;
                Form::RoundedVector { values: own, rounded }
            }
        };
        Ok(())
    }

    /// Gives up the f32 values of a matrix in bf16, which is not trained.
    pub(super) fn release_values(&mut self) {
        if let Form::RoundedMatrix { values, .. } = &mut self.form {
            *values = None;
        }
    }

    /// Lets `f` write its gradient, as [`CpuGradients::write`] does.
    pub(super) fn write(
        &self,
        gradients: &mut CpuGradients,
        f: impl FnOnce(&mut [f32], bool),
    ) -> Result<(), PolicyError> {
        gradients.write(self.index, &self.shape, f)
    }

    /// Lets `f` add to its gradient.
    pub(super) fn add(&self, gradients: &mut CpuGradients, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        gradients.add(self.index, &self.shape, f)
    }
}

/// Takes tensors out of a map one by one, checked against the names and shapes that were announced.
pub(super) struct Source {
    names: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
    format: WeightFormat,
    is_trained: bool,
}

impl Source {
    /// Checks that every listed tensor is there. They become parameters of this format, with f32 values if they are trained.
    pub(super) fn new(
        shapes: Vec<(String, Vec<usize>)>,
        tensors: BTreeMap<String, Tensor>,
        format: WeightFormat,
        is_trained: bool,
    ) -> Result<Self, PolicyError> {
        for (name, shape) in &shapes {
            check_tensor(name, shape, tensors.get(name))?;
        }
        let names = shapes.into_iter().map(|(name, _)| name).collect();
        Ok(Self { names, tensors, format, is_trained })
    }

    /// Takes a tensor out; its values are copied, so that nobody else can change them.
    pub(super) fn take(&mut self, name: &str) -> Result<Parameter, PolicyError> {
        let missing = || {
            PolicyError::Internal(format!("the decoder needs a parameter {name} that its configuration does not list"))
        };
        let index = self.names.iter().position(|n| n == name).ok_or_else(missing)?;
        let tensor = self.tensors.remove(name).ok_or_else(missing)?;
        let mut parameter = Parameter::new(name, index, &tensor)?;
        parameter.set_format(self.format)?;
        if !self.is_trained {
            parameter.release_values();
        }
        Ok(parameter)
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> BTreeMap<String, Tensor> {
        self.tensors
    }
}
