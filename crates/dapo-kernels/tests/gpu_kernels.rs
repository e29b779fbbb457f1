//! Every kernel on the first GPU of this machine, compared with its twin in Rust: the tests of `emulated_kernels`, there.
//!
//! Each launch is repeated and must give the same bits. Without a GPU all of them fail; `scripts/gpu-check.sh` runs them.
#![allow(clippy::unwrap_used)]

#[path = "emulated_kernels/adamw.rs"]
mod adamw;
#[path = "emulated_kernels/attention.rs"]
mod attention;
#[path = "emulated_kernels/common.rs"]
mod common;
#[path = "emulated_kernels/decoding.rs"]
mod decoding;
#[path = "emulated_kernels/elementwise.rs"]
mod elementwise;
#[path = "emulated_kernels/embedding.rs"]
mod embedding;
#[path = "emulated_kernels/gemm.rs"]
mod gemm;
#[path = "emulated_kernels/logprobs.rs"]
mod logprobs;
#[path = "emulated_kernels/rms_norm.rs"]
mod rms_norm;
#[path = "emulated_kernels/rope.rs"]
mod rope;
#[path = "emulated_kernels/sampling.rs"]
mod sampling;
#[path = "emulated_kernels/swiglu.rs"]
mod swiglu;

use dapo_kernels::cuda::Gpu;
use std::sync::{Arc, LazyLock};

/// Streams of the device, for all tests: each takes a while to open.
static GPUS: LazyLock<[Arc<Gpu>; 3]> = LazyLock::new(|| [0; 3].map(|device| Gpu::open(device).expect("a GPU").into()));

/// Where the kernels run.
fn gpu() -> Arc<Gpu> {
    Arc::clone(&GPUS[0])
}

/// Where they run again.
fn again() -> [Arc<Gpu>; 2] {
    [1, 2].map(|i| Arc::clone(&GPUS[i]))
}

#[test]
fn an_array_of_another_stream_is_refused() {
    let [first, second] = again();
    let (ours, theirs, mut y) =
        (first.zeros::<f32>(8).unwrap(), second.zeros::<f32>(8).unwrap(), first.zeros::<f32>(8).unwrap());
    first.copy(ours.view(), y.view_mut()).unwrap();
    let copied = first.copy(theirs.view(), y.view_mut()).unwrap_err();
    let launched = dapo_kernels::cuda::elementwise::axpy(&first, 1.0, theirs.view(), y.view_mut()).unwrap_err();
    for error in [copied, launched] {
        assert!(error.to_string().starts_with("an array of another device or stream"), "{error}");
    }
}
