//! Accuracy on held-out problems.

mod evaluation;
mod interval;
mod report;
mod scores;

pub use evaluation::{Evaluation, evaluate, evaluate_from, evaluate_in_blocks, evaluate_observed};
pub use interval::Estimate;
pub use report::{EvalReport, PassAt, ProblemScore};
