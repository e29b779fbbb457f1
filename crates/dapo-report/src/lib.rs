//! Runs of the DAPO trainer as one HTML page that needs no network.
//!
//! [`report`] reads run folders and gives a [`Report`]: the page's text, what is wrong with the runs, and how many
//! completions the page holds. [`ReportOptions`] bounds the completions. The files of a run are read as they are: damage
//! becomes a warning on the page, not an error.
//!
//! [`Watch`] serves a page that follows runs. [`RunCompletions`] gives the completions of a run step by step, for other
//! ways to show them.
//!
//! Completions are text of a model and may hold anything. They are compressed in the page, and a browser shows them as
//! text alone.
//!
//! Not for you when you want the numbers: `metrics.jsonl` of a run has them.
//!
//! # Example
//! ```
//! use dapo_report::{ReportOptions, report};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let run = folder.path().to_path_buf();
//! std::fs::write(run.join("metrics.jsonl"), "{\"step\": 1, \"reward\": 0.5}\n{\"step\": 2, \"rew")?;
//! let page = report(&[run], &ReportOptions::default())?;
//! assert!(page.html.starts_with("<!doctype html>"));
//! assert!(page.warnings.iter().any(|warning| warning.contains("metrics.jsonl: the last line is torn")));
//! # Ok(())
//! # }
//! ```

mod blocks;
mod completions;
mod http;
mod log;
mod page;
mod report_error;
mod run;
mod settings;
mod steps;
mod watch;

pub use completions::{RunCompletions, StepCompletions};
pub use log::Row;
pub use page::{Report, ReportOptions, is_report, report};
pub use report_error::ReportError;
pub use watch::Watch;
