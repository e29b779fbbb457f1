//! The figures of an evaluation.

use crate::evaluation::Evaluation;
use crate::interval::Estimate;
use crate::scores;
use dapo_reward::{Grader, group_answers};
use dapo_trainer::{Group, Sample};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What an evaluation comes to. Displayed, it is a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalReport {
    /// Number of problems.
    pub problems: usize,
    /// k, completions of each problem; where problems have different numbers, the least.
    pub samples: usize,
    /// Problems whose completions the judge would not judge, as the gold answer cannot be read; they count as wrong.
    pub abstained: usize,
    /// Mean over problems of the share of right completions. `None`, as are the other measures of correctness, and left out
    /// of a log: no reward says what is correct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avg_at_k: Option<Estimate>,
    /// For k = 1, 2, 4, … and the number of completions: the probability that one of k completions is right, by the exact
    /// estimator 1 − C(n − c, k) / C(n, k) for c right ones out of n.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pass_at: Vec<PassAt>,
    /// How often the answer that most of the k completions give is right; answers given equally often split the score. Where
    /// several gold answers are accepted, each is an answer of its own: completions that give different ones do not vote
    /// together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maj_at_k: Option<Estimate>,
    /// Mean over problems of the mean total of their completions. `None`, and left out of a log, where accuracy alone was
    /// measured, or every completion's total is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward: Option<Estimate>,
    /// The same of every component before weighting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rewards: BTreeMap<String, Estimate>,
    /// Share of completions that used up their tokens.
    pub truncated: f64,
    /// Mean length of the completions in tokens.
    pub mean_length: f64,
    /// Every problem by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_problem: Vec<ProblemScore>,
}

/// pass@k for one k.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PassAt {
    /// Number of completions.
    pub k: usize,
    /// The probability that one of them is right.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// What one problem comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProblemScore {
    /// Identifies the problem.
    pub id: String,
    /// Number of right completions.
    pub right: usize,
    /// Number of completions.
    pub samples: usize,
    /// Whether the majority's answer is right: 0 or 1, and between them after a tie.
    pub maj: f64,
}

impl Evaluation {
    /// The figures of the evaluation. `grader` says which completions give the same answer; it should be the one that judged
    /// them.
    ///
    /// Answers vote by what they mean: 1/2 and 0.5 are one answer. A completion without an answer votes for nothing. How
    /// answers are compared, and what bounds the work, is described at [`group_answers`].
    pub fn report(&self, grader: &Grader) -> EvalReport {
        let per_problem: Vec<ProblemScore> = self
            .groups
            .par_iter()
            .map(|group| {
                let texts: Vec<&str> = group.samples.iter().map(|sample| sample.text.as_str()).collect();
                let correct: Vec<bool> = group.samples.iter().map(|s| s.reward.correct == Some(true)).collect();
                let maj = scores::majority(&group_answers(&texts, grader), &correct);
                ProblemScore { id: group.prompt.id.clone(), right: group.correct(), samples: texts.len(), maj }
            })
            .collect();
        let samples = per_problem.iter().map(|p| p.samples).min().unwrap_or(0);
        let estimate = |score: &dyn Fn(&ProblemScore) -> f64| {
            let scores: Vec<f64> = per_problem.iter().map(score).collect();
            Estimate::of(&scores, samples)
        };
        let pass_at = |k| PassAt { k, estimate: estimate(&|p| scores::pass_at(p.samples, p.right, k)) };
        let (reward, rewards) = self.rewards();
        let is_judged = rewards.is_empty() || self.samples().any(|sample| sample.reward.correct.is_some());
        EvalReport {
            problems: self.groups.len(),
            samples,
            abstained: self.groups.iter().filter(|g| g.samples.iter().any(|s| s.reward.correct.is_none())).count(),
            avg_at_k: is_judged.then(|| estimate(&|p| p.right as f64 / p.samples.max(1) as f64)),
            pass_at: sizes(samples).filter(|_| is_judged).map(pass_at).collect(),
            maj_at_k: is_judged.then(|| estimate(&|p| p.maj)),
            reward,
            rewards,
            truncated: self.truncated(),
            mean_length: self.mean_length(),
            per_problem,
        }
    }
}

