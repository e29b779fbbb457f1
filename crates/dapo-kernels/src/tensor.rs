//! Views of CPU tensors as slices.

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The contiguous f32 elements of an operation's argument.
pub(crate) fn slice<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else {
        bail!("{op}: expected f32, got {:?}", storage_dtype(storage));
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("{op}: expected a contiguous tensor, got strides {:?}", layout.stride()),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    use candle_core::backend::BackendStorage;
    storage.dtype()
}

/// Runs `f` on the elements of a contiguous f32 CPU tensor, without copying them.
///
/// # Errors
/// When the tensor is elsewhere, of another type or not contiguous; and what `f` returns.
pub fn with_slice<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice("with_slice", storage, layout)?),
        _ => bail!("with_slice: expected a CPU tensor, got one on {:?}", tensor.device().location()),
    }
}

/// Checks a tensor's rank and last dimension; `name` says whose.
pub(crate) fn check_last(op: &str, name: &str, dims: &[usize], rank: usize, last: usize) -> Result<()> {
    if dims.len() != rank || dims.last() != Some(&last) {
        bail!("{op}: {name} has shape {dims:?}, expected rank {rank} and last dimension {last}");
    }
    Ok(())
}
