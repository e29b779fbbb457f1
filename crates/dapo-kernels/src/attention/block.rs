//! What the forward and the backward of packed segments share: blocks of queries, and the matmuls of their tiles.

use super::softmax::{scale, softmax};
use super::{Heads, Segment, Segments};
use crate::buffer::at_least;
use crate::matmul::{Lhs, Mode, Products, Rhs, matmul, pack_columns};
use crate::simd::LANES;
use crate::threads;
use std::ops::Range;

/// Queries (tokens) of a block.
pub(super) const QUERIES: usize = 32;
/// Rows of a tile; a row is a query of one head.
const TILE: usize = 12;
pub(super) const SERIAL: Mode = Mode { accumulate: false, serial: true, products: Products::F32 };
pub(super) const SERIAL_ADD: Mode = Mode { accumulate: true, ..SERIAL };

/// Rows of key-value heads, transposed: for every segment and head, panels of 32 tokens.
#[derive(Default)]
pub(super) struct Panels {
    data: Vec<f32>,
    /// Segment, head and first token of every panel.
    places: Vec<(Segment, usize, usize)>,
    /// First panel of each segment, for the first head.
    starts: Vec<usize>,
    heads: usize,
    size: usize,
}

impl Panels {
    /// Transposes all rows, into the memory of earlier ones.
    pub(super) fn fill(&mut self, rows: &[f32], heads: Heads, segments: &Segments) {
        let (dim, count) = (heads.dim, heads.key_value);
        let Self { data, places, starts, .. } = self;
        places.clear();
        starts.clear();
        for segment in segments.list() {
            starts.push(places.len());
            for head in 0..count {
                places.extend((0..segment.len).step_by(LANES).map(|token| (*segment, head, token)));
            }
        }
        (self.heads, self.size) = (count, dim * LANES);
        at_least(data, places.len() * self.size);
        threads::for_each_chunk([&mut data[..places.len() * self.size]], [self.size], |index, [panel]| {
            let (segment, head, token) = places[index];
            let source = &rows[(segment.start + token) * count * dim + head * dim..];
            pack_columns(source, count * dim, dim, LANES.min(segment.len - token), panel);
        });
    }

    fn of(&self, segment: usize, head: usize) -> &[f32] {
        let end = self.starts.get(segment + 1).copied().unwrap_or(self.places.len());
        let panels = (end - self.starts[segment]) / self.heads;
        &self.data[(self.starts[segment] + head * panels) * self.size..][..panels * self.size]
    }
}

/// A block of a segment's queries, for the query heads that share one key-value head.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) heads: Heads,
    pub(super) head: usize,
    /// Index of the segment.
    index: usize,
    segment: Segment,
    /// The segment that it continues.
    pub(super) parent: Option<(usize, Segment)>,
    /// Queries, counted in the segment.
    pub(super) first: usize,
    pub(super) end: usize,
}

/// Consecutive rows of a block: they are ordered by query and then by head.
#[derive(Clone)]
pub(super) struct Tile {
    pub(super) rows: Range<usize>,
    /// Keys of the segment itself that its last row sees.
    pub(super) own: usize,
}

impl Block {
    /// The blocks of a segment.
    pub(super) fn all(segments: &Segments, index: usize, heads: Heads, head: usize) -> impl Iterator<Item = Self> {
        let segment = segments.list()[index];
        let parent = segment.parent.map(|p| (p, segments.list()[p]));
        (0..segment.len).step_by(QUERIES).map(move |first| {
            let end = segment.len.min(first + QUERIES);
            Self { heads, head, index, segment, parent, first, end }
        })
    }

    /// Rows: queries times heads.
    pub(super) fn rows(&self) -> usize {
        (self.end - self.first) * self.heads.per_key_value()
    }

    /// Where a row lies in `[T, query heads]`.
    pub(super) fn row(&self, row: usize) -> usize {
        let group = self.heads.per_key_value();
        (self.token() + row / group) * self.heads.query + self.head * group + row % group
    }

