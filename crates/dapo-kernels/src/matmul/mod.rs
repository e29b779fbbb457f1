//! Matrix products in f32 with one order of sums.
//!
//! Every output element is the sum over k from 0 upwards, one multiply-add at a time, whatever the number of rows, the
//! layout of the operands, the blocking or the thread count. A row of a product therefore has the same bits whether it
//! is computed alone (decoding) or among thousands (training), which is what makes roll-out and training log-probs
//! equal bit for bit.
//!
//! Cost: 2·m·n·k flops; [`PackedMatrix`] is read once per block of rows, at memory speed for one row.

#![expect(unsafe_code, reason = "tiles write disjoint parts of the output through pointers")]

mod micro;

use crate::simd::{LANES, SharedMut};
use micro::Tile;
use rayon::prelude::*;

/// Steps of k between two passes over the output, so that a panel of B stays in the first-level cache.
const K_BLOCK: usize = 512;
/// Rows of one task.
const ROW_BLOCK: usize = 192;
/// Multiply-adds below which a product runs on the calling thread.
const PARALLEL_FROM: usize = 1 << 20;

/// The right-hand side B of a product, `[k, n]`, stored as panels of 32 columns: panel, then k, then column.
///
/// The last panel is padded with zeros.
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
        self.data.par_chunks_mut((k * LANES).max(1)).enumerate().for_each(|(panel, data)| {
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
}

/// Fills a panel with B(k, j) = `source[j * stride + k]`; columns from `columns` on become zero.
pub(crate) fn pack_columns(source: &[f32], stride: usize, k: usize, columns: usize, panel: &mut [f32]) {
    for k0 in (0..k).step_by(16) {
        let k1 = k.min(k0 + 16);
        for j in 0..columns {
            for (i, value) in source[j * stride + k0..j * stride + k1].iter().enumerate() {
                panel[(k0 + i) * LANES + j] = *value;
            }
        }
    }
    if columns < LANES {
        for row in panel[..k * LANES].chunks_exact_mut(LANES) {
            row[columns..].fill(0.0);
        }
    }
}

/// The left-hand side A: element (i, k) at `data[i * row + k * step]`.
#[derive(Clone, Copy, Debug)]
pub struct Lhs<'a> {
    /// All elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between neighbours in k.
    pub step: usize,
}

impl<'a> Lhs<'a> {
    /// `[m, k]`, rows one after another.
    pub fn rows(data: &'a [f32], k: usize) -> Self {
        Self { data, row: k, step: 1 }
    }

    /// The transpose of `[k, m]` stored row by row.
    pub fn transposed(data: &'a [f32], m: usize) -> Self {
        Self { data, row: 1, step: m }
    }
}

/// The right-hand side B.
#[derive(Clone, Copy, Debug)]
pub enum Rhs<'a> {
    /// Packed ahead of time.
    Packed(&'a PackedMatrix),
    /// Panels as in [`PackedMatrix`], held by somebody else (a key cache).
    Panels(&'a [f32]),
    /// Element (k, j) at `data[k * stride + j]`.
    Rows {
        /// All elements.
        data: &'a [f32],
        /// Distance between rows.
        stride: usize,
    },
    /// Element (k, j) at `data[j * stride + k]`.
    Columns {
        /// All elements.
        data: &'a [f32],
        /// Distance between columns.
        stride: usize,
    },
}

/// How the output is written, and on how many threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Go on adding to what C holds instead of overwriting it.
    pub accumulate: bool,
    /// Stay on the calling thread (it is one of many already).
    pub serial: bool,
}

/// C[m, n] (+)= A[m, k] · B[k, n]; row i of C starts at `c[i * c_row]`.
///
/// # Panics
/// When an operand is too short for the sizes.
pub fn matmul(m: usize, n: usize, k: usize, a: Lhs<'_>, b: Rhs<'_>, c: &mut [f32], c_row: usize, mode: Mode) {
    if m == 0 || n == 0 {
        return;
    }
    check(m, n, k, a, b, c.len(), c_row);
    let job = Job { m, n, k, a, b, c: SharedMut::new(c), c_row, accumulate: mode.accumulate };
    let panels = n.div_ceil(LANES);
    let threads = rayon::current_num_threads();
    if mode.serial || threads == 1 || m * n * k < PARALLEL_FROM {
        for rows in (0..m).step_by(ROW_BLOCK) {
            job.run(rows, m.min(rows + ROW_BLOCK), 0, panels);
        }
        return;
    }
    let row_tasks = m.div_ceil(ROW_BLOCK);
    let panel_tasks = panels.min((4 * threads).div_ceil(row_tasks));
    (0..row_tasks * panel_tasks).into_par_iter().for_each(|task| {
        let (r, p) = (task / panel_tasks, task % panel_tasks);
        job.run(m * r / row_tasks, m * (r + 1) / row_tasks, panels * p / panel_tasks, panels * (p + 1) / panel_tasks);
    });
}

