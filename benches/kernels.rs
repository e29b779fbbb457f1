//! Every kernel by itself, at the shapes of SmolLM2-135M: `cargo bench --bench kernels`.
//!
//! A table gives each kernel's best time, its rate, and that rate's share of what the machine
//! reached in the same run: of the best matrix product for what is bound by arithmetic, of a plain copy by the same threads
//! for what is bound by memory. Give a part of a name to run only the kernels with it.

use std::hint::black_box;
use std::time::Duration;

use dapo::kernels::adamw::{AdamWStep, adamw, squared_norm};
use dapo::kernels::allocator::MiMalloc;
use dapo::kernels::attention::{self, AttentionGradients, Heads, KvCache, Saved, Segments};
use dapo::kernels::logprobs::{Head, Scratch};
use dapo::kernels::matmul::{PackedMatrix, Products};
use dapo::kernels::{RotaryTable, linear, rms_norm, rope, swiglu, threads};

#[path = "support/copy.rs"]
mod copy;
#[path = "support/summary.rs"]
mod summary;
#[path = "support/time.rs"]
mod time;

use copy::copy_bandwidth;
use summary::Summary;
use time::best;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const HIDDEN: usize = 576;
const INNER: usize = 1536;
const VOCAB: usize = 49_152;
const HEADS: Heads = Heads { query: 9, key_value: 3, dim: 64 };
/// Tokens of a training batch: 8 sequences of 256.
const TOKENS: usize = 2048;
/// How long each kernel is run for the table.
const WINDOW: Duration = Duration::from_millis(700);

/// What bounds a kernel, and how much of it there is.
#[derive(Clone, Copy)]
enum Work {
    Flops(usize),
    Bytes(usize),
}

struct Kernel {
    name: &'static str,
    work: Work,
    run: Box<dyn FnMut()>,
}

/// Numbers in ±1.
fn values(n: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(&mut next).take(n).collect()
}

fn kernel(name: &'static str, work: Work, run: impl FnMut() + 'static) -> Kernel {
    Kernel { name, work, run: Box::new(run) }
}

fn linear_kernels(all: &mut Vec<Kernel>) {
    for (name, rows, k, n) in [
        ("linear 1 x 576 -> 1536", 1, HIDDEN, INNER),
        ("linear 32 x 576 -> 1536", 32, HIDDEN, INNER),
        ("linear 32 x 1536 -> 576", 32, INNER, HIDDEN),
        ("linear 32 x 576 -> 49152", 32, HIDDEN, VOCAB),
        ("linear 2048 x 576 -> 576", TOKENS, HIDDEN, HIDDEN),
        ("linear 2048 x 576 -> 1536", TOKENS, HIDDEN, INNER),
        ("linear 2048 x 1536 -> 576", TOKENS, INNER, HIDDEN),
    ] {
        let (x, packed, mut y) =
            (values(rows * k), PackedMatrix::from_transposed(&values(n * k), n, k), vec![0.0; rows * n]);
        let work = if rows == 1 { Work::Bytes(4 * n * k) } else { Work::Flops(2 * rows * n * k) };
        all.push(kernel(name, work, move || linear::forward(&x, &packed, None, &mut y)));
    }
    let (dy, mut dx) = (values(TOKENS * INNER), vec![0.0; TOKENS * HIDDEN]);
    let packed = PackedMatrix::from_transposed(&values(INNER * HIDDEN), INNER, HIDDEN);
    let flops = Work::Flops(2 * TOKENS * INNER * HIDDEN);
    all.push(kernel("linear 2048 x 576 -> 1536, backward input", flops, move || {
        linear::backward_input_packed(&dy, &packed, &mut dx, false);
    }));
    let (dy, x, mut dw) = (values(TOKENS * INNER), values(TOKENS * HIDDEN), vec![0.0; INNER * HIDDEN]);
    all.push(kernel("linear 2048 x 576 -> 1536, backward weight", flops, move || {
        linear::backward_weight(&x, &dy, INNER, &mut dw, false, Products::F32);
    }));
}

