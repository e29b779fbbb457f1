//! Attention of packed segments: one task per block of queries and key-value head.

#![expect(unsafe_code, reason = "tasks write rows of their own")]

use super::block::{Block, Panels};
use super::softmax::divide;
use super::{Heads, Segments};
use crate::buffer::at_least;
use crate::simd::SharedMut;
use crate::threads;
use std::cell::RefCell;
use std::cmp::Reverse;

#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    scores: Vec<f32>,
    out: Vec<f32>,
}

thread_local! {
    static KEYS: RefCell<Panels> = RefCell::default();
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// softmax(q · kᵀ / √d) · v into `out`.
///
/// # Shapes
/// q and out `[T, heads · d]`, k and v `[T, key-value heads · d]`, T the segments' total length.
///
/// # Panics
/// When a slice has another length.
pub fn forward(q: &[f32], k: &[f32], v: &[f32], heads: Heads, segments: &Segments, out: &mut [f32]) {
    let (rows, kv_rows) = (segments.total() * heads.query * heads.dim, segments.total() * heads.key_value * heads.dim);
    assert!(q.len() == rows && out.len() == rows, "attention: queries or output of another size");
    assert!(k.len() == kv_rows && v.len() == kv_rows, "attention: keys or values of another size");
    let mut keys = KEYS.take();
    keys.fill(k, heads, segments);
    let mut blocks: Vec<Block> = (0..segments.list().len())
        .flat_map(|index| (0..heads.key_value).flat_map(move |head| Block::all(segments, index, heads, head)))
        .collect();
    // The longest first, so that no thread is left with one at the end.
    blocks.sort_by_key(|b| Reverse((b.before() + b.end) * b.rows()));
    let out = SharedMut::new(out);
    threads::for_each(blocks.len(), |index| {
        SCRATCH.with_borrow_mut(|scratch| block(&blocks[index], q, v, &keys, scratch, out));
    });
    KEYS.set(keys);
}

fn block(block: &Block, q: &[f32], v: &[f32], keys: &Panels, scratch: &mut Scratch, out: SharedMut) {
    let dim = block.heads.dim;
    block.gather(q, &mut scratch.queries);
    for tile in block.tiles() {
        let rows = tile.rows.len();
        at_least(&mut scratch.scores, rows * block.stride());
        at_least(&mut scratch.out, rows * dim);
        let mut sums = [0.0; 16];
        block.scores(&tile, &scratch.queries, keys, &mut scratch.scores);
        block.softmax(&tile, block.before() + tile.own, &mut scratch.scores, &mut sums);
        block.weighted_sum(&tile, &scratch.scores, v, &mut scratch.out);
        for ((row, sum), values) in tile.rows.clone().zip(sums).zip(scratch.out.chunks_exact(dim)) {
            // SAFETY: this row of this head belongs to this block alone, and lies within `out`, whose size was checked.
            let target = unsafe { std::slice::from_raw_parts_mut(out.ptr().add(block.row(row) * dim), dim) };
            divide(values, sum, target);
        }
    }
}