fn check(m: usize, n: usize, k: usize, a: Lhs<'_>, b: Rhs<'_>, c: usize, c_row: usize) {
    assert!(c_row >= n && c >= (m - 1) * c_row + n, "matmul: output too short");
    assert!(k > 0, "matmul: nothing to sum over");
    assert!(a.data.len() > (m - 1) * a.row + (k - 1) * a.step, "matmul: left-hand side too short");
    match b {
        Rhs::Packed(b) => assert!(b.k == k && b.n == n, "matmul: packed [{}, {}], expected [{k}, {n}]", b.k, b.n),
        Rhs::Panels(data) => assert!(data.len() >= n.div_ceil(LANES) * k * LANES, "matmul: panels too short"),
        Rhs::Rows { data, stride } => {
            assert!(stride >= n && data.len() >= (k - 1) * stride + n, "matmul: right-hand side too short");
        }
        Rhs::Columns { data, stride } => {
            assert!(stride >= k && data.len() >= (n - 1) * stride + k, "matmul: right-hand side too short");
        }
    }
}

struct Job<'a> {
    m: usize,
    n: usize,
    k: usize,
    a: Lhs<'a>,
    b: Rhs<'a>,
    c: SharedMut,
    c_row: usize,
    accumulate: bool,
}

impl Job<'_> {
    /// Rows `row_start..row_end` of the panels `panel_start..panel_end`.
    fn run(&self, row_start: usize, row_end: usize, panel_start: usize, panel_end: usize) {
        debug_assert!(row_end <= self.m);
        let mut buffer = Vec::new();
        for k_start in (0..self.k).step_by(K_BLOCK) {
            let k_end = self.k.min(k_start + K_BLOCK);
            let accumulate = self.accumulate || k_start > 0;
            for panel in panel_start..panel_end {
                let (b, b_k) = self.panel(panel, k_start, k_end, row_end - row_start, &mut buffer);
                self.rows(row_start, row_end, panel, k_start, k_end, b, b_k, accumulate);
            }
        }
    }

    /// Where the panel's block of B starts, and its distance between steps of k.
    fn panel(&self, panel: usize, k0: usize, k1: usize, rows: usize, buffer: &mut Vec<f32>) -> (*const f32, usize) {
        let columns = LANES.min(self.n - panel * LANES);
        let first = panel * LANES;
        match self.b {
            Rhs::Packed(PackedMatrix { data, .. }) => (data[(panel * self.k + k0) * LANES..].as_ptr(), LANES),
            Rhs::Panels(data) => (data[(panel * self.k + k0) * LANES..].as_ptr(), LANES),
            // A full panel that few rows use is read where it lies.
            Rhs::Rows { data, stride } if columns == LANES && rows <= 24 => {
                (data[k0 * stride + first..].as_ptr(), stride)
            }
            Rhs::Rows { data, stride } => {
                buffer.resize(K_BLOCK * LANES, 0.0);
                for (row, k) in buffer.chunks_exact_mut(LANES).zip(k0..k1) {
                    row[..columns].copy_from_slice(&data[k * stride + first..][..columns]);
                    row[columns..].fill(0.0);
                }
                (buffer.as_ptr(), LANES)
            }
            Rhs::Columns { data, stride } => {
                buffer.resize(K_BLOCK * LANES, 0.0);
                pack_columns(&data[first * stride + k0..], stride, k1 - k0, columns, buffer);
                (buffer.as_ptr(), LANES)
            }
        }
    }

    fn rows(
        &self,
        start: usize,
        end: usize,
        panel: usize,
        k0: usize,
        k1: usize,
        b: *const f32,
        b_k: usize,
        accumulate: bool,
    ) {
        let columns = LANES.min(self.n - panel * LANES);
        let blocks = (end - start).div_ceil(micro::max_rows());
        for block in 0..blocks {
            let row = start + (end - start) * block / blocks;
            let rows = start + (end - start) * (block + 1) / blocks - row;
            let a = self.a.data[row * self.a.row + k0 * self.a.step..].as_ptr();
            // SAFETY: `check` has compared the sizes with the slices; no other task writes these rows and columns.
            let c = unsafe { self.c.ptr().add(row * self.c_row + panel * LANES) };
            let tile =
                Tile { k: k1 - k0, a, a_row: self.a.row, a_k: self.a.step, b, b_k, c, c_row: self.c_row, accumulate };
            if columns == LANES {
                // SAFETY: as above; a full panel has 32 columns in C.
                unsafe { micro::run(rows, tile) };
            } else {
                edge(rows, columns, tile);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(n).collect()
    }

    fn exact(m: usize, n: usize, k: usize, a: &[f32], bt: &[f32]) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|x| f64::from(a[i * k + x]) * f64::from(bt[j * k + x])).sum();
            }
        }
        c
    }

    fn transpose(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..columns * rows).map(|i| x[(i % rows) * columns + i / rows]).collect()
    }

    #[test]
    fn every_layout_gives_the_same_bits_and_the_right_product() {
        for (m, n, k) in [(1, 1, 1), (1, 32, 7), (3, 33, 64), (13, 70, 130), (40, 96, 1100), (200, 64, 33)] {
            let (a, bt) = (values(m * k, 1), values(n * k, 2));
            let (at, b) = (transpose(&a, m, k), transpose(&bt, n, k));
            let packed = PackedMatrix::from_transposed(&bt, n, k);
            let mut first = vec![f32::NAN; m * n];
            matmul(m, n, k, Lhs::rows(&a, k), Rhs::Packed(&packed), &mut first, n, Mode::default());
            for (got, want) in first.iter().zip(exact(m, n, k, &a, &bt)) {
                assert!((f64::from(*got) - want).abs() < 1e-4, "{m}x{n}x{k}: {got} {want}");
            }
            let others = [
                (Lhs::rows(&a, k), Rhs::Rows { data: &b, stride: n }),
                (Lhs::rows(&a, k), Rhs::Columns { data: &bt, stride: k }),
                (Lhs::transposed(&at, m), Rhs::Packed(&packed)),
                (Lhs::transposed(&at, m), Rhs::Rows { data: &b, stride: n }),
            ];
            for (lhs, rhs) in others {
                let mut c = vec![f32::NAN; m * n];
                matmul(m, n, k, lhs, rhs, &mut c, n, Mode::default());
                assert!(c.iter().zip(&first).all(|(x, y)| x.to_bits() == y.to_bits()), "{m}x{n}x{k} {rhs:?}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (m, n, k) = (300, 200, 700);
        let (a, bt) = (values(m * k, 3), values(n * k, 4));
        let packed = PackedMatrix::from_transposed(&bt, n, k);
        let mut all = vec![0.0; m * n];
        matmul(m, n, k, Lhs::rows(&a, k), Rhs::Packed(&packed), &mut all, n, Mode::default());
        for i in [0, 7, 191, 192, 299] {
            let mut one = vec![0.0; n];
            matmul(
                1,
                n,
                k,
                Lhs::rows(&a[i * k..], k),
                Rhs::Packed(&packed),
                &mut one,
                n,
                Mode { serial: true, accumulate: false },
            );
            assert_eq!(one, all[i * n..(i + 1) * n]);
        }
    }

    #[test]
    fn accumulating_goes_on_with_the_sum() {
        let (m, n, k) = (9, 45, 50);
        let (a, bt) = (values(m * k, 5), values(n * k, 6));
        let b = transpose(&bt, n, k);
        let mut whole = vec![0.0; m * n];
        matmul(m, n, k, Lhs::rows(&a, k), Rhs::Rows { data: &b, stride: n }, &mut whole, n, Mode::default());
        let mut parts = vec![0.0; m * n];
        let cut = 17;
        matmul(
            m,
            n,
            cut,
            Lhs { data: &a, row: k, step: 1 },
            Rhs::Rows { data: &b, stride: n },
            &mut parts,
            n,
            Mode::default(),
        );
        let rest = Mode { accumulate: true, serial: false };
        matmul(
            m,
            n,
            k - cut,
            Lhs { data: &a[cut..], row: k, step: 1 },
            Rhs::Rows { data: &b[cut * n..], stride: n },
            &mut parts,
            n,
            rest,
        );
        assert_eq!(whole, parts);
    }

    #[test]
    #[should_panic(expected = "left-hand side too short")]
    fn refuses_operands_that_are_too_short() {
        matmul(
            2,
            1,
            2,
            Lhs::rows(&[0.0; 3], 2),
            Rhs::Rows { data: &[0.0; 2], stride: 1 },
            &mut [0.0; 2],
            1,
            Mode::default(),
        );
    }
}