fn elementwise_kernels(all: &mut Vec<Kernel>) {
    let bytes = |streams: usize, n: usize| Work::Bytes(4 * streams * n);
    let (x, w, mut y) = (values(TOKENS * HIDDEN), values(HIDDEN), vec![0.0; TOKENS * HIDDEN]);
    all.push(kernel("rms_norm 2048 x 576", bytes(2, y.len()), move || rms_norm::forward(&x, &w, 1e-5, &mut y)));
    let (x, w, g) = (values(TOKENS * HIDDEN), values(HIDDEN), values(TOKENS * HIDDEN));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; HIDDEN]);
    all.push(kernel("rms_norm 2048 x 576, backward", bytes(4, x.len()), move || {
        rms_norm::backward(&x, &w, &g, 1e-5, &mut dx, Some(&mut dw));
    }));
    let table = RotaryTable::new(&(0..TOKENS as u32).collect::<Vec<_>>(), 64, 1e4);
    let (mut x, w) = (values(TOKENS * HIDDEN), values(64));
    all.push(kernel("norm_rope 2048 x 9 x 64", bytes(2, x.len()), move || {
        rope::forward(&mut x, Some((&w, 1e-5)), &table);
    }));
    let (gate, up, mut y) = (values(TOKENS * INNER), values(TOKENS * INNER), vec![0.0; TOKENS * INNER]);
    all.push(kernel("swiglu 2048 x 1536", bytes(3, y.len()), move || swiglu::forward(&gate, &up, &mut y)));
    let (mut gate, mut up, mut g) = (values(TOKENS * INNER), values(TOKENS * INNER), values(TOKENS * INNER));
    all.push(kernel("swiglu 2048 x 1536, backward", bytes(6, g.len()), move || {
        swiglu::backward(&mut gate, &mut up, &mut g);
    }));
    let n = 1 << 24;
    let (mut p, g, mut m, mut v) = (values(n), values(n), vec![0.0; n], vec![0.0; n]);
    let step = AdamWStep { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
    all.push(kernel("adamw 16 M", bytes(7, n), move || adamw(&mut p, &g, &mut m, &mut v, &step)));
    let g = values(n);
    all.push(kernel("squared_norm 16 M", bytes(1, n), move || {
        black_box(squared_norm(&g));
    }));
}

fn attention_kernels(all: &mut Vec<Kernel>) {
    let width = HEADS.query * HEADS.dim;
    for (forward_name, backward_name, sequences, length) in [
        ("attention 8 x 256", "attention 8 x 256, backward", 8, 256),
        ("attention 1 x 2048", "attention 1 x 2048, backward", 1, 2048),
    ] {
        let segments = Segments::new((0..sequences).map(|_| (length, None))).expect("not empty");
        let kv = HEADS.key_value * HEADS.dim;
        let (q, k, v) = (values(TOKENS * width), values(TOKENS * kv), values(TOKENS * kv));
        let mut out = vec![0.0; q.len()];
        attention::forward(&q, &k, &v, HEADS, &segments, &mut out);
        // Two products forward and five backward, over half of all pairs.
        let pairs = sequences * length * (length + 1) / 2 * width;
        let (g, saved) = (values(q.len()), (q.clone(), k.clone(), v.clone(), out.clone()));
        let of = segments.clone();
        all.push(kernel(forward_name, Work::Flops(4 * pairs), move || {
            attention::forward(&q, &k, &v, HEADS, &of, &mut out);
        }));
        let (mut dq, mut dk, mut dv) = (vec![0.0; TOKENS * width], vec![0.0; TOKENS * kv], vec![0.0; TOKENS * kv]);
        all.push(kernel(backward_name, Work::Flops(10 * pairs), move || {
            let (q, k, v, out) = &saved;
            let gradients = AttentionGradients { q: &mut dq, k: &mut dk, v: &mut dv };
            attention::backward(Saved { q, k, v, out }, &g, HEADS, &segments, gradients);
        }));
    }
}

