//! Where a decoder computes.

use crate::error::PolicyError;
use std::fmt;
use std::str::FromStr;

/// A device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, in f32.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number: bf16, with f32 master weights.
    Cuda(usize),
    /// The GPU's kernels emulated on the CPU, in bf16 or f32: slow, for tests.
    #[cfg(feature = "emulate")]
    Emulated {
        /// bf16 as on a GPU; else f32, to compare with the CPU.
        bf16: bool,
    },
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            #[cfg(feature = "emulate")]
            Self::Emulated { .. } => f.write_str("emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = PolicyError;

    /// Reads `cpu`, `cuda` or `cuda:n`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let ordinal = match text.split_once(':') {
            None if text == "cpu" => return Ok(Self::Cpu),
            None if text == "cuda" => Some(0),
            Some(("cuda", number)) => number.parse().ok(),
            _ => None,
        };
        ordinal.map(Self::Cuda).ok_or_else(|| PolicyError::Setting {
            field: "device".into(),
            found: text.into(),
            expected: "cpu, cuda or cuda:n".into(),
        })
    }
}

/// How many GPUs this machine has that this build has code for.
pub fn cuda_device_count() -> usize {
    #[cfg(feature = "cuda")]
    {
        dapo_kernels::cuda::device_count()
    }
    #[cfg(not(feature = "cuda"))]
    0
}

/// The GPUs of this machine: name and memory of each. Empty on a machine without GPUs. Each GPU is opened for it.
///
/// # Errors
/// Says what is missing: a build with the feature `cuda`, or a driver.
pub fn cuda_devices() -> Result<Vec<String>, PolicyError> {
    #[cfg(feature = "cuda")]
    {
        let gib = |bytes: usize| bytes as f64 / f64::from(1u32 << 30);
        let devices = dapo_kernels::cuda::devices()?.into_iter();
        Ok(devices.map(|d| format!("{}, {:.1} GiB", d.name, gib(d.total_memory))).collect())
    }
    #[cfg(not(feature = "cuda"))]
    Err(not_built("cuda"))
}

/// A GPU's memory, in bytes.
///
/// # Errors
/// When there is no such GPU, or this build has no code for it.
pub fn cuda_memory(ordinal: usize) -> Result<usize, PolicyError> {
    #[cfg(feature = "cuda")]
    {
        Ok(dapo_kernels::cuda::device_info(ordinal)?.total_memory)
    }
    #[cfg(not(feature = "cuda"))]
    Err(not_built(&Device::Cuda(ordinal).to_string()))
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn not_built(found: &str) -> PolicyError {
    PolicyError::Setting {
        field: "device".into(),
        found: found.into(),
        expected: "cpu: this build has no GPU code; `cargo build --release --features cuda` makes one that has, with \
                   the CUDA toolkit installed"
            .into(),
    }
}
