//! Matmuls against f64, and their bits against each other.

use super::job::{Shape, cached};
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
    // Of (160, 64, 1100) both operands may be read in place. The last one is copied in several parts, of A's rows as of k.
    for (m, n, k) in [
        (1, 1, 1),
        (1, 32, 7),
        (3, 33, 64),
        (13, 70, 130),
        (40, 96, 1100),
        (200, 64, 33),
        (7, 500, 9),
        (160, 64, 1100),
        (450, 300, 5000),
    ] {
        let (a, bt) = (values(m * k, 1), values(n * k, 2));
        let (at, b) = (transpose(&a, m, k), transpose(&bt, n, k));
        let packed = PackedMatrix::from_transposed(&bt, n, k);
        let transposed = PackedMatrix::from_transposed(&b, k, n);
        let mut first = vec![f32::NAN; m * n];
        matmul(m, n, k, Lhs::rows(&a, k), Rhs::Packed(&packed), &mut first, n, Mode::default());
        for (got, want) in first.iter().zip(exact(m, n, k, &a, &bt)) {
            assert!((f64::from(*got) - want).abs() < 1e-4f64.max(2e-7 * k as f64), "{m}x{n}x{k}: {got} {want}");
        }
        let others = [
            (Lhs::rows(&a, k), Rhs::Rows { data: &b, stride: n }),
            (Lhs::rows(&a, k), Rhs::Columns { data: &bt, stride: k }),
            (Lhs::rows(&a, k), Rhs::Transposed(&transposed)),
            (Lhs::transposed(&at, m), Rhs::Transposed(&transposed)),
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
fn a_matrix_in_bf16_gives_the_bits_of_its_rounded_values() {
    // Every height of a tile, steps that do not fill a block, and copies in several parts.
    let sizes =
        (1..=13).map(|m| (m, 70, 67)).chain([(1, 1, 1), (2, 33, 64), (40, 96, 1100), (60, 416, 24), (450, 300, 5000)]);
    for (m, n, k) in sizes {
        let (a, bt) = (values(m * k, 7), values(n * k, 8));
        let mut rounded = bt.clone();
        crate::bf16::round(&mut rounded);
        assert_ne!(rounded, bt);
        let b = transpose(&bt, n, k);
        let mut full = PackedMatrix::from_transposed(&rounded, n, k);
        let halves = PackedMatrix::rounded_from_transposed(&bt, n, k);
        let transposed = PackedMatrix::rounded_from_transposed(&b, k, n);
        let product = |b: Rhs<'_>, accumulate| {
            let mut c = vec![0.25; m * n];
            matmul(m, n, k, Lhs::rows(&a, k), b, &mut c, n, Mode { accumulate, ..Mode::default() });
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        for accumulate in [false, true] {
            let expected = product(Rhs::Packed(&full), accumulate);
            assert!(product(Rhs::Packed(&halves), accumulate) == expected, "{m}x{n}x{k}");
            assert!(product(Rhs::Transposed(&transposed), accumulate) == expected, "{m}x{n}x{k}, transposed");
        }
        let mut unpacked = vec![f32::NAN; n * k];
        halves.unpack_transposed(&mut unpacked);
        assert_eq!(unpacked, rounded);
        let mut rows = Vec::new();
        (0..n).for_each(|row| halves.append_row(row, &mut rows));
        assert_eq!(rows, rounded);
        // The same of f32, after other values were packed.
        full.repack_transposed(&bt);
        full.unpack_transposed(&mut unpacked);
        rows.clear();
        (0..n).for_each(|row| full.append_row(row, &mut rows));
        assert_eq!((&unpacked, &rows), (&bt, &bt));
    }
}

#[test]
fn products_in_bf16_sum_up_rounded_values() {
    let mode = Mode { products: Products::Bf16, ..Mode::default() };
    let sizes = (1..=13).map(|m| (m, 70, 67)).chain([
        (1, 1, 1),
        (1, 32, 2),
        (2, 33, 64),
        (37, 49, 95),
        (40, 96, 1100),
        (60, 416, 24),
        (450, 300, 5001),
    ]);
    for (m, n, k) in sizes {
        let (a, bt) = (values(m * k, 9), values(n * k, 10));
        let (mut rounded_a, mut rounded) = (a.clone(), bt.clone());
        crate::bf16::round(&mut rounded_a);
        crate::bf16::round(&mut rounded);
        let (at, b) = (transpose(&a, m, k), transpose(&bt, n, k));
        let packed = PackedMatrix::pairs_from_transposed(&bt, n, k);
        let transposed = PackedMatrix::pairs_from_transposed(&b, k, n);
        let product = |lhs, rhs, first| {
            let mut c = vec![first; m * n];
            matmul(m, n, k, lhs, rhs, &mut c, n, Mode { accumulate: first == 0.25, ..mode });
            c
        };
        let got = product(Lhs::rows(&a, k), Rhs::Packed(&packed), f32::NAN);
        let magnitudes = |x: &[f32]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
        let bounds = exact(m, n, k, &magnitudes(&rounded_a), &magnitudes(&rounded));
        for ((got, want), bound) in got.iter().zip(exact(m, n, k, &rounded_a, &rounded)).zip(bounds) {
            // Products are exact in f32; each of k sums is rounded.
            let bound = k as f64 * f64::from(f32::EPSILON) / 2.0 * bound;
            assert!((f64::from(*got) - want).abs() <= bound, "{m}x{n}x{k}: {got} {want}");
        }
        let more = product(Lhs::rows(&a, k), Rhs::Packed(&packed), 0.25);
        let others = [
            (Lhs::rows(&a, k), Rhs::Transposed(&transposed)),
            (Lhs::transposed(&at, m), Rhs::Packed(&packed)),
            (Lhs::transposed(&at, m), Rhs::Transposed(&transposed)),
            (Lhs::transposed(&at, m), Rhs::Rows { data: &b, stride: n }),
            (Lhs::rows(&a, k), Rhs::Columns { data: &bt, stride: k }),
        ];
        for (lhs, rhs) in others {
            assert!(product(lhs, rhs, f32::NAN) == got, "{m}x{n}x{k} {rhs:?}");
            assert!(product(lhs, rhs, 0.25) == more, "{m}x{n}x{k} {rhs:?}, added");
        }
        // A row alone, on this thread alone.
        for row in [0, m / 2, m - 1] {
            let (mut alone, lhs) = (vec![f32::NAN; n], Lhs::rows(&a[row * k..], k));
            matmul(1, n, k, lhs, Rhs::Packed(&packed), &mut alone, n, Mode { serial: true, ..Mode::default() });
            assert_eq!(alone, got[row * n..][..n], "{m}x{n}x{k}, row {row}");
        }
        // A matrix in f32 stays so, whatever the mode says.
        let full = PackedMatrix::from_transposed(&bt, n, k);
        let (mut in_f32, mut asked) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
        matmul(m, n, k, Lhs::rows(&a, k), Rhs::Packed(&full), &mut in_f32, n, Mode::default());
        matmul(m, n, k, Lhs::rows(&a, k), Rhs::Packed(&full), &mut asked, n, mode);
        assert_eq!(in_f32, asked, "{m}x{n}x{k}");
        let mut unpacked = vec![f32::NAN; n * k];
        packed.unpack_transposed(&mut unpacked);
        let mut rows = Vec::new();
        (0..n).for_each(|row| packed.append_row(row, &mut rows));
        assert_eq!((&unpacked, &rows), (&rounded, &rounded));
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
            Mode { serial: true, ..Mode::default() },
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
    let rest = Mode { accumulate: true, ..Mode::default() };
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

#[test]
fn a_remembered_division_is_the_one_that_is_searched() {
    for _ in 0..2 {
        for threads in [1, 2, 7] {
            for (tiles, panels) in [(5, 1), (5, 40), (34, 40), (90, 3)] {
                for (far_a, far_b) in [(0, 0), (0, 1280), (1080, 0), (408, 1280)] {
                    let shape = Shape { tiles, panels, far_a, far_b, threads };
                    assert_eq!(cached(shape), shape.division(), "{shape:?}");
                }
            }
        }
    }
}
