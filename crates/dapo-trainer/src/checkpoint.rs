//! Everything a run needs to continue exactly as if it had not stopped.
//!
//! | file | what |
//! |---|---|
//! | `model/` or `adapter/` | the weights, or the low-rank adapters alone; the f32 masters are the weights themselves |
//! | `optimizer.safetensors` | AdamW's moments |
//! | `value_head.safetensors` | PPO's value head with its moments, where there is a critic |
//! | `critic.safetensors`, `critic_optimizer.safetensors` | a critic's own layers, and AdamW's moments of them |
//! | `reference.safetensors` | the reference model, where it follows the policy |
//! | `groups.safetensors` | the token ids and log-probs of surplus groups, where there are any |
//! | `trainer.json` | steps, tokens, the place in the data, the sampler with the texts of its surplus groups |
//! | `manifest.json` | size and hash of every other file, written last |
//!
//! Random numbers are keyed by (seed, draw, sample, position), so that no generator's state needs to be kept.

use crate::critic::Critic;
use crate::durable;
use crate::error::TrainerError;
use crate::fingerprint::{fingerprint_of_data, fingerprint_of_weights};
use crate::groups;
use crate::manifest::{Manifest, RunState, check_name};
use crate::reference::Reference;
use crate::state::{FORMAT, REFERENCE, State, wrong};
use crate::trainer::Trainer;
use candle_core::{DType, Shape};
use dapo_data::Prompt;
use dapo_files::read_file;
use dapo_policy::{Decoder, read_adapter, read_weights, save_adapter, save_checkpoint_with, write_weights_with};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

impl Trainer {
    /// Writes a checkpoint folder: aside first, to the disk, then renamed, so that a checkpoint that exists is whole.
    /// `base_model` is what an adapter's folder names as its model.
    ///
    /// The same state gives the same bytes. One of several ranks needs [`gather_moments`](Self::gather_moments) before.
    ///
    /// # Errors
    /// When the folder exists, other ranks hold a part of what is written, or a file cannot be written. When a weight is
    /// absurd, or the last step failed after an update.
    pub fn save(&self, dir: &Path, base_model: &str) -> Result<(), TrainerError> {
        self.save_of_run(dir, base_model, None)
    }

