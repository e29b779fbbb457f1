//! Rewards that another process or a server computes.
//!
//! - [`CommandReward`]: a program that reads requests from its stdin and writes replies to its stdout, a line of JSON each.
//! - [`UrlReward`]: a server that gets the same JSON by `POST`, or that of OpenRLHF's remote reward models.
//! - [`JudgeReward`]: a language model behind an OpenAI-compatible server, asked for a rating or a ranking.
//! - [`PythonReward`]: a Python function with the signature of TRL or verl, run by the user's own Python.
//!
//! [`open()`] makes an [`ExternalReward`] of each, which is a [`RewardFn`](dapo_reward::RewardFn). It asks for every answer
//! once: what is known is kept in a file and replayed when a run resumes. A request that fails stops the run or makes its
//! samples abstain, as [`OnError`] says; it is never a silent 0. [`Counters`] count requests, faults and latency.
//! A [`Transport`] of one's own gets the same treatment.
//!
//! [`ExternalEnvironment`] is an [`Environment`](dapo_reward::Environment) over the same three ways; `docs/environments.md`.
//!
//! [`BuiltinReward`] is a reward that needs neither: settings alone describe it.
//!
//! The form of requests and replies is described in `docs/rewards.md`.
//!
//! Not for you when the reward is a function in Rust: closures are rewards in `dapo-reward`.
//!
//! Features: `json-schema` lets the kind `json` check a JSON Schema; `schema` gives the JSON schema of the settings; `tls` reaches servers behind `https://`.
//!
//! # Example
//! ```
//! use dapo_external::{CommandReward, open};
//! use dapo_reward::{RewardFn, RewardInput};
//!
//! # #[cfg(unix)]
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! // A half for everything.
//! let script = r#"while read -r line; do echo '{"id": 1, "rewards": [0.5, 0.5]}'; done"#;
//! let command = ["sh", "-c", script].map(str::to_owned).to_vec();
//! let config = CommandReward { command, ..CommandReward::default() };
//! let reward = open("half", &config.into(), ".".as_ref(), None)?;
//! let input = |sample| RewardInput::new("1+1?", "2", "2").with_place(0, sample, 1);
//! let scores = reward.score_batch(&[input(0), input(1)])?;
//! assert_eq!(scores[1].value, Some(0.5));
//! assert_eq!(reward.take_counters().requests, 1);
//! # Ok(())
//! # }
//! # #[cfg(not(unix))]
//! # fn main() {}
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod address;
mod append;
mod builtin;
mod cache;
mod client;
mod command;
mod config;
mod counters;
mod environment;
mod error;
mod external;
mod fault;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod http;
mod judge;
mod open;
mod openrlhf;
mod python;
mod reply;
mod signature;
mod transport;
mod wire;
mod worker;

pub use builtin::{
    BuiltinConfig, BuiltinReward, ChoiceReward, Compare, ContainsReward, ExactReward, JsonReward, LengthReward, Need,
    NumberReward, RegexReward,
};
pub use config::{CommandReward, Dialect, OnError, PythonReward, UrlReward};
pub use counters::{Counters, Tally};
pub use environment::{EnvConfig, ExternalEnvironment};
pub use error::ExternalError;
pub use external::{ExternalReward, Rules};
pub use fault::Fault;
pub use judge::{JudgeMode, JudgeReward};
pub use open::{ExternalConfig, open};
pub use transport::{Batch, Transport};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
