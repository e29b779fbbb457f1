//! Checks and measures a GPU: `cargo run --release --features cuda --example gpu_check -- [report.json | --parity]`.
//!
//! First the decoder on the GPU is compared with the decoder on the CPU; then copies, products, a training step and decoding at the
//! shape of Qwen3-0.6B, with random weights, are timed beside what bytes and operations allow. The report is one JSON object.

use anyhow::{Context, Result, ensure};
use candle_core::{Device as CandleDevice, Tensor};
use dapo::kernels::cuda::Gpu;
use dapo::kernels::cuda::gemm::{Form, Matrix, Output, gemm};
use dapo::policy::{
    AdamWStep, Architecture, Decoder, Device, GenerationConfig, Gradients, LayerMemory, ModelConfig, Moments, Policy,
    Request, Segments, TokenBatch,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Bytes per second of a copy, read and written, on the device for which the predictions are made.
const COPY_RATE: f64 = 4.3e12;
/// Operations per second of a bf16 product there.
const PRODUCT_RATE: f64 = 700e12;

fn main() -> Result<()> {
    let argument = std::env::args().nth(1);
    let gpu = Gpu::open(0)?;
    let info = gpu.info()?;
    println!("{}, {:.1} GiB", info.name, info.total_memory as f64 / f64::from(1u32 << 30));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let mut report = json!({ "unix_time": seconds, "device": info.name, "memory": info.total_memory });
    report["parity"] = parity()?;
    if argument.as_deref() == Some("--parity") {
        return Ok(());
    }
    report["copy"] = copy(&gpu)?;
    report["product"] = product(&gpu)?;
    drop(gpu);
    let mut policy = random_decoder(&qwen3_0_6b(), 1)?;
    policy.to_device(Device::Cuda(0))?;
    report["decode"] = decode(&policy)?;
    report["step"] = step(&mut policy)?;
    let text = serde_json::to_string_pretty(&report)?;
    match argument {
        Some(file) => std::fs::write(&file, text).with_context(|| file)?,
        None => println!("{text}"),
    }
    Ok(())
}

/// Prints a figure beside the time below which the device cannot be.
fn figure(what: &str, seconds: f64, floor: f64) -> Value {
    println!("{what:<40} {:>10.3} ms, floor {:>10.3} ms", seconds * 1e3, floor * 1e3);
    json!({ "seconds": seconds, "floor_seconds": floor })
}

/// The mean time of `f` on the device, after one run that is not counted.
fn time(gpu: &Gpu, runs: u32, mut f: impl FnMut() -> candle_core::Result<()>) -> Result<f64> {
    f()?;
    gpu.synchronize()?;
    let started = Instant::now();
    for _ in 0..runs {
        f()?;
    }
    gpu.synchronize()?;
    Ok(started.elapsed().as_secs_f64() / f64::from(runs))
}

fn copy(gpu: &Gpu) -> Result<Value> {
    let len = 1 << 28;
    let (from, mut to) = (gpu.zeros::<f32>(len)?, gpu.zeros::<f32>(len)?);
    let seconds = time(gpu, 20, || gpu.copy(from.view(), to.view_mut()))?;
    Ok(figure("copy of 1 GiB", seconds, 8.0 * len as f64 / COPY_RATE))
}

fn product(gpu: &Gpu) -> Result<Value> {
    let n = 8192;
    let values: Vec<half::bf16> = (0..n * n).map(|i| half::bf16::from_f32((i % 7) as f32 - 3.0)).collect();
    let (a, b, mut c) = (gpu.upload(&values)?, gpu.upload(&values)?, gpu.zeros::<half::bf16>(n * n)?);
    let seconds = time(gpu, 20, || {
        let (a, b) = (Matrix::rows(a.view(), n), Matrix::rows(b.view(), n));
        gemm(gpu, Form::RightTransposed, [n, n, n], a, b, c.view_mut(), n, Output::Write)
    })?;
    Ok(figure("bf16 product of 8192 x 8192 x 8192", seconds, 2.0 * (n as f64).powi(3) / PRODUCT_RATE))
}

fn qwen3_0_6b() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen3,
        vocab_size: 151_936,
        hidden_size: 1024,
        intermediate_size: 3072,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 128,
        rope_theta: 1e6,
        rms_norm_eps: 1e-6,
        tie_word_embeddings: true,
        qk_norm: true,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        max_position_embeddings: 40_960,
        bos_token_id: None,
        eos_token_ids: vec![151_645],
        pad_token_id: None,
    }
}

fn random_decoder(config: &ModelConfig, seed: u64) -> Result<Decoder> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let mut tensors = BTreeMap::new();
    for (name, shape) in config.parameter_shapes() {
        let count: usize = shape.iter().product();
        let norm = name.contains("norm");
        let values: Vec<f32> = (0..count).map(|_| if norm { 1.0 + 0.1 * next() } else { 0.04 * next() }).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &CandleDevice::Cpu)?);
    }
    Ok(Decoder::new(config.clone(), tensors)?)
}

/// Groups of completions, each prompt once.
fn batch(groups: usize, prompt: usize, completions: usize, completion: usize, vocab: usize) -> Result<TokenBatch> {
    let (mut token_ids, mut layout, mut targets) = (Vec::<u32>::new(), Vec::new(), Vec::new());
    let push = |token_ids: &mut Vec<u32>, count: usize| {
        let from = token_ids.len();
        token_ids.extend((from..from + count).map(|i| ((i * 7919 + 13) % vocab) as u32));
    };
    for _ in 0..groups {
        let parent = layout.len();
        layout.push((prompt, None));
        push(&mut token_ids, prompt);
        for _ in 0..completions {
            layout.push((completion, Some(parent)));
            targets.extend(token_ids.len()..token_ids.len() + completion);
            push(&mut token_ids, completion);
        }
    }
    Ok(TokenBatch { token_ids, segments: Arc::new(Segments::new(layout)?), targets })
}

