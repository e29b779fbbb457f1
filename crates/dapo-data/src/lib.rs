//! Problems with checkable answers: read from files, freed of repeats, split, and rendered as prompts.
//!
//! `file → Problem → distinct problems → (train, validation) → Prompt`
//!
//! - [`read_problems`] reads JSON lines, JSON, CSV and Parquet files (feature `parquet`), or a folder of them; it knows the
//!   layouts of DAPO-Math-17k, of the AIME sets, of MATH, GSM8K, MAWPS and SVAMP.
//! - [`read`] does so with [`ReadOptions`]: other column names, problems without answers, bad lines left out and counted.
//! - [`read_distinct`] drops repeats, for files that hold each problem many times; [`deduplicate`] drops them afterwards,
//!   and [`overlap`] counts problems to validate on that are also trained on.
//! - [`split`] sets a share apart for validation, so that a problem's side depends on nothing but the seed and its prompt.
//! - [`encode_prompts`] renders and encodes.

mod choices;
mod csv;
mod distinct;
mod encode;
mod error;
mod exact;
mod files;
mod layout;
mod lines;
mod options;
#[cfg(feature = "parquet")]
mod parquet;
mod problem;
mod prompt;
mod source;
mod split;
pub mod tasks;
mod value;

pub use distinct::{Duplicates, deduplicate, overlap};
pub use encode::{PromptStyle, encode_prompts};
pub use error::DataError;
pub use files::{Reading, read, read_distinct, read_jsonl, read_problems};
pub use lines::{LONGEST_LINE, read_line};
pub use options::{Fields, LeftOut, OnBadLine, ReadOptions};
pub use problem::Problem;
pub use prompt::{Begun, Prompt};
pub use split::split;
