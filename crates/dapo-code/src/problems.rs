//! Problems of this project.

/// Problems in Rust, a JSON object a line: `id`, `prompt`, `tests`, a `reference` program that passes all tests, and a
/// `flawed` one that passes some.
///
/// # Example
/// ```
/// let first = dapo_code::RUST_PROBLEMS.lines().next().unwrap_or_default();
/// let problem: serde_json::Value = serde_json::from_str(first)?;
/// assert_eq!(problem["id"], "rs-median");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub const RUST_PROBLEMS: &str = include_str!("../testdata/rust.jsonl");
