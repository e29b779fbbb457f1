//! Problems with checkable answers: read from files, freed of repeats, split, and rendered as prompts.
//!
//! `file → Problem → distinct problems → (train, validation) → Prompt`
//!
//! - [`read_problems`] reads JSON lines, JSON and Parquet files (feature `parquet`), or a folder of them; it knows the
//!   layouts of DAPO-Math-17k, of the AIME sets, of MATH, GSM8K, MAWPS and SVAMP.
//! - [`read_distinct`] does so while dropping repeats, for files that hold each problem many times; [`deduplicate`] drops
//!   them afterwards.
//! - [`split`] sets a share apart for validation, so that a problem's side depends on nothing but the seed and its prompt.
//! - [`encode_prompts`] renders and encodes.

mod distinct;
mod exact;
mod files;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod problem;
mod prompt;
mod source;
mod split;

pub use crate::prompt::Prompt;
pub use distinct::{Duplicates, deduplicate, read_distinct};
pub use files::{read_jsonl, read_problems};
pub use lines::{LONGEST_LINE, read_line};
pub use problem::Problem;
pub use prompt::{PromptStyle, encode_prompts};
pub use split::split;
