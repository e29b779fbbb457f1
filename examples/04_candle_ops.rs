//! Lesson 4: the project's operations on Candle's tensors, each with its backward pass.
//!
//! `cargo run --release --example 04_candle_ops`
//!
//! Equations are those of the DAPO paper, arXiv 2503.14476.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use dapo::kernels::attention::{Heads, Segments};
use dapo::kernels::ops::{attention, rms_norm};
use dapo::loss::LossConfig;
use dapo::loss::tensor::{TensorBatch, policy_loss_single};

fn main() -> Result<()> {
    loss()?;
    norm()?;
    shared_prompt()
}

/// Numbers between −1 and 1.
fn numbers(rows: usize, columns: usize) -> Result<Tensor> {
    Ok(Tensor::arange(1f32, (rows * columns + 1) as f32, &Device::Cpu)?.sin()?.reshape((rows, columns))?)
}

/// The largest difference between two tensors.
fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    Ok((a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar()?)
}

/// Eq. 8 twice: written in Candle's operations, and as one operation that computes loss and gradient in one pass.
fn loss() -> Result<()> {
    let old = (numbers(4, 50)? - 2.0)?;
    let logprobs = Var::from_tensor(&(&old + (numbers(50, 4)?.t()? * 0.5)?)?)?;
    let advantages = Tensor::new(&[1.5f32, -0.5, -0.5, 0.3], &Device::Cpu)?;

    let ratio = (logprobs.as_tensor() - &old)?.exp()?;
    let by_token = advantages.unsqueeze(1)?.broadcast_as(ratio.shape())?;
    let surrogate = (&ratio * &by_token)?.minimum(&(ratio.clamp(0.8f32, 1.28f32)? * &by_token)?)?;
    let written_out = surrogate.mean_all()?.neg()?;

    let batch = TensorBatch::new(&advantages, &old); // padded: each row is a completion; packed batches have offsets
    let fused = policy_loss_single(&LossConfig::default(), &logprobs, None, &batch)?;

    let gradient = |loss: &Tensor| loss.backward()?.get(&logprobs).cloned().context("no gradient");
    let of_loss = difference(&written_out, &fused.loss)?;
    let of_gradient = difference(&gradient(&written_out)?, &gradient(&fused.loss)?)?;
    println!("Eq. 8 in Candle's operations and as one operation");
    println!("  same loss: {}, same gradient: {}", of_loss < 1e-6, of_gradient < 1e-7);
    println!("  tokens clipped from above: {:.0} %", 100.0 * fused.metrics.clip_high());
    Ok(())
}

/// Candle's fused norm has no backward pass. `backward` succeeds all the same, and silently leaves the gradient out.
fn norm() -> Result<()> {
    let x = Var::from_tensor(&numbers(3, 8)?)?;
    let weight = Tensor::ones(8, DType::F32, &Device::Cpu)?;
    let reaches_x = |y: Tensor| -> Result<bool> { Ok(y.sqr()?.sum_all()?.backward()?.get(&x).is_some()) };
    println!("\ndoes a gradient pass through the fused RMS norm?");
    println!("  candle_nn::ops::rms_norm: {}", reaches_x(candle_nn::ops::rms_norm(&x, &weight, 1e-6)?)?);
    println!("  dapo::kernels::ops::rms_norm: {}", reaches_x(rms_norm(&x, &weight, 1e-6)?)?);
    Ok(())
}

/// The G completions of a prompt share its keys and values: a segment may continue another one.
fn shared_prompt() -> Result<()> {
    let heads = Heads { query: 2, key_value: 1, dim: 4 };
    let (q, k, v) = (numbers(7, 8)?, numbers(7, 4)?, (numbers(7, 4)? * 2.0)?);
    // A prompt of three tokens and two completions of two tokens each.
    let shared = Segments::new([(3, None), (2, Some(0)), (2, Some(0))])?;
    let together = attention(&q, &k, &v, heads, &shared.into())?;
    // The same as two sequences of five tokens, each with its own copy of the prompt.
    let rows = Tensor::new(&[0u32, 1, 2, 3, 4, 0, 1, 2, 5, 6], &Device::Cpu)?;
    let [q, k, v] = [&q, &k, &v].map(|tensor| tensor.index_select(&rows, 0));
    let apart = attention(&q?, &k?, &v?, heads, &Segments::new([(5, None), (5, None)])?.into())?;
    println!("\nattention over a prompt with two completions: 7 rows in place of 10");
    println!("  same bits: {}", difference(&together.index_select(&rows, 0)?, &apart)? == 0.0);
    Ok(())
}
