//! Right-hand sides that are used many times, stored as the innermost loop reads them.

use super::transpose::transpose;
use super::{Products, pack_columns, panel_width};
use crate::bf16::{high, low, pair, pair_neighbours};
use crate::simd::{LANES, dispatch};
use crate::threads;
use std::cell::RefCell;
use std::ops::Range;

/// Steps of k that are rounded at a time.
const STEPS: usize = 64;

thread_local! {
    /// Rows that are being changed.
    static ROWS: RefCell<Vec<f32>> = RefCell::default();
}

/// The right-hand side B of a matmul, `[k, n]`, stored as panels of 32 or 16 columns, as suits the CPU: panel, then k,
/// then column. Padded with zeros to whole runs of 32 columns. In f32, or in bf16 at half the size: to be widened and
/// multiplied in f32, or multiplied in bf16.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    k: usize,
    n: usize,
    panels: Panels,
}

#[derive(Clone, Debug)]
enum Panels {
    Full(Vec<f32>),
    /// Two columns in a word, half a panel apart, so that a vector of words becomes two of neighbouring columns.
    Halves(Vec<u32>),
    /// Two neighbours in k in a word, the first in its lower half; the last of an odd number is paired with zero. A word is
    /// held as the f32 of the same bits, because words are copied and laid out as f32 values are.
    Pairs(Vec<f32>),
}

/// Panels of either kind, in words of four bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Words<'a> {
    /// A column a word.
    Full(&'a [f32]),
    /// Columns i and i + width / 2 of a panel in bf16, in the lower and upper half of word i.
    Halves(&'a [u32]),
}

impl Words<'_> {
    pub(super) fn are_halves(self) -> bool {
        matches!(self, Self::Halves(_))
    }

    /// Words of `columns` columns of a step, an even number.
    pub(super) fn of_columns(self, columns: usize) -> usize {
        if self.are_halves() { columns / 2 } else { columns }
    }

    /// Those from the given one on.
    pub(super) fn from(self, start: usize) -> Self {
        match self {
            Self::Full(words) => Self::Full(&words[start..]),
            Self::Halves(words) => Self::Halves(&words[start..]),
        }
    }

    /// Where the first one is.
    pub(super) fn as_ptr(self) -> *const f32 {
        match self {
            Self::Full(words) => words.as_ptr(),
            Self::Halves(words) => words.as_ptr().cast(),
        }
    }
}

impl PackedMatrix {
    /// Packs the transpose of `weight`, stored `[n, k]` row by row as linear layers are, so that `x · Bᵀ` is a matmul.
    pub fn from_transposed(weight: &[f32], n: usize, k: usize) -> Self {
        let mut packed = Self { k, n, panels: Panels::Full(vec![0.0; n.div_ceil(LANES) * k * LANES]) };
        packed.repack_transposed(weight);
        packed
    }

    /// As [`from_transposed`](Self::from_transposed), with every value rounded to bf16.
    pub fn rounded_from_transposed(weight: &[f32], n: usize, k: usize) -> Self {
        let mut packed = Self { k, n, panels: Panels::Halves(vec![0; n.div_ceil(LANES) * k * LANES / 2]) };
        packed.repack_transposed(weight);
        packed
    }

    /// As [`rounded_from_transposed`](Self::rounded_from_transposed), to be multiplied in bf16: by left-hand sides that are
    /// rounded as well.
    pub fn pairs_from_transposed(weight: &[f32], n: usize, k: usize) -> Self {
        let mut packed = Self { k, n, panels: Panels::Pairs(vec![0.0; n.div_ceil(LANES) * k.div_ceil(2) * LANES]) };
        packed.repack_transposed(weight);
        packed
    }

