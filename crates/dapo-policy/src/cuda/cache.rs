//! The cache of keys and values, in blocks.

use super::compute::Compute;
use dapo_kernels::cuda::attention::{BlockTable, CacheShape, append};
use dapo_kernels::cuda::{Buffer, Gpu, In};

/// Where rows go in the cache.
pub(super) struct Places<'a> {
    /// The rows of the table.
    pub(super) sequences: In<'a, u32>,
    pub(super) positions: In<'a, u32>,
    pub(super) table: BlockTable<'a>,
}

/// Keys and values of all layers.
pub(super) struct Cache<T> {
    pub(super) shape: CacheShape,
    pub(super) k: Buffer<T>,
    pub(super) v: Buffer<T>,
}

impl<T: Compute> Cache<T> {
    pub(super) fn new(gpu: &Gpu, shape: CacheShape, layers: usize) -> candle_core::Result<Self> {
        let len = layers * shape.layer_len();
        Ok(Self { shape, k: gpu.zeros(len)?, v: gpu.zeros(len)? })
    }

    pub(super) fn layer(&self, index: usize) -> candle_core::Result<(In<'_, T>, In<'_, T>)> {
        let range = index * self.shape.layer_len()..(index + 1) * self.shape.layer_len();
        Ok((self.k.part(range.clone())?, self.v.part(range)?))
    }

    pub(super) fn append(
        &mut self,
        gpu: &Gpu,
        index: usize,
        qkv: In<'_, T>,
        places: &Places<'_>,
    ) -> candle_core::Result<()> {
        let range = index * self.shape.layer_len()..(index + 1) * self.shape.layer_len();
        let (k, v) = (self.k.part_mut(range.clone())?, self.v.part_mut(range)?);
        let (sequences, positions) = (places.sequences.clone(), places.positions.clone());
        append(gpu, self.shape, qkv, Some(sequences), positions, &places.table, k, v)
    }
}
