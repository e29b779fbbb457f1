//! Whether the completion has the shape that was asked for.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// The shapes a [`Format`] reward can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum FormatPattern {
    /// open-r1's: `<think>⏎…⏎</think>⏎<answer>⏎…⏎</answer>`, from the first character on; a line may follow.
    #[default]
    ThinkAnswer,
    /// TRL's: one `<think>…</think>` at the start, then anything.
    Think,
}

/// 1 when the completion has the pattern's shape, else 0.
///
/// Where the chat template ends the prompt with `<think>`, the completion begins inside the thought: the tag counts as if
/// it were the completion's own.
///
/// # Example
/// ```
/// use dapo_reward::{Format, RewardFn, RewardInput};
///
/// let input = |completion| RewardInput::new("", completion, "").with_num_tokens(9);
/// let format = Format::default();
/// assert_eq!(format.score(&input("<think>\nhm\n</think>\n<answer>\n4\n</answer>"))?.value, Some(1.0));
/// assert_eq!(format.score(&input("<think>hm</think><answer>4</answer>"))?.value, Some(0.0));
/// # Ok::<(), dapo_reward::RewardFault>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Format {
    /// The shape: `think-answer` (open-r1) or `think` (TRL).
    pub pattern: FormatPattern,
}

impl RewardFn for Format {
    fn name(&self) -> &'static str {
        "format"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let text = with_opened_thought(input);
        let matches = match self.pattern {
            FormatPattern::ThinkAnswer => is_think_answer(&text),
            FormatPattern::Think => is_think(&text),
        };
        Ok(Score::value(f64::from(u8::from(matches))))
    }
}

/// The completion, with the `<think>` that the chat template ends its prompt with, if it does.
pub(super) fn with_opened_thought<'a>(input: &RewardInput<'a>) -> Cow<'a, str> {
    const OPEN: &str = "<think>";
    if !input.prompt.trim_end().ends_with(OPEN) {
        return Cow::Borrowed(input.completion);
    }
    let start = input.prompt.trim_end().len() - OPEN.len();
    Cow::Owned(format!("{}{}", &input.prompt[start..], input.completion))
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
    fn a_thought_that_the_prompt_opens_counts() {
        let score = |pattern, prompt, completion| {
            let input = RewardInput::new(prompt, completion, "");
            Format { pattern }.score(&input).unwrap().value
        };
        let think = |prompt, completion| score(FormatPattern::Think, prompt, completion);
        assert_eq!(think("<|im_start|>assistant\n<think>\n", "hm\n</think>\n4"), Some(1.0));
        assert_eq!(think("<|im_start|>assistant\n<think>", "hm</think>4"), Some(1.0));
        assert_eq!(think("<|im_start|>assistant\n<think>\n", "hm\n4"), Some(0.0));
        assert_eq!(think("<|im_start|>assistant\n<think>\n", "<think>hm</think>4"), Some(0.0));
        assert_eq!(think("<|im_start|>assistant\n<think>\n\n</think>\n\n", "hm</think>4"), Some(0.0));
        assert_eq!(think("Use <think> tags.", "hm</think>4"), Some(0.0));
        let completion = "a\n</think>\n<answer>\nb\n</answer>";
        assert_eq!(score(FormatPattern::ThinkAnswer, "<think>\n", completion), Some(1.0));
        assert_eq!(score(FormatPattern::ThinkAnswer, "<think>", completion), Some(0.0), "a line break is missing");
        assert_eq!(score(FormatPattern::ThinkAnswer, "", completion), Some(0.0));
    }

    #[test]
    fn think_wants_one_opening_tag_at_the_start() {
        assert!(is_think("<think>a</think> then 4"));
        assert!(!is_think("<think>a<think>b</think>"));
        assert!(!is_think("a<think>b</think>"));
        assert!(!is_think("<think>a"));
    }
}
