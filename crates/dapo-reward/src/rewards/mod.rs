//! The stock rewards.

mod accuracy;
mod format;
mod length;
mod overlong;
mod repetition;
mod tag_count;

pub(crate) use accuracy::Method;
pub use accuracy::{Accuracy, Grader};
pub use format::{Format, FormatPattern};
pub use length::{CosineLength, LengthUnit};
pub use overlong::{OverlongFilter, ProportionalOverlong, SoftOverlong};
pub use repetition::Repetition;
pub use tag_count::TagCount;
