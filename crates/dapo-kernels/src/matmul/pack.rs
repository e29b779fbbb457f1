//! Operands laid out in the order in which the tiles read them.

use super::job::tile_row;
use super::{Lhs, micro, pack_columns, panel_width};
use crate::simd::{LANES, dispatch, prefetch};
use crate::threads;
use std::ops::Range;

/// Distance between rows from which on a part of them is copied before it is used: each row is on a page of its own.
const FAR: usize = 8192;
/// Steps of k that copies ask for ahead of time.
const AHEAD: usize = 32;

/// The right-hand side B of a product, `[k, n]`, stored as panels of 32 or 16 columns, as suits the processor: panel, then k,
/// then column. Padded with zeros to whole runs of 32 columns.
#[derive(Clone, Debug, Default)]
pub struct PackedMatrix {
    k: usize,
    n: usize,
    data: Vec<f32>,
}

impl PackedMatrix {
    /// Packs the transpose of `weight`, stored `[n, k]` row by row as linear layers are, so that `x · Bᵀ` is a product.
    pub fn from_transposed(weight: &[f32], n: usize, k: usize) -> Self {
        let mut packed = Self { k, n, data: vec![0.0; n.div_ceil(LANES) * k * LANES] };
        packed.repack_transposed(weight);
        packed
    }

    /// Packs again after `weight`, of the same shape, has changed.
    pub fn repack_transposed(&mut self, weight: &[f32]) {
        let (n, k) = (self.n, self.k);
        assert_eq!(weight.len(), n * k, "repack_transposed: weight of another size");
        threads::for_each_chunk([&mut self.data], [k * LANES], |panel, [data]| {
            let columns = LANES.min(n - panel * LANES);
            pack_columns(&weight[panel * LANES * k..], k, k, columns, data);
        });
    }

    /// Rows of B: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B: the width of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// All panels.
    pub(super) fn panels(&self) -> &[f32] {
        &self.data
    }
}

/// Copies `columns` of the first `steps` rows into panels of `WIDTH` columns: several at a time, because memory is read faster in
/// longer runs. The last panel is padded with zeros.
#[inline(always)]
fn rows_to_panels<const WIDTH: usize>(
    source: &[f32],
    stride: usize,
    steps: usize,
    columns: usize,
    panel_size: usize,
    panels: &mut [f32],
) {
    let whole = columns / WIDTH;
    for (k, source) in source.chunks(stride).take(steps).enumerate() {
        for line in (0..columns).step_by(16) {
            prefetch(source, AHEAD * stride + line);
        }
        let (lines, rest) = source[..columns].as_chunks::<WIDTH>();
        for (panel, line) in lines.iter().enumerate() {
            panels[panel * panel_size + k * WIDTH..][..WIDTH].copy_from_slice(line);
        }
        if !rest.is_empty() {
            let row = &mut panels[whole * panel_size + k * WIDTH..][..WIDTH];
            row[..rest.len()].copy_from_slice(rest);
            row[rest.len()..].fill(0.0);
        }
    }
}

#[inline(always)]
fn pack_rows_body<const FMA: bool>(
    source: &[f32],
    stride: usize,
    steps: usize,
    columns: usize,
    panel_size: usize,
    panels: &mut [f32],
) {
    match panel_width() {
        LANES => rows_to_panels::<LANES>(source, stride, steps, columns, panel_size, panels),
        _ => rows_to_panels::<{ LANES / 2 }>(source, stride, steps, columns, panel_size, panels),
    }
}

dispatch! {
    pub(super) fn pack_rows(
        source: &[f32],
        stride: usize,
        steps: usize,
        columns: usize,
        panel_size: usize,
        panels: &mut [f32],
    ) = pack_rows_body;
}

/// At least `len` elements in an odd number of cache lines: neighbours at a power of two would share a few sets of the cache.
pub(super) fn odd_lines(len: usize) -> usize {
    len.next_multiple_of(16) | 16
}

