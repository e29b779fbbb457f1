//! Every kernel at the shapes of Qwen3-0.6B: 32,768 tokens, bf16.

use crate::{Rates, figure, time};
use anyhow::Result;
use dapo::kernels::adamw::AdamWStep;
use dapo::kernels::attention::{Heads, Segments};
use dapo::kernels::cuda::attention::{self, BlockTable, CacheShape, Plan, Saved};
use dapo::kernels::cuda::embedding::{self, Occurrences};
use dapo::kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo::kernels::cuda::logprobs::{self, LogitsShape, RowInputs};
use dapo::kernels::cuda::rms_norm::{self, InputGradient};
use dapo::kernels::cuda::rope::{self, HeadShape, QkNorm, QkNormGradient, Rotary};
use dapo::kernels::cuda::sampling::{Assignment, SamplingRule, Sequences, draw};
use dapo::kernels::cuda::{Buffer, Gpu, adamw, swiglu};
use half::bf16;
use serde_json::Value;

const TOKENS: usize = 32_768;
const WIDTH: usize = 1024;
const INNER: usize = 3072;
const VOCAB: usize = 151_936;
const HEADS: Heads = Heads { query: 16, key_value: 8, dim: 128 };
/// A token's queries, keys and values.
const QKV: usize = 32 * 128;
const RUNS: u32 = 20;

/// What a copy of 1 GiB and a product of 8192 × 8192 × 8192 reach.
pub(crate) fn rates(gpu: &Gpu) -> Result<Rates> {
    let (len, n) = (1usize << 28, 8192usize);
    let (from, mut to) = (gpu.zeros::<f32>(len)?, gpu.zeros::<f32>(len)?);
    let copy = time(gpu, RUNS, || gpu.copy(from.view(), to.view_mut()))?;
    let (a, b, mut c) = (numbers(gpu, n * n)?, numbers(gpu, n * n)?, gpu.zeros::<bf16>(n * n)?);
    let product = time(gpu, RUNS, || {
        let (a, b) = (Matrix::rows(a.view(), n), Matrix::rows(b.view(), n));
        gemm(gpu, Form::RightTransposed, [n, n, n], a, b, c.view_mut(), n, Output::Write)
    })?;
    let rates = Rates { copy: 8.0 * len as f64 / copy, product: 2.0 * (n as f64).powi(3) / product };
    println!("copy {:.2} TB/s, bf16 product {:.0} TFLOP/s", rates.copy / 1e12, rates.product / 1e12);
    Ok(rates)
}

/// Values of −1 to 1.
fn numbers(gpu: &Gpu, len: usize) -> Result<Buffer<bf16>> {
    let values: Vec<bf16> = (0..len).map(|i| bf16::from_f32((i * 7919 % 255) as f32 / 127.0 - 1.0)).collect();
    Ok(gpu.upload(&values)?)
}

pub(crate) fn measure(gpu: &Gpu, rates: &Rates) -> Result<Value> {
    let mut figures = elementwise(gpu, rates)?;
    figures.extend(heads(gpu, rates)?);
    figures.extend(packed_attention(gpu, rates)?);
    figures.push(decoding_attention(gpu, rates)?);
    figures.extend(head(gpu, rates)?);
    figures.push(update(gpu, rates)?);
    Ok(figures.into())
}

