//! Attention of tensors.

use crate::attention::{self, AttentionGradients, Heads, KvCache, Saved, Segments};
use crate::tensor::{check_last, slice, with_slice};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::Arc;

const OP: &str = "attention";
const DECODE: &str = "decode_attention";

/// softmax(q · kᵀ / √d) · v, each token attending to its segment's past (and its parent's whole).
///
/// # Shapes
/// q `[T, heads · d]`, k and v `[T, key-value heads · d]` → `[T, heads · d]`; T is the segments' total length.
///
/// # Errors
/// When shapes, dtypes or layouts differ from these.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, segments: &Arc<Segments>) -> Result<Tensor> {
    check_last(OP, "q", q.dims(), 2, heads.query * heads.dim)?;
    check_last(OP, "k", k.dims(), 2, heads.key_value * heads.dim)?;
    check_last(OP, "v", v.dims(), 2, heads.key_value * heads.dim)?;
    let total = segments.total();
    for (name, rows) in [("q", q.dim(0)?), ("k", k.dim(0)?), ("v", v.dim(0)?)] {
        if rows != total {
            bail!("{OP}: {name} has {rows} rows, expected the segments' {total}");
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
        OP
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
        let (q, k, v) = (slice(OP, s1, l1)?, slice(OP, s2, l2)?, slice(OP, s3, l3)?);
        let mut out = vec![0.0; q.len()];
        attention::forward(q, k, v, self.heads, &self.segments, &mut out);
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
                            attention::backward(saved, gs, self.heads, &self.segments, gradients);
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

/// Appends one token per sequence to its cache and attends to everything cached. For inference: records no gradient.
///
/// # Shapes
/// q `[B, heads · d]`, k and v `[B, key-value heads · d]`, B caches → `[B, heads · d]`.
///
/// # Errors
/// When shapes disagree, a cache is full, or an argument expects a gradient.
pub fn decode_attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads, caches: &mut [KvCache]) -> Result<Tensor> {
    if q.track_op() || k.track_op() || v.track_op() {
        bail!("{DECODE}: an argument records gradients; decode with detached weights");
    }
    let (width, kv_width) = (heads.query * heads.dim, heads.key_value * heads.dim);
    check_last(DECODE, "q", q.dims(), 2, width)?;
    check_last(DECODE, "k", k.dims(), 2, kv_width)?;
    check_last(DECODE, "v", v.dims(), 2, kv_width)?;
    let batch = caches.len();
    let mut out = vec![0.0; batch * width];
    with_slice(q, |q| with_slice(k, |k| with_slice(v, |v| attention::decode(q, k, v, heads, caches, &mut out))))?;
    Tensor::from_vec(out, (batch, width), q.device())
}
