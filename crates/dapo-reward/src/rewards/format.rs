//! Does the completion have the shape that was asked for?

use serde::{Deserialize, Serialize};

use crate::reward::{RewardFn, RewardInput, Score};

/// The shapes a [`Format`] reward can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormatPattern {
    /// open-r1's: `<think>⏎…⏎</think>⏎<answer>⏎…⏎</answer>`, from the first character on; a line may follow.
    #[default]
    ThinkAnswer,
    /// TRL's: one `<think>…</think>` at the start, then anything.
    Think,
}

/// 1 when the completion has the pattern's shape, else 0.
///
/// # Example
/// ```
/// use dapo_reward::{Format, RewardFn, RewardInput};
///
/// let input = |completion| RewardInput { prompt: "", completion, answer: "", num_tokens: 9, truncated: false };
/// let format = Format::default();
/// assert_eq!(format.score(&input("<think>\nhm\n</think>\n<answer>\n4\n</answer>")).value, Some(1.0));
/// assert_eq!(format.score(&input("<think>hm</think><answer>4</answer>")).value, Some(0.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Format {
    /// The shape asked for.
    pub pattern: FormatPattern,
}

impl RewardFn for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn score(&self, input: &RewardInput<'_>) -> Score {
        let matches = match self.pattern {
            FormatPattern::ThinkAnswer => is_think_answer(input.completion),
            FormatPattern::Think => is_think(input.completion),
        };
        Score::value(f64::from(u8::from(matches)))
    }
}

fn is_think_answer(text: &str) -> bool {
    const MIDDLE: &str = "\n</think>\n<answer>\n";
    const END: &str = "\n</answer>";
    let Some(thought) = text.strip_prefix("<think>\n") else {
        return false;
    };
    let Some(middle) = thought.find(MIDDLE) else {
        return false;
    };
    let answer = &thought[middle + MIDDLE.len()..];
    answer.match_indices(END).any(|(at, _)| matches!(answer.as_bytes().get(at + END.len()), None | Some(b'\n')))
}

fn is_think(text: &str) -> bool {
    text.strip_prefix("<think>").is_some_and(|rest| !rest.contains("<think>") && rest.contains("</think>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn think_answer_needs_every_newline() {
        assert!(is_think_answer("<think>\na\n</think>\n<answer>\nb\n</answer>"));
        assert!(is_think_answer("<think>\n\n</think>\n<answer>\n\n</answer>"));
        assert!(is_think_answer("<think>\na\n</think>\n<answer>\nb\n</answer>\nmore"));
        assert!(is_think_answer("<think>\na\n</think>\n<answer>\nb\n</answer>x\n</answer>"));
        assert!(!is_think_answer("<think>\na\n</think>\n<answer>\nb\n</answer> more"));
        assert!(!is_think_answer("<think>a</think>\n<answer>\nb\n</answer>"));
        assert!(!is_think_answer(" <think>\na\n</think>\n<answer>\nb\n</answer>"));
        assert!(!is_think_answer("<think>\na\n</think>\n\n<answer>\nb\n</answer>"));
        assert!(!is_think_answer(""));
    }

    #[test]
    fn think_wants_one_opening_tag_at_the_start() {
        assert!(is_think("<think>a</think> then 4"));
        assert!(!is_think("<think>a<think>b</think>"));
        assert!(!is_think("a<think>b</think>"));
        assert!(!is_think("<think>a"));
    }
}
