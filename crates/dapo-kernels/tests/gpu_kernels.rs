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

/// Where the kernels run.
fn gpu() -> Gpu {
    Gpu::open(0).expect("a GPU")
}

/// Where they run again.
fn again() -> [Gpu; 2] {
    [gpu(), gpu()]
}

#[test]
fn an_array_of_another_stream_is_refused() {
    let (first, second) = (gpu(), gpu());
    let (ours, theirs, mut y) =
        (first.zeros::<f32>(8).unwrap(), second.zeros::<f32>(8).unwrap(), first.zeros::<f32>(8).unwrap());
    first.copy(ours.view(), y.view_mut()).unwrap();
    let copied = first.copy(theirs.view(), y.view_mut()).unwrap_err().to_string();
    assert!(copied.starts_with("an array of another device or stream"), "{copied}");
    let launched = dapo_kernels::cuda::elementwise::axpy(&first, 1.0, theirs.view(), y.view_mut()).unwrap_err();
    assert_eq!(launched.to_string(), copied);
}
