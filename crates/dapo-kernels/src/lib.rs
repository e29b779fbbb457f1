//! Fused, differentiable operations of a decoder-only language model.
//!
//! One folder an operation, each with its CPU code, its backward and its cost. On the CPU everything is f32, vectorised
//! for AVX-512, AVX2 or the baseline (chosen at run time) and spread over rayon's threads, with one promise: **a
//! token's values depend on its sequence alone**. Batch, packing, cache length and thread count change no bit, because
//! every sum has one order ([`matmul`], [`attention`]). That is what lets a reinforcement-learning trainer use the
//! log-probs of its rollouts as they are.
//!
//! [`ops`] has them for [`candle_core::Tensor`]s, as part of candle's automatic differentiation; the other modules have
//! them for slices, forward and backward, as a policy puts them together without a graph.
//!
//! When not to use it: for inference alone candle's own fused operations are as good, and run on more devices.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! # fn main() -> candle_core::Result<()> {
//! let x = Var::new(&[[3.0f32, 4.0]], &Device::Cpu)?;
//! let weight = Var::new(&[1.0f32, 2.0], &Device::Cpu)?;
//! let y = dapo_kernels::ops::rms_norm(x.as_tensor(), weight.as_tensor(), 0.0)?;
//! // The root mean square of (3, 4) is √12.5.
//! let expected = [3.0 / 12.5f32.sqrt(), 2.0 * 4.0 / 12.5f32.sqrt()];
//! assert!(y.to_vec2::<f32>()?[0].iter().zip(expected).all(|(y, e)| (y - e).abs() < 1e-6));
//! let gradients = y.sum_all()?.backward()?;
//! assert!(gradients.get(&weight).is_some());
//! # Ok(())
//! # }
//! ```

pub mod adamw;
#[cfg(feature = "mimalloc")]
pub mod allocator;
pub mod attention;
pub mod bf16;
pub mod buffer;
#[cfg(any(feature = "cuda", feature = "emulate"))]
pub mod cuda;
pub mod linear;
pub mod logprobs;
pub mod matmul;
pub mod ops;
pub mod rms_norm;
pub mod rope;
pub mod simd;
pub mod swiglu;
mod tensor;
pub mod threads;

pub use linear::LowRankFactors;
pub use rope::RotaryTable;
pub use tensor::{values, with_slice, with_slice_mut};