fn elementwise(gpu: &Gpu, rates: &Rates) -> Result<Vec<Value>> {
    let bytes = |what: &str, seconds, bytes: usize| figure(what, seconds, bytes as f64 / rates.copy);
    let (x, delta, weight) = (numbers(gpu, TOKENS * WIDTH)?, numbers(gpu, TOKENS * WIDTH)?, numbers(gpu, WIDTH)?);
    let (mut sum, mut y) = (gpu.zeros::<bf16>(TOKENS * WIDTH)?, gpu.zeros::<bf16>(TOKENS * WIDTH)?);
    let mut figures = Vec::new();
    let seconds = time(gpu, RUNS, || {
        let (sum, y) = (sum.view_mut(), y.view_mut());
        rms_norm::forward_add(gpu, x.view(), delta.view(), weight.view(), 1e-6, sum, y)
    })?;
    figures.push(bytes("rms_norm with residual", seconds, 8 * TOKENS * WIDTH));
    let (mut dw, mut scratch) = (gpu.zeros::<f32>(WIDTH)?, gpu.zeros::<f32>(rms_norm::scratch_len(TOKENS, WIDTH))?);
    let seconds = time(gpu, RUNS, || {
        let dw = rms_norm::WeightGradient { weight: dw.view_mut(), scratch: scratch.view_mut() };
        let dx = InputGradient::Add(sum.view_mut());
        rms_norm::backward(gpu, x.view(), weight.view(), 1e-6, delta.view(), dx, Some(dw))
    })?;
    figures.push(bytes("rms_norm backward", seconds, 8 * TOKENS * WIDTH));
    let (mut fused, mut inner) = (numbers(gpu, 2 * TOKENS * INNER)?, gpu.zeros::<bf16>(TOKENS * INNER)?);
    let seconds = time(gpu, RUNS, || swiglu::forward(gpu, fused.view(), INNER, inner.view_mut()))?;
    figures.push(bytes("swiglu", seconds, 6 * TOKENS * INNER));
    let seconds = time(gpu, RUNS, || swiglu::backward_in_place(gpu, fused.view_mut(), INNER, inner.view()))?;
    figures.push(bytes("swiglu backward", seconds, 10 * TOKENS * INNER));
    let tokens: Vec<u32> = (0..TOKENS).map(|i| (i * 7919 % VOCAB) as u32).collect();
    let (table, ids) = (numbers(gpu, VOCAB * WIDTH)?, gpu.upload(&tokens)?);
    let seconds = time(gpu, RUNS, || embedding::gather(gpu, table.view(), ids.view(), WIDTH, y.view_mut()))?;
    figures.push(bytes("embeddings", seconds, 4 * TOKENS * WIDTH));
    let (occurrences, mut gradient) = (Occurrences::of(&tokens), gpu.zeros::<f32>(VOCAB * WIDTH)?);
    let (distinct, occurrences) = (occurrences.tokens.len(), occurrences.upload(gpu)?);
    let seconds = time(gpu, RUNS, || embedding::accumulate(gpu, x.view(), &occurrences, WIDTH, gradient.view_mut()))?;
    figures.push(bytes("embeddings' gradient", seconds, 2 * TOKENS * WIDTH + 8 * distinct * WIDTH));
    Ok(figures)
}

/// QK-norm and rotation.
fn heads(gpu: &Gpu, rates: &Rates) -> Result<Vec<Value>> {
    let shape = HeadShape { rows: TOKENS, q_heads: HEADS.query, kv_heads: HEADS.key_value, head_dim: HEADS.dim };
    let (mut qkv, plain, weight) = (numbers(gpu, TOKENS * QKV)?, numbers(gpu, TOKENS * QKV)?, numbers(gpu, HEADS.dim)?);
    let positions: Vec<i32> = (0..TOKENS as i32).map(|i| i % 4096).collect();
    let (table, positions) = (gpu.upload(&vec![0.5f32; 4096 * HEADS.dim])?, gpu.upload(&positions)?);
    let norm = || Some(QkNorm { q_weight: weight.view(), k_weight: weight.view(), eps: 1e-6 });
    let rotary = || Rotary { table: table.view(), positions: Some(positions.view()) };
    let read = 2 * TOKENS * (HEADS.query + HEADS.key_value) * HEADS.dim;
    let seconds = time(gpu, RUNS, || rope::forward_in_place(gpu, shape, qkv.view_mut(), norm(), rotary()))?;
    let forward = figure("qk-norm and rotation", seconds, 2.0 * read as f64 / rates.copy);
    let (mut a, mut b) = (gpu.zeros::<f32>(HEADS.dim)?, gpu.zeros::<f32>(HEADS.dim)?);
    let (mut scratch, mut sums) =
        (gpu.zeros::<f32>(rope::scratch_len::<bf16>(&shape))?, gpu.zeros::<f32>(2 * HEADS.dim)?);
    let seconds = time(gpu, RUNS, || {
        let (q_weight, k_weight) = (a.view_mut(), b.view_mut());
        let into = QkNormGradient { q_weight, k_weight, scratch: scratch.view_mut(), sums: sums.view_mut() };
        rope::backward_in_place(gpu, shape, plain.view(), norm(), rotary(), qkv.view_mut(), Some(into))
    })?;
    Ok(vec![forward, figure("qk-norm and rotation backward", seconds, 3.0 * read as f64 / rates.copy)])
}