fn decode_kernels(all: &mut Vec<Kernel>) {
    const CACHED: usize = 512;
    let (width, kv) = (HEADS.query * HEADS.dim, HEADS.key_value * HEADS.dim);
    let filled = |_| {
        let mut cache = KvCache::new(HEADS, CACHED + 1);
        cache.append(&values(CACHED * kv), &values(CACHED * kv)).expect("room");
        cache
    };
    let caches: Vec<KvCache> = (0..32).map(filled).collect();
    let (q, k, v, mut out) = (values(32 * width), values(32 * kv), values(32 * kv), vec![0.0; 32 * width]);
    let mut now = caches.clone();
    all.push(kernel("decode attention 32 x 512", Work::Bytes(32 * CACHED * kv * 8), move || {
        for (now, cache) in now.iter_mut().zip(&caches) {
            now.truncate(cache.len());
        }
        attention::decode(&q, &k, &v, HEADS, &mut now, &mut out).expect("room");
    }));
}

/// Log-probs alone: `cargo bench --bench step -- head` measures them with the loss and both gradients.
fn head_kernels(all: &mut Vec<Kernel>) {
    const ROWS: usize = 512;
    // Not the same numbers twice, or every row would have one token of probability 1.
    let mut weight = values((VOCAB + ROWS) * HIDDEN);
    let hidden = weight.split_off(VOCAB * HIDDEN);
    let packed = PackedMatrix::from_transposed(&weight, VOCAB, HIDDEN);
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 97 % VOCAB as u32).collect();
    let product = 2 * ROWS * HIDDEN * VOCAB;
    let mut scratch = Scratch::default();
    all.push(kernel("logprobs 512 x 576 -> 49152", Work::Flops(product), move || {
        let head = Head { packed: &packed, temperature: 1.0 };
        black_box(head.logprobs(&hidden, &targets, &mut scratch).expect("valid"));
    }));
}

fn table(kernels: &mut [Kernel]) -> std::io::Result<()> {
    let times: Vec<f64> = kernels.iter_mut().map(|kernel| best(WINDOW, &mut kernel.run).as_secs_f64()).collect();
    let mut summary = Summary::of("kernels");
    let copy = copy_bandwidth();
    let product = kernels.iter().zip(&times).filter_map(|(kernel, time)| match kernel.work {
        Work::Flops(flops) if kernel.name.starts_with("linear") => Some(flops as f64 / time),
        _ => None,
    });
    let product = product.fold(1.0, f64::max);
    let threads = rayon::current_num_threads();
    println!("CPU, f32, {threads} threads; best product {:.0} GFLOP/s, copy {:.1} GB/s", product / 1e9, copy / 1e9);
    println!("{:<48} {:>10} {:>9} {:>9} {:>8}", "kernel", "us", "GFLOP/s", "GB/s", "of best");
    for (Kernel { name, work, .. }, time) in kernels.iter().zip(times) {
        let (flops, bytes, share) = match *work {
            Work::Flops(flops) => {
                (format!("{:.1}", flops as f64 / time / 1e9), String::new(), flops as f64 / time / product)
            }
            Work::Bytes(bytes) => {
                (String::new(), format!("{:.1}", bytes as f64 / time / 1e9), bytes as f64 / time / copy)
            }
        };
        println!("{name:<48} {:>10.1} {flops:>9} {bytes:>9} {:>7.0}%", time * 1e6, 100.0 * share);
        let rate = if bytes.is_empty() { format!("{flops} GFLOP/s") } else { format!("{bytes} GB/s") };
        summary.add(name, Duration::from_secs_f64(time), &rate);
    }
    summary.leave()
}

fn run(arguments: &[String]) -> std::io::Result<()> {
    let mut kernels = Vec::new();
    linear_kernels(&mut kernels);
    elementwise_kernels(&mut kernels);
    attention_kernels(&mut kernels);
    decode_kernels(&mut kernels);
    head_kernels(&mut kernels);
    let only: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    kernels.retain(|kernel| only.is_empty() || only.iter().any(|part| kernel.name.contains(part.as_str())));
    // `cargo test --benches` runs this too: once each will do.
    if !arguments.iter().any(|argument| argument == "--bench") {
        for kernel in &mut kernels {
            (kernel.run)();
        }
        return Ok(());
    }
    table(&mut kernels)
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Every kernel starts on a thread of the pool, as it does within a model.
    threads::enter(|| run(&arguments))
}
