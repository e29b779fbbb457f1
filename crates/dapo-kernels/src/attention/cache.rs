//! Attention of new tokens over cached keys and values: decoding.

use super::Heads;
use super::block::{SERIAL, SERIAL_ADD};
use super::softmax::{divide_in_place, scale, softmax};
use crate::buffer::at_least;
use crate::matmul::{Lhs, Rhs, matmul, panel_width};
use crate::simd::LANES;
use crate::threads;
use candle_core::{Result, bail};
use std::cell::RefCell;
use std::sync::Arc;

/// Most query heads that may share a key-value head.
const MAX_GROUP: usize = 64;
/// Tasks per thread, so that one that is interrupted is helped out.
const TASKS: usize = 4;

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Positions of a block. More waste memory in the last one, fewer cost time: each is a matmul of its own.
const BLOCK: usize = 128;

/// Keys and values of one sequence in one layer, in blocks of 128 positions that are allocated as they are needed.
///
/// Forks and clones share whole blocks until one of them writes there: completions of a group share their prompt.
/// Memory: 8·heads·d bytes per position, rounded up to whole blocks; together at most what the capacity takes.
#[derive(Clone, Debug)]
pub struct KvCache {
    heads: Heads,
    capacity: usize,
    len: usize,
    /// Positions from 128 times their index on.
    blocks: Vec<Arc<Block>>,
}

/// Keys and values of consecutive positions.
///
/// Keys lie as the panels of a packed matrix, `[head][panel][d][positions]`, so that scores are a matmul over
/// contiguous memory; values as `[head][position][d]`.
#[derive(Clone, Debug)]
struct Block {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Block {
    fn new(heads: Heads, positions: usize) -> Self {
        let size = heads.key_value * positions * heads.dim;
        Self { keys: vec![0.0; size], values: vec![0.0; size] }
    }

    /// Puts a row of keys and a row of values, of all heads, at a position.
    fn write(&mut self, heads: Heads, position: usize, key_row: &[f32], value_row: &[f32]) {
        let (dim, width) = (heads.dim, panel_width());
        let (panel, lane) = (position / width, position % width);
        let of_head = self.keys.len() / heads.key_value;
        for head in 0..heads.key_value {
            let keys = &mut self.keys[head * of_head + panel * dim * width..][..dim * width];
            for (slot, key) in keys.iter_mut().skip(lane).step_by(width).zip(&key_row[head * dim..]) {
                *slot = *key;
            }
            self.values[head * of_head + position * dim..][..dim].copy_from_slice(&value_row[head * dim..][..dim]);
        }
    }

    /// Takes over the first positions of another block, which may be of another size.
    fn copy_from(&mut self, other: &Self, heads: Heads, positions: usize) {
        let (size, other_size) = (self.keys.len() / heads.key_value, other.keys.len() / heads.key_value);
        let (panels, rows) = (positions.next_multiple_of(LANES) * heads.dim, positions * heads.dim);
        for head in 0..heads.key_value {
            let (to, from) = (head * size, head * other_size);
            self.keys[to..to + panels].copy_from_slice(&other.keys[from..from + panels]);
            self.values[to..to + rows].copy_from_slice(&other.values[from..from + rows]);
        }
    }
}

impl KvCache {
    /// An empty cache with room for `capacity` positions, rounded up to a multiple of 32.
    pub fn new(heads: Heads, capacity: usize) -> Self {
        Self { heads, capacity: capacity.next_multiple_of(LANES), len: 0, blocks: Vec::new() }
    }

    /// Number of cached positions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory of keys and values, in bytes; blocks that are shared with others count in full.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| 4 * (block.keys.len() + block.values.len())).sum()
    }

    /// Forgets all positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A continuation with room for `capacity` positions: how the completions of a group continue one prompt. Whole blocks
    /// are shared; the last one is copied unless it is full.
    #[must_use]
    pub fn fork(&self, capacity: usize) -> Self {
        let mut fork = Self::new(self.heads, capacity.max(self.len));
        let (whole, rest) = (self.len / BLOCK, self.len % BLOCK);
        fork.blocks.extend_from_slice(&self.blocks[..whole]);
        if rest > 0 {
            let mut last = Block::new(self.heads, fork.positions_of(whole));
            last.copy_from(&self.blocks[whole], self.heads, rest);
            fork.blocks.push(Arc::new(last));
        }
        fork.len = self.len;
        fork
    }

