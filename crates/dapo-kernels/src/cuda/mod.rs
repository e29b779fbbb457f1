//! The operations as kernels on an NVIDIA GPU, and the same kernels emulated on the CPU.
//!
//! Each operation's folder has a `kernel.cu` and a `cuda.rs`: functions that check sizes and launch. They work on
//! [`In`] and [`Out`], views of memory that is on a GPU or, with the feature `emulate`, in a slice: the launches that
//! run on a device are those that the tests run without one.
//!
//! A kernel sums in one order, without atomics on floats: the same inputs give the same bits on every run. Activations
//! are f32 or bf16, mathematics is f32.
//!
//! ```
//! # #[cfg(feature = "emulate")]
//! # fn main() -> candle_core::Result<()> {
//! use dapo_kernels::cuda::{Gpu, rms_norm};
//! let gpu = Gpu::emulated();
//! let (x, weight) = (gpu.upload(&[3.0f32, 4.0])?, gpu.upload(&[1.0f32, 2.0])?);
//! let mut y = gpu.zeros::<f32>(2)?;
//! rms_norm::forward(&gpu, x.view(), weight.view(), 0.0, y.view_mut())?;
//! assert!((gpu.read(y.view())?[1] - 8.0 / 12.5f32.sqrt()).abs() < 1e-6);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "emulate"))]
//! # fn main() {}
//! ```

mod call;
#[cfg(feature = "cuda")]
mod driver;
#[cfg(feature = "emulate")]
mod emulator;
pub mod gemm;
mod gpu;
mod launch;
mod memory;

#[path = "../adamw/cuda.rs"]
pub mod adamw;
#[path = "../attention/cuda.rs"]
pub mod attention;
#[path = "../bias/cuda.rs"]
pub mod bias;
#[path = "../decoding/cuda.rs"]
pub mod decoding;
#[path = "../elementwise/cuda.rs"]
pub mod elementwise;
#[path = "../embedding/cuda.rs"]
pub mod embedding;
#[path = "../logprobs/cuda.rs"]
pub mod logprobs;
#[path = "../policy_loss/cuda.rs"]
pub mod policy_loss;
#[path = "../rms_norm/cuda.rs"]
pub mod rms_norm;
#[path = "../rope/cuda.rs"]
pub mod rope;
#[path = "../sampling/cuda.rs"]
pub mod sampling;
#[path = "../swiglu/cuda.rs"]
pub mod swiglu;

pub use call::DeviceInfo;
pub(crate) use call::{Kernel, expect_len};
pub use gpu::Gpu;
#[cfg(feature = "cuda")]
pub use gpu::{device_count, device_info, devices};
pub(crate) use launch::{Launch, row_threads};
pub use memory::{Buffer, DeviceValue, Element, In, Out};

#[cfg(feature = "cuda")]
#[doc(no_inline)]
pub use candle_core::cuda_backend::cudarc;
