//! The DAPO training loop, composed of the crates that each know one part of it.
//!
//! `Prompt → Completion → Reward → Group → DynamicSampler → advantages → PackedBatch → log-probs → loss → update`: prompts are
//! completed G times each ([`roll_out`]), judged (`dapo_reward`), and groups without a training signal dropped
//! (`dapo_sampler`); the rest get advantages (`dapo_loss`), are packed into micro-batches ([`pack`]) and update
//! the policy (`dapo_policy`) once per mini-batch ([`Trainer::step`]).
//!
//! When not to use it: when your loop differs. It is short; take the parts and write your own.
//!
//! ```no_run
//! use dapo_reward::{Accuracy, RewardSum, SoftOverlong};
//! use dapo_trainer::{PromptStyle, Trainer, TrainerConfig, encode_prompts, read_jsonl};
//! # fn main() -> Result<(), dapo_trainer::TrainerError> {
//! let (policy, tokenizer) = dapo_policy::load("path/to/model".as_ref())?;
//! let problems = read_jsonl("problems.jsonl".as_ref())?;
//! let (prompts, _too_long) = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 512)?;
//! let overlong = SoftOverlong::new(256, 64)?;
//! let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(overlong))]);
//! let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, TrainerConfig::default())?;
//! for _ in 0..100 {
//!     let metrics = trainer.step()?.metrics;
//!     println!("{}: reward {:.3?}, accuracy {:.3?}", metrics.step, metrics.reward, metrics.accuracy);
//! }
//! # Ok(())
//! # }
//! ```

mod advantages;
mod checkpoint;
mod config;
pub mod data;
mod error;
mod evaluate;
mod metrics;
mod optimizer;
mod pack;
mod record;
mod reference;
mod rollout;
pub mod tasks;
mod trainer;
mod update;

pub use config::{OnMastered, TrainerConfig};
pub use data::{Problem, Prompt, PromptStyle, encode_prompts, read_jsonl, read_problems};
pub use error::{NoSignal, Outcomes, TrainerError};
pub use evaluate::{Estimate, EvalReport, Evaluation, PassAt, ProblemScore, evaluate, evaluate_in_blocks};
pub use metrics::{StepMetrics, StepTimings};
pub use optimizer::{AdamW, OptimizerConfig, Schedule};
pub use pack::{PackedBatch, TrainingGroup, TrainingSequence, pack};
pub use record::{Fate, GroupRecord};
pub use reference::ReferenceSync;
pub use rollout::{Group, add_completions, roll_out};
pub use trainer::{StepOutcome, Trainer};
pub use update::{Difference, Update, accumulate};
