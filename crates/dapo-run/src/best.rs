//! Which evaluated policy is the best, by the figure of `output.keep_best`.

use crate::figures::{object, of_evaluation};
use crate::run_error::RunError;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const KEY: &str = "output.keep_best";

/// The figure of every evaluation after the first step.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    metric: Option<String>,
    /// By the steps made.
    of: BTreeMap<u64, f64>,
}

/// Checks the name of a figure, and that there are evaluations.
///
/// # Errors
/// When an evaluation cannot have such a figure, or the run makes no evaluations.
pub(crate) fn check_metric(metric: &str, every: Option<u64>) -> Result<(), RunError> {
    let size =
        metric.strip_prefix("eval/pass_at_").map(|k| k.parse::<u64>().is_ok_and(|number| number.to_string() == k));
    let reward = metric.strip_prefix("eval/rewards/").map(|name| !name.is_empty());
    let is_known = ["eval/avg_at_k", "eval/maj_at_k", "eval/reward"].contains(&metric);
    if !(is_known || size == Some(true) || reward == Some(true)) {
        let expected = "eval/avg_at_k, eval/maj_at_k, eval/pass_at_K, eval/reward or eval/rewards/NAME";
        return Err(RunError::setting(KEY, format!("{metric:?}"), expected));
    }
    if every.is_none() {
        return Err(RunError::setting(KEY, format!("{metric:?}"), "unset, or evaluations: set eval.every"));
    }
    Ok(())
}

impl Scores {
    /// None yet, by a figure where one is given.
    pub(crate) fn by(metric: Option<&str>) -> Self {
        Self { metric: metric.map(str::to_owned), of: BTreeMap::new() }
    }

    /// Takes an evaluation's line in.
    ///
    /// # Errors
    /// When it lacks the figure.
    pub(crate) fn add(&mut self, steps: u64, line: &impl Serialize) -> Result<(), RunError> {
        let Some(metric) = &self.metric else { return Ok(()) };
        let figures = of_evaluation(&object(line));
        let Some((_, value)) = figures.iter().find(|(name, _)| name == metric) else {
            let is_bound = |name: &str| name.ends_with("/low") || name.ends_with("/high");
            let is_good = |name: &str| !is_bound(name) && !["eval/truncated", "eval/mean_length"].contains(&name);
            let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).filter(|name| is_good(name)).collect();
            let expected = format!("a figure of this run's evaluations: {}", names.join(", "));
            return Err(RunError::setting(KEY, format!("{metric:?}"), expected));
        };
        // The model before training has no checkpoint.
        if steps > 0 {
            self.of.insert(steps, *value);
        }
        Ok(())
    }

    /// Takes a line of the evaluations' log in.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(crate) fn add_line(&mut self, line: &Map<String, Value>) -> Result<(), RunError> {
        self.add(line.get("step").and_then(Value::as_u64).unwrap_or(0), line)
    }

    /// Whether the policy after these steps is better than every one evaluated before.
    pub(crate) fn is_new_best(&self, steps: u64) -> bool {
        self.of.get(&steps).is_some_and(|value| self.of.range(..steps).all(|(_, before)| before < value))
    }

    /// The best of these policies; of equal ones the first.
    pub(crate) fn best_of(&self, steps: impl Iterator<Item = u64>) -> Option<u64> {
        let scored = steps.filter_map(|steps| Some((steps, *self.of.get(&steps)?)));
        scored.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(steps, _)| steps)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scores(values: &[(u64, f64)]) -> Scores {
        let mut scores = Scores::by(Some("eval/avg_at_k"));
        for (steps, mean) in values {
            scores.add(*steps, &json!({"avg_at_k": {"mean": mean, "low": 0.0, "high": 1.0}})).unwrap();
        }
        scores
    }

    #[test]
    fn of_equal_policies_the_first_is_the_best() {
        let scores = scores(&[(0, 0.9), (2, 0.5), (4, 0.5), (6, 0.75), (8, 0.75), (10, 0.25)]);
        let new: Vec<u64> = (0..12).filter(|steps| scores.is_new_best(*steps)).collect();
        assert_eq!(new, [2, 6], "the model before training does not count");
        assert_eq!(scores.best_of([2, 4, 6, 8, 10].into_iter()), Some(6));
        assert_eq!(scores.best_of([4, 5, 10].into_iter()), Some(4));
        assert_eq!(scores.best_of([1, 5].into_iter()), None);
        assert_eq!(Scores::by(None).best_of([2].into_iter()), None);
    }

    #[test]
    fn a_figure_that_is_not_there_is_refused() {
        let missing = Scores::by(Some("eval/pass_at_3"))
            .add(0, &json!({"avg_at_k": {"mean": 0.5, "low": 0.0, "high": 1.0}, "truncated": 0.5}))
            .unwrap_err();
        let expected =
            "output.keep_best is \"eval/pass_at_3\", expected a figure of this run's evaluations: eval/avg_at_k";
        assert_eq!(missing.to_string(), expected);
        for wrong in ["accuracy", "eval/pass_at_", "eval/pass_at_03", "eval/rewards/", "eval/truncated"] {
            assert!(check_metric(wrong, Some(1)).is_err(), "{wrong}");
        }
        for right in ["eval/avg_at_k", "eval/pass_at_16", "eval/rewards/mine"] {
            check_metric(right, Some(1)).unwrap();
            assert!(check_metric(right, None).unwrap_err().to_string().contains("set eval.every"));
        }
    }
}
