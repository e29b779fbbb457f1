//! Accuracy of a policy on held-out problems.
//!
//! [`evaluate`] completes every problem k times and judges the completions. Its [`Evaluation`] becomes an
//! [`EvalReport`]: avg@k, pass@k and maj@k where a reward says what is correct, the mean of every reward, each with a
//! confidence interval.
//!
//! When not to use it: for scores of completions that are already there, `dapo-reward` is enough.

mod evaluation;
mod interval;
mod report;
mod scores;

pub use evaluation::{Evaluation, evaluate, evaluate_from, evaluate_in_blocks, evaluate_together};
pub use interval::Estimate;
pub use report::{EvalReport, PassAt, ProblemScore};
