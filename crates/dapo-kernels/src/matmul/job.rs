//! One matmul, cut into blocks of k, panels of columns and tiles of rows.

#![expect(unsafe_code, reason = "tiles write disjoint parts of the output through pointers")]

use super::micro::{self, Kind, Tile, max_rows};
use super::pack::{odd_lines, pack_rows, pack_tiles};
use super::packed::Words;
use super::{Lhs, Rhs, pack_columns, panel_width};
use crate::buffer::at_least;
use crate::simd::{Isa, LANES, SharedMut, isa};
use crate::threads;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

/// Elements of A or B that are copied at a time: 4 MiB, a part of the last-level cache.
const COPIED: usize = 1 << 20;
/// Most rows at a time: their part of A, with one block of k, stays in the second-level cache.
const ROW_BLOCK: usize = 192;
/// Tiles up to which B is passed over once, from end to end.
const FEW: usize = 4;
/// Tasks per thread, so that a thread that was interrupted is helped out.
const TASKS: usize = 4;
/// Elements of an operand that stay in the last-level cache.
const CACHED: usize = 2 << 20;
/// Panels from which on a copy of A is soon paid for.
const MANY_PANELS: usize = 12;
/// Distance between steps of k up to which both operands are read in place: copying them takes as long as the matmul.
const NARROW: usize = 256;
/// Distance between rows of A from which on they are copied for fewer panels: each is on a page of its own.
const FAR: usize = 8192;

/// Most steps of k between two passes over the output. With AVX2 a panel of them stays in the first-level cache, unless
/// a single pass does.
fn k_block(k: usize, copied: bool) -> usize {
    match isa() {
        Isa::Avx512 if copied => 512,
        Isa::Avx512 => 768,
        _ if k <= 640 => 640,
        _ => 320,
    }
}

thread_local! {
    /// Copies of parts of A and B, for the matmuls that this thread begins.
    static BUFFERS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// What the division of a matmul into tasks depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) tiles: usize,
    pub(super) panels: usize,
    /// Elements per step of k that come from memory for every part of the other operand.
    pub(super) far_a: usize,
    pub(super) far_b: usize,
    pub(super) threads: usize,
}

/// Divisions that a thread remembers: more than a model with prompts of many lengths has shapes.
const REMEMBERED: usize = 4096;

thread_local! {
    /// Divisions found before: the search takes longer than a small matmul on many threads.
    static DIVISIONS: RefCell<HashMap<Shape, (usize, usize)>> = RefCell::default();
}

/// [`Shape::division`], found once.
pub(super) fn cached(shape: Shape) -> (usize, usize) {
    DIVISIONS.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        *known.entry(shape).or_insert_with(|| shape.division())
    })
}

impl Shape {
    /// Into how many parts tiles and panels are cut: where the slowest thread is done first, by an estimate of cycles
    /// per step of k.
    pub(super) fn division(&self) -> (usize, usize) {
        let Self { tiles, panels, far_a, far_b, threads } = *self;
        let mut best = (usize::MAX, (1, 1));
        for row_tasks in 1..=tiles.min(8 * threads) {
            for panel_tasks in 1..=panels.min(8 * threads) {
                let rounds = (row_tasks * panel_tasks).div_ceil(threads);
                let (tiles, panels) = (tiles.div_ceil(row_tasks), panels.div_ceil(panel_tasks));
                let blocks = (tiles * max_rows()).div_ceil(ROW_BLOCK);
                let cycles = 24 * tiles * panels + 12 * tiles + 4 * panels * blocks;
                let memory = 2 * (far_a * panel_tasks + far_b * row_tasks);
                // A short task is a small loss when another thread is interrupted.
                best = best.min((rounds * cycles + cycles / 8 + memory, (row_tasks, panel_tasks)));
            }
        }
        best.1
    }
}

/// A checked matmul.
pub(super) struct Job<'a> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: Lhs<'a>,
    pub(super) b: Rhs<'a>,
    pub(super) c: SharedMut,
    pub(super) c_row: usize,
    pub(super) accumulate: bool,
    pub(super) parallel: bool,
    /// Whether the words of A and B are pairs in bf16, of which `k` counts the pairs.
    pub(super) pairs: bool,
}

