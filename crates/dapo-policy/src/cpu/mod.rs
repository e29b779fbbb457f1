//! The decoder on the CPU, in f32; its weights in f32 or bf16.
//!
//! One forward serves rollouts, scores and training: their log-probs are equal bit for bit.

mod active;
mod backend;
mod backward;
mod buffers;
mod draft;
mod forward;
mod generator;
mod gradients;
mod kept;
mod layer;
mod model;
mod parameter;
mod projection;
mod score;
mod shard;
mod workspace;

pub(crate) use model::Model;
