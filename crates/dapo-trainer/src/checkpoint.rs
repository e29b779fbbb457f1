//! Everything a run needs to continue exactly as if it had not stopped.
//!
//! | file | what |
//! |---|---|
//! | `model/` or `adapter/` | the weights, or the low-rank adapters alone; the f32 masters are the weights themselves |
//! | `optimizer.safetensors` | AdamW's moments |
//! | `reference.safetensors` | the reference model, where it follows the policy |
//! | `trainer.json` | steps, tokens, the place in the data, the sampler with its surplus groups |
//!
//! Random numbers are keyed by (seed, draw, sample, position), so that no generator's state needs to be kept.

use crate::error::TrainerError;
use crate::fingerprint::fingerprint_of_data;
use crate::prompt::Prompt;
use crate::reference::Reference;
use crate::state::{FORMAT, State, wrong};
use crate::trainer::Trainer;
use dapo_policy::{Decoder, read_file, read_tensors, save_adapter, save_checkpoint, write_tensors};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Trainer {
    /// Writes a checkpoint folder: aside first, then renamed, so that a checkpoint that exists is whole. `base_model` is what
    /// an adapter's folder names as its model.
    ///
    /// The same state gives the same bytes.
    ///
    /// # Errors
    /// When the folder exists, a file cannot be written, or the last step failed between two updates.
    pub fn save(&self, dir: &Path, base_model: &str) -> Result<(), TrainerError> {
        if self.is_torn {
            return Err(TrainerError::Torn { step: self.step + 1 });
        }
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TrainerError::Io { path, source }
        };
        if dir.exists() {
            let exists = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "the checkpoint exists already");
            return Err(io(dir)(exists));
        }
        let aside = aside(dir);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(io(&aside))?;
        }
        fs::create_dir_all(&aside).map_err(io(&aside))?;
        if self.policy.lora().is_some() {
            save_adapter(&aside.join("adapter"), base_model, &self.policy)?;
        } else {
            let model = aside.join("model");
            save_checkpoint(&model, self.policy.config(), &self.policy.tensors()?, self.tokenizer())?;
        }
        write_tensors(&aside.join("optimizer.safetensors"), &self.optimizer.state(&self.policy)?)?;
        if let Some(reference) = self.following_reference() {
            write_tensors(&aside.join("reference.safetensors"), &reference.tensors()?)?;
        }
        let state = State {
            format: FORMAT,
            step: self.step,
            num_tokens: self.num_tokens,
            updates: self.optimizer.steps(),
            mastered_groups: self.mastered_groups,
            skipped_steps: self.skipped_steps,
            data: fingerprint_of_data(&self.prompts),
            base: self.base.clone(),
            order: self.order.clone(),
            sampler: self.sampler.clone(),
        };
        let file = aside.join("trainer.json");
        let json = serde_json::to_vec(&state).map_err(std::io::Error::from).map_err(io(&file))?;
        fs::write(&file, json).map_err(io(&file))?;
        sync(&aside).map_err(io(&aside))?;
        fs::rename(&aside, dir).map_err(io(dir))
    }

    /// Continues from a checkpoint. The trainer must have been made with the same prompts, and from the same model where
    /// adapters are trained or a reference is needed.
    ///
    /// # Errors
    /// Names the file and what in it does not fit; the trainer must then not be used.
    pub fn restore(&mut self, dir: &Path) -> Result<(), TrainerError> {
        let file = dir.join("trainer.json");
        let state = State::read(&file, &self.config().sampler)?;
        let wrong = |found: String, expected: &str| wrong(&file, found, expected);
        if state.data != fingerprint_of_data(&self.prompts) {
            let found = format!("a run on {} other prompts", state.order.prompts());
            return Err(wrong(found, "one on the same prompts: the data or how it is rendered has changed"));
        }
        if state.base != self.base {
            return Err(wrong("a run from another model".into(), "one from this model: its weights have changed"));
        }
        if self.following_reference().is_some() {
            let tensors = read_tensors(&dir.join("reference.safetensors"))?;
            let reference = Decoder::new(self.policy.config().clone(), tensors)?;
            self.reference = Some(Reference::Copy(Box::new(reference)));
        }
        let weights = if self.policy.lora().is_some() {
            // PEFT's names are ours with a prefix.
            let named = read_tensors(&dir.join("adapter/adapter_model.safetensors"))?.into_iter();
            let own = |name: String| name.strip_prefix("base_model.model.").map_or(name.clone(), str::to_owned);
            named.map(|(name, tensor)| (own(name), tensor)).collect()
        } else {
            read_tensors(&dir.join("model/model.safetensors"))?
        };
        self.policy.load_trainable(&weights)?;
        let moments = read_tensors(&dir.join("optimizer.safetensors"))?;
        self.optimizer.restore(&self.policy, state.updates, &moments)?;
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

    /// The reference, where it follows the policy and so belongs to the state.
    fn following_reference(&self) -> Option<&Decoder> {
        self.reference.as_ref().filter(|_| self.config().reference_sync.every.is_some())?.copy()
    }
}

/// Where a folder is written before it is renamed.
fn aside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    dir.with_file_name(name)
}

/// Has the files of a folder reach the disk before the folder gets its name.
fn sync(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}