/// One sequence of 8,192 tokens: half of the pairs are seen, two products forward and five backward.
fn packed_attention(gpu: &Gpu, rates: &Rates) -> Result<Vec<Value>> {
    let tokens = 8192;
    let plan = Plan::new(gpu, &Segments::new([(tokens, None)]).map_err(anyhow::Error::msg)?, HEADS)?;
    let rows = tokens * HEADS.query;
    let (qkv, dout) = (numbers(gpu, tokens * QKV)?, numbers(gpu, rows * HEADS.dim)?);
    let (mut out, mut lse) = (gpu.zeros::<bf16>(rows * HEADS.dim)?, gpu.zeros::<f32>(rows)?);
    let pairs = HEADS.query as f64 * (tokens as f64).powi(2) / 2.0;
    let product = 2.0 * HEADS.dim as f64 * pairs / rates.product;
    let seconds = time(gpu, RUNS, || attention::forward(gpu, &plan, qkv.view(), out.view_mut(), lse.view_mut()))?;
    let forward = figure("attention over 8,192 tokens", seconds, 2.0 * product);
    let (mut delta, mut dqkv) = (gpu.zeros::<f32>(rows)?, gpu.zeros::<bf16>(tokens * QKV)?);
    let seconds = time(gpu, RUNS, || {
        let saved = Saved { qkv: qkv.view(), out: out.view(), lse: lse.view() };
        attention::backward(gpu, &plan, saved, dout.view(), delta.view_mut(), dqkv.view_mut())
    })?;
    Ok(vec![forward, figure("attention backward over 8,192 tokens", seconds, 5.0 * product)])
}

/// One token for each of 256 sequences of 1,024.
fn decoding_attention(gpu: &Gpu, rates: &Rates) -> Result<Value> {
    let (sequences, len, block_size) = (256, 1024, 32);
    let max_blocks = len / block_size;
    let shape = CacheShape { heads: HEADS, blocks: sequences * max_blocks, block_size };
    let (qkv, k, v) =
        (numbers(gpu, sequences * QKV)?, numbers(gpu, shape.layer_len())?, numbers(gpu, shape.layer_len())?);
    let blocks = gpu.upload(&(0..shape.blocks as u32).collect::<Vec<_>>())?;
    let lengths = gpu.upload(&vec![len as u32; sequences])?;
    let mut out = gpu.zeros::<bf16>(sequences * HEADS.query * HEADS.dim)?;
    let mut scratch = gpu.zeros::<f32>(attention::scratch_len(HEADS, sequences, len))?;
    let seconds = time(gpu, RUNS, || {
        let table = BlockTable { blocks: blocks.view(), max_blocks };
        let (scratch, out) = (scratch.view_mut(), out.view_mut());
        attention::decode(gpu, shape, qkv.view(), k.view(), v.view(), &table, lengths.view(), len, scratch, out)
    })?;
    Ok(figure("attention, 256 sequences of 1,024", seconds, 4.0 * shape.layer_len() as f64 / rates.copy))
}

