use crate::common::{Checked, Numbers, assert_close, floats, gradients, in_every_order, to_vec, variable};
use dapo_kernels::cuda::swiglu::{backward, backward_in_place, forward};
use half::bf16;

fn agrees<T: Checked>() {
    let mut numbers = Numbers::new(1);
    for (rows, width) in [(1, 1), (1, 8), (3, 77), (2, 3072), (40, 10), (3, 9728), (2, 1001)] {
        let fused: Vec<T> = numbers.values(2 * rows * width, 8.0);
        let dy: Vec<T> = numbers.values(rows * width, 1.0);
        let half = |part: usize| -> Vec<f32> {
            fused.chunks(2 * width).flat_map(|row| floats(&row[part * width..(part + 1) * width])).collect()
        };
        let (gate, up) = (variable(&half(0), &[rows, width]), variable(&half(1), &[rows, width]));
        let y = dapo_kernels::ops::swiglu(gate.as_tensor(), up.as_tensor()).unwrap();
        let parts = gradients(&y, &floats(&dy), &[&gate, &up]);
        let d_fused: Vec<f32> =
            parts[0].chunks(width).zip(parts[1].chunks(width)).flat_map(|(a, b)| [a, b].concat()).collect();
        let results = in_every_order(|gpu| {
            let (mut fused, dy) = (gpu.upload(&fused)?, gpu.upload(&dy)?);
            let (mut y, mut d) = (gpu.zeros::<T>(rows * width)?, gpu.zeros::<T>(2 * rows * width)?);
            forward(gpu, fused.view(), width, y.view_mut())?;
            backward(gpu, fused.view(), width, dy.view(), d.view_mut())?;
            backward_in_place(gpu, fused.view_mut(), width, dy.view())?;
            [&y, &d, &fused].into_iter().map(|out| Ok(floats(&gpu.read(out.view())?))).collect()
        });
        let name = format!("{rows}x{width}");
        assert_close(&name, &results[0], &to_vec(&y), T::TOLERANCE);
        assert_close(&name, &results[1], &d_fused, T::TOLERANCE);
        assert_eq!(results[1], results[2], "{name}: in place");
    }
}

#[test]
fn both_directions_agree_with_the_cpu() {
    agrees::<f32>();
    agrees::<bf16>();
}
