//! AdamW over all parameters of a policy, with clipping by the global norm and a warm-up counted in rollout steps.

use crate::error::TrainerError;
use crate::optimizer_config::OptimizerConfig;
use crate::owned::{Kind, Owned};
use crate::team::Team;
use candle_core::{DType, Device, Shape, Tensor};
use dapo_kernels::values;
use dapo_policy::{AdamWStep, Decoder, Gradients, Moments, TensorFile, ValueHead, write_tensors_with};
use std::collections::BTreeMap;
use std::path::Path;

/// Where the moments are.
#[derive(Debug)]
enum Kept {
    /// With the decoder, all of them.
    Whole(Moments),
    /// On the ranks that own them.
    Divided(Owned),
}

/// AdamW's moments and step count.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    step: u64,
    moments: Kept,
    /// Whether an update failed half way.
    is_torn: bool,
}

impl AdamW {
    /// Zero moments for every parameter of `policy`.
    ///
    /// # Errors
    /// When a setting is invalid, or the policy's device has no memory left.
    pub fn new(policy: &Decoder, config: OptimizerConfig) -> Result<Self, TrainerError> {
        config.validate().map_err(|error| error.within("optimizer"))?;
        Ok(Self { config, step: 0, moments: Kept::Whole(Moments::zeros(policy)?), is_torn: false })
    }

    /// Updates made so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Whether an update failed half way, so that some parameters may have changed.
    pub(crate) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Divides the moments among the ranks of a team: each holds those of the blocks that it owns, and of weights in bf16 the
    /// f32 values, which the policy then no longer has. With one shard, and on a device, they stay whole. `of_head` values of a
    /// value head follow the parameters.
    ///
    /// # Errors
    /// When they are divided among several ranks already and are not all 0, or f32 values are.
    pub(crate) fn divide(&mut self, policy: &mut Decoder, of_head: usize, team: &Team) -> Result<(), TrainerError> {
        if team.shards().count() == 1 || policy.is_on_device() {
            return Ok(());
        }
        let state = (self.step > 0).then(|| self.state(policy)).transpose()?;
        let mut owned = Owned::new(policy.num_parameters(), of_head, team);
        match &self.moments {
            Kept::Divided(before) if before.has_weights() => owned.take_weights_of(before)?,
            _ if policy.trains_in_bf16() => owned.take_weights(policy)?,
            _ => {}
        }
        self.moments = Kept::Divided(owned);
        state.map_or(Ok(()), |state| self.restore(policy, self.step, &state))
    }

    /// What this rank owns, where the ranks divide it.
    pub(crate) fn divided(&mut self) -> Option<&mut Owned> {
        match &mut self.moments {
            Kept::Whole(_) => None,
            Kept::Divided(owned) => Some(owned),
        }
    }

    /// The f32 values of weights in bf16 that this rank owns, where the policy does not have them.
    fn weights(&self) -> Option<&Owned> {
        match &self.moments {
            Kept::Divided(owned) if owned.has_weights() => Some(owned),
            _ => None,
        }
    }

    /// Takes the f32 values out of a policy that was given others, where they do not stay with it.
    pub(crate) fn take_weights(&mut self, policy: &mut Decoder) -> Result<(), TrainerError> {
        match &mut self.moments {
            Kept::Divided(owned) if owned.has_weights() => owned.take_weights(policy),
            _ => Ok(()),
        }
    }

    /// Bytes of what this rank holds beside the policy: moments, and where they are divided f32 values of weights in bf16.
    pub(crate) fn bytes(&self, policy: &Decoder) -> u64 {
        match &self.moments {
            Kept::Whole(_) => 8 * policy.num_parameters() as u64,
            Kept::Divided(owned) => owned.bytes(),
        }
    }

    /// The f32 values of one of a policy's parameters, wherever they are.
    ///
    /// # Errors
    /// When other ranks hold a part of them, or the device fails.
    pub(crate) fn parameter(&self, policy: &Decoder, index: usize) -> Result<Tensor, TrainerError> {
        let Some(owned) = self.weights() else { return Ok(policy.parameter(index)?) };
        let (start, shape) = place(policy, index);
        owned.tensor(Kind::Weights, start, shape)
    }

