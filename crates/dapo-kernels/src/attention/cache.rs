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

    /// Attention of one token's query heads that share a key-value head, over the first `len` cached positions.
    fn attend(&self, head: usize, len: usize, q: &[f32], out: &mut [f32], scores: &mut Vec<f32>) {
        let (dim, group) = (self.heads.dim, self.heads.per_key_value());
        let columns = len.next_multiple_of(LANES);
        grow(scores, group * columns);
        let base = head * self.capacity * dim;
        matmul(group, columns, dim, Lhs::rows(q, dim), Rhs::Panels(&self.keys[base..]), scores, columns, SERIAL);
        let mut sums = [0.0; MAX_GROUP];
        for (row, sum) in scores.chunks_exact_mut(columns).zip(&mut sums[..group]) {
            *sum = softmax(row, len, scale(dim));
        }
        let values = Rhs::Rows { data: &self.values[base..], stride: dim };
        matmul(group, dim, len, Lhs::rows(scores, columns), values, out, dim, SERIAL);
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
    check(q, k, v, heads, caches.len(), out)?;
    let kv_width = heads.key_value * heads.dim;
    for (i, cache) in caches.iter_mut().enumerate() {
        cache.append(&k[i * kv_width..][..kv_width], &v[i * kv_width..][..kv_width])?;
    }
    let caches = &*caches;
    attend(q, heads, caches.len(), |row| (&caches[row], caches[row].len), out);
    Ok(())
}

/// Appends `counts[i]` tokens to cache i; each attends to what is cached and to those appended before it and itself.
/// The rows are bit by bit those of [`decode`], one token after another.
///
/// # Shapes
/// T = Σ counts tokens, cache after cache: q and out `[T, heads · d]`, k and v `[T, key-value heads · d]`.
///
/// # Errors
/// When lengths disagree, more than 64 query heads share a key-value head, or a cache is full.
pub fn extend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    heads: Heads,
    caches: &mut [KvCache],
    counts: &[usize],
    out: &mut [f32],
) -> Result<()> {
    let rows = counts.iter().sum();
    check(q, k, v, heads, rows, out)?;
    if counts.len() != caches.len() {
        bail!("extend_attention: {} counts for {} caches", counts.len(), caches.len());
    }
    let kv_width = heads.key_value * heads.dim;
    // Of each row its cache, and how much of it the row sees.
    let mut sees = Vec::with_capacity(rows);
    for (i, (cache, count)) in caches.iter_mut().zip(counts).enumerate() {
        let new = sees.len() * kv_width..(sees.len() + count) * kv_width;
        sees.extend((1..=*count).map(|n| (i, cache.len + n)));
        cache.append(&k[new.clone()], &v[new])?;
    }
    let caches = &*caches;
    attend(q, heads, rows, |row| (&caches[sees[row].0], sees[row].1), out);
    Ok(())
}

fn check(q: &[f32], k: &[f32], v: &[f32], heads: Heads, rows: usize, out: &[f32]) -> Result<()> {
    let (width, kv_width, group) = (heads.query * heads.dim, heads.key_value * heads.dim, heads.per_key_value());
    if group > MAX_GROUP {
        bail!("decode_attention: {group} query heads share a key-value head, at most {MAX_GROUP} are supported");
    }
    if [q.len(), out.len()] != [rows * width; 2] || [k.len(), v.len()] != [rows * kv_width; 2] {
        bail!("decode_attention: {} query rows for {rows} new positions", q.len() / width);
    }
    Ok(())
}

/// Attention of rows of queries, each over the first positions of its cache, as `sees` says.
fn attend<'a>(
    q: &[f32],
    heads: Heads,
    rows: usize,
    sees: impl Fn(usize) -> (&'a KvCache, usize) + Sync,
    out: &mut [f32],
) {
    // A task is a head of one row, or all heads of some rows where there are many.
    let part = heads.per_key_value() * heads.dim;
    let heads_a_task = heads.key_value * rows.div_ceil(TASKS * threads::count());
    let heads_a_task = if rows < 2 * threads::count() { 1 } else { heads_a_task };
    threads::for_each_chunk([out], [heads_a_task * part], |task, [out]| {
        SCORES.with_borrow_mut(|scores| {
            for (i, out) in out.chunks_exact_mut(part).enumerate() {
                let index = task * heads_a_task + i;
                let ((cache, len), head) = (sees(index / heads.key_value), index % heads.key_value);
                cache.attend(head, len, &q[index * part..][..part], out, scores);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_appended_at_once_attend_as_tokens_appended_one_after_another() {
        let heads = Heads { query: 6, key_value: 2, dim: 16 };
        let values = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| (((i * 7919 + seed * 104_729) % 1000) as f32 / 250.0 - 2.0).sin()).collect()
        };
        let (width, kv_width) = (heads.query * heads.dim, heads.key_value * heads.dim);
        for counts in [&[1usize, 40, 3][..], &[0, 5, 33], &[70, 1, 1]] {
            let mut caches: Vec<KvCache> = counts.iter().map(|_| KvCache::new(heads, 128)).collect();
            for (i, cache) in caches.iter_mut().enumerate() {
                let cached = 5 + 13 * i;
                cache.append(&values(cached * kv_width, i), &values(cached * kv_width, i + 9)).unwrap();
            }
            let rows: usize = counts.iter().sum();
            let (q, k, v) = (values(rows * width, 1), values(rows * kv_width, 2), values(rows * kv_width, 3));
            let mut one_by_one = vec![0.0; rows * width];
            let mut alone = caches.clone();
            let mut row = 0;
            for (cache, count) in alone.iter_mut().zip(counts) {
                for _ in 0..*count {
                    let (new, kv) = (row * width..(row + 1) * width, row * kv_width..(row + 1) * kv_width);
                    let cache = std::slice::from_mut(cache);
                    decode(&q[new.clone()], &k[kv.clone()], &v[kv], heads, cache, &mut one_by_one[new]).unwrap();
                    row += 1;
                }
            }
            let mut at_once = vec![0.0; rows * width];
            extend(&q, &k, &v, heads, &mut caches, counts, &mut at_once).unwrap();
            assert_eq!(
                at_once.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                one_by_one.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            );
            assert!(caches.iter().zip(&alone).all(|(a, b)| a.len() == b.len()));
        }
        let mut full = [KvCache::new(heads, 32)];
        let (q, kv) = (values(33 * width, 1), values(33 * kv_width, 2));
        assert!(extend(&q, &kv, &kv, heads, &mut full, &[33], &mut vec![0.0; 33 * width]).is_err());
    }
}
