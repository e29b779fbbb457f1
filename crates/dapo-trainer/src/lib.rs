//! The DAPO training loop, composed of the crates that each know one part of it.
//!
//! `Prompt → Completion → Reward → Sample → DynamicSampler → advantages → PackedBatch → log-probs → loss → update`: prompts
//! are completed G times each ([`roll_out`]), judged (`dapo_reward`), and groups without a training signal dropped
//! (`dapo_sampler`); the rest get advantages (`dapo_loss`), are packed into micro-batches ([`pack`]) and update
//! the policy (`dapo_policy`) once per mini-batch ([`Trainer::step`]). One [`Sample`] holds all that becomes known of a
//! completion, from the rollout to the log.
//!
//! The feature `schema` gives the JSON schema of the settings.
//!
//! When not to use it: when your loop differs. It is short; take the parts and write your own.
//!
//! ```no_run
//! use dapo_reward::{Accuracy, RewardSum, SoftOverlong};
//! use dapo_data::{PromptStyle, encode_prompts, read_jsonl};
//! use dapo_trainer::{Trainer, TrainerConfig};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (policy, tokenizer) = dapo_policy::load("path/to/model".as_ref())?;
//! let problems = read_jsonl("problems.jsonl".as_ref())?;
//! let (prompts, _too_long) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 512)?;
//! let overlong = SoftOverlong::new(256, 64)?;
//! let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))])?;
//! let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, TrainerConfig::default())?;
//! for _ in 0..100 {
//!     let metrics = trainer.step()?.metrics;
//!     println!("{}: reward {:.3?}, accuracy {:.3?}", metrics.step, metrics.reward, metrics.accuracy);
//! }
//! # Ok(())
//! # }
//! ```

// Modules use those of their own layer or of layers above it in this list, and never in a circle.

// What travels through a step, and how it fails.
mod activity;
mod error;
mod no_signal;
mod record;
mod sample;

// What a step is made of.
mod config;
mod fingerprint;
mod judge;
mod optimizer;
mod optimizer_config;
mod owned;
mod pack;
mod reference;
mod score;
mod team;

// The parts of a step.
mod advantages;
mod conversation;
mod critic;
mod critic_config;
mod kept;
mod metrics;
mod overlap;
mod play;
mod rescore;
mod rollout;
mod sharded;
mod shortage;
mod token_advantages;
mod update;

// The loop and its checkpoints.
mod checkpoint;
mod dealt;
pub mod durable;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod kl_terms;
mod manifest;
mod parcel;
mod rounds;
mod state;
mod trainer;

pub use activity::{Activity, Observer, RolloutProgress, UpdateProgress};
pub use config::{OnMastered, TrainerConfig};
pub use critic_config::{CriticConfig, CriticLayers};
pub use error::TrainerError;
pub use fingerprint::{fingerprint_of_data, fingerprint_of_weights};
pub use manifest::{Digest, Manifest, Prefix, RunState, step_of_name};
pub use metrics::{CriticMetrics, StepMetrics, StepTimings};
pub use no_signal::{NoSignal, Outcomes};
pub use optimizer::AdamW;
pub use optimizer_config::{OptimizerConfig, Schedule};
pub use pack::{PackedBatch, TokenTargets, TrainingGroup, TrainingSequence, pack};
pub use record::{Fate, GroupRecord};
pub use reference::ReferenceSync;
pub use rescore::Difference;
pub use rollout::{ToActivity, add_completions, roll_out, roll_out_observed};
pub use sample::{Episode, Group, Sample, SampleId, SampleOutcome};
pub use trainer::{StepOutcome, Trainer};
pub use update::{Update, accumulate};
