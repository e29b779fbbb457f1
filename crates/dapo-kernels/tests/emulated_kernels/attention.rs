#![allow(clippy::unwrap_used)]

use crate::common::{Checked, Numbers, Tolerance, assert_close, floats, in_every_order, sanitized};
use candle_core::Result;
use dapo_kernels::attention::{self, AttentionGradients, Heads, Segments};
use dapo_kernels::cuda::attention::{Plan, Saved, backward, forward};
use dapo_kernels::cuda::{Element, Gpu};
use half::bf16;

/// What attention in a type may differ by from the CPU's, which reads the same numbers and computes in f32.
///
/// On tensor cores weights and their gradients are rounded to bf16 (2⁻⁹) before they are multiplied, and their errors
/// add up over the keys or rows of a sum; results are rounded once more.
struct Tolerances {
    out: Tolerance,
    lse: Tolerance,
    gradient: Tolerance,
}

trait Attends: Checked {
    const TOLERANCES: Tolerances;
}
impl Attends for f32 {
    const TOLERANCES: Tolerances = Tolerances {
        out: Tolerance { relative: 1e-5, absolute: 5e-6 },
        lse: Tolerance { relative: 1e-6, absolute: 1e-6 },
        gradient: Tolerance { relative: 1e-5, absolute: 2e-5 },
    };
}
impl Attends for bf16 {
    const TOLERANCES: Tolerances = Tolerances {
        out: Tolerance { relative: 8e-3, absolute: 1e-2 },
        lse: Tolerance { relative: 1e-6, absolute: 1e-6 },
        gradient: Tolerance { relative: 1e-2, absolute: 4e-2 },
    };
}

const DIMS: [usize; 3] = [32, 64, 128];
/// Query heads per key-value head, and key-value heads.
const GROUPS: [(usize, usize); 4] = [(1, 2), (2, 2), (3, 2), (8, 1)];

fn heads(group: usize, key_value: usize, dim: usize) -> Heads {
    Heads { query: group * key_value, key_value, dim }
}

fn row_len(heads: Heads) -> usize {
    (heads.query + 2 * heads.key_value) * heads.dim
}

/// Segments of 1 to 200 tokens in any order; about half of them continue an earlier one.
fn random_segments(numbers: &mut Numbers) -> Segments {
    let mut roots = Vec::new();
    let mut list = Vec::new();
    let mut total = 0;
    while total < 240 {
        let len = if numbers.below(4) == 0 { 1 + numbers.below(5) } else { 1 + numbers.below(200) };
        let parent =
            if roots.is_empty() || numbers.below(2) == 0 { None } else { Some(roots[numbers.below(roots.len())]) };
        if parent.is_none() {
            roots.push(list.len());
        }
        list.push((len, parent));
        total += len;
    }
    Segments::new(list).unwrap()
}

/// Columns of the rows of a fused array.
fn columns(rows: &[f32], width: usize, from: usize, len: usize) -> Vec<f32> {
    rows.chunks_exact(width).flat_map(|row| row[from..from + len].to_vec()).collect()
}

/// Queries, keys and values, apart.
fn split(qkv: &[f32], heads: Heads) -> [Vec<f32>; 3] {
    let (q, kv) = (heads.query * heads.dim, heads.key_value * heads.dim);
    [(0, q), (q, kv), (q + kv, kv)].map(|(from, len)| columns(qkv, row_len(heads), from, len))
}

/// Output, and gradients of queries, keys and values, by the CPU's operation.
fn twin(qkv: &[f32], dout: &[f32], heads: Heads, segments: &Segments) -> [Vec<f32>; 4] {
    let [q, k, v] = split(qkv, heads);
    let mut out = vec![0.0; q.len()];
    attention::forward(&q, &k, &v, heads, segments, &mut out);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    let saved = attention::Saved { q: &q, k: &k, v: &v, out: &out };
    let gradients = AttentionGradients { q: &mut dq, k: &mut dk, v: &mut dv };
    attention::backward(saved, dout, heads, segments, gradients);
    [out, dq, dk, dv]
}

/// ln Σ e^score of every query, `[heads, T]`, in f64.
fn logarithms(qkv: &[f32], heads: Heads, segments: &Segments) -> Vec<f32> {
    let (dim, width) = (heads.dim, row_len(heads));
    let mut lse = vec![0.0; heads.query * segments.total()];
    for segment in segments.list() {
        let parent = segments.parent(segment).map_or(0..0, |p| p.start..p.start + p.len);
        for token in segment.start..segment.start + segment.len {
            for head in 0..heads.query {
                let q = &qkv[token * width + head * dim..][..dim];
                let column = (heads.query + head / (heads.query / heads.key_value)) * dim;
                let score = |key: usize| {
                    let k = &qkv[key * width + column..][..dim];
                    q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() / (dim as f64).sqrt()
                };
                let sum: f64 = parent.clone().chain(segment.start..=token).map(|key| score(key).exp()).sum();
                lse[head * segments.total() + token] = sum.ln() as f32;
            }
        }
    }
    lse
}

