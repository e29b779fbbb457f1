use crate::common::{Checked, Numbers, Tolerance, assert_close, floats, in_every_order};
use dapo_kernels::cuda::Gpu;
use dapo_kernels::cuda::logprobs::{LogitsShape, RowInputs, backward, backward_in_place, forward};
use dapo_kernels::logprobs::{Head, Scratch, row_stats};
use dapo_kernels::matmul::PackedMatrix;
use half::bf16;

/// Of log-probs and entropies: f32 sums over a vocabulary.
const STATS: Tolerance = Tolerance { relative: 2e-6, absolute: 2e-6 };
/// Of gradients in f32: an exponential of a log-prob, whose error of 2⁻²⁴ of 20 nats is one of 1e-6 in the result.
const GRADIENT: Tolerance = Tolerance { relative: 8e-6, absolute: 1e-5 };

struct Case<T> {
    shape: LogitsShape,
    logits: Vec<T>,
    targets: Vec<u32>,
    dlogprobs: Vec<f32>,
    dentropies: Vec<f32>,
}

fn case<T: Checked>(seed: u64, rows: usize, vocab: usize, padding: usize, temperature: f32) -> Case<T> {
    let mut numbers = Numbers::new(seed);
    let shape = LogitsShape { rows, vocab, stride: vocab + padding, temperature };
    let mut logits: Vec<T> = numbers.values(rows * shape.stride, 9.0);
    for row in logits.chunks_mut(shape.stride) {
        // A distribution with a head, as those of models; what lies behind a row must not be looked at.
        row[numbers.below(vocab)] = T::from_f32(14.0);
        row[vocab..].fill(T::from_f32(f32::NAN));
    }
    let mut dlogprobs: Vec<f32> = numbers.values(rows, 1.0);
    let mut dentropies: Vec<f32> = numbers.values(rows, 0.1);
    if rows > 2 {
        (dlogprobs[1], dentropies[1]) = (0.0, 0.0);
    }
    Case { shape, logits, targets: (0..rows).map(|_| numbers.below(vocab) as u32).collect(), dlogprobs, dentropies }
}

/// Log-probs, entropies, and the gradient: beside the logits as `Y`, and in their place.
fn run<T, Y>(case: &Case<T>, gpu: &Gpu) -> candle_core::Result<Vec<Vec<f32>>>
where
    T: Checked + dapo_kernels::cuda::logprobs::GradientOf<Y> + dapo_kernels::cuda::logprobs::GradientOf<T>,
    Y: Checked,
{
    let rows = case.shape.rows;
    let (mut logits, targets) = (gpu.upload(&case.logits)?, gpu.upload(&case.targets)?);
    let (mut logprobs, mut entropies, mut stats) = (gpu.zeros(rows)?, gpu.zeros(rows)?, gpu.zeros(2 * rows)?);
    let (lp, en, st) = (logprobs.view_mut(), entropies.view_mut(), stats.view_mut());
    forward(gpu, case.shape, logits.view(), targets.view(), lp, en, st)?;
    let (dlogprobs, dentropies) = (gpu.upload(&case.dlogprobs)?, gpu.upload(&case.dentropies)?);
    let inputs = RowInputs {
        targets: targets.view(),
        stats: stats.view(),
        entropies: entropies.view(),
        dlogprobs: dlogprobs.view(),
        dentropies: Some(dentropies.view()),
    };
    let mut gradient = gpu.zeros::<Y>(case.logits.len())?;
    backward(gpu, case.shape, logits.view(), inputs.clone(), gradient.view_mut())?;
    backward_in_place(gpu, case.shape, logits.view_mut(), inputs)?;
    let rows_of = |values: Vec<f32>| -> Vec<f32> {
        values.chunks(case.shape.stride).flat_map(|row| row[..case.shape.vocab].to_vec()).collect()
    };
    Ok(vec![
        gpu.read(logprobs.view())?,
        gpu.read(entropies.view())?,
        rows_of(floats(&gpu.read(gradient.view())?)),
        rows_of(floats(&gpu.read(logits.view())?)),
    ])
}