    /// Positions that a block has room for: the last one ends with the capacity.
    fn positions_of(&self, block: usize) -> usize {
        BLOCK.min(self.capacity - block * BLOCK)
    }

    /// Appends positions: `keys` and `values` are `[n, key-value heads · d]`.
    ///
    /// # Errors
    /// When there is no room, or the slices are not whole rows.
    pub fn append(&mut self, keys: &[f32], values: &[f32]) -> Result<()> {
        let width = self.heads.key_value * self.heads.dim;
        let rows = keys.len() / width;
        if keys.len() != values.len() || keys.len() != rows * width {
            bail!("KvCache: {} keys and {} values, expected rows of {width}", keys.len(), values.len());
        }
        if self.len + rows > self.capacity {
            bail!("KvCache: {} positions and {rows} more do not fit into {}", self.len, self.capacity);
        }
        let (mut keys, mut values) = (keys.chunks_exact(width), values.chunks_exact(width));
        let end = self.len + rows;
        while self.len < end {
            let index = self.len / BLOCK;
            if index == self.blocks.len() {
                self.blocks.push(Arc::new(Block::new(self.heads, self.positions_of(index))));
            }
            let first = self.len % BLOCK;
            let block = Arc::make_mut(&mut self.blocks[index]);
            let here = first..BLOCK.min(first + end - self.len);
            self.len += here.len();
            for ((position, key), value) in here.zip(&mut keys).zip(&mut values) {
                block.write(self.heads, position, key, value);
            }
        }
        Ok(())
    }