/// 512 rows of logits: the head with log-probs, their gradient, a draw.
fn head(gpu: &Gpu, rates: &Rates) -> Result<Vec<Value>> {
    let rows = 512;
    let shape = LogitsShape { rows, vocab: VOCAB, stride: VOCAB, temperature: 1.0 };
    let (x, weight) = (numbers(gpu, rows * WIDTH)?, numbers(gpu, VOCAB * WIDTH)?);
    let (mut logits, targets) = (gpu.zeros::<f32>(rows * VOCAB)?, gpu.upload(&vec![17u32; rows])?);
    let (mut logprobs, mut entropies, mut stats) =
        (gpu.zeros::<f32>(rows)?, gpu.zeros::<f32>(rows)?, gpu.zeros::<f32>(2 * rows)?);
    let flops = 2.0 * (rows * WIDTH) as f64 * VOCAB as f64;
    let read = 4.0 * (rows * VOCAB) as f64 / rates.copy;
    let seconds = time(gpu, RUNS, || {
        let (a, b) = (Matrix::rows(x.view(), WIDTH), Matrix::rows(weight.view(), WIDTH));
        let into = logits.view_mut();
        gemm(gpu, Form::RightTransposed, [rows, VOCAB, WIDTH], a, b, into, VOCAB, Output::Write)?;
        let (a, b, c) = (logprobs.view_mut(), entropies.view_mut(), stats.view_mut());
        logprobs::forward(gpu, shape, logits.view(), targets.view(), a, b, c)
    })?;
    let mut figures = vec![figure("head with log-probs and entropies", seconds, flops / rates.product)];
    let seconds = time(gpu, RUNS, || {
        let (a, b, c) = (logprobs.view_mut(), entropies.view_mut(), stats.view_mut());
        logprobs::forward(gpu, shape, logits.view(), targets.view(), a, b, c)
    })?;
    figures.push(figure("log-probs and entropies", seconds, read));
    let (ones, mut gradient) = (gpu.upload(&vec![1.0f32; rows])?, gpu.zeros::<bf16>(rows * VOCAB)?);
    let seconds = time(gpu, RUNS, || {
        let inputs = RowInputs {
            targets: targets.view(),
            stats: stats.view(),
            entropies: entropies.view(),
            dlogprobs: ones.view(),
            dentropies: Some(ones.view()),
        };
        logprobs::backward(gpu, shape, logits.view(), inputs, gradient.view_mut())
    })?;
    figures.push(figure("gradient of the logits", seconds, 1.5 * read));
    let rule = SamplingRule { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1, purpose: 0 };
    let (mut sequences, stops) = (Sequences::new(gpu, rows, 64)?, gpu.upload(&[u32::MAX])?);
    sequences.limits = gpu.upload(&vec![i32::MAX; rows])?;
    sequences.finished = gpu.zeros(rows)?;
    let seconds = time(gpu, RUNS, || {
        draw(gpu, &rule, shape, logits.view(), rows, Assignment::default(), stops.view(), &mut sequences)
    })?;
    figures.push(figure("a draw for each row", seconds, read));
    Ok(figures)
}

/// AdamW on a tenth of a billion values, with the copy in bf16, and their norm.
fn update(gpu: &Gpu, rates: &Rates) -> Result<Value> {
    let n = 100_000_000;
    let (mut p, g) = (gpu.zeros::<f32>(n)?, gpu.upload(&vec![0.01f32; n])?);
    let (mut m, mut v, mut copy) = (gpu.zeros::<f32>(n)?, gpu.zeros::<f32>(n)?, gpu.zeros::<bf16>(n)?);
    let mut sums = gpu.zeros::<f64>(adamw::square_sums_len(n))?;
    let mut factor = gpu.zeros::<f32>(2)?;
    let step = AdamWStep { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
    let seconds = time(gpu, RUNS, || {
        adamw::square_sums(gpu, g.view(), sums.view_mut())?;
        adamw::clip_factor(gpu, sums.view(), 1.0, factor.view_mut())?;
        let (p, m, v, factor) = (p.view_mut(), m.view_mut(), v.view_mut(), factor.part(1..2)?);
        adamw::adamw(gpu, p, g.view(), m, v, Some(copy.view_mut()), factor, &step)
    })?;
    // Read twice, the gradient; once p, m, v; written p, m, v and the copy.
    Ok(figure("norm and AdamW of 10^8 values", seconds, 34.0 * n as f64 / rates.copy))
}
