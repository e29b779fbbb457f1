//! `dapo doctor`: what the program finds on this machine.

use crate::talk::Talk;
use crate::terminal::Stdout;
use anyhow::Result;
use dapo_policy::Compute;
use std::io::Write;

/// Show what this machine has and how the program was built.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Doctor, talk: Talk) -> Result<()> {
    let mut findings = serde_json::Map::new();
    let mut add = |name: &str, value: String| findings.insert(name.into(), value.into());
    add("version", env!("CARGO_PKG_VERSION").into());
    add("target", format!("{} {}", std::env::consts::ARCH, std::env::consts::OS));
    add("features", features());
    add("cpu", field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into()));
    add("kernels", format!("{:?}", dapo_kernels::simd::isa()));
    add("bf16 matmuls", if Compute::Bf16.is_supported() { "yes" } else { "no: the CPU lacks AVX512-BF16" }.into());
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |n| n.to_string());
    add("cores", cores);
    add("threads", rayon::current_num_threads().to_string());
    let memory = |name| field("/proc/meminfo", name).map_or_else(|| "unknown".into(), |text| gibibytes(&text));
    add("memory", memory("MemTotal"));
    add("memory available", memory("MemAvailable"));
    add("cuda", gpus());
    add("mpi", dapo_dist::mpi_version().unwrap_or_else(|| "not in this build".into()));
    add("ranks", ranks());
    add("cores of a rank", dapo_dist::widen().to_string());
    add("interfaces", interfaces());
    let mut stdout = Stdout::new();
    if args.json {
        writeln!(stdout, "{}", serde_json::Value::Object(findings))?;
    } else {
        for (name, value) in &findings {
            writeln!(stdout, "{name:<17} {}", value.as_str().unwrap_or_default())?;
        }
    }
    if std::env::var("CANDLE_NUM_THREADS").is_err() {
        talk.detail("CANDLE_NUM_THREADS is not set; 1 keeps candle's own threads from competing with the kernels");
    }
    Ok(())
}

/// How many processes a launcher has started.
fn ranks() -> String {
    match dapo_dist::launched(|name| std::env::var(name).ok()) {
        Some(launch) => format!("{} ({})", launch.size, launch.variable),
        None => "1, without a launcher".into(),
    }
}

/// The network interfaces over which ranks of other machines may be reached.
fn interfaces() -> String {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return "unknown".into() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    names.join(", ")
}

/// The GPUs that can be asked for.
fn gpus() -> String {
    if !cfg!(feature = "cuda") {
        return "not in this build".into();
    }
    match dapo_policy::cuda_devices() {
        Ok(devices) if devices.is_empty() => "none found".into(),
        Ok(devices) => {
            let named: Vec<String> = devices.iter().enumerate().map(|(i, name)| format!("cuda:{i} {name}")).collect();
            named.join("; ")
        }
        Err(error) => error.to_string(),
    }
}

fn features() -> String {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("hub", cfg!(feature = "hub")),
        ("json-schema", cfg!(feature = "json-schema")),
        ("mpi", cfg!(feature = "mpi")),
        ("parquet", cfg!(feature = "parquet")),
        ("tls", cfg!(feature = "tls")),
    ];
    let on: Vec<&str> = all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    if on.is_empty() { "none".into() } else { on.join(", ") }
}

/// The first value of a field in one of the system's `name : value` files.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name))?;
    Some(line.1.trim().to_owned())
}

/// `16384 kB` in GiB.
fn gibibytes(text: &str) -> String {
    let kilobytes: Option<f64> = text.split(' ').next().and_then(|number| number.parse().ok());
    kilobytes.map_or_else(|| text.to_owned(), |kilobytes| format!("{:.1} GiB", kilobytes / (1024.0 * 1024.0)))
}