    /// Packs again after `weight`, of the same shape, has changed; rounded, where the matrix is in bf16.
    ///
    /// # Panics
    /// When the weight is of another size.
    pub fn repack_transposed(&mut self, weight: &[f32]) {
        let (n, k, words) = (self.n, self.k, self.k.div_ceil(2));
        assert_eq!(weight.len(), n * k, "repack_transposed: weight of another size");
        match &mut self.panels {
            Panels::Pairs(data) => threads::for_each_chunk([data], [words * LANES], |run, [data]| {
                let weight = &weight[run * LANES * k..];
                let columns = LANES.min(n - run * LANES);
                let mut rows = ROWS.take();
                rows.resize(columns * words, 0.0);
                for (row, pairs) in weight.chunks_exact(k).zip(rows.chunks_exact_mut(words)) {
                    pair_neighbours(row, pairs);
                }
                pack_columns(&rows, words, words, columns, data);
                ROWS.set(rows);
            }),
            Panels::Full(data) => threads::for_each_chunk([data], [k * LANES], |run, [data]| {
                let columns = LANES.min(n - run * LANES);
                pack_columns(&weight[run * LANES * k..], k, k, columns, data);
            }),
            Panels::Halves(data) => {
                let width = panel_width();
                threads::for_each_chunk([data], [k * width / 2], |panel, [data]| {
                    let first = (panel * width).min(n);
                    let weight = &weight[first * k..];
                    let mut steps = [0.0; STEPS * LANES];
                    for (block, data) in data.chunks_mut(STEPS * width / 2).enumerate() {
                        let steps = &mut steps[..2 * data.len()];
                        let from = &weight[(block * STEPS).min(weight.len())..];
                        pack_columns(from, k, steps.len() / width, width.min(n - first), steps);
                        to_halves(steps, width, data);
                    }
                });
            }
        }
    }

    /// Rows of B: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Columns of B: the width of the output.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Whether it is in bf16.
    pub fn is_rounded(&self) -> bool {
        !matches!(self.panels, Panels::Full(_))
    }

    /// In what format it is multiplied.
    pub fn products(&self) -> Products {
        if let Panels::Pairs(_) = self.panels { Products::Bf16 } else { Products::F32 }
    }

    /// Writes Bᵀ, `[n, k]` row by row, in f32: what was packed, rounded where the matrix is in bf16.
    ///
    /// # Panics
    /// When `weight` has another size.
    pub fn unpack_transposed(&self, weight: &mut [f32]) {
        assert_eq!(weight.len(), self.n * self.k, "unpack_transposed: weight of another size");
        self.unpack_rows(0, weight);
    }

    /// Writes rows of Bᵀ from row `first` on, a multiple of 32, until `rows` is full.
    pub(crate) fn unpack_rows(&self, first: usize, rows: &mut [f32]) {
        let (k, width) = (self.k, panel_width());
        assert!(first.is_multiple_of(width) && first * k + rows.len() <= self.n * k, "unpack_rows: no such rows");
        if let Panels::Pairs(data) = &self.panels {
            let words = k.div_ceil(2);
            threads::for_each_chunk([rows], [width * k], |panel, [rows]| {
                let columns = rows.len() / k;
                let mut pairs = ROWS.take();
                pairs.resize(columns * words, 0.0);
                let panel = &data[(first / width + panel) * words * width..][..words * width];
                transpose(panel, width, columns, words, &mut pairs, words);
                for (row, pairs) in rows.chunks_exact_mut(k).zip(pairs.chunks_exact(words)) {
                    for (i, value) in row.iter_mut().enumerate() {
                        *value = half_of(pairs[i / 2], i);
                    }
                }
                ROWS.set(pairs);
            });
            return;
        }
        threads::for_each_chunk([rows], [width * k], |panel, [rows]| {
            let columns = rows.len() / k;
            let mut steps = [0.0; STEPS * LANES];
            for start in (0..k).step_by(STEPS) {
                let count = STEPS.min(k - start);
                let steps = self.steps(first / width + panel, start, count, &mut steps);
                transpose(steps, width, columns, count, &mut rows[start..], k);
            }
        });
    }

