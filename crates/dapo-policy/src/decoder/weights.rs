//! The decoder's weights as others see them: what is trained, and what a checkpoint holds.

use super::layer::Layer;
use super::parameter::{Parameter, check_tensor};
use super::projection::Projection;
use super::{Decoder, Trained};
use crate::PolicyError;
use crate::engine::ParameterId;
use candle_core::{Tensor, Var};
use dapo_kernels::with_slice_mut;
use std::collections::BTreeMap;

impl Decoder {
    /// Every trainable tensor with its name, in a fixed order.
    ///
    /// Without adapters these are the model's own, by their Hugging Face names, in the order of
    /// [`ModelConfig::parameter_shapes`](crate::ModelConfig::parameter_shapes) (of a decoder on a device with the values they
    /// had when it came there); a tied head appears once, as the
    /// embeddings. With adapters they are `model.layers.0.self_attn.q_proj.lora_A.weight` and its like: layer after
    /// layer, in each the targets in the order of [`LoraTarget::ALL`](crate::LoraTarget::ALL), of each A `[r, in]` and
    /// then B `[out, r]`. A [frozen copy](Decoder::frozen_copy) has none.
    pub fn parameters(&self) -> Vec<(&str, &Var)> {
        let parameters: Vec<&Parameter> = match self.trained {
            Trained::Base => self.own().into_iter().map(|(parameter, _)| parameter).collect(),
            Trained::Adapters => self.adapters(),
            Trained::Nothing => Vec::new(),
        };
        parameters.into_iter().map(|p| (p.name.as_str(), &p.var)).collect()
    }

    /// The adapters' tensors, in their order.
    fn adapters(&self) -> Vec<&Parameter> {
        let projections = self.layers.iter().flat_map(Layer::projections);
        projections.filter_map(|p| p.adapter.as_ref()).flat_map(|adapter| [&adapter.a, &adapter.b]).collect()
    }

    /// Every tensor: the model's own, and the adapters'.
    pub(super) fn all_parameters(&self) -> Vec<(ParameterId, &Parameter)> {
        let own = self.own().into_iter().map(|(parameter, _)| (ParameterId::Own(parameter.index), parameter));
        let adapters = self.adapters().into_iter().map(|p| (ParameterId::Adapter(p.index), p));
        own.chain(adapters).collect()
    }

    /// Number of trainable values.
    pub fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// The model's own tensors, with the projection that a weight belongs to, in the order of the configuration.
    pub(super) fn own(&self) -> Vec<(&Parameter, Option<&Projection>)> {
        let mut own = vec![(&self.embeddings, None), (&self.norm, None)];
        own.extend(self.head.iter().map(|head| (head, None)));
        for layer in &self.layers {
            let norms =
                [&layer.input_norm, &layer.mlp_norm].into_iter().chain(&layer.query_norm).chain(&layer.key_norm);
            own.extend(norms.map(|norm| (norm, None)));
            for projection in layer.projections() {
                own.push((&projection.weight, Some(projection)));
                own.extend(projection.bias.iter().map(|bias| (bias, None)));
            }
        }
        own.sort_by_key(|(parameter, _)| parameter.index);
        own
    }

    /// The model's tensors, one by one, adapters merged.
    pub(super) fn merged(
        &self,
    ) -> Result<impl Iterator<Item = Result<(&Parameter, Tensor), PolicyError>>, PolicyError> {
        if self.trained == Trained::Adapters {
            self.refresh_host()?;
        }
        Ok(self.own().into_iter().map(|(parameter, projection)| {
            let tensor = match projection {
                Some(projection) if projection.adapter.is_some() => projection.merged_weight()?,
                _ if self.trained == Trained::Base => self.trained_now(parameter.index, &parameter.var)?,
                _ => parameter.var.as_detached_tensor(),
            };
            Ok((parameter, tensor))
        }))
    }

