//! The loss mathematics of DAPO and its relatives: clipping, aggregation, KL, advantages.

mod advantage;
mod aggregation;
mod batch;
mod config;
mod error;
mod exp;
mod gae;
mod importance;
mod kernel;
mod kl;
mod metrics;
mod plan;
mod policy;
mod stages;
mod sweep;
#[cfg(feature = "candle")]
pub mod tensor;
pub mod token;

pub use advantage::{AdvantageNorm, AdvantageScale, Baseline, StdEstimator, batch_advantages, group_advantages};
pub use aggregation::{Aggregation, Denominator, EmptySequences, StepCounts};
pub use batch::{Advantages, Gradients, LossBatch, TokenChunk, masked_lengths};
pub use config::LossConfig;
pub use error::LossError;
pub use gae::{Gae, gae};
pub use importance::{ImportanceLevel, TruncatedImportance};
pub use kl::{Kl, KlEstimator, kl_in_reward};
pub use metrics::{LossMetrics, LossOutput};
pub use plan::{LossPlan, policy_loss};
pub use policy::{ClipRange, PolicyLoss};
