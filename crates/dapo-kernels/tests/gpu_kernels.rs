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
