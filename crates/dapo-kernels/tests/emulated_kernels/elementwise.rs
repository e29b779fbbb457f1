use crate::common::{Checked, Numbers, SUMS, assert_close, floats, in_every_order};
use dapo_kernels::cuda::elementwise::{axpy, f32_to_bf16, sum_columns};
use half::bf16;

/// Lengths around whole vectors, and more than one round of the grid's threads would be slow here: one long one.
const LENGTHS: [usize; 6] = [1, 7, 8, 2049, 5000, 70_001];

#[test]
fn conversions_round_to_nearest() {
    let mut numbers = Numbers::new(1);
    for n in LENGTHS {
        let x: Vec<f32> = numbers.values(n, 100.0);
        // The second time by a pointer that vectors do not fit.
        for start in [0, n.min(1)] {
            let results = in_every_order(|gpu| {
                let (x, mut y) = (gpu.upload(&x)?, gpu.zeros::<bf16>(n)?);
                f32_to_bf16(gpu, x.view().slice(start..n)?, y.view_mut().slice_mut(start..n)?)?;
                Ok(vec![floats(&gpu.read(y.view())?)])
            });
            let mut expected: Vec<f32> = x.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            expected[..start].fill(0.0);
            assert_eq!(results, [expected]);
        }
    }
}

fn axpy_agrees<T: Checked>() {
    let mut numbers = Numbers::new(2);
    for n in LENGTHS {
        let (x, y): (Vec<T>, Vec<T>) = (numbers.values(n, 1.0), numbers.values(n, 1.0));
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| y.to_f32() - 0.75 * x.to_f32()).collect();
        let results = in_every_order(|gpu| {
            let (x, mut y) = (gpu.upload(&x)?, gpu.upload(&y)?);
            axpy(gpu, -0.75, x.view(), y.view_mut())?;
            Ok(vec![floats(&gpu.read(y.view())?)])
        });
        assert_close("axpy", &results[0], &expected, T::TOLERANCE);
    }
}

#[test]
fn axpy_agrees_with_a_loop() {
    axpy_agrees::<f32>();
    axpy_agrees::<bf16>();
}

#[test]
fn columns_are_summed() {
    let mut numbers = Numbers::new(4);
    for (rows, width) in [(1, 1), (17, 33), (528, 40), (3, 1000)] {
        let (matrix, before): (Vec<f32>, Vec<f32>) = (numbers.values(rows * width, 1.0), numbers.values(width, 1.0));
        let results = in_every_order(|gpu| {
            let (matrix, mut total) = (gpu.upload(&matrix)?, gpu.upload(&before)?);
            sum_columns(gpu, matrix.view(), total.view_mut())?;
            Ok(vec![gpu.read(total.view())?])
        });
        let column = |c: usize| matrix[c..].iter().step_by(width).map(|x| f64::from(*x)).sum::<f64>();
        let expected: Vec<f32> = (0..width).map(|c| (f64::from(before[c]) + column(c)) as f32).collect();
        assert_close("columns", &results[0], &expected, SUMS);
    }
}
