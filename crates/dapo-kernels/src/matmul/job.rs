//! One product, cut into blocks of k, panels of columns and tiles of rows.

#![expect(unsafe_code, reason = "tiles write disjoint parts of the output through pointers")]

use super::micro::{self, Tile};
use super::pack::{LhsBlock, odd_lines, pack_rows};
use super::{Lhs, Rhs, pack_columns};
use crate::simd::{LANES, SharedMut};
use std::cell::RefCell;
use std::ops::Range;

/// Most steps of k between two passes over the output, where B is read in place and where panels of it are copied.
const K_BLOCK: usize = 768;
const K_BLOCK_COPIED: usize = 512;
/// Steps of k over all panels that are copied at a time: a megabyte.
const COPIED: usize = 8192;

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
        BUFFERS.with_borrow_mut(|(a, b)| {
            for start in rows.clone().step_by(super::ROW_BLOCK) {
                self.rows(start..rows.end.min(start + super::ROW_BLOCK), &panels, a, b);
            }
        });
    }

    fn rows(&self, rows: Range<usize>, panels: &Range<usize>, a_buffer: &mut Vec<f32>, b_buffer: &mut Vec<f32>) {
        debug_assert!(rows.end <= self.m);
        let blocks = match self.b {
            // Few rows pass over B once, from end to end.
            _ if rows.len() <= 4 * micro::max_rows() => 1,
            Rhs::Packed(_) | Rhs::Panels(_) => self.k.div_ceil(K_BLOCK),
            Rhs::Rows { .. } | Rhs::Columns { .. } => self.k.div_ceil(K_BLOCK_COPIED),
        };
        for block in 0..blocks {
            let k = self.k * block / blocks..self.k * (block + 1) / blocks;
            let a = LhsBlock::new(self.a, rows.clone(), k.clone(), panels.len(), a_buffer);
            let group = (COPIED / k.len()).max(1);
            for first in panels.clone().step_by(group) {
                let group = first..panels.end.min(first + group);
                let b = self.b(group.clone(), k.clone(), rows.len(), b_buffer);
                for panel in group {
                    self.tiles(rows.clone(), k.clone(), a, panel, b.panel(panel - first));
                }
            }
        }
    }

    /// B's panels, read where they lie if that is fast.
    fn b(&self, panels: Range<usize>, k: Range<usize>, rows: usize, buffer: &mut Vec<f32>) -> RhsBlock {
        let first = panels.start * LANES;
        let columns = (panels.len() * LANES).min(self.n - first);
        match self.b {
            Rhs::Packed(matrix) => self.in_place(matrix.panels(), panels, k),
            Rhs::Panels(data) => self.in_place(data, panels, k),
            Rhs::Rows { data, stride } if columns.is_multiple_of(LANES) && rows <= 24 => {
                RhsBlock { b: data[k.start * stride + first..].as_ptr(), panel: LANES, step: stride, next: 0 }
            }
            Rhs::Rows { data, stride } => {
                let size = odd_lines(k.len() * LANES);
                let copy = resized(buffer, panels.len() * size);
                pack_rows(&data[k.start * stride + first..], stride, k.len(), columns, size, copy);
                RhsBlock { b: copy.as_ptr(), panel: size, step: LANES, next: 0 }
            }
            Rhs::Columns { data, stride } => {
                let size = k.len() * LANES;
                let copy = resized(buffer, panels.len() * size);
                for (index, copy) in copy.chunks_exact_mut(size).enumerate() {
                    let columns = LANES.min(columns - index * LANES);
                    let source = &data[(first + index * LANES) * stride + k.start..];
                    pack_columns(source, stride, k.len(), columns, copy);
                }
                RhsBlock { b: copy.as_ptr(), panel: size, step: LANES, next: 0 }
            }
        }
    }

    fn in_place(&self, data: &[f32], panels: Range<usize>, k: Range<usize>) -> RhsBlock {
        let b = data[(panels.start * self.k + k.start) * LANES..].as_ptr();
        RhsBlock { b, panel: self.k * LANES, step: LANES, next: self.k * LANES }
    }

    fn tiles(&self, rows: Range<usize>, k: Range<usize>, a: LhsBlock<'_>, panel: usize, b: Panel) {
        let columns = LANES.min(self.n - panel * LANES);
        let accumulate = self.accumulate || k.start > 0;
        for (index, row) in rows.clone().step_by(micro::max_rows()).enumerate() {
            let count = (rows.end - row).min(micro::max_rows());
            // SAFETY: `check` has compared the sizes with the slices; no other task writes these rows and columns.
            let c = unsafe { self.c.ptr().add(row * self.c_row + panel * LANES) };
            let tile = Tile {
                k: k.len(),
                a: a.tile(row - rows.start),
                a_row: a.row,
                a_k: a.step,
                b: b.b,
                b_k: b.step,
                // The first two tiles each fetch half of the next panel.
                next: if index < 2 { b.next.wrapping_add(index * k.len() * LANES / 2) } else { b.b },
                c,
                next_c: if row + count < rows.end {
                    c.wrapping_add(micro::max_rows() * self.c_row)
                } else {
                    c.wrapping_sub((row - rows.start) * self.c_row).wrapping_add(LANES)
                },
                c_row: self.c_row,
                accumulate,
            };
            if columns == LANES {
                // SAFETY: as above; a full panel has 32 columns in C.
                unsafe { micro::run(count, tile) };
            } else {
                edge(count, columns, tile);
            }
        }
    }
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