    /// The same on every rank, each of which calls it.
    ///
    /// # Errors
    /// When the ranks lose each other.
    pub(crate) fn gather_weights(
        &self,
        policy: &Decoder,
        team: &Team,
    ) -> Result<Option<BTreeMap<String, Tensor>>, TrainerError> {
        let Some(owned) = self.weights() else { return Ok(None) };
        let all = owned.all_weights(&**team.world())?;
        let view = |all: &Tensor, start, shape: &Shape| Ok(all.narrow(0, start, shape.elem_count())?.reshape(shape)?);
        all.map(|all| by_parameter(policy, |start, shape| view(&all, start, shape))).transpose()
    }

    /// √Σ w² over what is trained, in f32; every rank calls it.
    ///
    /// # Errors
    /// When the device fails, or the ranks lose each other.
    pub(crate) fn weights_norm(&self, policy: &Decoder, team: &Team) -> Result<f64, TrainerError> {
        let own = self.weights().map(|owned| owned.weights_norm(&**team.world())).transpose()?.flatten();
        own.map_or_else(|| Ok(policy.weights_norm()?), Ok)
    }

    /// The moments by parameter, `m.NAME` and `v.NAME`.
    ///
    /// # Errors
    /// When a tensor cannot be made, or other ranks hold a part of them.
    pub fn state(&self, policy: &Decoder) -> Result<BTreeMap<String, Tensor>, TrainerError> {
        let listed = listed(policy).into_iter().enumerate();
        listed.map(|(place, (name, _))| Ok((name, self.moment(policy, place)?))).collect()
    }

    /// One of the moments, by its number in [`listed`].
    fn moment(&self, policy: &Decoder, number: usize) -> Result<Tensor, TrainerError> {
        let (start, shape) = place(policy, number / 2);
        let is_first = number.is_multiple_of(2);
        match &self.moments {
            Kept::Whole(moments) => {
                let (m, v) = moments.read(policy, number / 2)?;
                Ok(Tensor::from_vec(if is_first { m } else { v }, shape, &Device::Cpu)?)
            }
            Kept::Divided(owned) => owned.tensor(if is_first { Kind::First } else { Kind::Second }, start, shape),
        }
    }

    /// Writes the moments to a safetensors file, one after another, as in [`state`](Self::state).
    ///
    /// # Errors
    /// When other ranks hold a part of them, one is not finite, or the file cannot be written.
    pub fn save(&self, policy: &Decoder, file: &Path) -> Result<(), TrainerError> {
        write_tensors_with(file, &listed(policy), |number| self.moment(policy, number))
    }

    /// Continues from the moments of a file that [`save`](Self::save) wrote, and a number of updates.
    ///
    /// # Errors
    /// Names the file and the moment. If one is missing, unexpected or of another shape, nothing has changed. If one has a
    /// value that is not finite, those before it have changed.
    pub fn load(&mut self, policy: &Decoder, steps: u64, file: &Path) -> Result<(), TrainerError> {
        let (mut file, listed) = (TensorFile::open(file)?, listed(policy));
        file.expect(&listed)?;
        let mut read = |(name, shape): &(String, Shape)| file.tensor(name, shape.dims());
        for (index, pair) in listed.chunks_exact(2).enumerate() {
            self.set_moments(policy, index, &read(&pair[0])?, &read(&pair[1])?)?;
        }
        self.step = steps;
        Ok(())
    }

