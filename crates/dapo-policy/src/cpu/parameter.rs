//! Tensors of the model, as matmuls read them.

use super::gradients::CpuGradients;
use crate::backend::{Compute, ModelSpec, WeightFormat};
use crate::check::check_tensor;
use crate::error::PolicyError;
use candle_core::{Device, Shape, Tensor, Var};
use dapo_kernels::adamw::{AdamWStep, adamw, adamw_packed, squared_norm, squared_norm_packed};
use dapo_kernels::matmul::{PackedMatrix, Products};
use dapo_kernels::{bf16, values, with_slice, with_slice_mut};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::OnceLock;

/// How a tensor is stored, and a matrix is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// In f32.
    F32,
    /// In bf16, multiplied in f32.
    Bf16,
    /// In bf16, multiplied in bf16.
    Bf16Products,
}

impl Format {
    /// That of the model's own tensors.
    pub(super) fn of(spec: &ModelSpec) -> Self {
        match (spec.weights, spec.compute) {
            (WeightFormat::F32, _) => Self::F32,
            (WeightFormat::Bf16, Compute::F32) => Self::Bf16,
            (WeightFormat::Bf16, Compute::Bf16) => Self::Bf16Products,
        }
    }
}

/// A tensor with its name, and its place among the tensors it is numbered with (the model's own, or the adapters).
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) index: usize,
    shape: Shape,
    /// Whether it is a matrix that is packed in any case.
    is_packed: bool,
    form: Form,
}

/// Where the values are.
#[derive(Debug)]
enum Form {
    /// In f32 as stored. A matrix's packed copy is made when the first matmul reads it.
    Full { values: Var, packed: OnceLock<PackedMatrix> },
    /// A vector's values rounded to bf16 and widened, and the f32 values of which they are the rounded ones, where there are
    /// any.
    RoundedVector { values: Option<Var>, rounded: Var },
    /// A packed matrix: in f32, or in bf16, with the f32 values likewise.
    Packed { values: Option<Var>, packed: PackedMatrix },
}

impl Form {
    /// A copy of a tensor's values.
    fn new(tensor: &Tensor, format: Format, is_packed: bool) -> Result<Self, PolicyError> {
        let tensor = tensor.detach().contiguous()?;
        let copy = || Ok::<_, PolicyError>(Var::from_tensor(&tensor)?);
        Ok(match (format, tensor.dims()) {
            (Format::F32, &[n, k]) if is_packed => {
                let packed = with_slice(&tensor, |w| Ok(PackedMatrix::from_transposed(w, n, k)))?;
                Self::Packed { values: None, packed }
            }
            (Format::F32, _) => Self::Full { values: copy()?, packed: OnceLock::new() },
            (_, &[n, k]) => {
                let packed = with_slice(&tensor, |w| {
                    Ok(match format {
                        Format::Bf16Products => PackedMatrix::pairs_from_transposed(w, n, k),
                        _ => PackedMatrix::rounded_from_transposed(w, n, k),
                    })
                })?;
                Self::Packed { values: Some(copy()?), packed }
            }
            (_, _) => {
                let rounded = copy()?;
                round_into(&rounded, &values(&tensor)?)?;
                Self::RoundedVector { values: Some(copy()?), rounded }
            }
        })
    }

    /// Whether its values are as this format has them. Vectors are not multiplied.
    fn is_in(&self, format: Format) -> bool {
        match self {
            Self::Full { .. } => format == Format::F32,
            Self::RoundedVector { .. } => format != Format::F32,
            Self::Packed { packed, .. } => match (packed.is_rounded(), packed.products()) {
                (false, _) => format == Format::F32,
                (true, Products::F32) => format == Format::Bf16,
                (true, Products::Bf16) => format == Format::Bf16Products,
            },
        }
    }
}

impl Parameter {
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The values that computations use, of a tensor that is not packed.
    pub(super) fn values(&self) -> Result<impl Deref<Target = [f32]>, PolicyError> {
        self.unpacked()?.ok_or_else(|| PolicyError::Internal(format!("{} is read as if it were not packed", self.name)))
    }

    /// The values that computations use; `None` of a packed matrix.
    fn unpacked(&self) -> Result<Option<impl Deref<Target = [f32]>>, PolicyError> {
        match &self.form {
            Form::Full { values: own, .. } | Form::RoundedVector { rounded: own, .. } => Ok(Some(values(own)?)),
            Form::Packed { .. } => Ok(None),
        }
    }