impl Evaluation {
    /// The means of the total and of every component, unless accuracy alone was measured.
    fn rewards(&self) -> (Option<Estimate>, BTreeMap<String, Estimate>) {
        let mut names: Vec<&str> = Vec::new();
        for component in self.samples().flat_map(|sample| &sample.reward.components) {
            if !names.contains(&component.name.as_str()) {
                names.push(&component.name);
            }
        }
        if names.iter().all(|name| *name == "accuracy") {
            return (None, BTreeMap::new());
        }
        let estimate = |value: &dyn Fn(&Sample) -> Option<f64>| {
            let mean = |group: &Group| {
                let values: Vec<f64> = group.samples.iter().filter_map(value).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            Estimate::of_any(&self.groups.iter().filter_map(mean).collect::<Vec<_>>())
        };
        let of_component = |name: &str| {
            let value = |sample: &Sample| sample.reward.components.iter().find(|c| c.name == name)?.value;
            Some((name.to_owned(), estimate(&value)?))
        };
        (estimate(&|sample| sample.reward.total), names.into_iter().filter_map(of_component).collect())
    }
}

/// 1, 2, 4, … below n, and n.
fn sizes(n: usize) -> impl Iterator<Item = usize> {
    let doubled = std::iter::successors(Some(1usize), |k| k.checked_mul(2));
    doubled.take_while(move |k| *k < n).chain((n > 0).then_some(n))
}

impl EvalReport {
    /// The main figures on one line.
    pub fn summary(&self) -> String {
        let k = self.samples;
        let interval = |name: &str, of: Option<Estimate>| {
            of.map(|Estimate { mean, low, high }| format!("{name} {mean:.3} ({low:.3} to {high:.3})"))
        };
        let mean = |name: &str, of: Option<Estimate>| of.map(|estimate| format!("{name}@{k} {:.3}", estimate.mean));
        // Of one completion each, these are the same number.
        let is_apart = k > 1;
        let figures = [
            interval(&format!("avg@{k}"), self.avg_at_k),
            mean("pass", self.pass_at.last().map(|pass| pass.estimate).filter(|_| is_apart)),
            mean("maj", self.maj_at_k.filter(|_| is_apart)),
            interval("reward", self.reward),
            Some(format!("truncated {:.3}; {} problems", self.truncated, self.problems)),
        ];
        figures.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for EvalReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.samples;
        let mut row = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<12} {value}");
        row("problems", &format_args!("{}, {k} completions each", self.problems))?;
        if self.avg_at_k.is_some() && self.abstained > 0 {
            row("unreadable", &format_args!("{} gold answers", self.abstained))?;
        }
        row("", &"mean    95 % interval")?;
        if let Some(avg) = &self.avg_at_k {
            row(&format!("avg@{k}"), avg)?;
        }
        // Of one completion each, all are the same number.
        for pass in self.pass_at.iter().filter(|_| k > 1) {
            row(&format!("pass@{}", pass.k), &pass.estimate)?;
        }
        if let Some(maj) = self.maj_at_k.as_ref().filter(|_| k > 1) {
            row(&format!("maj@{k}"), maj)?;
        }
        if let Some(reward) = &self.reward {
            row("reward", reward)?;
        }
        for (name, estimate) in &self.rewards {
            row(&format!("  {name}"), estimate)?;
        }
        row("truncated", &format_args!("{:.4}", self.truncated))?;
        write!(f, "{:<12} {:.1} tokens", "mean length", self.mean_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dapo_data::Prompt;
    use dapo_policy::{Completion, FinishReason};
    use dapo_reward::{Accuracy, Ending, RewardInput, RewardSum, RewardTerm, SampleReward, Score};

    /// A problem with completions that are written already; those that end in `…` are truncated.
    fn group(id: &str, answer: &str, texts: &[&str]) -> Group {
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))]).unwrap();
        let is_truncated = |text: &str| text.ends_with('…');
        let completion = |text: &&str| Completion {
            token_ids: vec![0; text.len()],
            logprobs: vec![0.0; text.len()],
            finish_reason: if is_truncated(text) { FinishReason::Length } else { FinishReason::Stop },
            context: Vec::new(),
        };
        let judge = |text: &&str| {
            let truncated = is_truncated(text);
            let ending = if truncated { Ending::Length } else { Ending::Stop };
            rewards.score(&RewardInput::new("", text, answer).with_num_tokens(text.len()).with_ending(ending)).unwrap()
        };
        let prompt = Prompt { id: id.into(), token_ids: vec![0], answer: answer.into(), ..Prompt::default() };
        let sample = |text: &&str| Sample::new(completion(text), (*text).to_owned(), judge(text));
        Group { draw: 0, prompt, samples: texts.iter().map(sample).collect() }
    }

    fn evaluation() -> Evaluation {
        let groups = vec![
            group("half", "1/2", &["Answer: 0.5", "Answer: 3", r"\boxed{\frac12}", "Answer: 3", "Answer: 1/2", "no…"]),
            group("tie", "7", &["Answer: 7", "Answer: 8", "Answer: 8", "Answer: 7.0", "", ""]),
            group("none", "7", &["", " ", "", "", "", ""]),
            group("all", "x^2-1", &[r"\boxed{(x-1)(x+1)}"; 6]),
            group("unreadable", r"\frac{1}{", &["Answer: 1"; 6]),
        ];
        Evaluation { groups }
    }

    #[test]
    fn different_spellings_vote_together() {
        let report = evaluation().report(&Grader::default());
        let scores: Vec<_> = report.per_problem.iter().map(|p| (p.id.as_str(), p.right, p.samples, p.maj)).collect();
        let expected = [
            ("half", 3, 6, 1.0),
            ("tie", 2, 6, 0.5),
            ("none", 0, 6, 0.0),
            ("all", 6, 6, 1.0),
            ("unreadable", 0, 6, 0.0),
        ];
        assert_eq!(scores, expected);
        assert_eq!((report.problems, report.samples, report.abstained), (5, 6, 1));
    }

    #[test]
    fn the_votes_are_those_of_the_grader() {
        let answers = ["Answer: 0.5", "Answer: 1/2", "Answer: 3", "Answer: 3", r"\boxed{\frac12}"];
        let evaluation = Evaluation { groups: vec![group("half", "1/2", &answers)] };
        let maj = |grader| evaluation.report(&grader).maj_at_k.unwrap().mean;
        assert_eq!((maj(Grader::default()), maj(Grader::Dapo)), (1.0, 0.0));
    }

    #[test]
    fn means_are_over_problems() {
        let evaluation = evaluation();
        let report = evaluation.report(&Grader::default());
        let is = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        is(report.avg_at_k.unwrap().mean, (3.0 + 2.0 + 6.0) / 30.0);
        is(report.maj_at_k.unwrap().mean, 2.5 / 5.0);
        assert_eq!(report.pass_at.iter().map(|p| p.k).collect::<Vec<_>>(), [1, 2, 4, 6]);
        // Of the 15 pairs of six completions, 3 have none of three right ones, 6 none of two.
        is(report.pass_at[1].estimate.mean, (12.0 / 15.0 + 9.0 / 15.0 + 0.0 + 1.0 + 0.0) / 5.0);
        is(report.pass_at[3].estimate.mean, 3.0 / 5.0);
        is(report.avg_at_k.unwrap().mean, evaluation.accuracy());
        report.pass_at.iter().for_each(|p| is(p.estimate.mean, evaluation.pass_at(p.k)));
        is(report.truncated, 1.0 / 30.0);
    }

    #[test]
    fn sizes_double_up_to_all() {
        let all = |n| sizes(n).collect::<Vec<_>>();
        assert!(all(0).is_empty());
        assert_eq!(all(1), [1]);
        assert_eq!(all(6), [1, 2, 4, 6]);
        assert_eq!(all(8), [1, 2, 4, 8]);
        assert_eq!(all(32), [1, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn prints_a_table() {
        let expected = "\
problems     5, 6 completions each
unreadable   1 gold answers
             mean    95 % interval
avg@6        0.3667  0.0787 to 0.7969
pass@1       0.3667  0.0787 to 0.7969
pass@2       0.4800  0.1150 to 0.8677
pass@4       0.5867  0.1470 to 0.9212
pass@6       0.6000  0.2307 to 0.8824
maj@6        0.5000  0.1106 to 0.8894
truncated    0.0333
mean length  8.7 tokens";
        assert_eq!(evaluation().report(&Grader::default()).to_string(), expected);
    }

    #[test]
    fn serialises_with_the_intervals() {
        let evaluation = Evaluation { groups: vec![group("a", "2", &["Answer: 2", "Answer: 3"])] };
        let json = serde_json::to_value(evaluation.report(&Grader::default())).unwrap();
        let interval = |low: f64, mean: f64, high: f64| serde_json::json!({ "mean": mean, "low": low, "high": high });
        assert_eq!(json["avg_at_k"], interval(0.0, 0.5, 1.0));
        assert_eq!(json["maj_at_k"], interval(0.0, 0.5, 1.0));
        assert_eq!(json["pass_at"][0], serde_json::json!({ "k": 1, "mean": 0.5, "low": 0.0, "high": 1.0 }));
        assert_eq!(json["per_problem"][0], serde_json::json!({ "id": "a", "right": 1, "samples": 2, "maj": 0.5 }));
    }

    /// The same problem whose golds are several.
    fn any_of(golds: &[&str], texts: &[&str]) -> Group {
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))]).unwrap();
        let rest: Vec<String> = golds[1..].iter().map(|gold| (*gold).to_owned()).collect();
        let mut group = group("any", golds[0], texts);
        for (sample, text) in group.samples.iter_mut().zip(texts) {
            sample.reward = rewards.score(&RewardInput::new("", text, golds[0]).with_alternatives(&rest)).unwrap();
        }
        group
    }

    #[test]
    fn each_accepted_answer_votes_for_itself() {
        let maj = |texts: &[&str]| {
            let report = Evaluation { groups: vec![any_of(&["1/2", "7"], texts)] }.report(&Grader::default());
            (report.avg_at_k.unwrap().mean, report.maj_at_k.unwrap().mean)
        };
        assert_eq!(maj(&["Answer: 0.5", "Answer: 7", "Answer: 1/2", "Answer: 3"]), (0.75, 1.0));
        assert_eq!(maj(&["Answer: 0.5", "Answer: 7", "Answer: 7.0", "Answer: 3"]), (0.75, 1.0));
        // Two accepted answers do not outvote a third that is given twice.
        assert_eq!(maj(&["Answer: 0.5", "Answer: 7", "Answer: 3", "Answer: 3"]), (0.5, 0.0));
        assert_eq!(
            maj(&["Answer: 0.5", "Answer: 7", "Answer: 0.50", "Answer: 7.0"]),
            (1.0, 1.0),
            "a tie of right ones"
        );
    }

    #[test]
    fn rewards_beside_accuracy_are_reported_with_intervals() {
        let reward = |value: f64, correct| {
            let function = SampleReward::new("own", move |_| Score { value: Some(value), correct, ..Score::default() });
            let sum = RewardSum::of(vec![RewardTerm::new(2.0, function)]).unwrap();
            sum.score(&RewardInput::new("", "", "")).unwrap()
        };
        let evaluation = |correct: Option<bool>| {
            let mut groups = vec![group("a", "2", &["x", "y"]), group("b", "2", &["x", "y"])];
            for (sample, value) in groups.iter_mut().flat_map(|group| &mut group.samples).zip([1.0, 2.0, 3.0, 6.0]) {
                sample.reward = reward(value, correct);
            }
            Evaluation { groups }.report(&Grader::default())
        };
        let silent = evaluation(None);
        assert_eq!((silent.avg_at_k, silent.maj_at_k, silent.pass_at.len()), (None, None, 0));
        // Means of the problems 1.5 and 4.5; Student's quantile for one degree of freedom is 12.706.
        let own = silent.rewards["own"];
        assert!((own.mean - 3.0).abs() < 1e-12 && (own.high - 3.0 - 12.7062 * 1.5).abs() < 1e-3, "{own:?}");
        assert!((silent.reward.unwrap().mean - 6.0).abs() < 1e-12);
        let shown = silent.to_string();
        assert!(shown.contains("reward       6.0000") && shown.contains("  own        3.0000"), "{shown}");
        assert!(!shown.contains("avg@") && !shown.contains("unreadable"), "{shown}");
        assert!(silent.summary().starts_with("reward 6.000 (") && !silent.summary().contains("avg@"));
        let json = serde_json::to_value(&silent).unwrap();
        assert!(json.get("avg_at_k").is_none() && json.get("maj_at_k").is_none() && json["rewards"]["own"].is_object());
        let judged = evaluation(Some(true));
        assert_eq!((judged.avg_at_k.unwrap().mean, judged.rewards.len()), (1.0, 1));
        let plain = serde_json::to_value(self::evaluation().report(&Grader::default())).unwrap();
        assert!(plain.get("reward").is_none() && plain.get("rewards").is_none());
    }

    #[test]
    fn nothing_evaluated_is_no_evidence() {
        let report = Evaluation { groups: vec![] }.report(&Grader::default());
        assert_eq!(report.avg_at_k, Some(Estimate { mean: 0.0, low: 0.0, high: 1.0 }));
        assert!(report.pass_at.is_empty());
        let without_samples = Evaluation { groups: vec![group("a", "2", &[])] }.report(&Grader::default());
        assert_eq!(without_samples.maj_at_k.unwrap().mean, 0.0);
    }
}
