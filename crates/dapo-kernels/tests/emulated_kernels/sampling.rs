use crate::common::{Checked, Numbers, floats, in_every_order};
use dapo_kernels::cuda::logprobs::{LogitsShape, forward};
use dapo_kernels::cuda::sampling::{Assignment, SamplingRule, Sequences, draw, uniforms};
use dapo_kernels::cuda::{Buffer, Gpu};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// No token has this number; arrays on a device are not empty.
const NO_STOP: u32 = u32::MAX;

const RULE: SamplingRule = SamplingRule { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 11, purpose: 0 };

/// The policy's derivation of random numbers.
fn uniform(rule: &SamplingRule, draw: u64, sample: u64, position: u64) -> f64 {
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([rule.seed, rule.purpose, draw, sample]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(position);
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The token that the policy's rule draws: everything sorted, sums in f64.
fn reference(logits: &[f32], rule: &SamplingRule, u: f64) -> usize {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if rule.temperature == 0.0 {
        return logits.iter().position(|x| *x == max).unwrap();
    }
    let weight = |token: &usize| f64::from((logits[*token] - max) * (1.0 / rule.temperature)).exp();
    let mut tokens: Vec<usize> = (0..logits.len()).collect();
    tokens.retain(|token| rule.min_p == 0.0 || weight(token) >= f64::from(rule.min_p));
    let cut = rule.top_k > 0 && rule.top_k < logits.len();
    if cut || rule.top_p < 1.0 || rule.min_p > 0.0 {
        tokens.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        tokens.truncate(if cut { rule.top_k } else { tokens.len() });
    }
    if rule.top_p < 1.0 {
        let goal = f64::from(rule.top_p) * tokens.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let kept = tokens.iter().position(|token| {
            sum += weight(token);
            sum >= goal
        });
        tokens.truncate(kept.map_or(tokens.len(), |last| last + 1));
    }
    let threshold = u * tokens.iter().map(weight).sum::<f64>();
    let mut sum = 0.0;
    let place = tokens.iter().position(|token| {
        sum += weight(token);
        sum > threshold
    });
    tokens[place.unwrap_or(tokens.len() - 1)]
}

fn sequences(gpu: &Gpu, count: usize, capacity: usize, limit: i32) -> candle_core::Result<Sequences> {
    let mut sequences = Sequences::new(gpu, count, capacity)?;
    sequences.draws = gpu.upload(&(0..count).map(|s| s as u64 / 3 + 100).collect::<Vec<_>>())?;
    sequences.samples = gpu.upload(&(0..count).map(|s| s as u64 % 3).collect::<Vec<_>>())?;
    sequences.limits = gpu.upload(&vec![limit; count])?;
    sequences.finished = gpu.zeros(count)?;
    Ok(sequences)
}

fn as_floats<T: Copy + Into<f64>>(values: &[T]) -> Vec<f32> {
    values.iter().map(|x| (*x).into() as f32).collect()
}

/// One draw for each row of logits, compared with the reference, and the log-probs with those of the other kernel.
fn agrees<T: Checked>(rule: &SamplingRule, shape: LogitsShape, logits: &[T]) {
    let rows = shape.rows;
    let temperature = if rule.temperature > 0.0 { rule.temperature } else { 1.0 };
    let results = in_every_order(|gpu| {
        let (logits, none) = (gpu.upload(logits)?, gpu.upload(&[NO_STOP])?);
        let mut sequences = sequences(gpu, rows, 2, 2)?;
        draw(gpu, rule, shape, logits.view(), rows, Assignment::default(), none.view(), &mut sequences)?;
        let tokens = gpu.read(sequences.tokens.view())?;
        let (mut logprobs, mut entropies, mut stats) = (gpu.zeros(rows)?, gpu.zeros(rows)?, gpu.zeros(2 * rows)?);
        let targets = gpu.upload(&tokens)?;
        let shape = LogitsShape { temperature, ..shape };
        let (a, b, c) = (logprobs.view_mut(), entropies.view_mut(), stats.view_mut());
        forward(gpu, shape, logits.view(), targets.view(), a, b, c)?;
        let drawn: Vec<f32> = gpu.read(sequences.logprobs.view())?.into_iter().step_by(2).collect();
        assert_eq!(drawn, gpu.read(logprobs.view())?, "log-probs are those of training, bit for bit");
        Ok(vec![as_floats(&tokens)])
    });
    for (s, row) in logits.chunks(shape.stride).enumerate() {
        let u = uniform(rule, s as u64 / 3 + 100, s as u64 % 3, 0);
        let expected = reference(&floats(&row[..shape.vocab]), rule, u);
        assert_eq!(results[0][s] as usize, expected, "row {s} of {shape:?} by {rule:?}");
    }
}

fn shape(rows: usize, vocab: usize, stride: usize) -> LogitsShape {
    LogitsShape { rows, vocab, stride, temperature: 1.0 }
}

fn rules() -> Vec<SamplingRule> {
    let mut rules = Vec::new();
    for (temperature, top_k, top_p) in [
        (1.0, 0, 1.0),
        (0.0, 0, 1.0),
        (0.7, 0, 0.7),
        (1.0, 20, 1.0),
        (1.3, 50, 0.9),
        (1.0, 1, 1.0),
        (2.0, 0, 0.999),
        (1.0, 0, 1e-6),
        (0.5, 100_000, 0.5),
    ] {
        rules.push(SamplingRule { temperature, top_k, top_p, ..RULE });
    }
    for (temperature, top_k, top_p, min_p) in
        [(1.0, 0, 1.0, 0.1), (0.7, 5, 1.0, 0.03), (1.5, 0, 0.8, 0.2), (1.0, 0, 1.0, 1.0), (1.0, 30, 0.9, 1e-4)]
    {
        rules.push(SamplingRule { temperature, top_k, top_p, min_p, ..RULE });
    }
    rules
}

#[test]
fn random_numbers_are_those_of_the_host() {
    let rule = SamplingRule { seed: u64::MAX - 5, purpose: 2, ..RULE };
    let positions: Vec<u64> = (0..200).chain([u64::from(u32::MAX), u64::MAX, 1 << 40]).collect();
    let got = uniforms(&crate::gpu(), &rule, 1 << 33, 7, &positions).unwrap();
    let expected: Vec<f64> = positions.iter().map(|p| uniform(&rule, 1 << 33, 7, *p)).collect();
    assert_eq!(got, expected);
}

#[test]
fn tokens_are_those_of_the_reference() {
    let mut numbers = Numbers::new(1);
    for (i, rule) in rules().into_iter().enumerate() {
        let vocab = [1000, 37, 2501][i % 3];
        let stride = vocab + [0, 3][i % 2];
        let rule = SamplingRule { seed: i as u64, ..rule };
        agrees::<f32>(&rule, shape(6, vocab, stride), &numbers.values(6 * stride, 6.0));
        agrees::<bf16>(&rule, shape(6, vocab, stride), &numbers.values(6 * stride, 6.0));
    }
}

#[test]
fn equal_logits_are_taken_by_their_numbers() {
    let mut numbers = Numbers::new(2);
    for (i, rule) in rules().into_iter().enumerate() {
        let vocab = 300 + i;
        // Nine values for all; the last row has but one.
        let mut logits: Vec<f32> = (0..6 * vocab).map(|_| numbers.below(9) as f32 * 0.5 - 2.0).collect();
        logits[5 * vocab..].fill(1.0);
        agrees::<f32>(&rule, shape(6, vocab, vocab), &logits);
    }
}

#[test]
fn a_whole_vocabulary_is_searched() {
    let mut numbers = Numbers::new(3);
    let logits: Vec<f32> = numbers.values(151_936, 8.0);
    for rule in [RULE, SamplingRule { top_p: 0.7, top_k: 5000, ..RULE }] {
        agrees::<f32>(&rule, shape(1, 151_936, 151_936), &logits);
    }
}

#[test]
fn impossible_tokens_are_never_drawn() {
    let mut logits = vec![f32::NEG_INFINITY; 4 * 64];
    for row in 0..4 {
        logits[row * 64 + 5 * row] = 1.0;
        logits[row * 64 + 63] = 0.5;
    }
    for rule in rules() {
        agrees::<f32>(&rule, shape(4, 64, 64), &logits);
    }
}

#[test]
fn sequences_move_on_until_a_stop_token_or_their_limit() {
    let (count, vocab, capacity) = (5, 40, 6);
    let mut numbers = Numbers::new(4);
    let steps: Vec<Vec<f32>> = (0..7).map(|_| numbers.values(count * vocab, 2.0)).collect();
    let stops = [3u32, 17, 20, 21, 22];
    let read = |gpu: &Gpu, values: &Buffer<i32>| gpu.read(values.view()).map(|values| as_floats(&values));
    let results = in_every_order(|gpu| {
        let mut sequences = sequences(gpu, count, capacity, 4)?;
        let prompt_end: Vec<i32> = (0..count as i32).map(|s| 10 * s).collect();
        sequences.positions = gpu.upload(&prompt_end)?;
        let stops = gpu.upload(&stops)?;
        for logits in &steps {
            let logits = gpu.upload(logits)?;
            let shape = shape(count, vocab, vocab);
            draw(gpu, &RULE, shape, logits.view(), count, Assignment::default(), stops.view(), &mut sequences)?;
        }
        Ok(vec![
            as_floats(&gpu.read(sequences.completions.view())?),
            gpu.read(sequences.logprobs.view())?,
            read(gpu, &sequences.lengths)?,
            read(gpu, &sequences.finished)?,
            read(gpu, &sequences.positions)?,
            as_floats(&gpu.read(sequences.tokens.view())?),
        ])
    });
    let mut reasons = Vec::new();
    for s in 0..count {
        let (mut tokens, mut finished) = (Vec::new(), 0);
        for (step, logits) in steps.iter().enumerate() {
            if finished == 0 {
                let u = uniform(&RULE, s as u64 / 3 + 100, s as u64 % 3, step as u64);
                let token = reference(&logits[s * vocab..(s + 1) * vocab], &RULE, u);
                tokens.push(token as f32);
                finished = if stops.contains(&(token as u32)) { 1 } else { 2 * i32::from(tokens.len() == 4) };
            }
        }
        assert_eq!(results[0][s * capacity..][..tokens.len()], tokens);
        assert!(results[1][s * capacity..][..tokens.len()].iter().all(|logprob| *logprob < 0.0));
        assert!(results[1][s * capacity + tokens.len()..(s + 1) * capacity].iter().all(|logprob| *logprob == 0.0));
        assert_eq!((results[2][s], results[3][s]), (tokens.len() as f32, finished as f32));
        assert_eq!(results[4][s], (10 * s + tokens.len()) as f32);
        assert_eq!(results[5][s], tokens[tokens.len() - 1]);
        reasons.push(finished);
    }
    assert!(reasons.contains(&1) && reasons.contains(&2), "both ends are tried: {reasons:?}");
}

#[test]
fn rows_and_sequences_may_be_assigned() {
    let vocab = 50;
    let logits: Vec<f32> = Numbers::new(5).values(2 * vocab, 3.0);
    let results = in_every_order(|gpu| {
        let mut sequences = sequences(gpu, 6, 1, 1)?;
        let (logits, none) = (gpu.upload(&logits)?, gpu.upload(&[NO_STOP])?);
        let (rows, numbers) = (gpu.upload(&[1, 1, 0])?, gpu.upload(&[4, 0, 2])?);
        let assignment = Assignment { rows: Some(rows.view()), sequences: Some(numbers.view()) };
        draw(gpu, &RULE, shape(2, vocab, vocab), logits.view(), 3, assignment, none.view(), &mut sequences)?;
        let lengths = as_floats(&gpu.read(sequences.lengths.view())?);
        Ok(vec![as_floats(&gpu.read(sequences.completions.view())?), lengths])
    });
    let expected = |row: usize, s: u64| {
        reference(&logits[row * vocab..][..vocab], &RULE, uniform(&RULE, s / 3 + 100, s % 3, 0)) as f32
    };
    assert_eq!(results[0], [expected(1, 0), 0.0, expected(0, 2), 0.0, expected(1, 4), 0.0]);
    assert_eq!(results[1], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
}

#[test]
fn one_logit_that_is_nan_or_infinite_makes_the_log_prob_nan() {
    let gpu = crate::gpu();
    // More columns than one pass of the threads reads, and a last part that is read singly.
    for vocab in [7, 1024, 5003] {
        for bad in [f32::NAN, f32::INFINITY] {
            for at in [0, vocab / 2, vocab - 1] {
                let mut logits: Vec<f32> = (0..vocab).map(|i| (i as f32).sin()).collect();
                let logprob = |logits: &[f32]| {
                    let shape = LogitsShape { rows: 1, vocab, stride: vocab, temperature: 1.0 };
                    let (logits, none) = (gpu.upload(logits).unwrap(), gpu.upload(&[NO_STOP]).unwrap());
                    let mut sequences = sequences(&gpu, 1, 2, 2).unwrap();
                    draw(&gpu, &RULE, shape, logits.view(), 1, Assignment::default(), none.view(), &mut sequences)
                        .unwrap();
                    gpu.read(sequences.logprobs.view()).unwrap()[0]
                };
                assert!(logprob(&logits).is_finite());
                logits[at] = bad;
                assert!(logprob(&logits).is_nan(), "{bad} at {at} of {vocab}");
            }
        }
    }
}
