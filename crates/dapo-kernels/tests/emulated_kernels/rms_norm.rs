use crate::common::{
    Checked, Numbers, SUMS, assert_close, floats, gradients, in_every_order, tensor, to_vec, variable,
};
use dapo_kernels::cuda::Buffer;
use dapo_kernels::cuda::rms_norm::{
    InputGradient, MAX_WIDTH, WeightGradient, backward, forward, forward_add, scratch_len,
};
use half::bf16;

const EPS: f32 = 1e-6;
/// Rows and widths: one row, odd widths, several rounds of a block's threads, as wide as may be.
const SIZES: [(usize, usize); 8] =
    [(1, 3), (1, 64), (3, 7), (2, 1031), (5, 1024), (600, 24), (2, 9000), (2, MAX_WIDTH)];

fn sizes() -> impl Iterator<Item = (usize, usize)> {
    let mut numbers = Numbers::new(1);
    SIZES.into_iter().chain((0..12).map(move |_| (1 + numbers.below(20), 3 + numbers.below(700))))
}

fn forward_agrees<T: Checked>() {
    let mut numbers = Numbers::new(2);
    for (rows, width) in sizes() {
        let (x, delta): (Vec<T>, Vec<T>) = (numbers.values(rows * width, 3.0), numbers.values(rows * width, 1.0));
        let weight: Vec<T> = numbers.values(width, 2.0);
        let sum: Vec<T> = x.iter().zip(&delta).map(|(x, d)| T::from_f32(x.to_f32() + d.to_f32())).collect();
        let twin = |x: &[T]| {
            let (x, weight) = (tensor(&floats(x), &[rows, width]), tensor(&floats(&weight), &[width]));
            to_vec(&dapo_kernels::ops::rms_norm(&x, &weight, EPS).unwrap())
        };
        let results = in_every_order(|gpu| {
            let (x, delta, weight) = (gpu.upload(&x)?, gpu.upload(&delta)?, gpu.upload(&weight)?);
            let mut outputs = [0; 3].map(|_| gpu.zeros::<T>(rows * width).unwrap());
            let [y, y_add, total] = &mut outputs;
            forward(gpu, x.view(), weight.view(), EPS, y.view_mut())?;
            forward_add(gpu, x.view(), delta.view(), weight.view(), EPS, total.view_mut(), y_add.view_mut())?;
            outputs.iter().map(|out| Ok(floats(&gpu.read(out.view())?))).collect()
        });
        let name = format!("{rows}x{width}");
        assert_close(&name, &results[0], &twin(&x), T::TOLERANCE);
        assert_close(&name, &results[1], &twin(&sum), T::TOLERANCE);
        assert_eq!(results[2], floats(&sum), "{name}: sum");
    }
}

fn backward_agrees<T: Checked>() {
    let mut numbers = Numbers::new(3);
    for (rows, width) in sizes() {
        let (x, dy): (Vec<T>, Vec<T>) = (numbers.values(rows * width, 3.0), numbers.values(rows * width, 1.0));
        let (weight, residual): (Vec<T>, Vec<T>) = (numbers.values(width, 2.0), numbers.values(rows * width, 1.0));
        let before: Vec<f32> = numbers.values(width, 1.0);
        let (vx, vw) = (variable(&floats(&x), &[rows, width]), variable(&floats(&weight), &[width]));
        let y = dapo_kernels::ops::rms_norm(vx.as_tensor(), vw.as_tensor(), EPS).unwrap();
        let expected = gradients(&y, &floats(&dy), &[&vx, &vw]);
        let plus = |a: &[f32], b: &[f32]| -> Vec<f32> { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let results = in_every_order(|gpu| {
            let (x, dy, weight) = (gpu.upload(&x)?, gpu.upload(&dy)?, gpu.upload(&weight)?);
            let (mut dx, mut stream) = (gpu.zeros::<T>(rows * width)?, gpu.upload(&residual)?);
            let (mut dw, mut dw2) = (gpu.upload(&before)?, gpu.zeros(width)?);
            let mut scratch = gpu.zeros(scratch_len(rows, width))?;
            let mut frozen = gpu.zeros::<T>(rows * width)?;
            for (to, dw) in [
                (InputGradient::Write(dx.view_mut()), Some(dw.view_mut())),
                (InputGradient::Add(stream.view_mut()), Some(dw2.view_mut())),
                (InputGradient::Write(frozen.view_mut()), None),
            ] {
                let dw = dw.map(|weight| WeightGradient { weight, scratch: scratch.view_mut() });
                backward(gpu, x.view(), weight.view(), EPS, dy.view(), to, dw)?;
            }
            let read = |values: &Buffer<T>| gpu.read(values.view()).map(|values| floats(&values));
            Ok(vec![read(&dx)?, read(&stream)?, gpu.read(dw.view())?, gpu.read(dw2.view())?, read(&frozen)?])
        });
        let name = format!("{rows}x{width} backward");
        assert_close(&name, &results[0], &expected[0], T::TOLERANCE);
        assert_close(&name, &results[1], &plus(&expected[0], &floats(&residual)), T::TOLERANCE);
        assert_close(&name, &results[2], &plus(&expected[1], &before), SUMS);
        assert_close(&name, &results[3], &expected[1], SUMS);
        assert_eq!(results[4], results[0], "{name}: without the weight's");
    }
}

#[test]
fn forward_agrees_with_the_cpu() {
    forward_agrees::<f32>();
    forward_agrees::<bf16>();
}

#[test]
fn backward_agrees_with_the_cpu() {
    backward_agrees::<f32>();
    backward_agrees::<bf16>();
}

#[test]
fn sizes_are_checked() {
    let gpu = crate::gpu();
    let (x, weight, mut y) = (gpu.zeros::<f32>(6).unwrap(), gpu.zeros(4).unwrap(), gpu.zeros(6).unwrap());
    let error = forward(&gpu, x.view(), weight.view(), EPS, y.view_mut()).unwrap_err().to_string();
    assert!(error.contains("x has 6 values, weight 4"), "{error}");
    let (weight, mut y) = (gpu.zeros(3).unwrap(), gpu.zeros(5).unwrap());
    let error = forward(&gpu, x.view(), weight.view(), EPS, y.view_mut()).unwrap_err().to_string();
    assert!(error.contains("y has 5 values, expected 6"), "{error}");
}
