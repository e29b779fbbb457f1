//! Matmuls of operands in bf16: two neighbours in k share a word, and words are laid out and read as f32 values are.

use super::pack::odd_lines;
use super::{Lhs, Mode, Products, Rhs, job};
use crate::bf16::{pair_neighbours, pair_rows};
use crate::buffer::at_least;
use crate::simd::SharedMut;
use crate::threads;
use std::cell::RefCell;

/// Values that one task rounds, about.
const BLOCK: usize = 1 << 15;

thread_local! {
    /// A and B in pairs, for the matmuls that this thread begins.
    static BUFFERS: RefCell<(Vec<f32>, Vec<f32>)> = RefCell::default();
}

/// [`matmul`](super::matmul) of checked operands that are rounded to bf16; a packed one is in pairs already.
pub(super) fn run(
    m: usize,
    n: usize,
    k: usize,
    a: Lhs<'_>,
    b: Rhs<'_>,
    c: SharedMut,
    c_row: usize,
    Mode { accumulate, serial, .. }: Mode,
) {
    let (mut a_words, mut b_words) = BUFFERS.take();
    let words = k.div_ceil(2);
    let a = if a.step == 1 {
        Lhs { row: rows(a.data, a.row, m, k, serial, &mut a_words), data: &a_words, step: 1 }
    } else {
        assert_eq!(a.row, 1, "matmul in bf16: neither rows nor steps are neighbours");
        steps(a.data, a.step, m, k, serial, &mut a_words);
        Lhs { data: &a_words, row: 1, step: m }
    };
    let b = match b {
        Rhs::Packed(_) | Rhs::Transposed(_) => b,
        Rhs::Rows { data, stride } => {
            steps(data, stride, n, k, serial, &mut b_words);
            Rhs::Rows { data: &b_words, stride: n }
        }
        Rhs::Columns { data, stride } => {
            Rhs::Columns { stride: rows(data, stride, n, k, serial, &mut b_words), data: &b_words }
        }
        Rhs::Panels(_) => unreachable!("panels of others are in f32"),
    };
    job(m, n, words, a, b, c, c_row, Mode { accumulate, serial, products: Products::Bf16 }).run();
    BUFFERS.set((a_words, b_words));
}

/// Pairs of neighbours of `count` rows of `k` values that are `stride` apart. Returns the distance of rows in `words`.
fn rows(data: &[f32], stride: usize, count: usize, k: usize, serial: bool, words: &mut Vec<f32>) -> usize {
    let row = odd_lines(k.div_ceil(2));
    in_blocks(row, count, BLOCK.div_ceil(k), serial, words, |index, row| {
        pair_neighbours(&data[index * stride..][..k], &mut row[..k.div_ceil(2)]);
    });
    row
}

/// Pairs of the `width` values of neighbouring steps, of `k` steps that are `stride` apart. The last of an odd number is
/// paired with zeros.
fn steps(data: &[f32], stride: usize, width: usize, k: usize, serial: bool, words: &mut Vec<f32>) {
    in_blocks(width, k.div_ceil(2), BLOCK.div_ceil(2 * width), serial, words, |index, words| {
        let first = &data[2 * index * stride..][..width];
        let second = if 2 * index + 1 < k { &data[(2 * index + 1) * stride..][..width] } else { &[] };
        pair_rows(first, second, words);
    });
}

/// Lets `f` fill `count` lines of `line` words, `together` of them in a task.
fn in_blocks(
    line: usize,
    count: usize,
    together: usize,
    serial: bool,
    words: &mut Vec<f32>,
    f: impl Fn(usize, &mut [f32]) + Sync,
) {
    let words = at_least(words, line * count);
    let fill = |block: usize, lines: &mut [f32]| {
        lines.chunks_exact_mut(line).enumerate().for_each(|(i, words)| f(block * together + i, words));
    };
    if serial {
        return fill(0, words);
    }
    threads::for_each_chunk([words], [line * together], |block, [lines]| fill(block, lines));
}