fn backward(policy: &Decoder, batch: &TokenBatch, gradients: &mut Gradients) -> Result<()> {
    Ok(policy.logprobs_backward(batch, 1.0, gradients, &mut |_, into| {
        into.logprobs.fill(-1.0 / batch.targets.len() as f32);
        Ok(())
    })?)
}

/// Log-probs and gradients on the GPU, in bf16, against the CPU's in f32.
fn parity() -> Result<Value> {
    let config = ModelConfig {
        vocab_size: 999,
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        max_position_embeddings: 1024,
        eos_token_ids: vec![1],
        ..qwen3_0_6b()
    };
    let (cpu, mut gpu) = (random_decoder(&config, 5)?, random_decoder(&config, 5)?);
    gpu.to_device(Device::Cuda(0))?;
    let batch = batch(2, 37, 3, 61, config.vocab_size)?;
    let (of_cpu, of_gpu) = (cpu.logprobs(&batch, 1.0)?, gpu.logprobs(&batch, 1.0)?);
    let pairs = of_cpu.logprobs.iter().zip(&of_gpu.logprobs);
    let logprobs = pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    let (mut g_cpu, mut g_gpu) = (Gradients::new(cpu.parameters().len()), Gradients::new(gpu.parameters().len()));
    backward(&cpu, &batch, &mut g_cpu)?;
    backward(&gpu, &batch, &mut g_gpu)?;
    let mut worst = 0.0f64;
    for (index, (name, _)) in cpu.parameters().iter().enumerate() {
        let read = |policy: &Decoder, gradients| -> Result<Vec<f32>> {
            Ok(policy.gradient(gradients, index)?.context("no gradient")?.flatten_all()?.to_vec1()?)
        };
        let (a, b) = (read(&cpu, &g_cpu)?, read(&gpu, &g_gpu)?);
        let size: f64 = a.iter().map(|x| f64::from(*x).powi(2)).sum();
        let difference: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        let relative = (difference / size).sqrt();
        ensure!(relative < 0.05, "the gradient of {name} differs by {relative}");
        worst = worst.max(relative);
    }
    println!("log-probs differ by at most {logprobs:.4}, gradients by {:.2} %", 100.0 * worst);
    ensure!(logprobs < 0.05, "log-probs differ by {logprobs}");
    Ok(json!({ "logprob_difference": logprobs, "gradient_difference": worst }))
}

fn step(policy: &mut Decoder) -> Result<Value> {
    policy.set_layer_memory(LayerMemory::Keep);
    let batch = batch(4, 256, 8, 480, policy.config().vocab_size)?;
    let (mut gradients, mut moments) = (Gradients::new(policy.parameters().len()), Moments::zeros(policy)?);
    let mut seconds = 0.0;
    for run in 0..4u64 {
        let started = Instant::now();
        gradients.clear();
        backward(policy, &batch, &mut gradients)?;
        let step = AdamWStep {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step: run + 1,
            grad_scale: 1.0,
        };
        policy.adamw(&gradients, &mut moments, &step, 1.0)?;
        seconds = if run == 0 { 0.0 } else { seconds + started.elapsed().as_secs_f64() / 3.0 };
    }
    let (tokens, parameters) = (batch.token_ids.len() as f64, policy.num_parameters() as f64);
    let floor = 6.0 * tokens * parameters / PRODUCT_RATE + 30.0 * parameters / COPY_RATE;
    let mut value = figure(&format!("training step of {tokens} tokens"), seconds, floor);
    let utilisation = 6.0 * tokens * parameters / seconds / PRODUCT_RATE;
    println!("{:<40} {:>10.1} % of {:.0} TFLOP/s", "utilisation", 100.0 * utilisation, PRODUCT_RATE / 1e12);
    value["tokens"] = tokens.into();
    value["utilisation"] = utilisation.into();
    Ok(value)
}

fn decode(policy: &Decoder) -> Result<Value> {
    let (prompt, samples, new) = (128usize, 256usize, 256usize);
    let prompt_ids = (0..prompt).map(|i| (i * 31 % 1000) as u32).collect();
    let requests = [Request { prompt_ids, samples, first_sample: 0, draw: 0 }];
    let config = GenerationConfig { max_new_tokens: new, cache_bytes: 16 << 30, ..GenerationConfig::default() };
    policy.generate(&requests, &GenerationConfig { max_new_tokens: 16, ..config.clone() })?;
    let started = Instant::now();
    let completions = policy.generate(&requests, &config)?;
    let seconds = started.elapsed().as_secs_f64();
    let tokens: usize = completions.iter().flatten().map(|completion| completion.token_ids.len()).sum();
    let c = policy.config();
    let weights = 2.0 * policy.num_parameters() as f64;
    let cache = samples as f64
        * (prompt + new / 2) as f64
        * (4 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim) as f64;
    let logits = samples as f64 * c.vocab_size as f64 * 16.0;
    let mut value = figure(
        &format!("{tokens} tokens of {samples} completions"),
        seconds,
        new as f64 * (weights + cache + logits) / COPY_RATE,
    );
    println!("{:<40} {:>10.0} tokens/s", "decoding", tokens as f64 / seconds);
    value["tokens"] = tokens.into();
    Ok(value)
}