    /// A tensor that is trained as it is now: on the host itself, from a device a copy.
    fn trained_now(&self, index: usize, var: &Var) -> Result<Tensor, PolicyError> {
        let Some(engine) = self.engine() else { return Ok(var.as_detached_tensor()) };
        Ok(Tensor::from_vec(engine.read_weight(self.trained_id(index))?, var.shape(), var.device())?)
    }

    /// The whole model by Hugging Face names, as a checkpoint holds it: its own tensors (handles, not copies), where
    /// there are adapters with W + (α / r)·B·A in place of W. What is trained on a device is copied.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        self.merged()?.map(|item| item.map(|(parameter, tensor)| (parameter.name.clone(), tensor))).collect()
    }

    /// The trainable tensors by name: on the host handles, which follow the next update, from a device copies. With
    /// [`write_tensors`](crate::write_tensors), [`read_tensors`](crate::read_tensors) and
    /// [`load_trainable`](Decoder::load_trainable) a run goes on from exactly these values.
    ///
    /// # Errors
    /// When the device fails.
    pub fn trainable_tensors(&self) -> Result<BTreeMap<String, Tensor>, PolicyError> {
        let parameters = self.parameters().into_iter().enumerate();
        parameters.map(|(index, (name, var))| Ok((name.to_owned(), self.trained_now(index, var)?))).collect()
    }

    /// Takes the values of [`trainable_tensors`](Decoder::trainable_tensors), bit for bit.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected, or of another shape or type; nothing has changed then.
    pub fn load_trainable(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<(), PolicyError> {
        let parameters = self.parameters();
        for (name, var) in &parameters {
            check_tensor(name, var.dims(), tensors.get(*name))?;
        }
        if let Some(name) = tensors.keys().find(|name| parameters.iter().all(|(known, _)| known != name)) {
            let expected = "absent: no trainable tensor has this name".into();
            return Err(PolicyError::Setting { field: name.clone(), found: "a tensor".into(), expected });
        }
        for (name, var) in parameters {
            // Copied first: the tensors may be handles to these very parameters.
            let values = tensors[name].flatten_all()?.to_vec1::<f32>()?;
            with_slice_mut(var, |own| {
                own.copy_from_slice(&values);
                Ok(())
            })?;
        }
        self.repack()?;
        self.refresh_device()
    }

    /// Changes every trainable tensor in place (index, name, values) and makes the change take effect.
    ///
    /// # Errors
    /// What `f` returns; some tensors may then have changed.
    pub fn update(
        &mut self,
        mut f: impl FnMut(usize, &str, &mut [f32]) -> Result<(), PolicyError>,
    ) -> Result<(), PolicyError> {
        self.refresh_host()?;
        let mut outcome = Ok(());
        for (index, (name, var)) in self.parameters().into_iter().enumerate() {
            with_slice_mut(var, |values| {
                outcome = f(index, name, values);
                Ok(())
            })?;
            if outcome.is_err() {
                break;
            }
        }
        self.repack()?;
        self.refresh_device()?;
        outcome
    }

    /// Packs again what training changes.
    fn repack(&mut self) -> Result<(), PolicyError> {
        match self.trained {
            Trained::Base => self.repack_own(),
            Trained::Adapters => {
                self.layers.iter_mut().flat_map(Layer::projections_mut).try_for_each(Projection::repack_adapter)
            }
            Trained::Nothing => Ok(()),
        }
    }

    pub(super) fn repack_own(&mut self) -> Result<(), PolicyError> {
        self.layers.iter_mut().flat_map(Layer::projections_mut).try_for_each(Projection::repack_weight)?;
        self.packed_head.renew(&self.head.as_ref().unwrap_or(&self.embeddings).var)
    }

    /// Gives up what products on the host read.
    pub(super) fn clear_packed(&mut self) {
        self.layers.iter_mut().flat_map(Layer::projections_mut).for_each(Projection::clear_packed);
        self.packed_head.clear();
    }

    /// Whether the model's own tensors are trained.
    pub(crate) fn trains_own(&self) -> bool {
        self.trained == Trained::Base
    }
}
