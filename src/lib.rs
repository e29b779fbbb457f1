//! DAPO (Decoupled Clip and Dynamic sAmpling Policy Optimization, arXiv 2503.14476) for language models.
//!
//! This crate gathers the workspace under one name; each part is a crate of its own, usable alone:
//!
//! | module | crate | what it does |
//! |---|---|---|
//! | [`loss`] | `dapo-loss` | clip-higher, aggregation, KL, advantages; on slices and on tensors |
//! | [`reward`] | `dapo-reward` | answers: finding, comparing, scoring them; length and format |
//! | [`sampler`] | `dapo-sampler` | dynamic sampling, and an account of every group |
//! | [`kernels`] | `dapo-kernels` | the model's fused differentiable operations |
//! | [`policy`] | `dapo-policy` | Qwen3, Qwen2.5 and Llama: loading, saving, sampling, scoring, training |
//! | [`data`] | `dapo-data` | problems from files, split, rendered as prompts |
//! | [`trainer`] | `dapo-trainer` | the loop that composes them |
//! | [`eval`] | `dapo-eval` | avg@k, pass@k, maj@k with intervals |
//! | [`run`] | `dapo-run` | settings in layers, recipes, run folders, exact resume |
//! | [`import`] | `dapo-import` | settings of verl, TRL and ms-swift as settings of ours |
//!
//! ```
//! use dapo::loss::{AdvantageNorm, group_advantages};
//! let advantages = group_advantages(&[1.0, -1.0, -1.0, 1.0], &AdvantageNorm::default())?;
//! assert!((advantages.values()[0] - 0.866).abs() < 1e-3);
//! # Ok::<(), dapo::loss::LossError>(())
//! ```

pub use dapo_data as data;
pub use dapo_eval as eval;
pub use dapo_import as import;
pub use dapo_kernels as kernels;
pub use dapo_loss as loss;
pub use dapo_policy as policy;
pub use dapo_reward as reward;
pub use dapo_run as run;
pub use dapo_sampler as sampler;
pub use dapo_trainer as trainer;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