/// Where tiles of A are read, from the first step of a chunk of k on.
#[derive(Clone, Copy)]
struct Left<'a> {
    data: &'a [f32],
    /// Of copied tiles the number of the first, and their distance.
    copied: Option<(usize, usize)>,
    row: usize,
    step: usize,
}

/// Where panels of B are read, from the first step of a chunk of k on: their distance, and that of steps, in words.
#[derive(Clone, Copy)]
struct Right<'a> {
    data: Words<'a>,
    panel: usize,
    step: usize,
}

impl Right<'_> {
    /// Words of a step of a panel.
    fn words(&self) -> usize {
        self.data.of_columns(panel_width())
    }
}

impl Job<'_> {
    pub(super) fn run(&self) {
        let (mut a, mut b) = BUFFERS.take();
        let (tiles, panels) = (self.m.div_ceil(max_rows()), self.n.div_ceil(panel_width()));
        let copies = self.copies_b(tiles);
        let steps = if copies { (COPIED / (panels * panel_width())).max(64) } else { self.k };
        let chunks = self.k.div_ceil(steps);
        for chunk in 0..chunks {
            let k = part(self.k, chunks, chunk);
            let right = if copies { self.copy_b(&k, panels, &mut b) } else { self.b_in_place(&k) };
            if !self.copies_a(panels, right) {
                let data = &self.a.data[k.start * self.a.step..];
                let left = Left { data, copied: None, row: self.a.row, step: self.a.step };
                self.multiply(&k, 0..tiles, panels, left, right);
                continue;
            }
            let at_once = (COPIED / (k.len() * max_rows())).max(1);
            let groups = tiles.div_ceil(at_once);
            for group in 0..groups {
                let tiles = part(tiles, groups, group);
                let left = self.copy_a(&k, tiles.clone(), &mut a);
                self.multiply(&k, tiles, panels, left, right);
            }
        }
        BUFFERS.set((a, b));
    }

    /// First row of a tile.
    fn row(&self, tile: usize) -> usize {
        self.m * tile / self.m.div_ceil(max_rows())
    }

    fn for_each(&self, pieces: usize, f: impl Fn(usize) + Sync) {
        if self.parallel { threads::for_each(pieces, f) } else { (0..pieces).for_each(f) }
    }

    /// Whether B is laid out as panels first.
    fn copies_b(&self, tiles: usize) -> bool {
        match self.b {
            Rhs::Packed(_) | Rhs::Panels(_) => false,
            Rhs::Rows { stride, .. } => {
                let is_narrow = self.a.row == 1 && self.a.step.max(stride) <= NARROW;
                tiles > FEW && !is_narrow || !self.n.is_multiple_of(panel_width())
            }
            Rhs::Columns { .. } | Rhs::Transposed(_) => true,
        }
    }

    fn b_in_place(&self, k: &Range<usize>) -> Right<'_> {
        let width = panel_width();
        match self.b {
            Rhs::Packed(matrix) => {
                let step = matrix.words().of_columns(width);
                Right { data: matrix.words().from(k.start * step), panel: self.k * step, step }
            }
            Rhs::Panels(data) => {
                Right { data: Words::Full(&data[k.start * width..]), panel: self.k * width, step: width }
            }
            Rhs::Rows { data, stride } => {
                Right { data: Words::Full(&data[k.start * stride..]), panel: width, step: stride }
            }
            Rhs::Columns { .. } | Rhs::Transposed(_) => unreachable!("columns are copied"),
        }
    }

    fn copy_b<'a>(&self, k: &Range<usize>, panels: usize, buffer: &'a mut Vec<f32>) -> Right<'a> {
        let width = panel_width();
        let panel = if let Rhs::Columns { .. } = self.b { k.len() * width } else { odd_lines(k.len() * width) };
        let copy = at_least(buffer, panels * panel);
        let group = if self.parallel { panels.div_ceil(TASKS * threads::count()).max(2) } else { panels };
        let pieces = panels.div_ceil(group);
        let target = SharedMut::new(copy);
        self.for_each(pieces, |piece| {
            let group = piece * group..panels.min((piece + 1) * group);
            let first = group.start * width;
            let columns = (group.len() * width).min(self.n - first);
            // SAFETY: the panels of this piece, which no other one writes.
            let copy =
                unsafe { std::slice::from_raw_parts_mut(target.ptr().add(group.start * panel), group.len() * panel) };
            match self.b {
                Rhs::Rows { data, stride } => {
                    pack_rows(&data[k.start * stride + first..], stride, k.len(), columns, panel, copy);
                }
                Rhs::Columns { data, stride } => {
                    pack_columns(&data[first * stride + k.start..], stride, k.len(), columns, copy);
                }
                Rhs::Transposed(matrix) => matrix.transpose_panels(k, first..first + columns, panel, copy),
                Rhs::Packed(_) | Rhs::Panels(_) => unreachable!("panels are read where they are"),
            }
        });
        Right { data: Words::Full(buffer), panel, step: width }
    }

    /// Whether tiles of A are laid out in the order in which they are read, which pays off over many panels; over fewer
    /// where rows are a multiple of half a page apart, which share a few sets of the cache, or where steps are not
    /// neighbours.
    fn copies_a(&self, panels: usize, right: Right<'_>) -> bool {
        let few = if self.a.step == 1 {
            self.a.row.is_multiple_of(512) || self.a.row > FAR
        } else {
            self.a.row == 1 && panels > 2
        };
        self.m > 4 && right.step == right.words() && (few || panels >= MANY_PANELS)
    }

    fn copy_a<'a>(&self, k: &Range<usize>, tiles: Range<usize>, buffer: &'a mut Vec<f32>) -> Left<'a> {
        let size = odd_lines(k.len() * max_rows());
        let copy = at_least(buffer, tiles.len() * size);
        let group = if self.parallel { tiles.len().div_ceil(TASKS * threads::count()).max(4) } else { tiles.len() };
        let target = SharedMut::new(copy);
        self.for_each(tiles.len().div_ceil(group), |piece| {
            let own = tiles.start + piece * group..tiles.end.min(tiles.start + (piece + 1) * group);
            let at = (own.start - tiles.start) * size;
            // SAFETY: the tiles of this piece, which no other one writes.
            let copy = unsafe { std::slice::from_raw_parts_mut(target.ptr().add(at), own.len() * size) };
            let first = self.row(own.start);
            let rows = own.map(|tile| self.row(tile) - first..self.row(tile + 1) - first);
            let data = &self.a.data[first * self.a.row + k.start * self.a.step..];
            pack_tiles(Lhs { data, ..self.a }, rows, k.len(), size, copy);
        });
        Left { data: buffer, copied: Some((tiles.start, size)), row: 1, step: max_rows() }
    }

    /// Adds this chunk of k to C of these tiles.
    fn multiply(&self, k: &Range<usize>, tiles: Range<usize>, panels: usize, left: Left<'_>, right: Right<'_>) {
        if !self.parallel {
            return self.blocks(k, tiles, 0..panels, left, right);
        }
        let (row_tasks, panel_tasks) = self.split(k.len(), tiles.len(), panels);
        self.for_each(row_tasks * panel_tasks, |task| {
            let own = part(tiles.len(), row_tasks, task / panel_tasks);
            let panels = part(panels, panel_tasks, task % panel_tasks);
            self.blocks(k, tiles.start + own.start..tiles.start + own.end, panels, left, right);
        });
    }

    /// Into how many parts tiles and panels are cut.
    fn split(&self, k: usize, tiles: usize, panels: usize) -> (usize, usize) {
        let threads = threads::count();
        if tiles <= FEW {
            return (1, (TASKS * threads).min(panels));
        }
        // Operands larger than a share of the last-level cache come from memory for every part of the other; packed
        // weights always do: a model has many of them.
        let weights = matches!(self.b, Rhs::Packed(_));
        let far = |columns: usize, weights: bool| if weights || columns * k > CACHED { columns } else { 0 };
        let (far_a, far_b) = (far(tiles * max_rows(), false), far(panels * panel_width(), weights));
        cached(Shape { tiles, panels, far_a, far_b, threads })
    }

    fn blocks(&self, k: &Range<usize>, tiles: Range<usize>, panels: Range<usize>, left: Left<'_>, right: Right<'_>) {
        let copied = !matches!(self.b, Rhs::Packed(_) | Rhs::Panels(_));
        let blocks = if tiles.len() <= FEW && !copied { 1 } else { k.len().div_ceil(k_block(k.len(), copied)) };
        let row_blocks = (tiles.len() * max_rows()).div_ceil(ROW_BLOCK);
        for block in 0..blocks {
            let steps = part(k.len(), blocks, block);
            let accumulate = self.accumulate || k.start + steps.start > 0;
            for row_block in 0..row_blocks {
                let own = part(tiles.len(), row_blocks, row_block);
                let own = tiles.start + own.start..tiles.start + own.end;
                for panel in panels.clone() {
                    self.tiles(own.clone(), steps.clone(), panel, left, right, accumulate);
                }
            }
        }
    }

    fn tiles(
        &self,
        tiles: Range<usize>,
        steps: Range<usize>,
        panel: usize,
        left: Left<'_>,
        right: Right<'_>,
        accumulate: bool,
    ) {
        let (width, words) = (panel_width(), right.words());
        let columns = width.min(self.n - panel * width);
        let b = right.data.as_ptr().wrapping_add(panel * right.panel + steps.start * right.step);
        // The next panel is fetched little by little, a part in each tile; rows in place are neighbours.
        let next = if right.step == words { b.wrapping_add(right.panel) } else { b };
        let next_step = words.div_ceil(tiles.len()).min(16);
        let first = self.row(tiles.start);
        for (index, tile) in tiles.clone().enumerate() {
            let (start, end) = (self.row(tile), self.row(tile + 1));
            // SAFETY: `check` has compared the sizes with the slices; no other task writes these rows and columns.
            let c = unsafe { self.c.ptr().add(start * self.c_row + panel * width) };
            let a = match left.copied {
                Some((first, distance)) => (tile - first) * distance + steps.start * left.step,
                None => start * left.row + steps.start * left.step,
            };
            let operands = Tile {
                k: steps.len(),
                a: left.data[a..].as_ptr(),
                a_row: left.row,
                a_k: left.step,
                b,
                b_k: right.step,
                next: next.wrapping_add(words.min(index * next_step) * steps.len()),
                next_step,
                c,
                next_c: if tile + 1 < tiles.end {
                    c.wrapping_add((end - start) * self.c_row)
                } else {
                    c.wrapping_sub((start - first) * self.c_row).wrapping_add(width)
                },
                c_row: self.c_row,
                accumulate,
            };
            let kind = match right.data {
                Words::Halves(_) => Kind::Halves,
                Words::Full(_) if self.pairs => Kind::Pairs,
                Words::Full(_) => Kind::Full,
            };
            if columns == width {
                // SAFETY: as above; a full panel has all its columns in C.
                unsafe { micro::run(end - start, left.copied.is_some(), kind, operands) };
            } else {
                edge(end - start, columns, left.copied.is_some(), kind, operands);
            }
        }
    }
}

/// Part `index` of `parts`, of `whole` divided about equally.
fn part(whole: usize, parts: usize, index: usize) -> Range<usize> {
    whole * index / parts..whole * (index + 1) / parts
}

/// A tile whose panel is cut by the edge of C: computed aside, then copied.
fn edge(rows: usize, columns: usize, copied: bool, kind: Kind, tile: Tile) {
    let mut aside = [0.0f32; 12 * LANES];
    if tile.accumulate {
        for row in 0..rows {
            // SAFETY: `columns` elements of each of these rows of C are this task's.
            let c = unsafe { std::slice::from_raw_parts(tile.c.add(row * tile.c_row), columns) };
            aside[row * LANES..][..columns].copy_from_slice(c);
        }
    }
    // SAFETY: A and B are the caller's; the output is the local array.
    unsafe { micro::run(rows, copied, kind, Tile { c: aside.as_mut_ptr(), c_row: LANES, ..tile }) };
    for row in 0..rows {
        // SAFETY: as above.
        let c = unsafe { std::slice::from_raw_parts_mut(tile.c.add(row * tile.c_row), columns) };
        c.copy_from_slice(&aside[row * LANES..][..columns]);
    }
}