/// Where a tile finds its rows of A.
#[derive(Clone, Copy)]
pub(super) struct LhsBlock<'a> {
    data: &'a [f32],
    /// Distance between runs of `rows` rows.
    tile: usize,
    rows: usize,
    pub(super) row: usize,
    pub(super) step: usize,
}

impl<'a> LhsBlock<'a> {
    /// The part of A that a task multiplies with some panels of B. It is copied to `buffer` where that pays: rows that are a
    /// multiple of half a page apart share a few sets of the cache, and steps that are not neighbours use a part of each line.
    pub(super) fn new(
        a: Lhs<'a>,
        rows: Range<usize>,
        k: Range<usize>,
        panels: usize,
        buffer: &'a mut Vec<f32>,
    ) -> Self {
        let (count, steps) = (rows.len(), k.len());
        let data = &a.data[rows.start * a.row + k.start * a.step..];
        let max_rows = micro::max_rows();
        if a.step == 1 {
            if count <= 4 || !(a.row.is_multiple_of(512) || a.row > FAR) {
                return Self { data, tile: a.row, rows: 1, row: a.row, step: 1 };
            }
            let stride = odd_lines(steps);
            buffer.resize(buffer.len().max(count * stride), 0.0);
            for (row, source) in buffer.chunks_exact_mut(stride).zip(data.chunks(a.row)).take(count) {
                row[..steps].copy_from_slice(&source[..steps]);
            }
            Self { data: buffer, tile: stride, rows: 1, row: stride, step: 1 }
        } else if a.row == 1 && panels > 2 {
            let tile = odd_lines(steps * max_rows);
            buffer.resize(buffer.len().max(count.div_ceil(max_rows) * tile), 0.0);
            pack_transposed(data, a.step, count, steps, tile, buffer);
            Self { data: buffer, tile, rows: max_rows, row: 1, step: max_rows }
        } else {
            Self { data, tile: a.row, rows: 1, row: a.row, step: a.step }
        }
    }

    /// First row of a tile: of equal height where rows are read one by one, of full height where they were copied tile by tile.
    pub(super) fn tile_start(&self, index: usize, tiles: usize, rows: usize) -> usize {
        if self.rows == 1 { tile_row(rows, tiles, index) } else { rows.min(index * self.rows) }
    }

    /// First element of the tile whose first row is `row` rows into the block.
    pub(super) fn tile(&self, row: usize) -> *const f32 {
        self.data[row / self.rows * self.tile..].as_ptr()
    }
}

/// `buffer[tile][k][ROWS]` from `[k][row]`; what a last, shorter tile lacks is left as it was.
#[inline(always)]
fn transposed_tiles<const ROWS: usize>(
    data: &[f32],
    stride: usize,
    rows: usize,
    steps: usize,
    tile_size: usize,
    buffer: &mut [f32],
) {
    for (k, source) in data.chunks(stride).take(steps).enumerate() {
        for line in (0..rows).step_by(16) {
            prefetch(source, AHEAD * stride + line);
        }
        let (whole, rest) = source[..rows].as_chunks::<ROWS>();
        for (tile, values) in whole.iter().enumerate() {
            buffer[tile * tile_size + k * ROWS..][..ROWS].copy_from_slice(values);
        }
        if !rest.is_empty() {
            buffer[whole.len() * tile_size + k * ROWS..][..rest.len()].copy_from_slice(rest);
        }
    }
}

#[inline(always)]
fn pack_transposed_body<const FMA: bool>(
    data: &[f32],
    stride: usize,
    rows: usize,
    steps: usize,
    tile: usize,
    buffer: &mut [f32],
) {
    match micro::max_rows() {
        12 => transposed_tiles::<12>(data, stride, rows, steps, tile, buffer),
        6 => transposed_tiles::<6>(data, stride, rows, steps, tile, buffer),
        _ => transposed_tiles::<4>(data, stride, rows, steps, tile, buffer),
    }
}

dispatch! {
    fn pack_transposed(data: &[f32], stride: usize, rows: usize, steps: usize, tile: usize, buffer: &mut [f32]) = pack_transposed_body;
}
