//! Matmuls in f32 with one order of sums.
//!
//! Every output element is the sum over k from 0 upwards, one multiply-add at a time. The number of rows, the layout of
//! the operands, the blocking and the thread count change nothing. A row of a matmul therefore has the same bits whether it
//! is computed alone (decoding) or among thousands (training). This makes rollout
//! and training log-probs equal bit for bit.
//!
//! Operands that are used many times are laid out first in the order in which the innermost loop reads them, a part at a
//! time and by all threads together; every thread then multiplies tiles of its own.
//!
//! A packed right-hand side can be in bf16: the innermost loop widens it, exactly, so a matmul has the bits of one over the
//! rounded values in f32.
//!
//! [`Products::Bf16`] rounds both operands to bf16 and adds the products of two neighbours in k per instruction. Sums are
//! in f32 and their order is again fixed. [`PackedMatrix::pairs_from_transposed`] packs a right-hand side for it.
//!
//! Cost: 2·m·n·k flops; [`PackedMatrix`] is read once per block of rows, at memory speed for one row.

#![expect(unsafe_code, reason = "parts of an output belong to other threads")]

mod job;
mod micro;
mod pack;
mod packed;
mod pairs;
#[cfg(test)]
mod tests;
mod transpose;

use crate::simd::{LANES, SharedMut};
use crate::threads;
use job::Job;
pub(crate) use micro::panel_width;
pub use packed::PackedMatrix;
pub(crate) use transpose::pack_columns;

/// Multiply-adds below which a matmul runs on the calling thread.
const PARALLEL_FROM: usize = 1 << 18;

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
    /// The transpose of a packed matrix: element (k, j) is its element (j, k).
    Transposed(&'a PackedMatrix),
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

/// In what format the operands are multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// f32.
    #[default]
    F32,
    /// Rounded to the nearest bf16; sums are in f32.
    Bf16,
}

/// How the output is written, and on how many threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Add to what C holds instead of overwriting it.
    pub accumulate: bool,
    /// Stay on the calling thread (it is one of many already).
    pub serial: bool,
    /// For a right-hand side that is not packed; a packed one is multiplied as it [was packed](PackedMatrix::products).
    pub products: Products,
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
    let c = SharedMut::new(c);
    let products = match b {
        Rhs::Packed(b) | Rhs::Transposed(b) => b.products(),
        Rhs::Panels(_) | Rhs::Rows { .. } | Rhs::Columns { .. } => mode.products,
    };
    match products {
        Products::F32 => job(m, n, k, a, b, c, c_row, Mode { products, ..mode }).run(),
        Products::Bf16 => pairs::run(m, n, k, a, b, c, c_row, mode),
    }
}

/// [`matmul`] in f32 into memory that is not borrowed: parts of an output whose other parts belong to other threads.
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
    job(m, n, k, a, b, SharedMut::from_ptr(c), c_row, mode).run();
}

fn job<'a>(
    m: usize,
    n: usize,
    k: usize,
    a: Lhs<'a>,
    b: Rhs<'a>,
    c: SharedMut,
    c_row: usize,
    Mode { accumulate, serial, products }: Mode,
) -> Job<'a> {
    let parallel = !serial && threads::count() > 1 && m * n * k >= PARALLEL_FROM;
    Job { m, n, k, a, b, c, c_row, accumulate, parallel, pairs: products == Products::Bf16 }
}

fn check(m: usize, n: usize, k: usize, a: Lhs<'_>, b: Rhs<'_>, c: usize, c_row: usize) {
    assert!(c_row >= n && c >= (m - 1) * c_row + n, "matmul: output too short");
    assert!(k > 0, "matmul: nothing to sum over");
    assert!(a.data.len() > (m - 1) * a.row + (k - 1) * a.step, "matmul: left-hand side too short");
    match b {
        Rhs::Packed(b) => {
            assert!(b.k() == k && b.n() == n, "matmul: packed [{}, {}], expected [{k}, {n}]", b.k(), b.n());
        }
        Rhs::Transposed(b) => {
            assert!(b.k() == n && b.n() == k, "matmul: packed [{}, {}], expected [{n}, {k}]", b.k(), b.n());
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
