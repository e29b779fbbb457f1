//! Rewards for reinforcement learning with verifiable answers.
//!
//! - [`extract_answer`] finds the answer in a completion, by a [`Profile`] of rules.
//! - [`is_equivalent`] and [`verify()`] decide whether two answers mean the same: numbers, expressions, sets,
//!   intervals, equations, matrices, words, choice letters. [`Gold`] parses the gold answer once for many completions.
//! - [`dapo_grade`] is DAPO's published string rule, character for character.
//! - [`group_answers`] says which completions give the same answer, for majority votes.
//! - [`Grader`] chooses between mathematics, [texts and JSON](TextOptions), choices and the published rule.
//! - [`RewardFn`] is a reward, of what [`RewardInput`] knows of a sample; closures become one by [`SampleReward`] and
//!   [`GroupReward`]; [`Accuracy`], [`Format`], [`TagCount`], [`SoftOverlong`], [`ProportionalOverlong`],
//!   [`CosineLength`] and [`Repetition`] are the stock ones; [`RewardSum`] adds them up, keeping every component and
//!   whether the answer is correct. [`OverlongFilter`] says what becomes of truncated completions.
//!
//! Everything is pure, deterministic and thread-safe, and ends in bounded time: answers are limited in size and depth,
//! and comparing them in work. Nothing here panics on any input.
//!
//! The feature `schema` gives the JSON schema of the settings.
//!
//! Not for you when an answer must be judged by what it says rather than by what it equals: proofs, essays, code, or
//! whether a fraction is in lowest terms.
//!
//! # Example
//! ```
//! use dapo_reward::{Verdict, VerifyConfig, verify};
//!
//! let completion = "Both roots are real, so the answer is $x = 1 \\pm \\sqrt{2}$.";
//! let found = verify("1+\\sqrt2, 1-\\sqrt2", completion, &VerifyConfig::default());
//! assert_eq!(found.verdict, Verdict::Correct);
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod algebra;
mod answers;
mod braces;
mod custom;
mod dapo;
mod env_reward;
mod environment;
mod equiv;
mod error;
mod expr;
mod extract;
mod fuel;
mod input;
mod letters;
mod normalise;
mod number;
mod parse;
mod reward;
mod rewards;
mod round;
mod rule;
mod sum;
mod trim;
mod verify;
mod wording;

pub use answers::group_answers;
pub use custom::{GroupReward, IntoScore, SampleReward};
pub use dapo::{DapoGrade, DapoRule, dapo_grade, dapo_normalize};
pub use env_reward::EnvReward;
pub use environment::{
    EnvFault, EnvLimits, EnvProblem, EnvStart, EnvStep, EnvTurn, Environment, Episodes, Said, TurnTemplate,
};
pub use error::RewardError;
pub use extract::{AnswerRule, ExtractRule, Extracted, FoundAnswer, Profile, UnknownProfile, extract_answer};
pub use input::{Ending, EpisodeScore, RewardInput};
pub use reward::{Component, Reward, RewardFault, RewardFn, Score};
pub use rewards::{
    Accuracy, CosineLength, Format, FormatPattern, Grader, LengthUnit, OverlongFilter, ProportionalOverlong,
    Repetition, SoftOverlong, TagCount,
};
pub use round::Round;
pub use rule::Rule;
pub use sum::{OnAbstain, RewardSum, RewardTerm};
pub use verify::{Gold, Side, Verdict, Verification, VerifyConfig, is_equivalent, verify};
pub use wording::TextOptions;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
