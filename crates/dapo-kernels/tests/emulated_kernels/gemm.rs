#![allow(clippy::unwrap_used)]

use crate::common::{Checked, Numbers, SUMS, assert_close, floats};
use dapo_kernels::cuda::bias;
use dapo_kernels::cuda::gemm::{Form, Matrix, Output, gemm, scaled_gemm};
use half::bf16;

/// Sums in f64 over rows with gaps.
fn expected(form: Form, [m, n, k]: [usize; 3], a: &[f32], b: &[f32], strides: [usize; 2]) -> Vec<f64> {
    let at_a = |i: usize, l: usize| match form {
        Form::LeftTransposed => a[l * strides[0] + i],
        _ => a[i * strides[0] + l],
    };
    let at_b = |l: usize, j: usize| match form {
        Form::RightTransposed => b[j * strides[1] + l],
        _ => b[l * strides[1] + j],
    };
    let cell = |i, j| (0..k).map(|l| f64::from(at_a(i, l)) * f64::from(at_b(l, j))).sum();
    (0..m).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| cell(i, j)).collect()
}

fn check<X: Checked, Y: Checked>(into: Output, scale: f32) {
    let gpu = crate::gpu();
    let mut numbers = Numbers::new(7);
    let shape @ [m, n, k] = [5, 7, 9];
    for form in [Form::Plain, Form::RightTransposed, Form::LeftTransposed] {
        let (rows_a, rows_b) = (m.max(k), n.max(k));
        let strides = [11, 13];
        let (a, b): (Vec<X>, Vec<X>) = (numbers.values(rows_a * 11, 1.0), numbers.values(rows_b * 13, 1.0));
        let before: Vec<Y> = numbers.values(m * 10, 1.0);
        let (da, db, mut c) = (gpu.upload(&a).unwrap(), gpu.upload(&b).unwrap(), gpu.upload(&before).unwrap());
        let a_matrix = Matrix { data: da.view(), stride: strides[0] };
        let b_matrix = Matrix { data: db.view(), stride: strides[1] };
        if scale == 1.0 {
            gemm(&gpu, form, shape, a_matrix, b_matrix, c.view_mut(), 10, into).unwrap();
        } else {
            scaled_gemm(&gpu, form, shape, scale, a_matrix, b_matrix, c.view_mut(), 10, into).unwrap();
        }
        let c = floats(&gpu.read(c.view()).unwrap());
        let before = floats(&before);
        let products = expected(form, shape, &floats(&a), &floats(&b), strides);
        for i in 0..m {
            let old = |j: usize| if into == Output::Add { before[i * 10 + j] } else { 0.0 };
            let row: Vec<f32> = (0..n).map(|j| scale * products[i * n + j] as f32 + old(j)).collect();
            assert_close(&format!("{form:?} row {i}"), &c[i * 10..i * 10 + n], &row, Y::TOLERANCE);
            assert_eq!(c[i * 10 + n..(i + 1) * 10], before[i * 10 + n..(i + 1) * 10], "what lies between rows stays");
        }
    }
}

#[test]
fn products_agree_with_sums_in_f64() {
    for (into, scale) in [(Output::Write, 1.0), (Output::Add, 1.0), (Output::Write, -0.7), (Output::Add, 3.0)] {
        check::<f32, f32>(into, scale);
        check::<bf16, f32>(into, scale);
        check::<bf16, bf16>(into, scale);
    }
}

#[test]
fn a_matrix_that_is_too_small_is_refused() {
    let gpu = crate::gpu();
    let (a, b, mut c) = (gpu.zeros::<f32>(6).unwrap(), gpu.zeros(5).unwrap(), gpu.zeros::<f32>(4).unwrap());
    let (a, b) = (Matrix::rows(a.view(), 3), Matrix::rows(b.view(), 3));
    let error = gemm(&gpu, Form::RightTransposed, [2, 2, 3], a, b, c.view_mut(), 2, Output::Write).unwrap_err();
    assert!(error.to_string().contains("b has 5 values, expected 2 rows of 3"), "{error}");
}

fn check_bias<T: Checked>() {
    let gpu = crate::gpu();
    let mut numbers = Numbers::new(3);
    let (rows, width) = (19, 45);
    let (y, values): (Vec<T>, Vec<T>) = (numbers.values(rows * width, 1.0), numbers.values(width, 1.0));
    let (mut on_device, device_values) = (gpu.upload(&y).unwrap(), gpu.upload(&values).unwrap());
    bias::add(&gpu, on_device.view_mut(), device_values.view()).unwrap();
    let sums: Vec<f32> = y.iter().enumerate().map(|(i, y)| y.to_f32() + values[i % width].to_f32()).collect();
    assert_close("bias", &floats(&gpu.read(on_device.view()).unwrap()), &sums, T::TOLERANCE);

    let before: Vec<f32> = numbers.values(width, 1.0);
    let mut gradient = gpu.upload(&before).unwrap();
    let dy = gpu.upload(&y).unwrap();
    bias::accumulate(&gpu, dy.view(), gradient.view_mut()).unwrap();
    let column = |c: usize| before[c] + (0..rows).map(|r| y[r * width + c].to_f32()).sum::<f32>();
    let expected: Vec<f32> = (0..width).map(column).collect();
    assert_close("bias gradient", &gpu.read(gradient.view()).unwrap(), &expected, SUMS);
}

#[test]
fn a_bias_is_added_to_every_row_and_its_gradient_is_their_sum() {
    check_bias::<f32>();
    check_bias::<bf16>();
}
