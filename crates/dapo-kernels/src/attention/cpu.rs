//! Attention of packed segments on the CPU: one task per segment (backward: family of segments) and key-value head.

use super::{Heads, Segment, Segments};
use crate::matmul::{Lhs, Mode, Rhs, matmul, pack_columns};
use crate::simd::{LANES, dispatch, exp, fold, sum_of_products};
use rayon::prelude::*;

/// Queries whose scores are computed at a time.
const QUERIES: usize = 32;
const SERIAL: Mode = Mode { accumulate: false, serial: true };
const SERIAL_ADD: Mode = Mode { accumulate: true, serial: true };

/// What the backward needs of the forward.
#[derive(Clone, Copy)]
pub(super) struct Saved<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) out: &'a [f32],
}

/// Softmax without its division: scores become e^(scale·(s − max)), 0 from `valid` on; returns their sum.
#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], valid: usize, scale: f32) -> f32 {
    let mut max = f32::NEG_INFINITY;
    for s in &scores[..valid] {
        max = max.max(*s);
    }
    let mut lanes = [0.0f32; LANES];
    let (seen, unseen) = scores.split_at_mut(valid);
    let mut chunks = seen.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for l in 0..LANES {
            chunk[l] = exp::<FMA>((chunk[l] - max) * scale);
            lanes[l] += chunk[l];
        }
    }
    for (s, lane) in chunks.into_remainder().iter_mut().zip(&mut lanes) {
        *s = exp::<FMA>((*s - max) * scale);
        *lane += *s;
    }
    unseen.fill(0.0);
    fold(lanes)
}

dispatch! {
    pub(super) fn softmax(scores: &mut [f32], valid: usize, scale: f32) -> f32 = softmax_body;
}

/// p ← p / sum, ds ← p · (dp − Σ grad·out) · scale, in place.
#[inline(always)]
fn softmax_backward_body<const FMA: bool>(
    p: &mut [f32],
    ds: &mut [f32],
    sum: f32,
    grad: &[f32],
    out: &[f32],
    scale: f32,
) {
    let delta = sum_of_products::<FMA>(grad, out);
    let inverse = 1.0 / sum;
    for (p, ds) in p.iter_mut().zip(ds) {
        *p *= inverse;
        *ds = *p * (*ds - delta) * scale;
    }
}

dispatch! {
    fn softmax_backward(p: &mut [f32], ds: &mut [f32], sum: f32, grad: &[f32], out: &[f32], scale: f32) = softmax_backward_body;
}

/// Where one head's rows lie: first element, and distance between tokens.
#[derive(Clone, Copy)]
struct HeadRows<'a> {
    data: &'a [f32],
    offset: usize,
    stride: usize,
}

impl<'a> HeadRows<'a> {
    fn new(data: &'a [f32], heads: usize, head: usize, dim: usize) -> Self {
        Self { data, offset: head * dim, stride: heads * dim }
    }

    fn from(&self, token: usize) -> &'a [f32] {
        &self.data[token * self.stride + self.offset..]
    }

    fn lhs(&self, token: usize) -> Lhs<'a> {
        Lhs { data: self.from(token), row: self.stride, step: 1 }
    }

    fn rhs(&self, token: usize) -> Rhs<'a> {
        Rhs::Rows { data: self.from(token), stride: self.stride }
    }

    /// Panels of the transposed rows of the segments one after another.
    fn panels(&self, context: &[Segment], dim: usize) -> Vec<f32> {
        let keys: usize = context.iter().map(|s| s.len).sum();
        let mut panels = vec![0.0; keys.div_ceil(LANES) * dim * LANES];
        let mut rows = Vec::with_capacity(LANES * dim);
        let mut tokens = context.iter().flat_map(|s| s.start..s.start + s.len);
        for panel in panels.chunks_exact_mut(dim * LANES) {
            rows.clear();
            for token in tokens.by_ref().take(LANES) {
                rows.extend_from_slice(&self.from(token)[..dim]);
            }
            pack_columns(&rows, dim, dim, rows.len() / dim, panel);
        }
        panels
    }
}

/// The parent (if any) and the segment itself: what its tokens see.
fn context(segments: &Segments, segment: &Segment) -> Vec<Segment> {
    segments.parent(segment).copied().into_iter().chain([*segment]).collect()
}

