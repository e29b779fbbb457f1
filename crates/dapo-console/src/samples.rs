//! Sample completions of a step.

use crate::numbers::figure;
use crate::style::{ACCENT, BAD, DIM, GOOD, NOTABLE, Paint};
use crate::visible::visible;
use crate::wrap::wrap;
use anstyle::Style;
use dapo_trainer::{Fate, GroupRecord, Sample, SampleOutcome};
use serde_json::{Value, json};

/// Characters of a prompt's end, and of a completion's start and end, that are looked at.
const LONGEST: usize = 2000;
/// Lines of a completion that are shown.
const LINES: usize = 10;
/// Lines of a prompt and of a gold answer that are shown.
const FEW_LINES: usize = 3;

/// A completion with its group.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    record: &'a GroupRecord,
    sample: &'a Sample,
}

/// A correct and an incorrect completion of one prompt that was trained on, where there is one; else the first correct and
/// the first incorrect one, or the first one.
fn choose(groups: &[GroupRecord]) -> Vec<Chosen<'_>> {
    let first = |record, is_correct: bool| {
        let record: &GroupRecord = record;
        let mut samples = record.group.samples.iter();
        let sample = samples.find(|sample| (sample.reward.correct == Some(true)) == is_correct)?;
        Some(Chosen { record, sample })
    };
    let both = |record| Some([first(record, true)?, first(record, false)?]);
    if let Some(both) = groups.iter().filter(|record| record.fate.is_trained()).find_map(both) {
        return both.to_vec();
    }
    let any = |is_correct| groups.iter().find_map(|record| first(record, is_correct));
    [any(true), any(false)].into_iter().flatten().collect()
}

impl Chosen<'_> {
    /// The outcome in a word, with its colour.
    fn judged(self) -> (&'static str, Style) {
        match (self.sample.reward.correct, self.sample.is_truncated()) {
            (Some(true), _) => ("correct", GOOD),
            (Some(false), false) => ("incorrect", BAD),
            (Some(false), true) => ("incorrect, truncated", NOTABLE),
            (None, false) => ("not judged", NOTABLE),
            (None, true) => ("truncated", NOTABLE),
        }
    }

    /// What the step did with it.
    fn fate(self) -> String {
        let fate = match self.record.fate {
            Fate::Trained | Fate::Filled => match self.sample.outcome {
                SampleOutcome::InLoss => "trained on",
                SampleOutcome::Masked => "left out of the loss: truncated",
                SampleOutcome::Rejected => "left out of the loss: rejected by the rollout correction",
                SampleOutcome::OutsideBaseline => "left out of its group",
                SampleOutcome::NotTrained => "in a batch without an update",
            },
            Fate::AllCorrect => "group dropped: all correct",
            Fate::AllWrong => "group dropped: all incorrect",
            Fate::Other => "group dropped: no signal",
            Fate::Discarded => "group beyond the batch",
            Fate::Expired => "group too old",
            Fate::CarriedOut => "group left for the next step",
            Fate::Kept => "group with a signal",
        };
        match self.sample.advantage {
            Some(advantage) => format!("{fate}, advantage {advantage:+.2}"),
            None => fate.to_owned(),
        }
    }

    /// The reward, with its components before weighting where there are several.
    fn reward(self) -> String {
        let reward = &self.sample.reward;
        let total = figure(self.sample.final_reward(), 3);
        let components = reward.components.iter();
        let mut components: Vec<String> = components.map(|c| format!("{} {}", c.name, figure(c.value, 3))).collect();
        components.extend(self.sample.kl_term.map(|term| format!("KL {term:.3}")));
        if components.len() < 2 { total } else { format!("{total} ({})", components.join(", ")) }
    }
}

/// A panel of sample completions, in lines of a width.
pub(crate) fn panel(step: u64, groups: &[GroupRecord], width: usize, paint: Paint) -> Vec<String> {
    let chosen = choose(groups);
    let mut lines = Vec::new();
    for (number, of) in (1..).zip(&chosen) {
        let title = format!("── step {step}, sample {number} of {} ", chosen.len());
        let rule = "─".repeat(width.min(100).saturating_sub(title.chars().count()));
        lines.push(paint.with(DIM, title + &rule));
        lines.extend(of.lines(width, paint));
    }
    if !lines.is_empty() {
        lines.push(paint.with(DIM, "─".repeat(width.min(100))));
    }
    lines
}

/// The samples of a panel as JSON.
pub(crate) fn json(groups: &[GroupRecord]) -> Vec<Value> {
    let sample = |of: Chosen<'_>| {
        let (group, sample) = (&of.record.group, of.sample);
        let components =
            sample.reward.components.iter().map(|component| (component.name.clone(), component.value.into()));
        json!({
            "prompt_id": group.prompt.id,
            "draw": group.draw,
            "prompt": group.prompt.text,
            "completion": sample.text,
            "gold": group.prompt.answer,
            "rewards": components.collect::<serde_json::Map<_, _>>(),
            "reward": sample.final_reward(),
            "correct": sample.reward.correct,
            "truncated": sample.is_truncated(),
            "advantage": sample.advantage,
            "fate": of.record.fate,
        })
    };
    choose(groups).into_iter().map(sample).collect()
}