    /// Attention of one token's query heads that share a key-value head, over the first `len` cached positions.
    fn attend(&self, head: usize, len: usize, q: &[f32], out: &mut [f32], scores: &mut Vec<f32>) {
        let (dim, group) = (self.heads.dim, self.heads.per_key_value());
        let columns = len.next_multiple_of(LANES);
        at_least(scores, group * columns);
        let blocks = || self.blocks.iter().enumerate().map(|(index, block)| (index * BLOCK, block));
        for (start, block) in blocks().take_while(|(start, _)| *start < len) {
            let keys = Rhs::Panels(&block.keys[block.keys.len() / self.heads.key_value * head..]);
            let here = BLOCK.min(columns - start);
            matmul(group, here, dim, Lhs::rows(q, dim), keys, &mut scores[start..], columns, SERIAL);
        }
        let mut sums = [0.0; MAX_GROUP];
        for (row, sum) in scores.chunks_exact_mut(columns).zip(&mut sums[..group]) {
            *sum = softmax(row, len, scale(dim));
        }
        for (start, block) in blocks().take_while(|(start, _)| *start < len) {
            let data = &block.values[block.values.len() / self.heads.key_value * head..];
            // Sums go on where the last block ended: their order is that of the positions.
            let mode = if start > 0 { SERIAL_ADD } else { SERIAL };
            let weights = Lhs::rows(&scores[start..], columns);
            matmul(group, dim, BLOCK.min(len - start), weights, Rhs::Rows { data, stride: dim }, out, dim, mode);
        }
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

    /// Rows of three heads of 16, some of them.
    fn rows(n: usize, seed: usize) -> Vec<f32> {
        (0..n * 48).map(|i| (((i * 7919 + seed * 104_729) % 1000) as f32 / 250.0 - 2.0).sin()).collect()
    }

    const HEADS: Heads = Heads { query: 6, key_value: 3, dim: 16 };

    #[test]
    fn memory_follows_the_positions_that_are_there() {
        let position = 8 * 3 * 16;
        let mut cache = KvCache::new(HEADS, 1000);
        assert_eq!(cache.bytes(), 0);
        for (more, expected) in [(1, BLOCK), (BLOCK - 1, BLOCK), (1, 2 * BLOCK), (1000 - 129, 1024)] {
            cache.append(&rows(more, 1), &rows(more, 2)).unwrap();
            assert_eq!(cache.bytes(), expected * position, "{} positions", cache.len());
        }
        // A short cache takes no whole block.
        let mut short = KvCache::new(HEADS, 33);
        short.append(&rows(1, 1), &rows(1, 2)).unwrap();
        assert_eq!(short.bytes(), 64 * position);
    }

    #[test]
    fn continuations_of_a_prompt_share_its_whole_blocks_and_do_not_see_each_other() {
        let query = |cache: &KvCache| {
            let (q, mut out) = ([rows(1, 3), rows(1, 4)].concat(), vec![0.0; 96]);
            attend(&q, HEADS, 1, |_| (cache, cache.len), &mut out);
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for prompt in [5, BLOCK, 2 * BLOCK + 70] {
            let (keys, values) = (rows(prompt, 5), rows(prompt, 6));
            let mut cache = KvCache::new(HEADS, prompt);
            cache.append(&keys, &values).unwrap();
            let alone = query(&cache);
            let mut forks = [cache.fork(prompt + 200), cache.fork(prompt + 40), cache.clone()];
            forks[2].truncate(prompt - 4);
            for (number, fork) in forks.iter_mut().enumerate() {
                let shared = fork.blocks.iter().zip(&cache.blocks).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
                assert_eq!(shared, if number == 2 { cache.blocks.len() } else { prompt / BLOCK });
                fork.append(&rows(4, 10 + number), &rows(4, 20 + number)).unwrap();
            }
            assert_eq!(query(&cache), alone, "what a continuation appends does not reach its prompt");
            for (number, fork) in forks.iter().enumerate() {
                let before = if number == 2 { prompt - 4 } else { prompt };
                let mut whole = KvCache::new(HEADS, 1000);
                let with = |prompt: &[f32], new: usize| [&prompt[..before * 48], &rows(4, new)].concat();
                whole.append(&with(&keys, 10 + number), &with(&values, 20 + number)).unwrap();
                assert_eq!(query(fork), query(&whole), "prompt of {prompt}, continuation {number}");
            }
        }
    }

    #[test]
    fn blocks_change_no_bit_of_attention_over_all_positions_at_once() {
        let (len, dim) = (3 * BLOCK + 37, HEADS.dim);
        let (keys, values) = (rows(len, 5), rows(len, 6));
        let mut cache = KvCache::new(HEADS, len);
        cache.append(&keys, &values).unwrap();
        let q = [rows(1, 3), rows(1, 4)].concat();
        let mut out = vec![0.0; 96];
        attend(&q, HEADS, 1, |_| (&cache, len), &mut out);
        let mut expected = vec![0.0; 96];
        for head in 0..HEADS.key_value {
            let of_head = |rows: &[f32]| -> Vec<f32> {
                rows.chunks_exact(48).flat_map(|row| &row[head * dim..][..dim]).copied().collect()
            };
            let (keys, values) = (of_head(&keys), of_head(&values));
            let group = HEADS.per_key_value();
            let q = &q[head * group * dim..][..group * dim];
            let columns = len.next_multiple_of(LANES);
            let mut scores = vec![0.0; group * columns];
            let all = Rhs::Columns { data: &keys, stride: dim };
            matmul(group, len, dim, Lhs::rows(q, dim), all, &mut scores, columns, SERIAL);
            let sums: Vec<f32> = scores.chunks_exact_mut(columns).map(|row| softmax(row, len, scale(dim))).collect();
            let out = &mut expected[head * group * dim..][..group * dim];
            let all = Rhs::Rows { data: &values, stride: dim };
            matmul(group, dim, len, Lhs::rows(&scores, columns), all, out, dim, SERIAL);
            out.chunks_exact_mut(dim).zip(sums).for_each(|(row, sum)| divide_in_place(row, sum));
        }
        assert_eq!(
            out.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            expected.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
    }
}
