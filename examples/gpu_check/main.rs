//! Checks and measures a GPU: `cargo run --release --features cuda --example gpu_check -- --help`.
//!
//! First the decoder on the GPU is compared with the decoder on the CPU. Then every kernel is timed at the shape of
//! Qwen3-0.6B, and training steps and decoding at those of Qwen3-0.6B and Qwen3-4B, with random weights. Beside each
//! time stands what bytes and operations allow at the rates that a copy and a product reach on the same device. The
//! report is one JSON object; files named after it become parts of it, of which `torch`, made by
//! benches/peers/gpu_torch.py, is compared with what was measured.

mod kernels;
mod model;
mod parity;

use anyhow::{Context, Result, bail};
use clap::Parser;
use dapo::kernels::cuda::Gpu;
use dapo::policy::{Decoder, Device, LayerMemory, LoraConfig, ModelConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Parser)]
struct Args {
    /// The report; without one it is printed.
    report: Option<PathBuf>,
    /// Parts of the report that others made, as NAME=FILE: JSON or text.
    parts: Vec<String>,
    /// Compare the GPU's results with the processor's, and no more.
    #[arg(long)]
    parity: bool,
    /// Only add the parts to a report that is there.
    #[arg(long, requires = "report")]
    add: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if args.add {
        let path = args.report.as_deref().unwrap_or(Path::new("-"));
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        add_parts(&mut report, &args.parts)?;
        return write(&report, Some(path));
    }
    let gpu = Gpu::open(0)?;
    let info = gpu.info()?;
    println!("{}, {:.1} GiB", info.name, info.total_memory as f64 / f64::from(1u32 << 30));
    if args.parity {
        return parity::check().map(drop);
    }
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let mut report = json!({ "unix_time": seconds, "device": info.name, "memory": info.total_memory });
    // A device that computes something else is measured all the same.
    let parity = parity::check();
    report["parity"] = match &parity {
        Ok(figures) => figures.clone(),
        Err(error) => json!({ "failed": format!("{error:#}") }),
    };
    add_parts(&mut report, &args.parts)?;
    // So is what comes after a failure, as far as it can be, and what there is is written.
    let measured = measure(&gpu, &mut report);
    if let Err(error) = &measured {
        report["failed"] = format!("{error:#}").into();
    }
    write(&report, args.report.as_deref())?;
    measured?;
    match parity {
        Ok(_) => Ok(()),
        Err(error) => bail!("the GPU computes something else than the processor: {error:#}"),
    }
}

fn add_parts(report: &mut Value, parts: &[String]) -> Result<()> {
    for part in parts {
        let (name, file) = part.split_once('=').with_context(|| format!("{part} is not NAME=FILE"))?;
        let text = std::fs::read_to_string(file).with_context(|| file.to_owned())?;
        report[name] = serde_json::from_str(&text).unwrap_or_else(|_| text.trim_end().into());
    }
    Ok(())
}

fn write(report: &Value, path: Option<&Path>) -> Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    if let Some(path) = path {
        return std::fs::write(path, text).with_context(|| path.display().to_string());
    }
    print!("{text}");
    Ok(())
}

fn measure(gpu: &Gpu, report: &mut Value) -> Result<()> {
    let rates = kernels::rates(gpu)?;
    report["rates"] = json!({ "copy_bytes_per_second": rates.copy, "product_flops_per_second": rates.product });
    report["kernels"] = kernels::measure(gpu, &rates)?;
    for (name, config, memory) in [
        ("Qwen3-0.6B", ModelConfig::qwen3_0_6b(), LayerMemory::Keep),
        ("Qwen3-4B", ModelConfig::qwen3_4b(), LayerMemory::Recompute),
    ] {
        println!("{name}");
        let mut policy = Decoder::random(config, 1)?;
        policy.set_layer_memory(memory);
        policy.to_device(Device::Cuda(0))?;
        report[name]["decode"] = json!([model::decode(&policy, &rates, 64)?, model::decode(&policy, &rates, 960)?]);
        report[name]["step"] = model::steps(&mut policy, &rates)?;
        println!("{name}, adapters of rank 16");
        let mut policy = policy.with_lora(&LoraConfig::default(), 1)?;
        report[name]["step_with_adapters"] = model::steps(&mut policy, &rates)?;
        compare(report);
    }
    Ok(())
}

/// What torch needs for the same work at the shape of Qwen3-0.6B, over what was measured here: of its variants the
/// fastest, and the one with the least memory.
fn compare(report: &mut Value) {
    let torch = report["torch"].clone();
    let least = |of: &str, field: &str| {
        let all = torch[of].as_array().into_iter().flatten();
        all.filter_map(|line| line[field].as_f64()).min_by(f64::total_cmp)
    };
    let ours = &report["Qwen3-0.6B"];
    let (step, decode) = (&ours["step"][0], &ours["decode"]);
    let ratio = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| a / b);
    let rate =
        |i: usize| ratio(decode[i]["tokens_per_second"].as_f64(), torch["decode"][i]["tokens_per_second"].as_f64());
    let compared = json!({
        "step_times_faster": ratio(least("train", "seconds"), step["seconds"].as_f64()),
        "step_share_of_memory": ratio(step["memory"].as_f64(), least("train", "peak_memory")),
        "decode_times_faster": [rate(0), rate(1)],
    });
    if torch.is_null() {
        println!("torch was not measured: there is nothing to compare with");
    } else {
        println!("beside torch, Qwen3-0.6B: {compared}");
        report["beside_torch"] = compared;
    }
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
