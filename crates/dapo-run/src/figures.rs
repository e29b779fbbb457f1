//! The names under which a run's figures are compared, and given to other tools.

use serde::Serialize;
use serde_json::{Map, Value};

/// Names of evaluations' figures begin so.
pub(crate) const EVAL: &str = "eval/";
/// Names of steps' figures begin so.
pub(crate) const TRAIN: &str = "train/";

/// An object's fields; none where it is not an object.
pub(crate) fn object(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The figures of a line of the steps' logs, as TRL names them in TensorBoard: `train/reward`. `None`: nothing was
/// measured.
pub(crate) fn of_step(line: &Map<String, Value>) -> Vec<(String, Option<f64>)> {
    let figures = line.iter().filter(|(name, value)| *name != "step" && (value.is_number() || value.is_null()));
    figures.map(|(name, value)| (format!("{TRAIN}{name}"), value.as_f64())).collect()
}

/// The figures of an evaluation's line: `eval/avg_at_k`, `eval/pass_at_4`, `eval/rewards/NAME`. Those with a 95 %
/// interval are followed by its ends, `…/low` and `…/high`.
pub(crate) fn of_evaluation(line: &Map<String, Value>) -> Vec<(String, f64)> {
    let mut figures = Vec::new();
    let mut add = |name: &str, value: &Value| {
        let Some(mean) = value["mean"].as_f64().or_else(|| value.as_f64()) else { return };
        figures.push((format!("{EVAL}{name}"), mean));
        for end in ["low", "high"] {
            if let Some(bound) = value[end].as_f64() {
                figures.push((format!("{EVAL}{name}/{end}"), bound));
            }
        }
    };
    for (name, value) in line {
        match (name.as_str(), value) {
            // What is the same for every evaluation of a run says nothing of the policy.
            ("step" | "problems" | "samples" | "abstained" | "per_problem", _) => {}
            ("pass_at", Value::Array(sizes)) => {
                for size in sizes {
                    add(&format!("pass_at_{}", size["k"]), size);
                }
            }
            ("rewards", Value::Object(rewards)) => {
                for (reward, value) in rewards {
                    add(&format!("rewards/{reward}"), value);
                }
            }
            _ => add(name, value),
        }
    }
    figures
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_evaluations_figures_have_names_of_their_own() {
        let line = object(&json!({
            "step": 3, "problems": 8, "samples": 2, "abstained": 0,
            "avg_at_k": {"mean": 0.5, "low": 0.25, "high": 0.75},
            "pass_at": [{"k": 1, "mean": 0.5, "low": 0.2, "high": 0.8}, {"k": 2, "mean": 0.75, "low": 0.5, "high": 1.0}],
            "rewards": {"own": {"mean": 2.0, "low": 1.0, "high": 3.0}},
            "truncated": 0.125, "mean_length": 17.5,
        }));
        let figures = of_evaluation(&line);
        let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
        let expected = "eval/avg_at_k eval/avg_at_k/low eval/avg_at_k/high eval/pass_at_1 eval/pass_at_1/low \
                        eval/pass_at_1/high eval/pass_at_2 eval/pass_at_2/low eval/pass_at_2/high eval/rewards/own \
                        eval/rewards/own/low eval/rewards/own/high eval/truncated eval/mean_length";
        assert_eq!(names.join(" "), expected);
        assert_eq!((figures[0].1, figures[5].1, figures.last().unwrap().1), (0.5, 0.8, 17.5));
    }

    #[test]
    fn a_steps_figures_are_those_of_trl_and_may_be_missing() {
        let line = object(&json!({"step": 3, "reward": null, "completions/mean_length": 7.5, "note": "text"}));
        let expected = [("train/reward".to_owned(), None), ("train/completions/mean_length".to_owned(), Some(7.5))];
        assert_eq!(of_step(&line), expected);
    }
}