    /// As [`save`](Self::save), with what belongs to the checkpoint beyond the trainer.
    ///
    /// # Errors
    /// As there.
    pub fn save_of_run(&self, dir: &Path, base_model: &str, run: Option<RunState>) -> Result<(), TrainerError> {
        if self.is_torn {
            return Err(TrainerError::Torn { step: self.step + 1 });
        }
        if dir.exists() {
            let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the checkpoint exists already");
            return Err(io(dir)(exists));
        }
        let aside = durable::aside(dir);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io(&aside))?;
        }
        let written = self.write(&aside, base_model, run).and_then(|()| durable::rename(&aside, dir));
        if written.is_err() {
            // The disk may be full; what is half written is of no use to anyone.
            let _ = fs::remove_dir_all(&aside);
        }
        written
    }

    /// Disk space that a checkpoint of the present state takes, in bytes: tensors and carried groups, and a hundredth of the
    /// tensors for the tokenizer and what else is small.
    pub fn checkpoint_bytes(&self) -> u64 {
        let trained = self.policy.num_parameters();
        let all =
            || self.policy.config().parameter_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let weights: usize = if self.policy.lora().is_some() { trained } else { all() };
        let reference = if self.moved_reference().is_some() { all() } else { 0 };
        let tensors = 4 * (weights + 2 * trained + reference);
        let kept = self.sampler.kept().iter().map(|kept| groups::bytes(&kept.group));
        (tensors + tensors / 100 + kept.sum::<usize>()) as u64
    }

    /// Writes every file of a checkpoint, the manifest last, and has them reach the disk.
    fn write(&self, dir: &Path, base_model: &str, run: Option<RunState>) -> Result<(), TrainerError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        if self.policy.lora().is_some() {
            save_adapter(&dir.join("adapter"), base_model, &self.policy)?;
        } else {
            let tensor = |index| self.optimizer.parameter(&self.policy, index);
            save_checkpoint_with(&dir.join("model"), self.policy.config(), self.tokenizer(), DType::F32, tensor)?;
        }
        self.optimizer.save(&self.policy, &dir.join("optimizer.safetensors"))?;
        if let Some(critic) = &self.critic {
            critic.save(dir)?;
        }
        let reference = self.moved_reference();
        if let Some(reference) = reference {
            let shapes = reference.config().parameter_shapes().into_iter().map(|(name, shape)| (name, shape.into()));
            let shapes: Vec<(String, Shape)> = shapes.collect();
            write_weights_with(&dir.join(REFERENCE), &shapes, |place| reference.tensor(place))?;
        }
        let state = State {
            format: FORMAT,
            step: self.step,
            num_tokens: self.num_tokens,
            updates: self.optimizer.steps(),
            critic_updates: self.critic.as_ref().map_or(0, Critic::updates),
            mastered_groups: self.mastered_groups,
            skipped_steps: self.skipped_steps,
            data: fingerprint_of_data(&self.prompts),
            base: Some(self.base.clone()),
            has_reference: reference.is_some(),
            order: self.order.clone(),
            sampler: groups::write(dir, &self.sampler)?,
        };
        let file = dir.join("trainer.json");
        let json = serde_json::to_vec(&state).map_err(std::io::Error::from).map_err(io(&file))?;
        fs::write(&file, json).map_err(io(&file))?;
        durable::sync_tree(dir)?;
        Manifest::of(dir, self.step, run)?.write(dir)
    }

    /// Continues from a checkpoint whose files are those of its manifest. The trainer must have been made with the same
    /// prompts, and from the model that the run began with.
    ///
    /// # Errors
    /// Names the file and what in it does not fit; the trainer must then not be used.
    pub fn restore(&mut self, dir: &Path) -> Result<(), TrainerError> {
        let Some(manifest) = Manifest::read(dir)? else {
            let expected = "the sizes and hashes of the checkpoint's files";
            return Err(wrong(&dir.join(Manifest::FILE), "missing".into(), expected));
        };
        manifest.check_files(dir, |_| true)?;
        self.restore_unverified(dir)
    }

    /// As [`restore`](Self::restore), without a look at the manifest: checkpoints of older versions have none.
    ///
    /// # Errors
    /// As there.
    pub fn restore_unverified(&mut self, dir: &Path) -> Result<(), TrainerError> {
        let file = dir.join("trainer.json");
        let state = State::read(&file, &self.config().sampler)?;
        check_name(dir, state.step, &file)?;
        let wrong = |found: String, expected: &str| wrong(&file, found, expected);
        if state.data != fingerprint_of_data(&self.prompts) {
            let found = format!("a run on {} other prompts", state.order.prompts());
            return Err(wrong(found, "one on the same prompts: the data or how it is rendered has changed"));
        }
        if state.order.prompts() != self.prompts.len() {
            let found = format!("an order of {} prompts", state.order.prompts());
            return Err(wrong(found, &format!("one of the {} prompts", self.prompts.len())));
        }
        if let Some(began) = state.base.filter(|began| *began != self.base) {
            let found = format!("a run that began with other model weights (fingerprint {began})");
            let now = &self.base;
            let expected =
                format!("one that began with the model given now (fingerprint {now}): its weights have changed");
            return Err(wrong(found, &expected));
        }
        // A reference that is where the run began is there already, also where KL has just been switched on.
        let has_copy = self.reference.as_ref().is_some_and(|reference| reference.copy().is_some());
        self.has_moved_reference = state.has_reference && has_copy;
        if self.has_moved_reference {
            self.reference = Some(Reference::Copy(Box::new(self.read_reference(&dir.join(REFERENCE))?)));
        }
        if self.policy.lora().is_some() {
            read_adapter(&dir.join("adapter/adapter_model.safetensors"), &mut self.policy)?;
        } else {
            self.policy.read_trainable(&dir.join("model/model.safetensors"))?;
        }
        if !self.team.is_alone() {
            self.taken_from = fingerprint_of_weights(&self.policy)?;
        }
        self.optimizer.take_weights(&mut self.policy)?;
        self.optimizer.load(&self.policy, state.updates, &dir.join("optimizer.safetensors"))?;
        if let Some(critic) = &mut self.critic {
            critic.restore(dir, state.critic_updates)?;
        }
        self.sampler = state.sampler;
        self.sampler.reconfigure(self.config().sampler.clone())?;
        self.complete_prompts();
        self.order = state.order;
        self.step = state.step;
        self.num_tokens = state.num_tokens;
        self.mastered_groups = state.mastered_groups;
        self.skipped_steps = state.skipped_steps;
        self.is_torn = false;
        Ok(())
    }

    /// Gives carried groups what a checkpoint does not hold of their prompts.
    fn complete_prompts(&mut self) {
        let key = |prompt: &Prompt| (prompt.id.clone(), prompt.token_ids.clone());
        let known: HashMap<_, &Prompt> = self.prompts.iter().map(|prompt| (key(prompt), prompt)).collect();
        for (_, group) in self.sampler.kept_mut() {
            if let Some(prompt) = known.get(&key(&group.prompt)) {
                Arc::make_mut(group).prompt = (*prompt).clone();
            }
        }
    }

    /// The reference of a checkpoint, where the policy computes.
    fn read_reference(&self, file: &Path) -> Result<Decoder, TrainerError> {
        let tensors = read_weights(file)?;
        let unfit = |error: dapo_policy::PolicyError| {
            wrong(file, format!("another reference ({error})"), "a model with the policy's tensors")
        };
        let saved = Decoder::new(self.policy.config().clone(), tensors).map_err(unfit)?;
        let mut reference = self.policy.frozen_copy()?;
        // With the share 1 every weight is copied bit for bit.
        reference.mix_from(&saved, 1.0).map_err(unfit)?;
        Ok(reference)
    }

    /// The steps a checkpoint was made after.
    ///
    /// # Errors
    /// When its `trainer.json` cannot be read.
    pub fn steps_of(dir: &Path) -> Result<u64, TrainerError> {
        #[derive(Deserialize)]
        struct Steps {
            step: u64,
        }
        let path = dir.join("trainer.json");
        let text = read_file(&path).map_err(|source| TrainerError::Io { path: path.clone(), source })?;
        let steps: Steps =
            serde_json::from_slice(&text).map_err(|error| wrong(&path, error.to_string(), "the state of a trainer"))?;
        Ok(steps.step)
    }

    /// The reference, where it is no longer what the run began with and so belongs to the state.
    fn moved_reference(&self) -> Option<&Decoder> {
        let moves = self.config().reference_sync.every.is_some() || self.has_moved_reference;
        self.reference.as_ref().filter(|_| moves)?.copy()
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainerError {
    let path = path.to_owned();
    move |source| TrainerError::Io { path, source }
}
