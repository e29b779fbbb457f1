//! Problems without a gold answer, where rewards that are computed elsewhere may miss it.

use crate::settings::{OwnKind, RunConfig};
use dapo_data::Prompt;
use std::fmt;

/// Problems without a gold answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// How many there are.
    pub count: usize,
    /// All problems.
    pub problems: usize,
    /// The columns of the first one without an answer.
    pub columns: Vec<String>,
    /// Names of the Python rewards that take the answer as `ground_truth`.
    pub takers: Vec<String>,
}

/// The parameter that has the gold answer in verl's signature, and often in others.
const GROUND_TRUTH: &str = "ground_truth";

impl Unanswered {
    /// The problems without a gold answer; `None` where all have one, or no reward is computed elsewhere.
    pub fn among<'a>(prompts: impl IntoIterator<Item = &'a Prompt>, config: &RunConfig) -> Option<Self> {
        if !config.rewards.own.have_external() {
            return None;
        }
        let (mut found, mut first) = (Self::default(), None);
        for prompt in prompts {
            found.problems += 1;
            // Python rewards find the answer of verl's layout themselves.
            if prompt.answers().next().is_none() && prompt.columns["reward_model"][GROUND_TRUTH].is_null() {
                found.count += 1;
                first.get_or_insert(prompt);
            }
        }
        let first = first?.columns.as_object();
        found.columns = first.into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for (name, own) in &config.rewards.own.0 {
            let OwnKind::Python(python) = &own.kind else { continue };
            let parameters = python.parameters(own.dir.as_deref().unwrap_or(".").as_ref());
            let takes = |name: &str| parameters.iter().any(|parameter| parameter == name);
            // TRL's functions get a column of this name.
            let has_column = !takes("solution_str") && found.columns.iter().any(|column| column == GROUND_TRUTH);
            if takes(GROUND_TRUTH) && !has_column {
                found.takers.push(name.clone());
            }
        }
        Some(found)
    }
}

/// How many have no answer, what their entries have, and who misses it.
impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, problems, columns, takers } = self;
        write!(f, "{count} of {problems} problems have no answer")?;
        if !takers.is_empty() {
            let names: Vec<String> = takers.iter().map(|name| format!("rewards.{name}")).collect();
            write!(f, ", which {} takes as {GROUND_TRUTH}", names.join(" and "))?;
        }
        if !columns.is_empty() {
            write!(f, "; their entries have {}", columns.join(", "))?;
        }
        Ok(())
    }
}