    /// Lets `f` change Bᵀ, some rows at a time, on several threads. It is given the place of the first value, and the same
    /// part of two further arrays of the size of Bᵀ.
    pub(crate) fn update_rows(
        &mut self,
        beside: [&mut [f32]; 2],
        f: impl Fn(usize, &mut [f32], [&mut [f32]; 2]) + Sync,
    ) {
        let (n, k, width) = (self.n, self.k, panel_width());
        assert!(beside.iter().all(|array| array.len() == n * k), "update_rows: an array of another size");
        let Panels::Full(data) = &mut self.panels else {
            let mut weight = vec![0.0; n * k];
            self.unpack_transposed(&mut weight);
            f(0, &mut weight, beside);
            return self.repack_transposed(&weight);
        };
        let [a, b] = beside;
        let size = k * width;
        threads::for_each_chunk([data, a, b], [size; 3], |panel, [data, a, b]| {
            let columns = a.len() / k;
            // Padding fills panels of its own where they are narrow.
            if columns > 0 {
                let mut rows = ROWS.take();
                rows.resize(columns * k, 0.0);
                transpose(data, width, columns, k, &mut rows, k);
                f(panel * size, &mut rows, [a, b]);
                pack_columns(&rows, k, k, columns, data);
                ROWS.set(rows);
            }
        });
    }

    /// Appends row `row` of Bᵀ, k values in f32, to `values`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn append_row(&self, row: usize, values: &mut Vec<f32>) {
        assert!(row < self.n, "append_row: row {row} of {}", self.n);
        let (width, half) = (panel_width(), panel_width() / 2);
        let (panel, column) = (row / width, row % width);
        match &self.panels {
            Panels::Full(data) => {
                let steps = data[panel * self.k * width..][..self.k * width].chunks_exact(width);
                values.extend(steps.map(|step| step[column]));
            }
            Panels::Halves(data) => {
                let steps = data[panel * self.k * half..][..self.k * half].chunks_exact(half);
                if column < half {
                    values.extend(steps.map(|step| low(step[column])));
                } else {
                    values.extend(steps.map(|step| high(step[column - half])));
                }
            }
            Panels::Pairs(data) => {
                let words = &data[panel * self.k.div_ceil(2) * width..];
                values.extend((0..self.k).map(|i| half_of(words[i / 2 * width + column], i)));
            }
        }
    }

    /// All panels.
    pub(super) fn words(&self) -> Words<'_> {
        match &self.panels {
            Panels::Full(data) | Panels::Pairs(data) => Words::Full(data),
            Panels::Halves(data) => Words::Halves(data),
        }
    }

    /// Some steps of a panel in f32, a step a line: where they are, or widened into `aside`.
    fn steps<'a>(&'a self, panel: usize, start: usize, count: usize, aside: &'a mut [f32]) -> &'a [f32] {
        let width = panel_width();
        let at = panel * self.k + start;
        match &self.panels {
            Panels::Full(data) => &data[at * width..][..count * width],
            Panels::Pairs(_) => unreachable!("pairs are taken apart by row"),
            Panels::Halves(data) => {
                let aside = &mut aside[..count * width];
                to_full(&data[at * width / 2..][..count * width / 2], width, aside);
                aside
            }
        }
    }

    /// Fills panels of Bᵀ: its rows `k` (columns of B) as steps, of its columns `columns` (rows of B). A panel begins every
    /// `panel_size` elements; the last is padded with zeros. Of a matrix in pairs `k` counts pairs of columns of B, which
    /// become the new pairs.
    pub(super) fn transpose_panels(
        &self,
        k: &Range<usize>,
        columns: Range<usize>,
        panel_size: usize,
        panels: &mut [f32],
    ) {
        let width = panel_width();
        let mut aside = [0.0; LANES * LANES];
        if let Panels::Pairs(data) = &self.panels {
            return self.transpose_pairs(data, k, columns, panel_size, panels);
        }
        for source in k.start / width..k.end.div_ceil(width) {
            // Columns of B in this panel of its, and their place among the steps.
            let (start, end) = ((source * width).max(k.start), ((source + 1) * width).min(k.end));
            for (index, first) in columns.clone().step_by(width).enumerate() {
                let count = width.min(columns.end - first);
                let steps = &self.steps(source, first, count, &mut aside)[start - source * width..];
                let target = &mut panels[index * panel_size + (start - k.start) * width..][..(end - start) * width];
                if count < width {
                    target.fill(0.0);
                }
                transpose(steps, width, end - start, count, target, width);
            }
        }
    }

    /// The same of a matrix in pairs.
    fn transpose_pairs(
        &self,
        data: &[f32],
        k: &Range<usize>,
        columns: Range<usize>,
        panel_size: usize,
        panels: &mut [f32],
    ) {
        let (width, half, words) = (panel_width(), panel_width() / 2, self.k.div_ceil(2));
        let mut lines = [0.0; LANES * LANES / 2];
        for source in k.start / half..k.end.div_ceil(half) {
            // New pairs that come from this panel, and their place among the steps.
            let (start, end) = ((source * half).max(k.start), ((source + 1) * half).min(k.end));
            for (index, first) in columns.clone().step_by(width).enumerate() {
                let count = width.min(columns.end - first);
                let target = &mut panels[index * panel_size + (start - k.start) * width..][..(end - start) * width];
                if count < width {
                    target.fill(0.0);
                }
                // Panels begin at an even row of B. A step has two of them.
                let steps = &data[(source * words + first / 2) * width..][..count.div_ceil(2) * width];
                regroup(steps, width, &mut lines[..count.div_ceil(2) * width]);
                transpose(&lines[start - source * half..], half, end - start, count, target, width);
            }
        }
    }
}

