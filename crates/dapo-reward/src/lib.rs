//! Rewards for reinforcement learning with verifiable answers: extraction, mathematical equivalence, format, length

mod dapo;
mod equiv;
mod error;
mod expr;
mod extract;
mod fuel;
mod number;
mod parse;
mod reward;
mod rewards;
mod verify;

pub use dapo::{DapoGrade, DapoRule, dapo_grade, dapo_normalize};
pub use error::RewardError;
pub use extract::{ExtractRule, Extracted, Profile, UnknownProfile, extract_answer};
pub use reward::{Component, Reward, RewardFn, RewardInput, RewardSum, Score};
pub use rewards::{
    Accuracy, CosineLength, Format, FormatPattern, Grader, LengthUnit, OverlongFilter, ProportionalOverlong,
    Repetition, SoftOverlong, TagCount,
};
pub use verify::{Gold, Rule, Side, Verdict, Verification, VerifyConfig, is_equivalent, verify};
