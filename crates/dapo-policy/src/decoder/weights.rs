//! The decoder's weights as others see them: what is trained, and what a checkpoint holds.

use super::Decoder;
use crate::backend::{ParameterId, ParameterSet, WeightFormat};
use crate::check::check_tensor;
use crate::checkpoint::TensorFile;
use crate::error::PolicyError;
use crate::lora::{merge, name_of_a};
use candle_core::{Shape, Tensor};
use dapo_kernels::with_slice;
use std::collections::BTreeMap;
use std::path::Path;

impl Decoder {
    /// Name and shape of every trainable tensor, in a fixed order.
    ///
    /// Without adapters these are the model's own, by their Hugging Face names, in the order of
    /// [`ModelConfig::parameter_shapes`](crate::ModelConfig::parameter_shapes); a tied head appears once, as the
    /// embeddings. With adapters they are `model.layers.0.self_attn.q_proj.lora_A.weight` and its like: layer after
    /// layer, in each the targets in the order of [`LoraTarget::ALL`](crate::LoraTarget::ALL), of each A `[r, in]` and
    /// then B `[out, r]`. A [frozen copy](Decoder::frozen_copy) has none. Their values are
    /// [`trainable_tensors`](Decoder::trainable_tensors).
    pub fn parameters(&self) -> Vec<(&str, &Shape)> {
        let set = self.spec.trained.set();
        set.map_or(&[][..], |set| self.listed(set)).iter().map(|(name, shape)| (name.as_str(), shape)).collect()
    }

    fn listed(&self, set: ParameterSet) -> &[(String, Shape)] {
        match set {
            ParameterSet::Own => &self.own,
            ParameterSet::Adapters => &self.factors,
        }
    }