pub(super) fn forward(q: &[f32], k: &[f32], v: &[f32], heads: Heads, segments: &Segments) -> Vec<f32> {
    let (dim, group) = (heads.dim, heads.per_key_value());
    let tasks: Vec<(usize, usize)> =
        (0..segments.list().len()).flat_map(|s| (0..heads.key_value).map(move |h| (s, h))).collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(index, kv_head)| {
            let segment = segments.list()[index];
            let context = context(segments, &segment);
            let keys = HeadRows::new(k, heads.key_value, kv_head, dim).panels(&context, dim);
            let values = HeadRows::new(v, heads.key_value, kv_head, dim);
            let mut out = vec![0.0; segment.len * group * dim];
            let mut scores = Vec::new();
            for_each_block(&context, |block| {
                for head in 0..group {
                    let queries = HeadRows::new(q, heads.query, kv_head * group + head, dim);
                    block.scores(queries, &keys, dim, &mut scores);
                    let out = &mut out[(block.first * group + head) * dim..];
                    let sums = block.softmax(&mut scores, dim);
                    block.weighted_sum(&scores, &context, values, dim, out, group * dim);
                    for (row, sum) in out.chunks_mut(group * dim).zip(sums) {
                        for x in &mut row[..dim] {
                            *x /= sum;
                        }
                    }
                }
            });
            out
        })
        .collect();
    let mut out = vec![0.0; q.len()];
    for (&(index, kv_head), part) in tasks.iter().zip(&parts) {
        let rows = group * dim;
        scatter(part, segments.list()[index], kv_head * rows, heads.query * dim, rows, &mut out);
    }
    out
}

/// Copies `[len, width]` into the columns from `column` on of the segment's rows.
fn scatter(part: &[f32], segment: Segment, column: usize, stride: usize, width: usize, out: &mut [f32]) {
    for (row, values) in part.chunks_exact(width).enumerate() {
        out[(segment.start + row) * stride + column..][..width].copy_from_slice(values);
    }
}

/// A block of a segment's queries: rows `first..end`, seeing keys `..seen` of the context.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    first: usize,
    end: usize,
    before: usize,
    /// Keys scored: those that the last query sees, rounded up to whole panels.
    columns: usize,
}

fn for_each_block(context: &[Segment], mut f: impl FnMut(Block)) {
    let Some((segment, parents)) = context.split_last() else { return };
    let before: usize = parents.iter().map(|s| s.len).sum();
    for first in (0..segment.len).step_by(QUERIES) {
        let end = segment.len.min(first + QUERIES);
        f(Block { start: segment.start, first, end, before, columns: (before + end).next_multiple_of(LANES) });
    }
}

impl Block {
    fn rows(&self) -> usize {
        self.end - self.first
    }

    /// scores[rows, columns] = queries · keysᵀ.
    fn scores(&self, queries: HeadRows<'_>, keys: &[f32], dim: usize, scores: &mut Vec<f32>) {
        scores.resize(self.rows() * self.columns, 0.0);
        let lhs = queries.lhs(self.start + self.first);
        matmul(self.rows(), self.columns, dim, lhs, Rhs::Panels(keys), scores, self.columns, SERIAL);
    }

    fn softmax(&self, scores: &mut [f32], dim: usize) -> Vec<f32> {
        let scale = scale(dim);
        let valid = |row: usize| self.before + self.first + row + 1;
        scores.chunks_exact_mut(self.columns).enumerate().map(|(row, s)| softmax(s, valid(row), scale)).collect()
    }

    /// out (+)= weights · rows of the context, over keys in order.
    fn weighted_sum(
        &self,
        weights: &[f32],
        context: &[Segment],
        rows: HeadRows<'_>,
        dim: usize,
        out: &mut [f32],
        stride: usize,
    ) {
        let mut mode = SERIAL;
        for (source, offset, keys) in self.spans(context) {
            let lhs = Lhs { data: &weights[offset..], row: self.columns, step: 1 };
            matmul(self.rows(), dim, keys, lhs, rows.rhs(source), out, stride, mode);
            mode = SERIAL_ADD;
        }
    }

    /// Runs of keys that lie together: first token, first column, count.
    fn spans(&self, context: &[Segment]) -> Vec<(usize, usize, usize)> {
        let mut spans = Vec::with_capacity(2);
        if let [parent, _] = context {
            spans.push((parent.start, 0, parent.len));
        }
        spans.push((self.start, self.before, self.end));
        spans
    }
}