/// Output, logarithms and gradients from the kernels.
fn run<T: Attends, G: Element>(
    gpu: &Gpu,
    qkv: &[T],
    dout: &[T],
    heads: Heads,
    segments: &Segments,
) -> Result<Vec<Vec<f32>>> {
    let plan = Plan::new(gpu, segments, heads)?;
    let rows = segments.total() * heads.query;
    // What results hold before must not matter.
    let unset = |n: usize| vec![T::from_f32(f32::NAN); n];
    let (qkv, dout) = (gpu.upload(qkv)?, gpu.upload(dout)?);
    let (mut out, mut lse) = (gpu.upload(&unset(dout.len()))?, gpu.upload(&vec![f32::NAN; rows])?);
    forward(gpu, &plan, qkv.view(), out.view_mut(), lse.view_mut())?;
    let (mut delta, mut dqkv) = (gpu.zeros(rows)?, gpu.upload(&vec![G::from_f32(f32::NAN); qkv.len()])?);
    let saved = Saved { qkv: qkv.view(), out: out.view(), lse: lse.view() };
    backward(gpu, &plan, saved, dout.view(), delta.view_mut(), dqkv.view_mut())?;
    let [dq, dk, dv] = split(&floats(&gpu.read(dqkv.view())?), heads);
    Ok(vec![floats(&gpu.read(out.view())?), gpu.read(lse.view())?, dq, dk, dv])
}

fn agrees<T: Attends, G: Element>(dim: usize, groups: &[(usize, usize)], seed: u64) {
    let mut numbers = Numbers::new(seed);
    for (group, key_value) in groups.iter().copied() {
        let heads = heads(group, key_value, dim);
        let segments = random_segments(&mut numbers);
        let qkv: Vec<T> = numbers.values(segments.total() * row_len(heads), 2.0);
        let dout: Vec<T> = numbers.values(segments.total() * heads.query * dim, 1.0);
        let results = in_every_order(|gpu| run::<T, G>(gpu, &qkv, &dout, heads, &segments));
        let (qkv, dout) = (floats(&qkv), floats(&dout));
        let [out, dq, dk, dv] = twin(&qkv, &dout, heads, &segments);
        let name = |part: &str| format!("{part}, width {dim}, group {group}, {:?}", segments.list());
        let Tolerances { out: tolerance, lse, gradient } = T::TOLERANCES;
        assert_close(&name("out"), &results[0], &out, tolerance);
        assert_close(&name("lse"), &results[1], &logarithms(&qkv, heads, &segments), lse);
        assert_close(&name("dq"), &results[2], &dq, gradient);
        assert_close(&name("dk"), &results[3], &dk, gradient);
        assert_close(&name("dv"), &results[4], &dv, gradient);
    }
}

#[test]
fn tensor_cores_agree_with_the_cpu() {
    for dim in DIMS {
        agrees::<bf16, bf16>(dim, &GROUPS, 1);
        agrees::<bf16, f32>(dim, &GROUPS[2..3], 2);
    }
}

#[test]
fn plain_arithmetic_agrees_with_the_cpu() {
    let groups = if sanitized() { &GROUPS[2..3] } else { &GROUPS[1..] };
    for dim in DIMS {
        agrees::<f32, f32>(dim, groups, 3);
    }
}

/// Rows of several tokens, from arrays of rows.
fn gather(rows: &[f32], width: usize, tokens: impl Iterator<Item = usize>) -> Vec<f32> {
    tokens.flat_map(|token| rows[token * width..][..width].to_vec()).collect()
}

/// A prompt of 75 tokens and two completions, shared and not, and in other places of the batch.
fn sharing_keeps_bits<T: Attends>(dim: usize) {
    let heads = heads(2, 1, dim);
    let (width, out_width) = (row_len(heads), heads.query * dim);
    let shared = Segments::new([(75, None), (40, Some(0)), (130, Some(0))]).unwrap();
    let apart = Segments::new([(9, None), (75 + 130, None), (75 + 40, None)]).unwrap();
    let mut numbers = Numbers::new(4);
    let qkv: Vec<T> = numbers.values(shared.total() * width, 2.0);
    // Tokens of the shared batch, in the order of the other.
    let order = || (0..75).chain(115..245).chain(0..75).chain(75..115);
    let mut other: Vec<T> = numbers.values(9 * width, 2.0);
    other.extend(order().flat_map(|token| qkv[token * width..][..width].to_vec()));
    let gpu = crate::gpu();
    let outputs = |qkv: &[T], segments: &Segments| {
        let dout = vec![T::from_f32(0.0); segments.total() * out_width];
        run::<T, T>(&gpu, qkv, &dout, heads, segments).unwrap()[0].clone()
    };
    let expected = gather(&outputs(&qkv, &shared), out_width, order());
    assert!(outputs(&other, &apart)[9 * out_width..] == expected, "sharing a prompt changes bits");
}

#[test]
fn a_shared_prompt_changes_no_bit() {
    for dim in DIMS {
        sharing_keeps_bits::<bf16>(dim);
        sharing_keeps_bits::<f32>(dim);
    }
}

#[test]
fn sizes_of_packed_attention_are_checked() {
    let gpu = crate::gpu();
    let segments = Segments::new([(3, None)]).unwrap();
    let error = Plan::new(&gpu, &segments, heads(1, 1, 96)).unwrap_err().to_string();
    assert!(error.contains("attention: heads of width 96, expected 32, 64 or 128"), "{error}");
    let error = Plan::new(&gpu, &segments, Heads { query: 3, key_value: 2, dim: 64 }).unwrap_err().to_string();
    assert!(error.contains("attention: 3 query heads do not divide among 2 key-value heads"), "{error}");
    assert!(Plan::new(&gpu, &Segments::default(), heads(1, 1, 64)).is_err());
    let plan = Plan::new(&gpu, &segments, heads(2, 1, 64)).unwrap();
    let (qkv, mut out, mut lse) = (gpu.zeros::<f32>(3 * 256), gpu.zeros(3 * 64), gpu.zeros(6));
    let (qkv, out, lse) = (qkv.as_ref().unwrap(), out.as_mut().unwrap(), lse.as_mut().unwrap());
    let error = forward(&gpu, &plan, qkv.view(), out.view_mut(), lse.view_mut()).unwrap_err().to_string();
    assert!(error.contains("attention: out has 192 values, expected 384"), "{error}");
}
