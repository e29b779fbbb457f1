//! Matrix products in f32 with one order of sums.
//!
//! Every output element is the sum over k from 0 upwards, one multiply-add at a time, whatever the number of rows, the
//! layout of the operands, the blocking or the thread count. A row of a product therefore has the same bits whether it
//! is computed alone (decoding) or among thousands (training), which is what makes roll-out and training log-probs
//! equal bit for bit.
//!
//! Cost: 2·m·n·k flops; [`PackedMatrix`] is read once per block of rows, at memory speed for one row.

#![expect(unsafe_code, reason = "parts of an output belong to other threads")]

mod job;
mod micro;
mod pack;
#[cfg(test)]
mod tests;
mod transpose;

use crate::simd::{LANES, SharedMut};
use crate::threads;
use job::Job;
pub(crate) use micro::panel_width;
pub use pack::PackedMatrix;
pub(crate) use transpose::pack_columns;

/// Multiply-adds below which a product runs on the calling thread.
const PARALLEL_FROM: usize = 1 << 18;
/// Most rows at a time: their block of A, with one block of k, stays in the second-level cache.
const ROW_BLOCK: usize = 192;
/// Tasks per thread, so that a thread that was interrupted is helped out.
const TASKS: usize = 4;

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
    /// Panels as in [`PackedMatrix`], held by somebody else (a key cache); as many as fill whole runs of 32 columns.
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
    run(&Job { m, n, k, a, b, c: SharedMut::new(c), c_row, accumulate: mode.accumulate }, mode.serial);
}

/// [`matmul`] into memory that is not borrowed: parts of an output whose other parts belong to other threads.
///
/// # Safety
/// Row i of C are the `n` elements from `c + i * c_row` on; they must be valid, and no other thread may touch them.
pub(crate) unsafe fn matmul_at(
    m: usize,
    n: usize,
    k: usize,
    a: Lhs<'_>,
    b: Rhs<'_>,
    c: *mut f32,
    c_row: usize,
    mode: Mode,
) {
    if m == 0 || n == 0 {
        return;
    }
    check(m, n, k, a, b, (m - 1) * c_row + n, c_row);
    run(&Job { m, n, k, a, b, c: SharedMut::from_ptr(c), c_row, accumulate: mode.accumulate }, mode.serial);
}

fn run(job: &Job<'_>, serial: bool) {
    let Job { m, n, k, .. } = *job;
    let threads = if serial { 1 } else { threads::count() };
    let panels = n.div_ceil(panel_width());
    if threads == 1 || m * n * k < PARALLEL_FROM {
        return job.run(0..m, 0..panels);
    }
    let tiles = m.div_ceil(micro::max_rows());
    let (row_tasks, panel_tasks) = split(job, tiles, panels, threads);
    threads::for_each(row_tasks * panel_tasks, |task| {
        let part = |parts: usize, index: usize, whole: usize| whole * index / parts..whole * (index + 1) / parts;
        let rows = part(row_tasks, task / panel_tasks, tiles);
        let rows = rows.start * micro::max_rows()..m.min(rows.end * micro::max_rows());
        job.run(rows, part(panel_tasks, task % panel_tasks, panels));
    });
}

/// Into how many parts rows and panels are cut: where the slowest thread is done first, by an estimate of cycles per step of k.
fn split(job: &Job<'_>, tiles: usize, panels: usize, threads: usize) -> (usize, usize) {
    if tiles <= 4 {
        return (1, (TASKS * threads).min(panels));
    }
    let copy_panel = if matches!(job.b, Rhs::Packed(_) | Rhs::Panels(_)) { 1 } else { 16 };
    // Operands larger than a share of the last-level cache come from memory for every part of the other; packed weights always
    // do: a model has many of them.
    let far = |columns: usize, weights: bool| if weights || columns * job.k > CACHED { columns } else { 0 };
    let (far_a, far_b) = (far(job.m, false), far(job.n, matches!(job.b, Rhs::Packed(_))));
    let mut best = (usize::MAX, (1, 1));
    for row_tasks in 1..=tiles.min(8 * threads) {
        for panel_tasks in 1..=panels.min(8 * threads) {
            let rounds = (row_tasks * panel_tasks).div_ceil(threads);
            let (tiles, panels) = (tiles.div_ceil(row_tasks), panels.div_ceil(panel_tasks));
            let blocks = (tiles * micro::max_rows()).div_ceil(ROW_BLOCK);
            let cycles = 24 * tiles * panels + 12 * tiles + copy_panel * panels * blocks;
            let memory = 2 * (far_a * panel_tasks + far_b * row_tasks);
            // A short task is a small loss when another thread is interrupted.
            best = best.min((rounds * cycles + cycles / 8 + memory, (row_tasks, panel_tasks)));
        }
    }
    best.1
}

/// Elements of an operand that stay in the last-level cache.
const CACHED: usize = 2 << 20;

fn check(m: usize, n: usize, k: usize, a: Lhs<'_>, b: Rhs<'_>, c: usize, c_row: usize) {
    assert!(c_row >= n && c >= (m - 1) * c_row + n, "matmul: output too short");
    assert!(k > 0, "matmul: nothing to sum over");
    assert!(a.data.len() > (m - 1) * a.row + (k - 1) * a.step, "matmul: left-hand side too short");
    match b {
        Rhs::Packed(b) => {
            assert!(b.k() == k && b.n() == n, "matmul: packed [{}, {}], expected [{k}, {n}]", b.k(), b.n());
        }
        Rhs::Panels(data) => assert!(data.len() >= n.next_multiple_of(LANES) * k, "matmul: panels too short"),
        Rhs::Rows { data, stride } => {
            assert!(stride >= n && data.len() >= (k - 1) * stride + n, "matmul: right-hand side too short");
        }
        Rhs::Columns { data, stride } => {
            assert!(stride >= k && data.len() >= (n - 1) * stride + k, "matmul: right-hand side too short");
        }
    }
}
