//! What a backend is asked for, and what it says about its device.

use candle_core::{Result, bail};

/// A kernel: the folder of its `kernel.cu`, and its name there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "emulated kernels are found by name alone"))]
    pub(crate) module: &'static str,
    pub(crate) name: &'static str,
}

impl Kernel {
    pub(crate) const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name }
    }
}

/// Which factor is read by columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// C = A·B, with A `[m, k]` and B `[k, n]`: the gradient of a linear layer's input.
    Plain,
    /// C = A·Bᵀ, with A `[m, k]` and B `[n, k]`: a linear layer.
    RightTransposed,
    /// C = Aᵀ·B, with A `[k, m]` and B `[k, n]`: the gradient of a linear layer's weight.
    LeftTransposed,
}

/// What becomes of what C holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is overwritten.
    Write,
    /// The matmul is added to it.
    Add,
}

/// What a device says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The device's name.
    pub name: String,
    /// Memory in bytes.
    pub total_memory: usize,
    /// Memory in bytes that is free now.
    pub free_memory: usize,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Compute capability, major and minor.
    pub compute_capability: (i32, i32),
}

/// Checks the length of an array.
pub(crate) fn expect_len(op: &str, array: &str, len: usize, expected: usize) -> Result<()> {
    if len != expected {
        bail!("{op}: {array} has {len} values, expected {expected}");
    }
    Ok(())
}
