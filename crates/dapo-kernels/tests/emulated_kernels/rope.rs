use crate::common::{
    Checked, Numbers, SUMS, assert_close, floats, gradients, in_every_order, tensor, to_vec, variable,
};
use dapo_kernels::RotaryTable;
use dapo_kernels::cuda::rope::{
    HeadShape, QkNorm, QkNormGradient, Rotary, backward, backward_in_place, forward, forward_in_place, scratch_len,
};
use dapo_kernels::ops::norm_rope;
use half::bf16;
use std::sync::Arc;

const EPS: f32 = 1e-6;
/// Rows, query heads, key heads, head width: powers of two (vectors), others (single elements), more units than blocks
/// take.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 2),
    (3, 2, 1, 16),
    (5, 16, 8, 128),
    (1, 4, 2, 64),
    (7, 3, 1, 80),
    (4, 5, 5, 6),
    (2, 2, 2, 256),
    (600, 7, 2, 32),
    (3, 2, 1, 510),
];

/// The table of `count` positions, as the kernels read it.
fn table(count: usize, head_dim: usize) -> Vec<f32> {
    let half = head_dim / 2;
    let angle =
        |p: usize, i: usize| f64::from(p as f32 * (1.0 / 10_000f64.powf(2.0 * i as f64 / head_dim as f64)) as f32);
    let row = |p: usize| {
        let cosines = (0..half).map(move |i| angle(p, i).cos() as f32);
        cosines.chain((0..half).map(move |i| angle(p, i).sin() as f32))
    };
    (0..count).flat_map(row).collect()
}

/// Columns `from..to` of rows of `width`.
fn columns(values: &[f32], width: usize, from: usize, to: usize) -> Vec<f32> {
    values.chunks(width).flat_map(|row| row[from..to].to_vec()).collect()
}

