//! Every kernel for GPUs, run on the CPU thread by thread and compared with its twin in Rust.
//!
//! Each launch is repeated with blocks and threads taking turns in other orders and must give the same bits: a race, or
//! a sum whose order is not fixed, shows as a difference. `scripts/cuda-emulation.sh` runs these tests with sanitizers;
//! `gpu_kernels` runs them on a device.
#![allow(clippy::unwrap_used)]

mod adamw;
mod attention;
mod common;
mod decoding;
mod elementwise;
mod embedding;
mod emulation;
mod gemm;
mod logprobs;
mod rms_norm;
mod rope;
mod sampling;
mod swiglu;

use dapo_kernels::cuda::Gpu;

/// Where the kernels run.
fn gpu() -> Gpu {
    Gpu::emulated()
}

/// Where they run again, with blocks and threads in other orders; nowhere under the sanitizers, whose findings do not
/// hang on the order.
fn again() -> Vec<Gpu> {
    let orders: &[u64] = if common::sanitized() { &[] } else { &[1, 77] };
    orders.iter().copied().map(Gpu::emulated_in_order).collect()
}
