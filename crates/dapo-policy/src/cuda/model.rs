//! The model on the device: f32 master weights, and the copies that matmuls read.

use super::compute::Compute;
use super::slabs::{Place, Slabs};
use super::workspace::Workspace;
use crate::backend::Trained;
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::lora::LoraConfig;
use dapo_kernels::attention::Heads;
use dapo_kernels::cuda::{Buffer, Gpu};
use std::sync::{Arc, Mutex, PoisonError};

/// A decoder whose activations and weights are T.
#[derive(Debug)]
pub(super) struct Model<T> {
    pub(super) gpu: Arc<Gpu>,
    pub(super) config: ModelConfig,
    /// r and α / r of the adapters.
    pub(super) low_rank: (usize, f32),
    pub(super) slabs: Slabs,
    /// Of the slabs that are trained.
    pub(super) master: Vec<Buffer<f32>>,
    /// Of all slabs.
    pub(super) compute: Vec<Buffer<T>>,
    /// Cosines and sines of every position.
    pub(super) rotary: Buffer<f32>,
    store: Mutex<Workspace<T>>,
}

impl<T: Compute> Model<T> {
    /// A model whose weights are 0.
    pub(super) fn new(
        gpu: Arc<Gpu>,
        config: ModelConfig,
        lora: Option<&LoraConfig>,
        trained: Trained,
    ) -> Result<Self, PolicyError> {
        let slabs = Slabs::of(&config, lora, trained)?;
        let positions: Vec<u32> = (0..config.max_position_embeddings as u32).collect();
        let rotary = config.rotary_table(&positions);
        let rotary = gpu.upload(rotary.values())?;
        let master = slabs.trained_lens().iter().map(|len| gpu.zeros(*len)).collect::<candle_core::Result<_>>()?;
        let compute = slabs.lens.iter().map(|len| gpu.zeros(*len)).collect::<candle_core::Result<_>>()?;
        let low_rank = lora.map_or((0, 0.0), |lora| (lora.rank, lora.scale()));
        Ok(Self { gpu, config, low_rank, slabs, master, compute, rotary, store: Mutex::default() })
    }

    /// Takes other values for what lies at a place.
    pub(super) fn set_weight(&mut self, place: Place, values: &[f32]) -> candle_core::Result<()> {
        let Place { slab, start, len } = place;
        if self.slabs.trains(slab) {
            let master = &mut self.master[slab - self.slabs.trained.start];
            self.gpu.write(values, master.part_mut(start..start + len)?)?;
        }
        let rounded: Vec<T> = values.iter().map(|x| T::from_f32(*x)).collect();
        self.gpu.write(&rounded, self.compute[slab].part_mut(start..start + len)?)
    }

    pub(super) fn heads(&self) -> Heads {
        let c = &self.config;
        Heads { query: c.num_attention_heads, key_value: c.num_key_value_heads, dim: c.head_dim }
    }

    pub(super) fn eps(&self) -> f32 {
        self.config.rms_norm_eps as f32
    }

    pub(super) fn take_workspace(&self) -> Workspace<T> {
        std::mem::take(&mut *self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn put_workspace(&self, workspace: Workspace<T>) {
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = workspace;
    }
}