    /// Continues from moments and a number of updates.
    ///
    /// # Errors
    /// [`TrainerError::Setting`] when a moment is missing, or has another shape or type; nothing has changed then.
    pub fn restore(
        &mut self,
        policy: &Decoder,
        steps: u64,
        state: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainerError> {
        let listed = listed(policy);
        for (name, shape) in &listed {
            let found = state.get(name).map(|tensor| (tensor.shape(), tensor.dtype()));
            if found != Some((shape, DType::F32)) {
                let described = |(shape, dtype): (&Shape, DType)| format!("{dtype:?} of shape {:?}", shape.dims());
                let found = found.map_or("missing".to_owned(), described);
                return Err(TrainerError::setting(name, &found, &described((shape, DType::F32))));
            }
        }
        for (index, pair) in listed.chunks_exact(2).enumerate() {
            self.set_moments(policy, index, &state[&pair[0].0], &state[&pair[1].0])?;
        }
        self.step = steps;
        Ok(())
    }

    fn set_moments(&mut self, policy: &Decoder, index: usize, m: &Tensor, v: &Tensor) -> Result<(), TrainerError> {
        let (m, v) = (m.contiguous()?, v.contiguous()?);
        let (m, v) = (values(&m)?, values(&v)?);
        match &mut self.moments {
            Kept::Whole(moments) => Ok(moments.write(policy, index, &m, &v)?),
            Kept::Divided(owned) => {
                owned.write(place(policy, index).0, &m, &v);
                Ok(())
            }
        }
    }

    /// Clips the gradients by their global norm, updates the policy in place, and returns the norm before clipping.
    ///
    /// The factor is `max_grad_norm / (norm + 1e-6)` where that is below 1, as torch's `clip_grad_norm_`. A parameter
    /// without a gradient stays as it is.
    ///
    /// # Errors
    /// [`TrainerError::NotFinite`] when the norm is not finite; then nothing has changed.
    pub fn update(&mut self, policy: &mut Decoder, gradients: &Gradients, lr: f64) -> Result<f64, TrainerError> {
        self.update_with_head(policy, None, gradients, lr)
    }

    /// The same with a value head, whose gradient the norm includes.
    pub(crate) fn update_with_head(
        &mut self,
        policy: &mut Decoder,
        head: Option<&mut ValueHead>,
        gradients: &Gradients,
        lr: f64,
    ) -> Result<f64, TrainerError> {
        let (step, max_norm) = (self.next_step(lr), self.config.max_grad_norm);
        let Kept::Whole(moments) = &mut self.moments else {
            return Err(TrainerError::setting("moments", &"divided among ranks", "whole"));
        };
        let updated = match head {
            Some(head) => policy.adamw_with_head(gradients, moments, head, &step, max_norm),
            None => policy.adamw(gradients, moments, &step, max_norm),
        };
        // Parameters are changed one after another: after an error some may have been.
        self.is_torn |= updated.is_err();
        let norm = self.check_norm(updated?)?;
        self.step += 1;
        Ok(norm)
    }

    fn next_step(&self, lr: f64) -> AdamWStep {
        AdamWStep {
            lr: lr as f32,
            beta1: self.config.beta1 as f32,
            beta2: self.config.beta2 as f32,
            eps: self.config.eps as f32,
            weight_decay: self.config.weight_decay as f32,
            step: self.step + 1,
            grad_scale: 1.0,
        }
    }

    fn check_norm(&self, norm: f64) -> Result<f64, TrainerError> {
        if norm.is_finite() {
            return Ok(norm);
        }
        let update = self.step + 1;
        Err(TrainerError::NotFinite { update, step: None, what: "the gradient norm", value: norm })
    }

    /// The step of an update whose gradients have this norm, clipped as in [`update`](Self::update).
    ///
    /// # Errors
    /// [`TrainerError::NotFinite`] when the norm is not finite.
    pub(crate) fn clipped_step(&self, norm: f64, lr: f64) -> Result<AdamWStep, TrainerError> {
        let norm = self.check_norm(norm)?;
        Ok(AdamWStep { grad_scale: (self.config.max_grad_norm / (norm + 1e-6)).min(1.0) as f32, ..self.next_step(lr) })
    }

    /// Counts an update that was made on the ranks; one that failed may have changed something.
    pub(crate) fn count(&mut self, is_made: bool) {
        self.step += u64::from(is_made);
        self.is_torn |= !is_made;
    }
}

/// Names and shapes of the moments: of each parameter the first and then the second.
fn listed(policy: &Decoder) -> Vec<(String, Shape)> {
    let of = |(name, shape): (&str, &Shape)| ["m", "v"].map(|kind| (format!("{kind}.{name}"), shape.clone()));
    policy.parameters().into_iter().flat_map(of).collect()
}

/// Where a parameter's values begin among those of all, and its shape.
fn place(policy: &Decoder, index: usize) -> (usize, &Shape) {
    let parameters = policy.parameters();
    (parameters[..index].iter().map(|(_, shape)| shape.elem_count()).sum(), parameters[index].1)
}

/// What `of` gives for the values from some place on, in this shape, by the names of a decoder's parameters.
fn by_parameter(
    policy: &Decoder,
    of: impl Fn(usize, &Shape) -> Result<Tensor, TrainerError>,
) -> Result<BTreeMap<String, Tensor>, TrainerError> {
    let (mut tensors, mut start) = (BTreeMap::new(), 0);
    for (name, shape) in policy.parameters() {
        tensors.insert(name.to_owned(), of(start, shape)?);
        start += shape.elem_count();
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_policy::ModelConfig;

    type State = BTreeMap<String, Tensor>;
    type Fault<'a> = &'a dyn Fn(&mut State);

    fn policy() -> Decoder {
        let tiny = ModelConfig { hidden_size: 16, intermediate_size: 8, num_attention_heads: 2, ..small() };
        Decoder::random(tiny, 1).unwrap()
    }

    fn small() -> ModelConfig {
        let heads = ModelConfig { num_key_value_heads: 1, head_dim: 4, ..ModelConfig::qwen3_0_6b() };
        ModelConfig { num_hidden_layers: 1, vocab_size: 20, ..heads }
    }

    fn optimizer(policy: &Decoder) -> AdamW {
        AdamW::new(policy, OptimizerConfig::default()).unwrap()
    }

    /// Moments that tell the parameters apart.
    fn numbered(policy: &Decoder) -> State {
        let of = |(number, (name, shape)): (usize, (String, Shape))| {
            (name, Tensor::full(number as f32 + 0.5, shape, &Device::Cpu).unwrap())
        };
        listed(policy).into_iter().enumerate().map(of).collect()
    }

    fn bits(state: &State) -> Vec<(&str, Vec<u32>)> {
        let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        state.iter().map(|(name, tensor)| (name.as_str(), of(tensor).into_iter().map(f32::to_bits).collect())).collect()
    }

    #[test]
    fn moments_that_were_saved_are_those_that_are_loaded() {
        let (policy, dir) = (policy(), tempfile::tempdir().unwrap());
        let file = dir.path().join("optimizer.safetensors");
        let (mut first, mut second, state) = (optimizer(&policy), optimizer(&policy), numbered(&policy));
        first.restore(&policy, 7, &state).unwrap();
        assert_eq!(bits(&first.state(&policy).unwrap()), bits(&state));
        first.save(&policy, &file).unwrap();
        second.load(&policy, 7, &file).unwrap();
        assert_eq!((second.steps(), bits(&second.state(&policy).unwrap())), (7, bits(&state)));
    }

    #[test]
    fn moments_that_do_not_fit_change_nothing() {
        const NAME: &str = "v.model.norm.weight";
        let (policy, dir) = (policy(), tempfile::tempdir().unwrap());
        let file = dir.path().join("optimizer.safetensors");
        let mut optimizer = optimizer(&policy);
        let begin = optimizer.state(&policy).unwrap();
        let faults: [(Fault<'_>, &str); 3] = [
            (&|state| drop(state.remove(NAME)), "missing"),
            (&|state| drop(state.insert(NAME.into(), state[NAME].unsqueeze(0).unwrap())), "of shape [1, 16]"),
            (&|state| drop(state.insert(NAME.into(), state[NAME].to_dtype(DType::F64).unwrap())), "F64 of shape [16]"),
        ];
        for (number, (fault, text)) in faults.into_iter().enumerate() {
            let mut state = numbered(&policy);
            fault(&mut state);
            let error = optimizer.restore(&policy, 7, &state).unwrap_err().to_string();
            assert!(error.contains(NAME) && error.contains(text), "{error}");
            // A file of moments is always in f32.
            if number < 2 {
                dapo_policy::write_tensors(&file, &state).unwrap();
                let error = optimizer.load(&policy, 7, &file).unwrap_err().to_string();
                assert!(error.contains("optimizer.safetensors: ") && error.contains(NAME), "{error}");
                assert!(error.contains(text), "{error}");
            }
            assert_eq!((optimizer.steps(), bits(&optimizer.state(&policy).unwrap())), (0, bits(&begin)));
        }
    }
}
