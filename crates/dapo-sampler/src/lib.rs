//! Dynamic sampling for reinforcement learning on verifiable rewards: which groups of completions carry a training
//! signal, how many more to draw, and an account of every one.
//!
//! A group whose completions are all correct or all incorrect has advantages of zero and teaches nothing. DAPO drops such
//! groups and keeps drawing prompts until a batch of informative ones is full. [`DynamicSampler`] does the keeping and
//! counting around a loop that the caller owns:
//!
//! - [`judge`] tells informative groups by the spread of a raw metric, not of the shaped reward;
//! - [`GenBatch::Adaptive`] draws as many prompts as groups are missing, more at a low keep rate, within bounds;
//! - surplus is carried to the next step or discarded, and an exhausted step trains short, fills up or fails
//!   ([`SurplusPolicy`], [`OnExhausted`]);
//! - [`Account`] puts every group into exactly one term;
//! - [`PerPrompt`] adds completions to a prompt until they differ;
//! - [`DataOrder`] gives each draw its prompt and its index.
//!
//! The crate knows neither models nor tensors; a group is whatever the caller trains on. All state is serialisable and
//! gives the same results after it is restored, also in the middle of a step.
//!
//! The feature `schema` gives the JSON schema of the settings.
//!
//! When not to use it: rewards that hardly ever coincide, such as a reward model's, leave nothing to filter, and an
//! asynchronous trainer that consumes groups as they finish needs another notion of a round.
//!
//! ```
//! use dapo_sampler::{DataOrder, Drawn, DynamicSampler, GenBatch, SamplerConfig};
//!
//! // Two completions each; prompt 0 is always solved, prompt 1 never, prompts 2 to 5 half the time.
//! fn rollout(draw: u64, prompt: usize) -> Drawn<String> {
//!     let metric = match prompt {
//!         0 => vec![Some(1.0), Some(1.0)],
//!         1 => vec![Some(0.0), Some(0.0)],
//!         _ => vec![Some(1.0), Some(0.0)],
//!     };
//!     Drawn { draw, group: format!("completions of prompt {prompt}"), metric }
//! }
//!
//! let config = SamplerConfig { train_batch: 3, gen_batch: GenBatch::Fixed(6), ..SamplerConfig::default() };
//! let mut order = DataOrder::new(0, 6)?;
//! let mut sampler = DynamicSampler::new(config, order.prompts())?;
//!
//! while let Some(prompts) = sampler.next_round() {
//!     let round = order.next_draws(prompts).into_iter().map(|(draw, prompt)| rollout(draw, prompt));
//!     sampler.push_round(round.collect())?;
//! }
//! let step = sampler.take_batch()?;
//! assert_eq!((step.groups.len(), step.missing), (3, 0));
//! assert_eq!((step.account.generated, step.account.all_correct, step.account.all_incorrect), (6, 1, 1));
//! assert_eq!((step.account.trained, step.account.carried_out), (3, 1));
//!
//! // One informative group is left for the next step, which lacks two.
//! assert_eq!(sampler.missing(), 2);
//! # Ok::<(), dapo_sampler::SamplerError>(())
//! ```
//!
//! Source: the DAPO paper (arXiv 2503.14476), section 3.2 and Algorithm 1.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod config;
mod data_order;
mod error;
mod group;
mod keep_rate;
mod metric;
mod per_prompt;
mod sampler;
mod shortage;
mod split_mix;
mod verdict;

pub use account::Account;
pub use config::{GenBatch, OnExhausted, SamplerConfig, SurplusPolicy};
pub use data_order::DataOrder;
pub use error::SamplerError;
pub use group::{Drawn, DropReason, DroppedGroup, KeptGroup, TakenBatch};
pub use metric::FilterMetric;
pub use per_prompt::{PerPrompt, needs_more};
pub use sampler::DynamicSampler;
pub use shortage::{Shortage, ValueSummary};
pub use split_mix::{SplitMix, mix};
pub use verdict::{GroupVerdict, judge};

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeExamples;