fn agrees<T: Checked>(normed: bool) {
    let mut numbers = Numbers::new(1);
    for (rows, q_heads, kv_heads, head_dim) in SHAPES {
        let shape = HeadShape { rows, q_heads, kv_heads, head_dim };
        let (qw, kw) = (q_heads * head_dim, kv_heads * head_dim);
        let width = qw + 2 * kw;
        let qkv: Vec<T> = numbers.values(rows * width, 3.0);
        let d_heads: Vec<T> = numbers.values(rows * width, 1.0);
        let weights: [Vec<T>; 2] = [numbers.values(head_dim, 2.0), numbers.values(head_dim, 2.0)];
        let before: [Vec<f32>; 2] = [numbers.values(head_dim, 1.0), numbers.values(head_dim, 1.0)];
        let positions: Vec<u32> = (0..rows).map(|_| numbers.below(100) as u32).collect();

        let rotary = Arc::new(RotaryTable::new(&positions, head_dim, 10_000.0));
        let cut = |from, to| variable(&columns(&floats(&qkv), width, from, to), &[rows, to - from]);
        let (vq, vk) = (cut(0, qw), cut(qw, qw + kw));
        let vw = [0, 1].map(|i| variable(&floats(&weights[i]), &[head_dim]));
        let run = |x: &candle_core::Var, w: &candle_core::Var| {
            norm_rope(x.as_tensor(), normed.then_some((w.as_tensor(), EPS)), &rotary).unwrap()
        };
        let (q, k) = (run(&vq, &vw[0]), run(&vk, &vw[1]));
        let of = |x, w| if normed { vec![x, w] } else { vec![x] };
        let dq = columns(&floats(&d_heads), width, 0, qw);
        let dk = columns(&floats(&d_heads), width, qw, qw + kw);
        let (gq, gk) = (gradients(&q, &dq, &of(&vq, &vw[0])), gradients(&k, &dk, &of(&vk, &vw[1])));

        let results = in_every_order(|gpu| {
            let table = gpu.upload(&table(100, head_dim))?;
            let position_of = gpu.upload(&positions.iter().map(|p| *p as i32).collect::<Vec<_>>())?;
            let rotary = || Rotary { table: table.view(), positions: Some(position_of.view()) };
            let (q_weight, k_weight) = (gpu.upload(&weights[0])?, gpu.upload(&weights[1])?);
            let norm = || normed.then(|| QkNorm { q_weight: q_weight.view(), k_weight: k_weight.view(), eps: EPS });
            let (x, mut in_place) = (gpu.upload(&qkv)?, gpu.upload(&qkv)?);
            let (mut q, mut k) = (gpu.zeros::<T>(rows * qw)?, gpu.zeros::<T>(rows * kw)?);
            forward(gpu, shape, x.view(), norm(), rotary(), q.view_mut(), k.view_mut())?;
            forward_in_place(gpu, shape, in_place.view_mut(), norm(), rotary())?;

            let narrow = |values: &[f32]| values.iter().map(|x| T::from_f32(*x)).collect::<Vec<T>>();
            let (dq, dk) = (gpu.upload(&narrow(&dq))?, gpu.upload(&narrow(&dk))?);
            let (mut d_qkv, mut d_in_place) = (gpu.zeros::<T>(rows * width)?, gpu.upload(&d_heads)?);
            let mut scratch = gpu.zeros(scratch_len::<T>(&shape))?;
            let mut sums = gpu.zeros(2 * head_dim)?;
            let mut dw = [gpu.upload(&before[0])?, gpu.upload(&before[1])?];
            let mut dw2 = [gpu.upload(&before[0])?, gpu.upload(&before[1])?];
            for (i, dw) in [&mut dw, &mut dw2].into_iter().enumerate() {
                let [a, b] = dw;
                let gradient = normed.then(|| QkNormGradient {
                    q_weight: a.view_mut(),
                    k_weight: b.view_mut(),
                    scratch: scratch.view_mut(),
                    sums: sums.view_mut(),
                });
                if i == 0 {
                    let (dq, dk) = (dq.view(), dk.view());
                    backward(gpu, shape, x.view(), norm(), rotary(), dq, dk, d_qkv.view_mut(), gradient)?;
                } else {
                    backward_in_place(gpu, shape, x.view(), norm(), rotary(), d_in_place.view_mut(), gradient)?;
                }
            }
            let mut frozen = gpu.upload(&d_heads)?;
            backward_in_place(gpu, shape, x.view(), norm(), rotary(), frozen.view_mut(), None)?;
            let read = |values: &dapo_kernels::cuda::Buffer<T>| gpu.read(values.view()).map(|values| floats(&values));
            let mut all =
                vec![read(&q)?, read(&k)?, read(&in_place)?, read(&d_qkv)?, read(&d_in_place)?, read(&frozen)?];
            for dw in dw.iter().chain(&dw2) {
                all.push(gpu.read(dw.view())?);
            }
            Ok(all)
        });

        let name = format!("{shape:?} normed {normed}");
        assert_close(&name, &results[0], &to_vec(&q), T::TOLERANCE);
        assert_close(&name, &results[1], &to_vec(&k), T::TOLERANCE);
        assert_eq!(columns(&results[2], width, 0, qw), results[0], "{name}: q in place");
        assert_eq!(columns(&results[2], width, qw, qw + kw), results[1], "{name}: k in place");
        let values = |all: &[f32]| columns(all, width, qw + kw, width);
        assert_eq!(values(&results[2]), values(&floats(&qkv)), "{name}: values are left alone");
        let name = format!("{name} backward");
        assert_close(&name, &columns(&results[3], width, 0, qw), &gq[0], T::TOLERANCE);
        assert_close(&name, &columns(&results[3], width, qw, qw + kw), &gk[0], T::TOLERANCE);
        assert_eq!(columns(&results[3], width, 0, qw + kw), columns(&results[4], width, 0, qw + kw), "{name}");
        assert_eq!(values(&results[4]), values(&floats(&d_heads)), "{name}: values are left alone");
        assert_eq!(results[5], results[4], "{name}: without the weights'");
        if normed {
            for (i, gradient) in [(0, &gq[1]), (1, &gk[1])] {
                let expected: Vec<f32> = gradient.iter().zip(&before[i]).map(|(a, b)| a + b).collect();
                assert_close(&name, &results[6 + i], &expected, SUMS);
                assert_eq!(results[6 + i], results[8 + i], "{name}: weight in place");
            }
        }
    }
}

#[test]
fn heads_agree_with_the_cpu() {
    agrees::<f32>(true);
    agrees::<bf16>(true);
}

#[test]
fn heads_without_a_norm_agree_with_the_cpu() {
    agrees::<f32>(false);
    agrees::<bf16>(false);
}

#[test]
fn a_table_of_rows_serves_without_positions() {
    let (rows, head_dim) = (4, 8);
    let x: Vec<f32> = Numbers::new(3).values(rows * 2 * head_dim, 1.0);
    let results = in_every_order(|gpu| {
        let (x, table) = (gpu.upload(&x)?, gpu.upload(&table(rows, head_dim))?);
        let (mut q, mut k) = (gpu.zeros::<f32>(rows * head_dim)?, gpu.zeros(rows * head_dim)?);
        let shape = HeadShape { rows, q_heads: 1, kv_heads: 1, head_dim };
        let rotary = Rotary { table: table.view(), positions: None };
        forward::<f32>(gpu, shape, x.view(), None, rotary, q.view_mut(), k.view_mut())?;
        Ok(vec![gpu.read(q.view())?])
    });
    let rotary = Arc::new(RotaryTable::new(&[0, 1, 2, 3], head_dim, 10_000.0));
    let q = columns(&x, 2 * head_dim, 0, head_dim);
    let expected = norm_rope(&tensor(&q, &[rows, head_dim]), None, &rotary).unwrap();
    assert_close("q", &results[0], &to_vec(&expected), f32::TOLERANCE);
}
