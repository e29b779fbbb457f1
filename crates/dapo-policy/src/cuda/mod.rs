//! The decoder on a GPU: f32 master weights, gradients and moments of what is trained, activations and matmuls in bf16.
//! What is not trained is there in bf16 alone; its f32 values stay on the host.
//!
//! The same code runs on the kernels' emulation (feature `emulate`), which is how it is tested without a GPU, in f32 too.
//! The order of sums differs from that on the CPU, and between a rollout and a training pass: results agree to rounding,
//! not to the bit; each of them is the same on every run.

mod active;
mod array;
mod backend;
mod backward;
mod blocks;
mod cache;
mod compute;
mod forward;
mod generator;
mod gradients;
mod low_rank;
mod model;
mod optimizer;
mod score;
mod slabs;
mod turns;
mod workspace;

pub(crate) use backend::open;