    /// A matrix, packed.
    pub(super) fn packed(&self) -> Result<&PackedMatrix, PolicyError> {
        match &self.form {
            Form::Packed { packed, .. } => Ok(packed),
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

    /// The f32 values, or rounded ones where there are no others: a handle or a copy.
    pub(super) fn read(&self) -> Result<Tensor, PolicyError> {
        match &self.form {
            Form::Full { values, .. }
            | Form::RoundedVector { values: Some(values), .. }
            | Form::RoundedVector { values: None, rounded: values }
            | Form::Packed { values: Some(values), .. } => Ok(values.as_detached_tensor()),
            Form::Packed { values: None, packed } => {
                let mut values = vec![0.0; self.shape.elem_count()];
                packed.unpack_transposed(&mut values);
                Ok(Tensor::from_vec(values, &self.shape, &Device::Cpu)?)
            }
        }
    }

    /// Σ w² of what [`read`](Self::read) gives.
    pub(super) fn squared_norm(&self) -> Result<f64, PolicyError> {
        match &self.form {
            Form::Packed { values: None, packed } => Ok(squared_norm_packed(packed)),
            _ => Ok(squared_norm(&values(&self.read()?)?)),
        }
    }

    /// Takes other values. In bf16 they are kept in f32 from now on: what follows others by small steps would not move
    /// otherwise.
    pub(super) fn set(&mut self, values: &[f32]) -> Result<(), PolicyError> {
        self.check_len(values)?;
        let in_f32 = || Var::from_slice(values, &self.shape, &Device::Cpu);
        match &mut self.form {
            Form::Packed { values: None, packed } if !packed.is_rounded() => {
                packed.repack_transposed(values);
                return Ok(());
            }
            Form::Packed { values: own @ None, .. } | Form::RoundedVector { values: own @ None, .. } => {
                *own = Some(in_f32()?);
            }
            _ => {}
        }
        self.change(|own| {
            own.copy_from_slice(values);
        })
    }

    /// Takes other values. In bf16 the rounded ones alone are kept from now on.
    pub(super) fn set_rounded(&mut self, values: &[f32]) -> Result<(), PolicyError> {
        self.check_len(values)?;
        match &mut self.form {
            Form::Packed { values: own, packed } => {
                *own = None;
                packed.repack_transposed(values);
                Ok(())
            }
            Form::RoundedVector { values: own, rounded } => {
                *own = None;
                round_into(rounded, values)
            }
            Form::Full { .. } => self.set(values),
        }
    }

    fn check_len(&self, values: &[f32]) -> Result<(), PolicyError> {
        if values.len() == self.shape.elem_count() {
            return Ok(());
        }
        Err(PolicyError::Setting {
            field: self.name.clone(),
            found: format!("{} values", values.len()),
            expected: format!("{} values", self.shape.elem_count()),
        })
    }

    /// One step of AdamW.
    pub(super) fn adamw(
        &mut self,
        gradient: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        step: &AdamWStep,
    ) -> Result<(), PolicyError> {
        match &mut self.form {
            Form::Packed { values: None, packed } if !packed.is_rounded() => {
                adamw_packed(packed, gradient, m, v, step);
                Ok(())
            }
            _ => self.change(|values| adamw(values, gradient, m, v, step)),
        }
    }

    /// Lets `f` change the values, and what is made of them follows.
    fn change(&mut self, f: impl FnOnce(&mut [f32])) -> Result<(), PolicyError> {
        let own = match &self.form {
            Form::Full { values, .. }
            | Form::RoundedVector { values: Some(values), .. }
            | Form::Packed { values: Some(values), .. } => values.as_detached_tensor(),
            Form::RoundedVector { values: None, .. } | Form::Packed { values: None, .. } => {
                return Err(PolicyError::Internal(format!("{} is changed without its f32 values", self.name)));
            }
        };
        with_slice_mut(&own, |own| {
            f(own);
            Ok(())
        })?;
        let own = values(&own)?;
        match &mut self.form {
            Form::Full { packed, .. } => {
                if let Some(packed) = packed.get_mut() {
                    packed.repack_transposed(&own);
                }
            }
            Form::Packed { packed, .. } => packed.repack_transposed(&own),
            Form::RoundedVector { rounded, .. } => round_into(rounded, &own)?,
        }
        Ok(())
    }

    /// Computes with the f32 values from now on, or with these rounded to bf16.
    pub(super) fn set_format(&mut self, format: Format) -> Result<(), PolicyError> {
        if !self.form.is_in(format) {
            self.form = Form::new(&self.read()?, format, self.is_packed)?;
        }
        Ok(())
    }

    /// Gives up the f32 values of a matrix in bf16, which is not trained.
    pub(super) fn release_values(&mut self) {
        if let Form::Packed { values, .. } = &mut self.form {
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

/// Writes values, rounded to bf16, in place of a vector's.
fn round_into(vector: &Var, values: &[f32]) -> Result<(), PolicyError> {
    Ok(with_slice_mut(vector, |rounded| {
        rounded.copy_from_slice(values);
        bf16::round(rounded);
        Ok(())
    })?)
}

/// Takes tensors out of a map one by one, checked against the names and shapes that were announced.
pub(super) struct Source {
    names: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
    format: Format,
    is_trained: bool,
}

impl Source {
    /// Checks that every listed tensor is there. They become parameters of this format, with f32 values if they are trained.
    pub(super) fn new(
        shapes: Vec<(String, Vec<usize>)>,
        tensors: BTreeMap<String, Tensor>,
        format: Format,
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
        self.take_as(name, false)
    }

    /// Takes a matrix out that matmuls read, packed.
    pub(super) fn take_packed(&mut self, name: &str) -> Result<Parameter, PolicyError> {
        self.take_as(name, true)
    }

    fn take_as(&mut self, name: &str, is_packed: bool) -> Result<Parameter, PolicyError> {
        let missing = || {
            PolicyError::Internal(format!("the decoder needs a parameter {name} that its configuration does not list"))
        };
        let index = self.names.iter().position(|n| n == name).ok_or_else(missing)?;
        let tensor = self.tensors.remove(name).ok_or_else(missing)?;
        let (name, shape) = (name.to_owned(), tensor.shape().clone());
        let form = Form::new(&tensor, self.format, is_packed)?;
        let mut parameter = Parameter { name, index, shape, is_packed, form };
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
