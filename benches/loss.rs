//! The policy loss with its gradient, from log-probabilities: `cargo bench --bench loss`.
//!
//! Dense `[B, T]` f32 log-probabilities and a byte mask whose rows end at random between T/4 and T. A table gives the
//! best time an element of B·T, and the bytes that it moves: 9 read and 4 written. The last
//! column is a plain copy by the same threads of arrays too large for any cache, counted as bytes read plus written.

use std::{hint::black_box, time::Duration};

use dapo_loss::{
    Advantages, Denominator, EmptySequences, Kl, LossBatch, LossConfig, LossPlan, TokenChunk, masked_lengths,
};

#[path = "support/copy.rs"]
mod copy;
#[path = "support/summary.rs"]
mod summary;
#[path = "support/time.rs"]
mod time;

use copy::copy_bandwidth;
use summary::Summary;
use time::best;

const SIZES: [(usize, usize); 3] = [(8, 1024), (64, 1024), (512, 2048)];
/// Two log-probabilities and a mask byte read, a gradient written.
const BYTES: usize = 13;

struct Data {
    cu_seqlens: Vec<usize>,
    mask: Vec<u8>,
    advantages: Vec<f32>,
    logprobs: Vec<f32>,
    old_logprobs: Vec<f32>,
}

impl Data {
    fn new(rows: usize, columns: usize) -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 24) as f32
        };
        let n = rows * columns;
        let lengths: Vec<usize> =
            (0..rows).map(|_| columns / 4 + (uniform() * (columns * 3 / 4) as f32) as usize).collect();
        let logprobs: Vec<f32> = (0..n).map(|_| -2.0 * uniform()).collect();
        Self {
            cu_seqlens: (0..=rows).map(|row| row * columns).collect(),
            mask: (0..n).map(|i| u8::from(i % columns < lengths[i / columns])).collect(),
            advantages: (0..rows).map(|_| 4.0 * uniform() - 2.0).collect(),
            old_logprobs: logprobs.iter().map(|x| x + 0.35 * (uniform() - 0.5)).collect(),
            logprobs,
        }
    }

    fn batch(&self) -> LossBatch<'_> {
        LossBatch::new(&self.cu_seqlens, Advantages::PerSequence(&self.advantages), &self.old_logprobs)
            .with_mask(&self.mask)
            .with_ref_logprobs(&self.old_logprobs)
    }
}

/// One update's loss: plan, sequence ratios where the loss has them, loss and gradient.
fn step(config: &LossConfig, data: &Data, gradient: &mut [f32]) -> f64 {
    let batch = data.batch();
    let lengths = if config.aggregation == dapo_loss::Aggregation::TokenMean {
        vec![data.mask.len()] // any count will do: only the speed is looked at
    } else {
        masked_lengths(batch.cu_seqlens, batch.mask)
    };
    let denominator =
        Denominator::of_step(config.aggregation, &lengths, EmptySequences::Exclude).expect("there are tokens");
    let mut plan = LossPlan::new(config, denominator, batch).expect("valid input");
    plan.set_sequence_ratios(&data.logprobs).expect("finite log-probabilities");
    plan.evaluate(TokenChunk::whole(&data.logprobs), gradient.into()).expect("finite input").loss
}

fn configs() -> Vec<(&'static str, LossConfig)> {
    let of = |name: &str| LossConfig::of(name.parse().expect("a known name"));
    let kl = Kl { coef: 0.04, ..Kl::default() };
    vec![
        ("dapo", LossConfig::default()),
        ("dapo+k3", LossConfig { kl, ..LossConfig::default() }),
        ("cispo", of("cispo")),
        ("sapo", of("sapo")),
        ("gspo", of("gspo")),
        ("gmpo", of("gmpo")),
    ]
}

fn table() -> std::io::Result<()> {
    let mut summary = Summary::of("loss");
    let copy = copy_bandwidth() / 1e9;
    let threads = rayon::current_num_threads();
    println!("CPU, f32, {threads} threads; copy {copy:.1} GB/s");
    println!("{:<10} {:>10} {:>12} {:>10} {:>8}", "loss", "B x T", "ns/element", "GB/s", "of copy");
    for (name, config) in configs() {
        for (rows, columns) in SIZES {
            let data = Data::new(rows, columns);
            let n = rows * columns;
            let mut gradient = vec![0.0; n];
            let time = best(Duration::from_millis(500), || {
                black_box(step(&config, &data, &mut gradient));
            });
            let rate = (n * BYTES) as f64 / time.as_secs_f64() / 1e9;
            let nanos = time.as_secs_f64() * 1e9 / n as f64;
            let size = format!("{rows}x{columns}");
            println!("{name:<10} {size:>10} {nanos:>12.3} {rate:>10.1} {:>7.0}%", 100.0 * rate / copy);
            summary.add(&format!("{name} {size}"), time, &format!("{nanos:.3} ns/element, {rate:.1} GB/s"));
        }
    }
    summary.leave()
}

fn main() -> std::io::Result<()> {
    // `cargo test --benches` runs this too: one step of each loss will do.
    if !std::env::args().any(|argument| argument == "--bench") {
        let data = Data::new(8, 1024);
        for (_, config) in configs() {
            black_box(step(&config, &data, &mut vec![0.0; 8 * 1024]));
        }
        return Ok(());
    }
    table()
}
