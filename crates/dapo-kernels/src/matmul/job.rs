//! One product, cut into blocks of k, panels of columns and tiles of rows.

#![expect(unsafe_code, reason = "tiles write disjoint parts of the output through pointers")]

use super::micro::{self, Tile};
use super::pack::{LhsBlock, odd_lines, pack_rows};
use super::{Lhs, Rhs, pack_columns, panel_width};
use crate::simd::{Isa, LANES, SharedMut, isa};
use std::cell::RefCell;
use std::ops::Range;

/// Elements of B that are copied at a time: a megabyte.
const COPIED: usize = 1 << 18;

/// Most steps of k between two passes over the output. With AVX2 a panel of them stays in the first-level cache, unless a
/// single pass does.
fn k_block(k: usize, copied: bool) -> usize {
    match isa() {
        Isa::Avx512 if copied => 512,
        Isa::Avx512 => 768,
        _ if k <= 640 => 640,
        _ => 320,
    }
}

thread_local! {
    /// Copies of a task's parts of A and B.
    static BUFFERS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// A checked product.
pub(super) struct Job<'a> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Lhs<'a>,
    pub(super) b: Rhs<'a>,
    pub(super) c: SharedMut,
    pub(super) c_row: usize,
    pub(super) accumulate: bool,
}

/// Where panels of B are read: distances between panels, between steps of k, and to what is fetched ahead.
#[derive(Clone, Copy)]
struct RhsBlock {
    b: *const f32,
    panel: usize,
    step: usize,
    next: usize,
}

/// One panel of a block.
#[derive(Clone, Copy)]
struct Panel {
    b: *const f32,
    step: usize,
    next: *const f32,
}

impl RhsBlock {
    fn panel(&self, index: usize) -> Panel {
        let b = self.b.wrapping_add(index * self.panel);
        Panel { b, step: self.step, next: b.wrapping_add(self.next) }
    }
}