/// 1/√d.
pub(super) fn scale(dim: usize) -> f32 {
    1.0 / (dim as f32).sqrt()
}

/// Gradients of one segment for one key-value head.
struct Part {
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

pub(super) fn backward(
    saved: Saved<'_>,
    grad: &[f32],
    heads: Heads,
    segments: &Segments,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (dim, group) = (heads.dim, heads.per_key_value());
    let families = segments.families();
    let tasks: Vec<(usize, usize)> =
        (0..families.len()).flat_map(|f| (0..heads.key_value).map(move |h| (f, h))).collect();
    let parts: Vec<Vec<Part>> =
        tasks.par_iter().map(|&(f, h)| family_backward(saved, grad, heads, segments, &families[f], h)).collect();
    let (mut dq, mut dk, mut dv) = (vec![0.0; saved.q.len()], vec![0.0; saved.k.len()], vec![0.0; saved.v.len()]);
    for (&(family, kv_head), parts) in tasks.iter().zip(&parts) {
        for (&index, part) in families[family].iter().zip(parts) {
            let segment = segments.list()[index];
            scatter(&part.dq, segment, kv_head * group * dim, heads.query * dim, group * dim, &mut dq);
            scatter(&part.dk, segment, kv_head * dim, heads.key_value * dim, dim, &mut dk);
            scatter(&part.dv, segment, kv_head * dim, heads.key_value * dim, dim, &mut dv);
        }
    }
    (dq, dk, dv)
}

fn family_backward(
    saved: Saved<'_>,
    grad: &[f32],
    heads: Heads,
    segments: &Segments,
    family: &[usize],
    kv_head: usize,
) -> Vec<Part> {
    let (dim, group) = (heads.dim, heads.per_key_value());
    let mut parts: Vec<Part> = Vec::with_capacity(family.len());
    let keys = HeadRows::new(saved.k, heads.key_value, kv_head, dim);
    let values = HeadRows::new(saved.v, heads.key_value, kv_head, dim);
    let (mut p, mut ds) = (Vec::new(), Vec::new());
    for &index in family {
        let segment = segments.list()[index];
        let context = context(segments, &segment);
        let (key_panels, value_panels) = (keys.panels(&context, dim), values.panels(&context, dim));
        let rows = segment.len;
        parts.push(Part { dq: vec![0.0; rows * group * dim], dk: vec![0.0; rows * dim], dv: vec![0.0; rows * dim] });
        let (parents, own) = parts.split_at_mut(1);
        // The root is its own; a continuing segment adds to the root's keys and values as well.
        let (mut root, own) = match own.last_mut() {
            Some(own) => (Some(&mut parents[0]), own),
            None => (None, &mut parents[0]),
        };
        for_each_block(&context, |block| {
            for head in 0..group {
                let query_head = kv_head * group + head;
                let queries = HeadRows::new(saved.q, heads.query, query_head, dim);
                let grads = HeadRows::new(grad, heads.query, query_head, dim);
                let outs = HeadRows::new(saved.out, heads.query, query_head, dim);
                block.scores(queries, &key_panels, dim, &mut p);
                let sums = block.softmax(&mut p, dim);
                block.scores(grads, &value_panels, dim, &mut ds);
                let first = block.start + block.first;
                let columns = block.columns;
                for (row, sum) in sums.iter().enumerate() {
                    softmax_backward(
                        &mut p[row * columns..][..columns],
                        &mut ds[row * columns..][..columns],
                        *sum,
                        &grads.from(first + row)[..dim],
                        &outs.from(first + row)[..dim],
                        scale(dim),
                    );
                }
                let dq = &mut own.dq[(block.first * group + head) * dim..];
                block.weighted_sum(&ds, &context, keys, dim, dq, group * dim);
                for (source, offset, count) in block.spans(&context) {
                    let target = if source == block.start { &mut *own } else { root.as_deref_mut().unwrap_or(own) };
                    let sum = |weights: &[f32], rows: HeadRows<'_>, out: &mut [f32]| {
                        let lhs = Lhs { data: &weights[offset..], row: 1, step: columns };
                        matmul(count, dim, block.rows(), lhs, rows.rhs(first), out, dim, SERIAL_ADD);
                    };
                    sum(&ds, queries, &mut target.dk);
                    sum(&p, grads, &mut target.dv);
                }
            }
        });
    }
    parts
}
