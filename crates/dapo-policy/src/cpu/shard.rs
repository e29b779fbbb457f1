//! The sequences of a thread, where each thread computes a part of the active ones.

use super::active::Active;
use super::buffers::Buffers;
use super::kept::Keeper;
use super::model::Model;
use crate::error::PolicyError;
use crate::generator::Ended;
use crate::request::GenerationConfig;
use dapo_kernels::attention::KvCache;

/// Values of the weights up to which they stay in the cache of every core: 4 MiB in f32.
const CACHED_WEIGHTS: usize = 1 << 20;
/// Fewest sequences of a part: their rows fill about one tile of a matmul.
const FEWEST: usize = 8;

/// Into how many parts the sequences are divided. Each part is computed by one thread alone, so every thread reads all
/// weights, but threads meet once a token and not in every operation. For a small model this is faster.
pub(super) fn parts(weights: usize, sequences: usize) -> usize {
    if weights > CACHED_WEIGHTS { 1 } else { (sequences / FEWEST).clamp(1, rayon::current_num_threads()) }
}

/// Neighbours among the active sequences, with their caches and the memory of their forward.
pub(super) struct Shard<'s> {
    active: &'s mut [Active],
    /// By layer.
    caches: Vec<&'s mut [KvCache]>,
    buffers: &'s mut Buffers,
}

impl<'s> Shard<'s> {
    /// Divides sequences equally among the buffers.
    pub(super) fn divide(
        mut active: &'s mut [Active],
        caches: impl Iterator<Item = &'s mut [KvCache]>,
        buffers: &'s mut [Buffers],
    ) -> Vec<Self> {
        let mut caches: Vec<&mut [KvCache]> = caches.collect();
        let parts = buffers.len();
        let shard = |(number, buffers)| {
            let count = active.len() / (parts - number);
            Self {
                active: active.split_off_mut(..count).unwrap_or_default(),
                caches: caches.iter_mut().map(|caches| caches.split_off_mut(..count).unwrap_or_default()).collect(),
                buffers,
            }
        };
        buffers.iter_mut().enumerate().map(shard).collect()
    }

    /// Computes and draws, as [`Buffers::advance`] says.
    pub(super) fn advance(
        &mut self,
        model: &Model,
        config: &GenerationConfig,
        keeper: Option<&Keeper<'_>>,
    ) -> Result<(), PolicyError> {
        let caches = self.caches.iter_mut().map(|caches| &mut **caches);
        self.buffers.advance(model, config, self.active, caches, keeper)
    }

    /// As [`Buffers::settle`] says.
    pub(super) fn settle(self, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
        self.buffers.settle(self.active, self.caches.into_iter(), ended)
    }
}
