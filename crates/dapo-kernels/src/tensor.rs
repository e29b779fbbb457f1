//! Views of CPU tensors as slices.

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};
use std::cell::Cell;
use std::ops::Deref;

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

/// Locks the elements of a contiguous f32 CPU tensor for reading, without copying them.
///
/// # Errors
/// When the tensor is elsewhere, of another type or not contiguous.
pub fn values(tensor: &Tensor) -> Result<impl Deref<Target = [f32]>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        bail!("values: expected a CPU tensor, got one on {:?}", tensor.device().location());
    };
    slice("values", cpu, layout)?;
    let (start, end) = layout.contiguous_offsets().unwrap_or_default();
    Ok(Values { storage, start, end })
}

struct Values<G> {
    storage: G,
    start: usize,
    end: usize,
}

impl<G: Deref<Target = Storage>> Deref for Values<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(data)) => &data[self.start..self.end],
            // `values` makes none of these.
            _ => &[],
        }
    }
}

/// Checks a tensor's rank and last dimension; `name` says whose.
pub(crate) fn check_last(op: &str, name: &str, dims: &[usize], rank: usize, last: usize) -> Result<()> {
    if dims.len() != rank || dims.last() != Some(&last) {
        bail!("{op}: {name} has shape {dims:?}, expected rank {rank} and last dimension {last}");
    }
    Ok(())
}

/// Runs `f` on the elements of a contiguous f32 CPU tensor, in place. All tensors that share its storage see the change.
///
/// # Errors
/// When the tensor is elsewhere, of another type or not contiguous; and what `f` returns.
pub fn with_slice_mut<T>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> Result<T>) -> Result<T> {
    let op = InPlace { f: Cell::new(Some(f)), result: Cell::new(None) };
    tensor.inplace_op1(&op)?;
    match op.result.take() {
        Some(result) => Ok(result),
        None => bail!("with_slice_mut: the operation did not run"),
    }
}

struct InPlace<F, T> {
    f: Cell<Option<F>>,
    result: Cell<Option<T>>,
}

impl<T, F: FnOnce(&mut [f32]) -> Result<T>> InplaceOp1 for InPlace<F, T> {
    fn name(&self) -> &'static str {
        "with_slice_mut"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(data) = storage else {
            bail!("with_slice_mut: expected f32, got {:?}", storage_dtype(storage));
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("with_slice_mut: expected a contiguous tensor, got strides {:?}", layout.stride());
        };
        if let Some(f) = self.f.take() {
            self.result.set(Some(f(&mut data[start..end])?));
        }
        Ok(())
    }
}
