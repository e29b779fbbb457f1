//! RMSNorm: y = x / √(mean(x²) + ε) · w.
//!
//! One read of x and one write of y (8 bytes an element); the backward recomputes the row's scale instead of keeping it.

pub(crate) mod cpu;

pub use cpu::{add_forward, backward, forward};
