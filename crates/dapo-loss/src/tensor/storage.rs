//! Tensors' CPU storage as slices.

use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};

/// The name under which errors are reported.
pub(super) const NAME: &str = "policy_loss";

/// The values of a contiguous CPU storage.
pub(super) fn values<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("{NAME}: expected a contiguous tensor"),
    }
}

/// A tensor's storage, locked for reading.
pub(super) struct Locked<'a, S: Deref<Target = Storage>> {
    storage: S,
    layout: &'a Layout,
}

impl<S: Deref<Target = Storage>> Locked<'_, S> {
    pub(super) fn values<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => values(storage, self.layout),
            Storage::Cuda(_) | Storage::Metal(_) => bail!("{NAME}: expected all tensors on the same device"),
        }
    }
}

pub(super) fn lock(tensor: &Tensor) -> Locked<'_, impl Deref<Target = Storage> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    Locked { storage, layout }
}