    /// Keys of the parent.
    pub(super) fn before(&self) -> usize {
        self.parent.map_or(0, |(_, p)| p.len)
    }

    /// Index of the first query in the packed batch.
    pub(super) fn token(&self) -> usize {
        self.segment.start + self.first
    }

    /// First token of the segment.
    pub(super) fn start(&self) -> usize {
        self.segment.start
    }

    /// Distance between rows of scores: with room for the panels that reach past the last key, and not a power of two.
    pub(super) fn stride(&self) -> usize {
        (self.before() + self.end.next_multiple_of(LANES)).next_multiple_of(LANES) + 16
    }

    pub(super) fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let (rows, group, first) = (self.rows(), self.heads.per_key_value(), self.first);
        (0..rows).step_by(TILE).map(move |row| {
            let end = rows.min(row + TILE);
            Tile { rows: row..end, own: first + (end - 1) / group + 1 }
        })
    }

    /// Copies the block's rows of `[T, query heads · d]`, one after another.
    pub(super) fn gather(&self, x: &[f32], rows: &mut Vec<f32>) {
        let width = self.heads.per_key_value() * self.heads.dim;
        rows.clear();
        for token in self.token()..self.token() + self.end - self.first {
            rows.extend_from_slice(&x[token * self.heads.query * self.heads.dim + self.head * width..][..width]);
        }
    }

    /// scores[tile, keys] = rows · keysᵀ, for all keys that a row of the tile sees.
    pub(super) fn scores(&self, tile: &Tile, rows: &[f32], keys: &Panels, scores: &mut [f32]) {
        let (dim, stride, m) = (self.heads.dim, self.stride(), tile.rows.len());
        let lhs = Lhs::rows(&rows[tile.rows.start * dim..], dim);
        if let Some((parent, segment)) = self.parent {
            let columns = segment.len.next_multiple_of(LANES);
            let panels = Rhs::Panels(keys.of(parent, self.head));
            matmul(m, columns, dim, lhs, panels, scores, stride, SERIAL);
        }
        // The columns of the parent's last panel that are no keys are overwritten here.
        let panels = Rhs::Panels(keys.of(self.index, self.head));
        let columns = tile.own.next_multiple_of(LANES);
        matmul(m, columns, dim, lhs, panels, &mut scores[self.before()..], stride, SERIAL);
    }

    /// The softmax of a tile's rows, 0 from the keys that a row does not see up to `end`; a row's sum goes to `sums`.
    pub(super) fn softmax(&self, tile: &Tile, end: usize, scores: &mut [f32], sums: &mut [f32]) {
        let scale = scale(self.heads.dim);
        let rows = scores.chunks_mut(self.stride()).zip(tile.rows.clone()).zip(sums);
        for ((scores, row), sum) in rows {
            let valid = self.before() + self.first + row / self.heads.per_key_value() + 1;
            *sum = softmax(&mut scores[..end.next_multiple_of(LANES)], valid, scale);
        }
    }

    /// out[tile, d] = weights[tile, keys] · rows of the keys, over keys in order.
    pub(super) fn weighted_sum(&self, tile: &Tile, weights: &[f32], rows: &[f32], out: &mut [f32]) {
        let (dim, stride, m) = (self.heads.dim, self.stride(), tile.rows.len());
        let mut mode = SERIAL;
        let lhs = |column: usize| Lhs { data: &weights[column..], row: stride, step: 1 };
        if let Some((_, parent)) = self.parent {
            matmul(m, dim, parent.len, lhs(0), self.key_rows(rows, parent.start), out, dim, mode);
            mode = SERIAL_ADD;
        }
        let own = self.key_rows(rows, self.segment.start);
        matmul(m, dim, tile.own, lhs(self.before()), own, out, dim, mode);
    }

    /// Rows of this head in `[T, key-value heads · d]`, from a token on.
    fn key_rows<'a>(&self, x: &'a [f32], token: usize) -> Rhs<'a> {
        let stride = self.heads.key_value * self.heads.dim;
        Rhs::Rows { data: &x[token * stride + self.head * self.heads.dim..], stride }
    }
}