impl Chosen<'_> {
    fn lines(self, width: usize, paint: Paint) -> Vec<String> {
        let (prompt, sample) = (&self.record.group.prompt, self.sample);
        let (judged, style) = self.judged();
        let tokens = sample.completion.token_ids.len();
        let mut lines = Vec::new();
        let mut add = |label: &str, text: &str, style: Option<Style>, most: (usize, usize)| {
            let first = format!("{label:<12}");
            let texts = fold(wrap(text, width, &first, "            ", true), most);
            lines.extend(texts.into_iter().enumerate().map(|(number, line)| {
                let at = if number == 0 { first.len().min(line.len()) } else { 0 };
                let (label, text) = line.split_at(at);
                paint.with(DIM, label) + &style.map_or(text.to_owned(), |style| paint.with(style, text))
            }));
        };
        add("prompt", &end(&prompt.text), None, (0, FEW_LINES));
        add("completion", &shortened(&sample.text), Some(ACCENT), (LINES / 2, LINES / 2));
        add("gold", &shortened(&prompt.answer), None, (FEW_LINES, 0));
        add("reward", &visible(&self.reward()), None, (FEW_LINES, 0));
        add("outcome", &format!("{judged}; {}; {tokens} tokens", self.fate()), Some(style), (FEW_LINES, 0));
        lines
    }
}

/// The end of a text.
fn end(text: &str) -> String {
    let text = text.trim();
    let start = text.char_indices().nth_back(LONGEST - 1).map_or(0, |(start, _)| start);
    let cut = if start > 0 { "… " } else { "" };
    visible(&format!("{cut}{}", &text[start..]))
}

/// The start and the end of a text.
fn shortened(text: &str) -> String {
    let text = text.trim();
    let head = text.char_indices().nth(LONGEST).map_or(text.len(), |(end, _)| end);
    let tail = text.char_indices().nth_back(LONGEST - 1).map_or(0, |(start, _)| start);
    if head >= tail { visible(text) } else { visible(&format!("{} … {}", &text[..head], &text[tail..])) }
}

/// The first and the last lines; what is between them is counted.
fn fold(lines: Vec<String>, (first, last): (usize, usize)) -> Vec<String> {
    if lines.len() <= first + last {
        return lines;
    }
    let folded = lines.len() - first - last;
    let note = if first == 0 {
        // The label stands on the first line.
        format!("{:<12}… {folded} lines", lines[0].split(' ').next().unwrap_or_default())
    } else {
        format!("{:12}… {folded} lines", "")
    };
    let tail = lines[lines.len() - last..].to_vec();
    lines.into_iter().take(first).chain([note]).chain(tail).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{json, panel};
    use crate::style::Paint;
    use console::{measure_text_width, strip_ansi_codes};
    use dapo_data::Prompt;
    use dapo_policy::{Completion, FinishReason};
    use dapo_reward::Reward;
    use dapo_trainer::{Fate, Group, GroupRecord, Sample};
    use std::sync::Arc;

    fn sample(text: &str, correct: Option<bool>) -> Sample {
        let completion = Completion {
            token_ids: vec![0; 3],
            logprobs: vec![0.0; 3],
            finish_reason: FinishReason::Stop,
            context: Vec::new(),
        };
        let total = correct.map(f64::from);
        let reward = Reward { correct, components: Vec::new(), total };
        Sample { advantage: Some(0.5), ..Sample::new(completion, text.into(), reward) }
    }

    fn record(fate: Fate, answer: &str, samples: Vec<Sample>) -> GroupRecord {
        let text = "What is 1+1? ".repeat(40) + "1+1=";
        let prompt = Prompt { id: "p".into(), text, answer: answer.into(), ..Prompt::default() };
        GroupRecord { age: 0, fate, group: Arc::new(Group { draw: 0, prompt, samples }) }
    }

    fn text(groups: &[GroupRecord], width: usize) -> String {
        panel(7, groups, width, Paint(false)).join("\n")
    }

    #[test]
    fn shows_a_correct_and_an_incorrect_completion_of_one_prompt() {
        let dropped = record(Fate::AllCorrect, "2", vec![sample("easy", Some(true))]);
        let mixed = vec![sample("is it 3?", Some(false)), sample("it is 2", Some(true)), sample("2!", Some(true))];
        let trained = record(Fate::Trained, "two", mixed);
        let shown = text(&[dropped.clone(), trained], 80);
        for said in [
            "── step 7, sample 1 of 2 ──",
            "prompt      … ",
            "1+1=",
            "completion  it is 2",
            "completion  is it 3?",
            "gold        two",
            "reward      1.000",
            "outcome     correct; in a batch without an update, advantage +0.50; 3 tokens",
            "outcome     incorrect; ",
        ] {
            assert!(shown.contains(said), "no {said:?} in\n{shown}");
        }
        let shown = text(&[dropped], 80);
        assert!(shown.contains("sample 1 of 1") && shown.contains("group dropped: all correct"), "{shown}");
        assert_eq!(text(&[], 80), "");
    }

    #[test]
    fn hostile_and_endless_completions_are_text_in_few_lines_of_the_width() {
        let hostile = format!("\x1b]0;title\x07\x1b[2J\u{9b}31m\u{202e}{}日本 END", "word ".repeat(20_000));
        let groups =
            [record(Fate::Trained, &hostile, vec![sample(&hostile, Some(true)), sample(&"x".repeat(100_000), None)])];
        for width in [40, 80, 200] {
            let painted = panel(1, &groups, width, Paint(true));
            let lines: Vec<_> = painted.iter().map(|line| strip_ansi_codes(line).into_owned()).collect();
            assert_eq!(lines, panel(1, &groups, width, Paint(false)));
            assert!(lines.iter().all(|line| measure_text_width(line) <= width), "{lines:#?}");
            assert!(lines.len() < 60, "{lines:#?}");
            let all = lines.join("\n");
            assert!(!all.chars().any(|c| c != '\n' && c.is_control()) && !all.contains('\u{202e}'), "{all:?}");
            assert!(all.contains(r"\x1b]0;title\x07") && all.contains("日本 END") && all.contains(" lines"), "{all}");
        }
        let json = json(&groups);
        assert_eq!((json[0]["completion"].as_str(), &json[0]["correct"]), (Some(&*hostile), &true.into()));
    }
}
