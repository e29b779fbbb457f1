use crate::common::{Checked, Numbers, SUMS, assert_close, floats, in_every_order};
use dapo_kernels::adamw::{AdamWStep, squared_norm};
use dapo_kernels::cuda::adamw::{adamw, clip_factor, square_sums, square_sums_len};
use half::bf16;

fn step(t: u64, grad_scale: f32) -> AdamWStep {
    AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: t, grad_scale }
}

#[test]
fn steps_agree_with_the_cpu() {
    let mut numbers = Numbers::new(1);
    for n in [1, 3, 8, 1027, 40_000] {
        let (p, g): (Vec<f32>, Vec<f32>) = (numbers.values(n, 1.0), numbers.values(n, 1.0));
        let factor = 0.25;
        let results = in_every_order(|gpu| {
            let (mut p, g, factor) = (gpu.upload(&p)?, gpu.upload(&g)?, gpu.upload(&[factor])?);
            let (mut m, mut v, mut copy) = (gpu.zeros(n)?, gpu.zeros(n)?, gpu.zeros::<bf16>(n)?);
            for t in 1..=3 {
                let copy = (t != 2).then(|| copy.view_mut());
                let (p, m, v) = (p.view_mut(), m.view_mut(), v.view_mut());
                adamw(gpu, p, g.view(), m, v, copy, factor.view(), &step(t, 9.0))?;
            }
            let copy = floats(&gpu.read(copy.view())?);
            Ok(vec![gpu.read(p.view())?, gpu.read(m.view())?, gpu.read(v.view())?, copy])
        });
        let (mut expected, mut m, mut v) = (p.clone(), vec![0.0; n], vec![0.0; n]);
        for t in 1..=3 {
            dapo_kernels::adamw::adamw(&mut expected, &g, &mut m, &mut v, &step(t, factor));
        }
        for (name, got, expected) in [("p", 0, &expected), ("m", 1, &m), ("v", 2, &v)] {
            assert_close(name, &results[got], expected, f32::TOLERANCE);
        }
        let copy: Vec<f32> = results[0].iter().map(|p| bf16::from_f32(*p).to_f32()).collect();
        assert_eq!(results[3], copy);
    }
}

fn norm(parts: &[Vec<f32>], max_norm: f32) -> Vec<f32> {
    in_every_order(|gpu| {
        let mut sums = gpu.zeros(parts.iter().map(|part| square_sums_len(part.len())).sum())?;
        let mut start = 0;
        for part in parts {
            let end = start + square_sums_len(part.len());
            square_sums(gpu, gpu.upload(part)?.view(), sums.view_mut().slice_mut(start..end)?)?;
            start = end;
        }
        let mut out = gpu.zeros(2)?;
        clip_factor(gpu, sums.view(), max_norm, out.view_mut())?;
        Ok(vec![gpu.read(out.view())?])
    })
    .remove(0)
}

#[test]
fn the_norm_and_its_factor_agree_with_the_cpu() {
    let mut numbers = Numbers::new(2);
    let parts: Vec<Vec<f32>> = [1, 70_003, 515, 131_072].map(|n| numbers.values(n, 0.1)).into();
    let expected = parts.iter().map(|part| squared_norm(part)).sum::<f64>().sqrt();
    let found = norm(&parts, 1.0);
    assert_close("norm", &found, &[expected as f32, (1.0 / (expected + 1e-6)) as f32], SUMS);
    assert_eq!(norm(&parts, 1e9)[1], 1.0);
    assert_eq!(norm(&parts, f32::INFINITY)[1], 1.0);
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY] {
        let factor = norm(&[vec![1.0, bad, 2.0]], 1.0);
        assert!(!factor[0].is_finite() && factor[1].is_nan());
    }
    let gpu = crate::gpu();
    let (mut p, mut m, mut v) = (gpu.upload(&[1.0f32]).unwrap(), gpu.zeros(1).unwrap(), gpu.zeros(1).unwrap());
    let (g, factor) = (gpu.upload(&[1.0f32]).unwrap(), gpu.upload(&[f32::NAN]).unwrap());
    let (p_out, m_out, v_out) = (p.view_mut(), m.view_mut(), v.view_mut());
    adamw(&gpu, p_out, g.view(), m_out, v_out, None, factor.view(), &step(1, 1.0)).unwrap();
    assert_eq!((gpu.read(p.view()).unwrap(), gpu.read(v.view()).unwrap()), (vec![1.0], vec![0.0]));
}