/// The value at place `i` of a row in pairs, in the word that it is in.
fn half_of(word: f32, i: usize) -> f32 {
    if i.is_multiple_of(2) { low(word.to_bits()) } else { high(word.to_bits()) }
}

/// Of each step of a panel of pairs in k, `width` words, two lines of half as many, with pairs of columns: first that of
/// the lower halves.
#[inline(always)]
fn regroup_body<const FMA: bool>(steps: &[f32], width: usize, lines: &mut [f32]) {
    for (step, lines) in steps.chunks_exact(width).zip(lines.chunks_exact_mut(width)) {
        let (lower, upper) = lines.split_at_mut(width / 2);
        for (([a, b], lower), upper) in step.as_chunks::<2>().0.iter().zip(lower).zip(upper) {
            let (a, b) = (a.to_bits(), b.to_bits());
            *lower = f32::from_bits(b << 16 | a & 0xffff);
            *upper = f32::from_bits(b & 0xffff_0000 | a >> 16);
        }
    }
}

dispatch! {
    fn regroup(steps: &[f32], width: usize, lines: &mut [f32]) = regroup_body;
}

#[inline(always)]
fn to_halves_body<const FMA: bool>(steps: &[f32], width: usize, words: &mut [u32]) {
    for (step, words) in steps.chunks_exact(width).zip(words.chunks_exact_mut(width / 2)) {
        let (lower, upper) = step.split_at(width / 2);
        for ((word, lower), upper) in words.iter_mut().zip(lower).zip(upper) {
            *word = pair(*lower, *upper);
        }
    }
}

dispatch! {
    fn to_halves(steps: &[f32], width: usize, words: &mut [u32]) = to_halves_body;
}

#[inline(always)]
fn to_full_body<const FMA: bool>(words: &[u32], width: usize, steps: &mut [f32]) {
    for (words, step) in words.chunks_exact(width / 2).zip(steps.chunks_exact_mut(width)) {
        let (lower, upper) = step.split_at_mut(width / 2);
        for ((word, lower), upper) in words.iter().zip(lower).zip(upper) {
            (*lower, *upper) = (low(*word), high(*word));
        }
    }
}

dispatch! {
    fn to_full(words: &[u32], width: usize, steps: &mut [f32]) = to_full_body;
}