impl Job<'_> {
    /// Computes these rows of these panels.
    pub(super) fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        debug_assert!(rows.end <= self.m);
        BUFFERS.with_borrow_mut(|(a, b)| self.blocks(rows, &panels, a, b));
    }

    fn blocks(&self, rows: Range<usize>, panels: &Range<usize>, a_buffer: &mut Vec<f32>, b_buffer: &mut Vec<f32>) {
        let copied = matches!(self.b, Rhs::Rows { .. } | Rhs::Columns { .. });
        // Few rows pass over B once, from end to end.
        let few = rows.len() <= 4 * micro::max_rows();
        let blocks = if few { 1 } else { self.k.div_ceil(k_block(self.k, copied)) };
        let row_blocks = rows.len().div_ceil(super::ROW_BLOCK);
        for block in 0..blocks {
            let k = self.k * block / blocks..self.k * (block + 1) / blocks;
            let group = if copied { (COPIED / (k.len() * panel_width())).max(1) } else { panels.len() };
            for first in panels.clone().step_by(group) {
                let group = first..panels.end.min(first + group);
                let b = self.b(group.clone(), k.clone(), rows.len(), b_buffer);
                for row_block in 0..row_blocks {
                    let part = |index: usize| rows.start + tile_row(rows.len(), row_blocks, index);
                    let rows = part(row_block)..part(row_block + 1);
                    let a = LhsBlock::new(self.a, rows.clone(), k.clone(), group.len(), a_buffer);
                    for panel in group.clone() {
                        self.tiles(rows.clone(), k.clone(), a, panel, b.panel(panel - first));
                    }
                }
            }
        }
    }

    /// B's panels, read where they lie if that is fast.
    fn b(&self, panels: Range<usize>, k: Range<usize>, rows: usize, buffer: &mut Vec<f32>) -> RhsBlock {
        let width = panel_width();
        let first = panels.start * width;
        let columns = (panels.len() * width).min(self.n - first);
        match self.b {
            Rhs::Packed(matrix) => self.in_place(matrix.panels(), panels, k),
            Rhs::Panels(data) => self.in_place(data, panels, k),
            Rhs::Rows { data, stride } if columns.is_multiple_of(width) && rows <= 24 => {
                RhsBlock { b: data[k.start * stride + first..].as_ptr(), panel: width, step: stride, next: 0 }
            }
            Rhs::Rows { data, stride } => {
                let size = odd_lines(k.len() * width);
                let copy = resized(buffer, panels.len() * size);
                pack_rows(&data[k.start * stride + first..], stride, k.len(), columns, size, copy);
                RhsBlock { b: copy.as_ptr(), panel: size, step: width, next: 0 }
            }
            Rhs::Columns { data, stride } => {
                let size = k.len() * width;
                let copy = resized(buffer, panels.len() * size);
                pack_columns(&data[first * stride + k.start..], stride, k.len(), columns, copy);
                RhsBlock { b: copy.as_ptr(), panel: size, step: width, next: 0 }
            }
        }
    }

    fn in_place(&self, data: &[f32], panels: Range<usize>, k: Range<usize>) -> RhsBlock {
        let width = panel_width();
        let b = data[panels.start * self.k * width + k.start * width..].as_ptr();
        RhsBlock { b, panel: self.k * width, step: width, next: self.k * width }
    }

    fn tiles(&self, rows: Range<usize>, k: Range<usize>, a: LhsBlock<'_>, panel: usize, b: Panel) {
        let width = panel_width();
        let columns = width.min(self.n - panel * width);
        let accumulate = self.accumulate || k.start > 0;
        let tiles = rows.len().div_ceil(micro::max_rows());
        // The next panel is fetched little by little, a part in each tile.
        let next_step = width.div_ceil(tiles).min(16);
        for index in 0..tiles {
            let start = rows.start + a.tile_start(index, tiles, rows.len());
            let end = rows.start + a.tile_start(index + 1, tiles, rows.len());
            // SAFETY: `check` has compared the sizes with the slices; no other task writes these rows and columns.
            let c = unsafe { self.c.ptr().add(start * self.c_row + panel * width) };
            let tile = Tile {
                k: k.len(),
                a: a.tile(start - rows.start),
                a_row: a.row,
                a_k: a.step,
                b: b.b,
                b_k: b.step,
                next: b.next.wrapping_add(width.min(index * next_step) * k.len()),
                next_step,
                c,
                next_c: if end < rows.end {
                    c.wrapping_add((end - start) * self.c_row)
                } else {
                    c.wrapping_sub((start - rows.start) * self.c_row).wrapping_add(width)
                },
                c_row: self.c_row,
                accumulate,
            };
            if columns == width {
                // SAFETY: as above; a full panel has all its columns in C.
                unsafe { micro::run(end - start, tile) };
            } else {
                edge(end - start, columns, tile);
            }
        }
    }
}

/// Where part `index` of `parts` begins, of `rows` rows divided about equally.
pub(super) fn tile_row(rows: usize, parts: usize, index: usize) -> usize {
    rows * index / parts
}

fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}

/// A tile whose panel is cut by the edge of C: computed aside, then copied.
fn edge(rows: usize, columns: usize, tile: Tile) {
    let mut aside = [0.0f32; 12 * LANES];
    if tile.accumulate {
        for row in 0..rows {
            // SAFETY: `columns` elements of each of these rows of C are this task's.
            let c = unsafe { std::slice::from_raw_parts(tile.c.add(row * tile.c_row), columns) };
            aside[row * LANES..][..columns].copy_from_slice(c);
        }
    }
    // SAFETY: A and B are the caller's; the output is the local array.
    unsafe { micro::run(rows, Tile { c: aside.as_mut_ptr(), c_row: LANES, ..tile }) };
    for row in 0..rows {
        // SAFETY: as above.
        let c = unsafe { std::slice::from_raw_parts_mut(tile.c.add(row * tile.c_row), columns) };
        c.copy_from_slice(&aside[row * LANES..][..columns]);
    }
}
