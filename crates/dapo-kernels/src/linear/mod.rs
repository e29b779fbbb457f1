//! Linear layers: y = x · Wᵀ + b over weights packed once per update, in f32 or bf16. The packed copy decides in what
//! format it is multiplied.
//!
//! Forward 2·T·out·in flops over the packed copy; backward the same twice, for the gradient of x (over the packed copy,
//! or W as it is stored) and of W. A weight that records no gradient (a frozen one) costs no backward matmul and no
//! memory for it.

mod low_rank;

pub use low_rank::LowRankFactors;

use crate::matmul::{Lhs, Mode, PackedMatrix, Products, Rhs, matmul};

/// y ← x · Wᵀ (+ bias).
///
/// # Shapes
/// x `[T, in]`, packed `[in, out]`, bias `[out]`, y `[T, out]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward(x: &[f32], packed: &PackedMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
    let (n, k) = (packed.n(), packed.k());
    let m = rows(x, k, y, n);
    if let Some(bias) = bias {
        y.chunks_exact_mut(n).for_each(|y| y.copy_from_slice(bias));
    }
    let mode = Mode { accumulate: bias.is_some(), ..Mode::default() };
    matmul(m, n, k, Lhs::rows(x, k), Rhs::Packed(packed), y, n, mode);
}

/// dx (+)= dy · W.
///
/// # Shapes
/// dy `[T, out]`, weight `[out, in]`, dx `[T, in]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward_input(dy: &[f32], weight: &[f32], out: usize, dx: &mut [f32], accumulate: bool) {
    let k = weight.len() / out;
    let m = rows(dy, out, dx, k);
    let weight = Rhs::Rows { data: weight, stride: k };
    let mode = Mode { accumulate, ..Mode::default() };
    matmul(m, k, out, Lhs::rows(dy, out), weight, dx, k, mode);
}

/// [`backward_input`] over the packed copy of W, with the same bits for the same values; one in bf16 is widened.
///
/// # Shapes
/// dy `[T, out]`, packed `[in, out]`, dx `[T, in]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward_input_packed(dy: &[f32], packed: &PackedMatrix, dx: &mut [f32], accumulate: bool) {
    let (out, k) = (packed.n(), packed.k());
    let m = rows(dy, out, dx, k);
    let mode = Mode { accumulate, ..Mode::default() };
    matmul(m, k, out, Lhs::rows(dy, out), Rhs::Transposed(packed), dx, k, mode);
}

/// dW (+)= dyᵀ · x, multiplied in the given format.
///
/// # Shapes
/// x `[T, in]`, dy `[T, out]`, dw `[out, in]`.
///
/// # Panics
/// When a slice has another length.
pub fn backward_weight(x: &[f32], dy: &[f32], out: usize, dw: &mut [f32], accumulate: bool, products: Products) {
    let k = dw.len() / out;
    let m = rows(dy, out, x, k);
    let x = Rhs::Rows { data: x, stride: k };
    matmul(out, k, m, Lhs::transposed(dy, out), x, dw, k, Mode { accumulate, products, ..Mode::default() });
}

/// Adds the sum of the rows of dy, in order: the gradient of a bias.
///
/// # Shapes
/// dy `[T, out]`, db `[out]`.
pub fn backward_bias(dy: &[f32], db: &mut [f32]) {
    for row in dy.chunks_exact(db.len()) {
        db.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// Number of rows of two matrices of different widths.
fn rows(a: &[f32], a_width: usize, b: &[f32], b_width: usize) -> usize {
    let rows = a.len() / a_width;
    assert!(a.len() == rows * a_width && b.len() == rows * b_width, "linear: rows of {a_width} and {b_width} differ");
    rows
}
