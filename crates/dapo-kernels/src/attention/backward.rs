//! The backward of attention over packed segments: scores are computed again, block by block.
//!
//! One task per key-value head and family (a segment and those that continue it), so that every key's gradient is
//! summed by one thread, over queries in order.

#![expect(unsafe_code, reason = "tasks write rows of their own")]

use super::block::{Block, Panels, SERIAL_ADD, Tile};
use super::softmax::{scale, softmax_backward};
use super::{Heads, Segments};
use crate::buffer::at_least;
use crate::matmul::{Lhs, Rhs, matmul_at};
use crate::simd::SharedMut;
use crate::threads;
use std::cell::RefCell;
use std::ops::Range;

/// What the backward needs of the forward.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// Queries, `[T, heads · d]`.
    pub q: &'a [f32],
    /// Keys, `[T, key-value heads · d]`.
    pub k: &'a [f32],
    /// Values, shaped as the keys.
    pub v: &'a [f32],
    /// The forward's output, shaped as the queries.
    pub out: &'a [f32],
}

/// Gradients of queries, keys and values; shaped as these. What they held is overwritten.
#[derive(Debug)]
pub struct AttentionGradients<'a> {
    /// Of the queries.
    pub q: &'a mut [f32],
    /// Of the keys.
    pub k: &'a mut [f32],
    /// Of the values.
    pub v: &'a mut [f32],
}

#[derive(Default)]
struct Scratch {
    queries: Vec<f32>,
    grads: Vec<f32>,
    p: Vec<f32>,
    ds: Vec<f32>,
    dq: Vec<f32>,
}

thread_local! {
    static PANELS: RefCell<(Panels, Panels)> = RefCell::default();
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Where tasks write: rows of queries, and columns of keys and values.
#[derive(Clone, Copy)]
struct Targets {
    q: SharedMut,
    k: SharedMut,
    v: SharedMut,
}

/// The gradients of [`forward`](super::forward) for the gradient `grad` of its output.
///
/// # Panics
/// When a slice has another length.
pub fn backward(saved: Saved<'_>, grad: &[f32], heads: Heads, segments: &Segments, gradients: AttentionGradients<'_>) {
    let (rows, kv_rows) = (segments.total() * heads.query * heads.dim, segments.total() * heads.key_value * heads.dim);
    let AttentionGradients { q, k, v } = gradients;
    for x in [saved.q, saved.out, grad, &*q] {
        assert_eq!(x.len(), rows, "attention: queries, output or their gradient of another size");
    }
    for x in [saved.k, saved.v, &*k, &*v] {
        assert_eq!(x.len(), kv_rows, "attention: keys, values or their gradient of another size");
    }
    k.fill(0.0);
    v.fill(0.0);
    let (mut keys, mut values) = PANELS.take();
    keys.fill(saved.k, heads, segments);
    values.fill(saved.v, heads, segments);
    let families = segments.families();
    let targets = Targets { q: SharedMut::new(q), k: SharedMut::new(k), v: SharedMut::new(v) };
    threads::for_each(families.len() * heads.key_value, |task| {
        let (family, head) = (&families[task / heads.key_value], task % heads.key_value);
        SCRATCH.with_borrow_mut(|scratch| {
            for index in family {
                for block in Block::all(segments, *index, heads, head) {
                    differentiate(&block, saved, grad, &keys, &values, scratch, targets);
                }
            }
        });
    });
    PANELS.set((keys, values));
}

fn differentiate(
    block: &Block,
    saved: Saved<'_>,
    grad: &[f32],
    keys: &Panels,
    values: &Panels,
    scratch: &mut Scratch,
    targets: Targets,
) {
    let (dim, stride) = (block.heads.dim, block.stride());
    let Scratch { queries, grads, p, ds, dq } = scratch;
    block.gather(saved.q, queries);
    block.gather(grad, grads);
    at_least(p, block.rows() * stride);
    at_least(ds, block.rows() * stride);
    let columns = block.before() + block.end;
    for tile in block.tiles() {
        let rows = tile.rows.clone();
        let (p, ds) = (&mut p[rows.start * stride..], &mut ds[rows.start * stride..]);
        let mut sums = [0.0; 16];
        block.scores(&tile, queries, keys, p);
        block.softmax(&tile, columns, p, &mut sums);
        block.scores(&tile, grads, values, ds);
        for ((row, sum), (p, ds)) in rows.clone().zip(sums).zip(p.chunks_mut(stride).zip(ds.chunks_mut(stride))) {
            let seen = block.before() + tile.own;
            // Keys past the tile's own have p = 0 and no score.
            ds[seen..columns].fill(0.0);
            let (grad, out) = (&grads[row * dim..][..dim], &saved.out[block.row(row) * dim..][..dim]);
            softmax_backward(&mut p[..seen], &mut ds[..seen], sum, grad, out, scale(dim));
        }
        query_gradient(block, &tile, ds, saved.k, dq, targets.q);
    }
    if let Some((_, parent)) = block.parent {
        key_gradients(block, 0..parent.len, 0, parent.start, scratch, targets);
    }
    key_gradients(block, 0..block.first, block.before(), block.start(), scratch, targets);
    for key in (block.first..block.end).step_by(12) {
        key_gradients(block, key..block.end.min(key + 12), block.before(), block.start(), scratch, targets);
    }
}

fn query_gradient(block: &Block, tile: &Tile, ds: &[f32], k: &[f32], dq: &mut Vec<f32>, target: SharedMut) {
    let dim = block.heads.dim;
    at_least(dq, tile.rows.len() * dim);
    block.weighted_sum(tile, ds, k, dq);
    for (row, values) in tile.rows.clone().zip(dq.chunks_exact(dim)) {
        // SAFETY: this row of this head belongs to this block alone, and lies within the slice, whose size was checked.
        let target = unsafe { std::slice::from_raw_parts_mut(target.ptr().add(block.row(row) * dim), dim) };
        target.copy_from_slice(values);
    }
}

/// dk += dsᵀ · q and dv += pᵀ · grad for some keys of the segment that starts at token `start`; its first key has
/// column `column`.
fn key_gradients(block: &Block, keys: Range<usize>, column: usize, start: usize, scratch: &Scratch, targets: Targets) {
    let (heads, stride) = (block.heads, block.stride());
    let dim = heads.dim;
    let width = heads.key_value * dim;
    // Own keys of the block are seen from their own query on.
    let first_row = if start == block.start() && keys.start > block.first {
        (keys.start - block.first) * heads.per_key_value()
    } else {
        0
    };
    let sum = |weights: &[f32], rows: &[f32], target: SharedMut| {
        let lhs = Lhs { data: &weights[first_row * stride + column + keys.start..], row: 1, step: stride };
        let rhs = Rhs::Rows { data: &rows[first_row * dim..], stride: dim };
        let offset = (start + keys.start) * width + block.head * dim;
        // SAFETY: only this task writes this head of this family's keys, and the slice's size was checked.
        unsafe {
            let target = target.ptr().add(offset);
            matmul_at(keys.len(), dim, block.rows() - first_row, lhs, rhs, target, width, SERIAL_ADD);
        }
    };
    sum(&scratch.ds, &scratch.queries, targets.k);
    sum(&scratch.p, &scratch.grads, targets.v);
}
