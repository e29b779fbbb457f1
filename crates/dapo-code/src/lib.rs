//! A reward that runs a completion's program against its problem's tests, in a sandbox.
//!
//! - [`CodeReward`] says in which language programs are, how they are confined and what they may use.
//! - [`CodeReward::open`] makes a [`CodeScorer`] of it, a [`RewardFn`](dapo_reward::RewardFn): the share of tests passed.
//! - [`last_block`] finds the program, and [`same_output`] compares what it writes.
//! - [`Launcher`] is the program that makes sandboxes. A program is its own when its `main` begins with
//!   [`run_launcher_if_asked`].
//!
//! Sandboxes need Linux: namespaces for users, mounts, processes, networks and IPC, and a file system of read-only system
//! folders. What they stop, and what they do not, is in `docs/code-rewards.md`. A system that lacks a layer is refused, and
//! the error names the layer.
//!
//! The feature `schema` gives the JSON schema of the settings.
//!
//! Not for you when programs must be kept from exploiting the kernel: run a virtual machine for these.
//!
//! # Example
//! ```no_run
//! use dapo_code::{CodeReward, Launcher, run_launcher_if_asked};
//! use dapo_reward::{RewardFn, RewardInput};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     run_launcher_if_asked(); // first of all
//!     let reward = CodeReward::default().open("code", Launcher::current_exe()?)?;
//!     let columns = serde_json::json!({"tests": [{"input": "3", "output": "9"}, {"input": "-1", "output": "1"}]});
//!     let completion = "```python\nprint(int(input()) ** 2)\n```";
//!     let score = reward.score(&RewardInput::new("Square a number.", completion, "").with_columns(&columns))?;
//!     assert_eq!((score.value, score.correct), (Some(1.0), Some(true)));
//!     Ok(())
//! }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compare;
mod config;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
mod fence;
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(target_os = "linux")]
mod launcher;
#[cfg(target_os = "linux")]
mod plan;
#[cfg(target_os = "linux")]
mod problem;
mod problems;
#[cfg(target_os = "linux")]
mod scorer;
#[cfg(target_os = "linux")]
mod session;
#[cfg(target_os = "linux")]
mod toolchain;
#[cfg(target_os = "linux")]
mod wire;

pub use compare::same_output;
pub use config::{CodeReward, Language, Sandbox};
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{CodeScorer, Launcher, run_launcher_if_asked};
pub use error::CodeError;
pub use fence::last_block;
#[cfg(target_os = "linux")]
pub use launcher::run_launcher_if_asked;
pub use problems::RUST_PROBLEMS;
#[cfg(target_os = "linux")]
pub use scorer::CodeScorer;
#[cfg(target_os = "linux")]
pub use session::Launcher;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
