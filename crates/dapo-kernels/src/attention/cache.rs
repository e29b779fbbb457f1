//! Attention of new tokens over cached keys and values: decoding.

use super::Heads;
use super::block::{SERIAL, grow};
use super::softmax::{divide_in_place, scale, softmax};
use crate::matmul::{Lhs, Rhs, matmul, panel_width};
use crate::simd::LANES;
use crate::threads;
use candle_core::{Result, bail};
use std::cell::RefCell;

/// Most query heads that may share a key-value head.
const MAX_GROUP: usize = 64;
/// Tasks per thread, so that one that is interrupted is helped out.
const TASKS: usize = 4;

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Keys and values of one sequence in one layer.
///
/// Keys lie as the panels of a packed matrix, `[head][panel][d][positions]`, so that scores are a matmul over
/// contiguous memory; values as `[head][position][d]`. Memory: 8·heads·d bytes a position.
#[derive(Clone, Debug)]
pub struct KvCache {
    heads: Heads,
    capacity: usize,
    len: usize,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache with room for `capacity` positions.
    pub fn new(heads: Heads, capacity: usize) -> Self {
        let capacity = capacity.next_multiple_of(LANES);
        let size = heads.key_value * capacity * heads.dim;
        Self { heads, capacity, len: 0, keys: vec![0.0; size], values: vec![0.0; size] }
    }

    /// Number of cached positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A copy with room for `capacity` positions: how the completions of a group continue one prompt.
    #[must_use]
    pub fn fork(&self, capacity: usize) -> Self {
        let mut fork = Self::new(self.heads, capacity.max(self.len));
        let dim = self.heads.dim;
        let (panels, rows) = (self.len.div_ceil(LANES) * dim * LANES, self.len * dim);
        for head in 0..self.heads.key_value {
            let (from, to) = (head * self.capacity * dim, head * fork.capacity * dim);
            fork.keys[to..to + panels].copy_from_slice(&self.keys[from..from + panels]);
            fork.values[to..to + rows].copy_from_slice(&self.values[from..from + rows]);
        }
        fork.len = self.len;
        fork
    }

    /// Appends positions: `keys` and `values` are `[n, key-value heads · d]`.
    ///
    /// # Errors
    /// When there is no room, or the slices are not whole rows.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) -> Result<()> {
        let (dim, width) = (self.heads.dim, self.heads.key_value * self.heads.dim);
        let rows = keys.len() / width;
        if keys.len() != values.len() || keys.len() != rows * width {
            bail!("KvCache: {} keys and {} values, expected rows of {width}", keys.len(), values.len());
        }
        if self.len + rows > self.capacity {
            bail!("KvCache: {} positions and {rows} more do not fit into {}", self.len, self.capacity);
        }
        let panel_width = panel_width();
        for (key_row, value_row) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
            let (panel, lane) = (self.len / panel_width, self.len % panel_width);
            for head in 0..self.heads.key_value {
                let base = head * self.capacity * dim;
                let keys = &mut self.keys[base + panel * dim * panel_width..][..dim * panel_width];
                for (slot, key) in keys.iter_mut().skip(lane).step_by(panel_width).zip(&key_row[head * dim..]) {
                    *slot = *key;
                }
                self.values[base + self.len * dim..][..dim].copy_from_slice(&value_row[head * dim..][..dim]);
            }
            self.len += 1;
        }
        Ok(())
    }

    /// Attention of one token's query heads that share a key-value head, over all cached positions.
    fn attend(&self, head: usize, q: &[f32], out: &mut [f32], scores: &mut Vec<f32>) {
        let (dim, group) = (self.heads.dim, self.heads.per_key_value());
        let columns = self.len.next_multiple_of(LANES);
        grow(scores, group * columns);
        let base = head * self.capacity * dim;
        matmul(group, columns, dim, Lhs::rows(q, dim), Rhs::Panels(&self.keys[base..]), scores, columns, SERIAL);
        let mut sums = [0.0; MAX_GROUP];
        for (row, sum) in scores.chunks_exact_mut(columns).zip(&mut sums[..group]) {
            *sum = softmax(row, self.len, scale(dim));
        }
        let values = Rhs::Rows { data: &self.values[base..], stride: dim };
        matmul(group, dim, self.len, Lhs::rows(scores, columns), values, out, dim, SERIAL);
        for (row, sum) in out.chunks_exact_mut(dim).zip(sums) {
            divide_in_place(row, sum);
        }
    }
}

/// Appends one token per sequence to its cache and attends to everything cached.
///
/// # Shapes
/// q and out `[B, heads · d]`, k and v `[B, key-value heads · d]`, B caches.
///
/// # Errors
/// When lengths disagree, more than 64 query heads share a key-value head, or a cache is full.
pub fn decode(q: &[f32], k: &[f32], v: &[f32], heads: Heads, caches: &mut [KvCache], out: &mut [f32]) -> Result<()> {
    let (width, kv_width, batch) = (heads.query * heads.dim, heads.key_value * heads.dim, caches.len());
    let group = heads.per_key_value();
    if group > MAX_GROUP {
        bail!("decode_attention: {group} query heads share a key-value head, at most {MAX_GROUP} are supported");
    }
    if [q.len(), out.len()] != [batch * width; 2] || [k.len(), v.len()] != [batch * kv_width; 2] {
        bail!("decode_attention: {} query rows for {batch} caches", q.len() / width);
    }
    for (i, cache) in caches.iter_mut().enumerate() {
        cache.append(&k[i * kv_width..][..kv_width], &v[i * kv_width..][..kv_width])?;
    }
    // A task is a head of one sequence, or all heads of some sequences where there are many.
    let part = group * heads.dim;
    let heads_a_task = heads.key_value * batch.div_ceil(TASKS * threads::count());
    let heads_a_task = if batch < 2 * threads::count() { 1 } else { heads_a_task };
    let caches = &*caches;
    threads::for_each_chunk([out], [heads_a_task * part], |task, [out]| {
        SCORES.with_borrow_mut(|scores| {
            for (i, out) in out.chunks_exact_mut(part).enumerate() {
                let index = task * heads_a_task + i;
                let (cache, head) = (&caches[index / heads.key_value], index % heads.key_value);
                cache.attend(head, &q[index * part..][..part], out, scores);
            }
        });
    });
    Ok(())
}
