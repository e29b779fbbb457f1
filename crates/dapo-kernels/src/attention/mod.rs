//! Causal attention with grouped key-value heads, over packed sequences and over a cache.
//!
//! A packed batch is a row of [`Segments`], end to end, without padding. A segment may continue another one, its
//! `parent` (a group's shared prompt): its tokens see the parent's keys and then their own, and the parent's keys
//! gather the gradients of all that continue it.
//!
//! The result for a token is a function of its query and of the keys and values before it, in order: scores are sums
//! over the head dimension, the softmax sums over 32 lanes cut by absolute position, the output sums over keys from the
//! first on. So the bits are the same in training, prefill and decoding, for any packing and any thread count. No
//! `[T, T]` matrix is kept: scores live for a few rows (backward: a block of 32 queries), and the backward computes
//! them again.

mod backward;
mod block;
mod cache;
mod forward;
mod segments;
mod softmax;

pub use backward::{AttentionGradients, Saved, backward};
pub use cache::{KvCache, decode, extend};
pub use forward::forward;
pub use segments::{Segment, Segments};

/// Numbers of heads and their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads; divides `query`.
    pub key_value: usize,
    /// Width of a head.
    pub dim: usize,
}

impl Heads {
    pub(crate) fn per_key_value(&self) -> usize {
        self.query / self.key_value
    }
}
