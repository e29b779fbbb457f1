//! Works whose instructions `scripts/instructions-check` counts under callgrind. Names of works as arguments run these,
//! no name all of them; what is counted is what happens within [`counted`].
//!
//! Each work runs once before it is counted, so that buffers and tables are there.

use anyhow::{Context, Result, ensure};
use dapo::kernels::allocator::MiMalloc;
use dapo::kernels::matmul::{PackedMatrix, Products};
use dapo::kernels::{linear, threads};
use dapo::loss::{
    Advantages, Aggregation, Denominator, EmptySequences, LossBatch, LossConfig, LossPlan, TokenChunk, masked_lengths,
};
use dapo::policy::{Decoder, GenerationConfig, ModelConfig, Policy, Request, StopTokens};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Callgrind counts from the call of this function to its return.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}

fn twice(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    work()?;
    counted(&mut work)
}

/// Numbers in ±1.
fn values(n: usize) -> Vec<f32> {
    (0..n as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1_u64 << 23) as f32 - 1.0).collect()
}

/// DAPO's loss with its gradient, over 64 sequences of up to 1,024 tokens.
fn fused_loss() -> Result<()> {
    const COLUMNS: usize = 1024;
    let lengths: Vec<usize> = (1..=64).map(|row| COLUMNS / 4 + row * 12).collect();
    let cu_seqlens: Vec<usize> = (0..=lengths.len()).map(|row| row * COLUMNS).collect();
    let mask: Vec<u8> = lengths.iter().flat_map(|n| (0..COLUMNS).map(move |i| u8::from(i < *n))).collect();
    let logprobs: Vec<f32> = values(mask.len()).iter().map(|x| x - 1.0).collect();
    let old_logprobs: Vec<f32> = logprobs.iter().zip(values(mask.len())).map(|(l, x)| l + 0.17 * x).collect();
    let advantages = values(lengths.len());
    let mut gradient = vec![0.0; mask.len()];
    let batch = LossBatch::new(&cu_seqlens, Advantages::PerSequence(&advantages), &old_logprobs).with_mask(&mask);
    let config = LossConfig::default();
    twice(|| {
        let lengths = masked_lengths(batch.cu_seqlens, batch.mask);
        let denominator = Denominator::of_step(Aggregation::TokenMean, &lengths, EmptySequences::Exclude);
        let plan = LossPlan::new(&config, denominator.context("there are tokens")?, batch)?;
        let sums = plan.evaluate(TokenChunk::whole(&logprobs), (&mut gradient[..]).into())?;
        ensure!(sums.loss.is_finite(), "the loss is {}", sums.loss);
        Ok(())
    })
}

/// A linear layer forward, and the gradients of its input and its weight.
fn gemm() -> Result<()> {
    const ROWS: usize = 100;
    const INPUTS: usize = 576;
    const OUTPUTS: usize = 360;
    let packed = PackedMatrix::from_transposed(&values(OUTPUTS * INPUTS), OUTPUTS, INPUTS);
    let (x, dy) = (values(ROWS * INPUTS), values(ROWS * OUTPUTS));
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; OUTPUTS * INPUTS]);
    twice(|| {
        linear::forward(&x, &packed, None, &mut y);
        linear::backward_input_packed(&dy, &packed, &mut dx, false);
        linear::backward_weight(&x, &dy, OUTPUTS, &mut dw, false, Products::F32);
        Ok(())
    })
}

/// 8 completions of 48 tokens, by a small Qwen3 with random weights.
fn decode() -> Result<()> {
    let config = ModelConfig {
        vocab_size: 512,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 1024,
        eos_token_ids: Vec::new(),
        ..ModelConfig::qwen3_0_6b()
    };
    let decoder = Decoder::random(config, 1)?;
    let request = |draw| Request {
        prompt_ids: (0..24).map(|t| (t * 31 + draw as u32 * 17) % 512).collect(),
        samples: 4,
        first_sample: 0,
        draw,
    };
    let requests = [request(0), request(1)];
    let config = GenerationConfig { max_new_tokens: 48, ..GenerationConfig::new(StopTokens::none()) };
    twice(|| {
        decoder.generate(&requests, &config)?;
        Ok(())
    })
}

type Work = (&'static str, fn() -> Result<()>);

fn main() -> Result<()> {
    let works: [Work; 3] = [("fused_loss", fused_loss), ("gemm", gemm), ("decode", decode)];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` has nothing to measure here.
    if arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    if let Some(unknown) = names.iter().find(|name| works.iter().all(|(work, _)| *work != ***name)) {
        anyhow::bail!("{unknown} is no work; there are fused_loss, gemm and decode");
    }
    let mut wanted = works.iter().filter(|(work, _)| names.is_empty() || names.iter().any(|name| *name == work));
    // On a thread of the pool, so that operations begin where they are counted.
    threads::enter(|| wanted.try_for_each(|(_, work)| work()))
}