/// The formula in f64.
fn gradient_in_f64<T: Checked>(case: &Case<T>) -> Vec<f32> {
    let mut all = Vec::new();
    for (r, row) in case.logits.chunks(case.shape.stride).enumerate() {
        let t = f64::from(case.shape.temperature);
        let z: Vec<f64> = row[..case.shape.vocab].iter().map(|x| f64::from(x.to_f32()) / t).collect();
        let max = z.iter().copied().fold(f64::MIN, f64::max);
        let log_sum = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
        let entropy = -z.iter().map(|z| (z - log_sum).exp() * (z - log_sum)).sum::<f64>();
        let (dl, de) = (f64::from(case.dlogprobs[r]), f64::from(case.dentropies[r]));
        for (v, z) in z.iter().enumerate() {
            let (logprob, p) = (z - log_sum, (z - log_sum).exp());
            let hit = if v == case.targets[r] as usize { dl } else { 0.0 };
            all.push(((hit - p * (dl + de * (logprob + entropy))) / t) as f32);
        }
    }
    all
}

fn agrees<T, Y>(seed: u64, rows: usize, vocab: usize, padding: usize, temperature: f32)
where
    T: Checked + dapo_kernels::cuda::logprobs::GradientOf<Y> + dapo_kernels::cuda::logprobs::GradientOf<T>,
    Y: Checked,
{
    let case = case::<T>(seed, rows, vocab, padding, temperature);
    let results = in_every_order(|gpu| run::<T, Y>(&case, gpu));
    let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
    for (row, target) in case.logits.chunks(case.shape.stride).zip(&case.targets) {
        let row = floats(&row[..vocab]);
        let stats = row_stats(&row, temperature);
        logprobs.push(stats.logprob(row[*target as usize]));
        entropies.push(stats.entropy);
    }
    let name = format!("{:?}", case.shape);
    assert_close(&name, &results[0], &logprobs, STATS);
    assert_close(&name, &results[1], &entropies, Tolerance { absolute: 1e-5, ..STATS });
    let expected = gradient_in_f64(&case);
    let tolerance = |stored: Tolerance| Tolerance {
        relative: stored.relative + GRADIENT.relative,
        absolute: stored.absolute + GRADIENT.absolute,
    };
    assert_close(&name, &results[2], &expected, tolerance(Y::TOLERANCE));
    assert_close(&name, &results[3], &expected, tolerance(T::TOLERANCE));
}

#[test]
fn rows_agree_with_the_cpu() {
    let mut numbers = Numbers::new(5);
    for seed in 0..14 {
        let (rows, vocab) = (1 + numbers.below(5), 1 + numbers.below(5000));
        let (padding, temperature) = ([0, 3, (8 - vocab % 8) % 8][numbers.below(3)], [1.0, 0.6, 1.7][numbers.below(3)]);
        agrees::<f32, f32>(seed, rows, vocab, padding, temperature);
        agrees::<f32, bf16>(seed, rows, vocab, padding, temperature);
        agrees::<bf16, bf16>(seed, rows, vocab, padding, temperature);
    }
}

#[test]
fn a_whole_vocabulary_agrees_with_the_cpu() {
    agrees::<f32, bf16>(1, 2, 151_936, 0, 1.0);
    agrees::<bf16, bf16>(2, 1, 151_936, 0, 0.8);
}

#[test]
fn the_gradient_is_that_of_the_head_with_an_identity_for_its_weight() {
    let case = case::<f32>(7, 5, 45, 0, 0.9);
    let results = in_every_order(|gpu| run::<f32, f32>(&case, gpu));
    let identity: Vec<f32> = (0..45 * 45).map(|i| f32::from(i / 45 == i % 45)).collect();
    let packed = PackedMatrix::from_transposed(&identity, 45, 45);
    let head = Head { packed: &packed, temperature: 0.9 };
    let (mut gradient, mut scratch) = (Vec::new(), Scratch::default());
    head.backward::<candle_core::Error>(
        &case.logits,
        &case.targets,
        None,
        &mut gradient,
        &mut scratch,
        |_, gradients| {
            gradients.logprobs.copy_from_slice(&case.dlogprobs);
            gradients.entropies.copy_from_slice(&case.dentropies);
            Ok(())
        },
    )
    .unwrap();
    assert_close("gradient", &results[2], &gradient, GRADIENT);
}

#[test]
fn impossible_tokens_do_no_harm() {
    let mut case = case::<f32>(8, 2, 300, 4, 1.0);
    case.targets = vec![0, 299];
    for (i, logit) in case.logits.iter_mut().enumerate() {
        if i % 3 == 1 {
            *logit = f32::NEG_INFINITY;
        }
    }
    let results = in_every_order(|gpu| run::<f32, f32>(&case, gpu));
    for values in &results {
        assert!(values.iter().all(|x| x.is_finite()));
    }
    assert!(results[2].iter().skip(1).step_by(3).take(99).all(|x| *x == 0.0));
}
