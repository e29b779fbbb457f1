//! The decoder's operations as differentiable operations on [`candle_core::Tensor`]s.
//!
//! candle-nn 0.11 applies its fused operations without a backward (`apply_op2_no_bwd` and its like): `ops::rms_norm`,
//! `ops::layer_norm`, `ops::softmax_last_dim`, `ops::sdpa` and those of `rotary_emb`. Their results are cut off from the
//! graph, so that `backward` succeeds and silently leaves out every gradient behind them. The operations here have
//! backward passes written out.
//!
//! | operation | computes in one pass | differentiable in |
//! |---|---|---|
//! | [`linear()`] | x·Wᵀ + b over a weight packed once per update | x, W, b |
//! | [`low_rank_linear()`] | x·Wᵀ + b + (α / r)·(x·Aᵀ)·Bᵀ, W and b frozen | x, A, B |
//! | [`rms_norm()`] | the root mean square of a row, its division, the weight | x, w |
//! | [`norm_rope()`] | QK-norm of every head and its rotation | x, w |
//! | [`swiglu()`] | silu(gate)·up | gate, up |
//! | [`attention()`] | scores, softmax and output of packed sequences, without a `[T, T]` matrix | q, k, v |
//! | [`decode_attention`] | the same for one new token per sequence, over a cache | nothing: refuses recorded arguments |
//! | [`inject_gradient()`] | 0, to continue a backward pass from a gradient computed elsewhere | y |
//!
//! Arguments are contiguous f32 tensors on the CPU, rows of a packed batch `[T, width]`; anything else is an error. An
//! operation's bits are those of the functions on slices ([`crate::linear`], [`crate::attention`] and their like), which
//! `dapo-policy` trains with: a row's values do not depend on the rows beside it.
//!
//! A layer's first half, with its gradients:
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor, Var};
//! use dapo_kernels::RotaryTable;
//! use dapo_kernels::attention::{Heads, Segments};
//! use dapo_kernels::ops::{attention, linear, norm_rope, pack, rms_norm};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<()> {
//! let heads = Heads { query: 2, key_value: 1, dim: 4 };
//! let segments = Arc::new(Segments::new([(3, None), (2, None)])?); // two sequences, of 3 and 2 tokens
//! let table = Arc::new(RotaryTable::new(&segments.positions(), heads.dim, 1e4));
//! let random = |rows: usize, columns: usize| Var::randn(0.0f32, 1.0, (rows, columns), &Device::Cpu);
//! let (x, w_q, w_kv) = (random(5, 8)?, random(8, 8)?, random(4, 8)?);
//! let norm = Var::ones(8, DType::F32, &Device::Cpu)?;
//!
//! let normed = rms_norm(&x, &norm, 1e-6)?;
//! let project = |w: &Tensor| linear(&normed, w, &pack(w)?, None);
//! let (q, k, v) = (project(&w_q)?, project(&w_kv)?, project(&w_kv)?);
//! let (q, k) = (norm_rope(&q, None, &table)?, norm_rope(&k, None, &table)?);
//! let y = attention(&q, &k, &v, heads, &segments)?;
//!
//! let gradients = y.sqr()?.sum_all()?.backward()?;
//! for var in [&x, &norm, &w_q, &w_kv] {
//!     assert_eq!(gradients.get(var).expect("one for every variable").dims(), var.dims());
//! }
//! # Ok(())
//! # }
//! ```

mod attention;
mod inject_gradient;
mod linear;
mod low_rank_linear;
mod norm_rope;
mod rms_norm;
mod swiglu;

pub use attention::{attention, decode_attention};
pub use inject_gradient::inject_gradient;
pub use linear::{linear, pack};
pub use low_rank_linear::{LowRank, low_rank_linear};
pub use norm_rope::norm_rope;
pub use rms_norm::rms_norm;
pub use swiglu::swiglu;
