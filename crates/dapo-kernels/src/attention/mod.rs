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
pub use cache::{KvCache, decode, decode_attention};
pub use forward::forward;
pub use segments::{Segment, Segments};

use crate::tensor::{check_last, slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

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

/// softmax(q · kᵀ / √d) · v, each token attending to its segment's past (and its parent's whole).
///
/// # Shapes
/// q `[T, heads · d]`, k and v `[T, key-value heads · d]` → `[T, heads · d]`; T is the segments' total length.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Arc<Segments>) -> Result<Tensor> {
    check_last("attention", "q", q.dims(), 2, heads.query * heads.dim)?;
    check_last("attention", "k", k.dims(), 2, heads.key_value * heads.dim)?;
    check_last("attention", "v", v.dims(), 2, heads.key_value * heads.dim)?;
    let total = segments.total();
    for (name, rows) in [("q", q.dim(0)?), ("k", k.dim(0)?), ("v", v.dim(0)?)] {
        if rows != total {
            bail!("attention: {name} has {rows} rows, expected the segments' {total}");
        }
    }
    q.apply_op3(k, v, Attention { heads, segments: Arc::clone(segments) })
}

struct Attention {
    heads: Heads,
    segments: Arc<Segments>,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (slice("attention", s1, l1)?, slice("attention", s2, l2)?, slice("attention", s3, l3)?);
        let mut out = vec![0.0; q.len()];
        forward(q, k, v, self.heads, &self.segments, &mut out);
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let zeros = |like: &Tensor| vec![0.0; like.elem_count()];
        let (mut dq, mut dk, mut dv) = (zeros(q), zeros(k), zeros(v));
        with_slice(q, |qs| {
            with_slice(k, |ks| {
                with_slice(v, |vs| {
                    with_slice(out, |os| {
                        with_slice(&grad, |gs| {
                            let saved = Saved { q: qs, k: ks, v: vs, out: os };
                            let gradients = AttentionGradients { q: &mut dq, k: &mut dk, v: &mut dv };
                            backward(saved, gs, self.heads, &self.segments, gradients);
                            Ok(())
                        })
                    })
                })
            })
        })?;
        let tensor = |data: Vec<f32>, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok((Some(tensor(dq, q)?), Some(tensor(dk, k)?), Some(tensor(dv, v)?)))
    }
}
