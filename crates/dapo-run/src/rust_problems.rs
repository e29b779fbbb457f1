//! Problems whose answers are programs in Rust.

use dapo_code::RUST_PROBLEMS;
use dapo_data::Problem;
use dapo_policy::Message;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Problems for programs in Rust, made by the crate, with tests for `rewards.code`.
pub const RUST: &str = "builtin:rust";

/// The problems, in order; without the programs that solve them.
pub(crate) fn rust_problems() -> Vec<Problem> {
    RUST_PROBLEMS.lines().filter_map(problem).collect()
}

fn problem(line: &str) -> Option<Problem> {
    let mut row: Map<String, Value> = serde_json::from_str(line).ok()?;
    for solution in ["reference", "flawed"] {
        row.shift_remove(solution);
    }
    let (id, prompt) = (row["id"].as_str()?, row["prompt"].as_str()?);
    let problem = Problem::new(id, vec![Message::user(prompt)], "");
    Some(Problem { columns: Arc::new(row.into()), ..problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_problem_with_tests_and_without_solutions() {
        let problems = rust_problems();
        assert_eq!(problems.len(), RUST_PROBLEMS.lines().count());
        for Problem { id, columns, .. } in problems {
            assert!(!columns["tests"].is_null(), "{id}");
            assert!(columns.get("reference").is_none() && columns.get("flawed").is_none(), "{id}");
        }
    }
}