    /// Number of trainable values.
    pub fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|(_, shape)| shape.elem_count()).sum()
    }

    fn read(&self, set: ParameterSet, index: usize) -> Result<Tensor, PolicyError> {
        self.backend.read(ParameterId { set, index })
    }

    /// The tensors of a set by name.
    fn read_all(&self, set: ParameterSet) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let listed = self.listed(set).iter().enumerate();
        listed.map(|(index, (name, _))| Ok((name.clone(), self.read(set, index)?))).collect()
    }

    /// Every tensor by name: the model's own, and the adapters'.
    pub(super) fn all_tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let mut tensors = self.read_all(ParameterSet::Own)?;
        tensors.extend(self.read_all(ParameterSet::Adapters)?);
        Ok(tensors)
    }

    /// One of the model's own tensors, with W + (α / r)·B·A in place of a W that has adapters.
    pub(super) fn merged(&self, index: usize) -> Result<Tensor, PolicyError> {
        let weight = self.read(ParameterSet::Own, index)?;
        let (name, _) = &self.own[index];
        let (Some(lora), Some(module)) = (self.lora(), name.strip_suffix(".weight")) else { return Ok(weight) };
        // B follows A.
        let Some(a) = self.factors.iter().position(|(name, _)| *name == name_of_a(module)) else { return Ok(weight) };
        let (a, b) = (self.read(ParameterSet::Adapters, a)?, self.read(ParameterSet::Adapters, a + 1)?);
        merge(&weight, &a, &b, lora.scale())
    }

    /// The whole model by Hugging Face names, as a checkpoint holds it: its own tensors (copies of the matrices, which
    /// the decoder has packed alone), where there are adapters with W + (α / r)·B·A in place of W. Trained weights are
    /// in f32 whatever the [`WeightFormat`](crate::WeightFormat); those that are kept in bf16 alone are widened.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let own = self.own.iter().enumerate();
        own.map(|(index, (name, _))| Ok((name.clone(), self.merged(index)?))).collect()
    }

    /// One of [`tensors`](Decoder::tensors), by its place in
    /// [`ModelConfig::parameter_shapes`](crate::ModelConfig::parameter_shapes).
    ///
    /// # Errors
    /// When no tensor has that place, or it cannot be read.
    pub fn tensor(&self, place: usize) -> Result<Tensor, PolicyError> {
        if place < self.own.len() {
            return self.merged(place);
        }
        let expected = format!("below {}, the number of the model's tensors", self.own.len());
        Err(PolicyError::Setting { field: "tensor".into(), found: place.to_string(), expected })
    }

    /// The trainable tensors by name: copies or, on the CPU of vectors and adapters, handles, which follow the next
    /// update. With [`write_tensors`](crate::write_tensors), [`read_tensors`](crate::read_tensors) and
    /// [`load_trainable`](Decoder::load_trainable) a run continues from exactly these values.
    ///
    /// # Errors
    /// When the device fails.
    pub fn trainable_tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        self.spec.trained.set().map_or(Ok(BTreeMap::new()), |set| self.read_all(set))
    }

    /// The set that is trained, where it has a tensor of this number.
    fn trained(&self, index: usize) -> Result<ParameterId, PolicyError> {
        let set = self.spec.trained.set().filter(|set| index < self.listed(*set).len());
        set.map(|set| ParameterId { set, index }).ok_or_else(|| PolicyError::Setting {
            field: "parameter".into(),
            found: index.to_string(),
            expected: format!("below {}, the number of trainable tensors", self.parameters().len()),
        })
    }

    /// One of the trainable tensors, by its place in [`parameters`](Decoder::parameters): a copy or a handle, as there.
    ///
    /// # Errors
    /// When no tensor has that place, or the device fails.
    pub fn parameter(&self, index: usize) -> Result<Tensor, PolicyError> {
        self.backend.read(self.trained(index)?)
    }

    /// Gives one of the trainable tensors other values, in the order of the tensor.
    ///
    /// # Errors
    /// When no tensor has that place, a length differs, or the device fails.
    pub fn set_parameter(&mut self, index: usize, values: &[f32]) -> Result<(), PolicyError> {
        self.backend.write(self.trained(index)?, values)
    }

    /// The same of a decoder that need not keep the f32 values of what it [trains in bf16](Decoder::trains_in_bf16), as somebody
    /// else has them: the rounded values alone are kept, until the tensor is given others. Reading the tensor gives these, and
    /// [`adamw`](Decoder::adamw) fails.
    ///
    /// # Errors
    /// As [`set_parameter`](Decoder::set_parameter).
    pub fn set_parameter_rounded(&mut self, index: usize, values: &[f32]) -> Result<(), PolicyError> {
        self.backend.write_rounded(self.trained(index)?, values)
    }

    /// Whether it computes with values rounded to bf16 of f32 values that are trained: on the CPU, with
    /// [`WeightFormat::Bf16`](crate::WeightFormat::Bf16) and without adapters.
    pub fn trains_in_bf16(&self) -> bool {
        let is_half = self.spec.weights == WeightFormat::Bf16 && !self.is_on_device();
        is_half && self.spec.trained.set() == Some(ParameterSet::Own)
    }

    /// Takes the values of [`trainable_tensors`](Decoder::trainable_tensors), bit for bit.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected, or of another shape or type; nothing has changed then.
    pub fn load_trainable(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        let parameters = self.parameters();
        for (name, shape) in &parameters {
            check_tensor(name, shape.dims(), tensors.get(*name))?;
        }
        if let Some(name) = tensors.keys().find(|name| parameters.iter().all(|(known, _)| known != name)) {
            let expected = "absent: no trainable tensor has this name".into();
            return Err(PolicyError::Setting { field: name.clone(), found: "a tensor".into(), expected });
        }
        // Copied: the tensors may be handles to these very parameters.
        self.update(|_, name, values| {
            values.copy_from_slice(&tensors[name].flatten_all()?.to_vec1::<f32>()?);
            Ok(())
        })
    }

    /// The same from a safetensors file, one tensor after another.
    ///
    /// # Errors
    /// Names the file and the tensor. If one is missing, unexpected or of another shape, nothing has changed. If one has a
    /// value that is not finite or too large for a weight, those before it have changed.
    pub fn read_trainable(&mut self, file: &Path) -> Result<(), PolicyError> {
        let listed: Vec<_> =
            self.parameters().into_iter().map(|(name, shape)| (name.to_owned(), shape.clone())).collect();
        self.read_listed(file, &listed)
    }

    /// The same where a file has other names for the trainable tensors, which are listed in their order.
    pub(crate) fn read_listed(&mut self, file: &Path, listed: &[(String, Shape)]) -> Result<(), PolicyError> {
        let mut file = TensorFile::open(file)?;
        file.expect(listed)?;
        self.update(|index, _, values| {
            let (name, shape) = &listed[index];
            let read = file.weight(name, shape.dims())?;
            Ok(with_slice(&read, |read| {
                values.copy_from_slice(read);
                Ok(())
            })?)
        })
    }

    /// Changes every trainable tensor (index, name, values) and makes the change take effect.
    ///
    /// # Errors
    /// What `f` returns; the tensors that it was shown before have then changed.
    pub fn update(
        &mut self,
        mut f: impl FnMut(usize, &str, &mut [f32]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        let Some(set) = self.spec.trained.set() else { return Ok(()) };
        for index in 0..self.listed(set).len() {
            let mut values = self.read(set, index)?.flatten_all()?.to_vec1::<f32>()?;
            f(index, &self.listed(set)[index].0, &mut values)?;
            self.backend.write(ParameterId { set, index }, &values)?;
        }
        Ok(())
    }
}
