//! Checks and measures a GPU: `cargo run --release --features cuda --example gpu_check -- [report.json [NAME=FILE ...] | --parity]`.
//!
//! First the decoder on the GPU is compared with the decoder on the CPU; then every kernel, a training step and decoding at the
//! shape of Qwen3-0.6B, with random weights, are timed beside what bytes and operations allow at the rates that a copy and a product
//! reach on the same device. The report is one JSON object; files named after it become parts of it.

mod kernels;
mod model;
mod parity;

use anyhow::{Context, Result};
use dapo::kernels::cuda::Gpu;
use dapo::policy::Device;
use serde_json::{Value, json};
use std::time::Instant;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let gpu = Gpu::open(0)?;
    let info = gpu.info()?;
    println!("{}, {:.1} GiB", info.name, info.total_memory as f64 / f64::from(1u32 << 30));
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let mut report = json!({ "unix_time": seconds, "device": info.name, "memory": info.total_memory });
    report["parity"] = parity::check()?;
    if arguments.first().is_some_and(|argument| argument == "--parity") {
        return Ok(());
    }
    for part in arguments.iter().skip(1) {
        let (name, file) = part.split_once('=').with_context(|| format!("{part} is not NAME=FILE"))?;
        let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        report[name] = serde_json::from_str(&text).unwrap_or(Value::String(text));
    }
    let rates = kernels::rates(&gpu)?;
    report["rates"] = json!({ "copy_bytes_per_second": rates.copy, "product_flops_per_second": rates.product });
    report["kernels"] = kernels::measure(&gpu, &rates)?;
    drop(gpu);
    let mut policy = model::random_decoder(&model::qwen3_0_6b(), 1)?;
    policy.to_device(Device::Cuda(0))?;
    report["decode"] = json!([model::decode(&policy, &rates, 64)?, model::decode(&policy, &rates, 960)?]);
    report["step"] = model::step(&mut policy, &rates)?;
    let text = serde_json::to_string_pretty(&report)?;
    match arguments.first() {
        Some(file) => std::fs::write(file, text).with_context(|| file.clone())?,
        None => println!("{text}"),
    }
    Ok(())
}

/// What this device reaches.
struct Rates {
    /// Bytes a second of a copy, read and written.
    copy: f64,
    /// Operations a second of a large bf16 product.
    product: f64,
}

/// Prints a figure beside the time below which the device cannot be.
fn figure(what: &str, seconds: f64, floor: f64) -> Value {
    let share = 100.0 * floor / seconds;
    println!("{what:<44} {:>10.3} ms, floor {:>10.3} ms, {share:>5.1} %", seconds * 1e3, floor * 1e3);
    json!({ "what": what, "seconds": seconds, "floor_seconds": floor })
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
