//! Partial credit for the tags of the think/answer format.

use super::format::with_opened_thought;
use crate::input::RewardInput;
use crate::reward::{RewardFault, RewardFn, Score};

/// 0.25 for each of open-r1's four tags that occurs exactly once: `<think>⏎`, `⏎</think>⏎`, `⏎<answer>⏎`, `⏎</answer>`.
/// A `<think>` that ends the prompt counts as the completion's own.
///
/// # Example
/// ```
/// use dapo_reward::{RewardFn, RewardInput, TagCount};
///
/// let input = |completion| RewardInput::new("", completion, "").with_num_tokens(9);
/// assert_eq!(TagCount.score(&input("<think>\nhm\n</think>\n<answer>\n4\n</answer>"))?.value, Some(1.0));
/// assert_eq!(TagCount.score(&input("<think>\nhm\n</think>\n4"))?.value, Some(0.5));
/// # Ok::<(), dapo_reward::RewardFault>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TagCount;

impl RewardFn for TagCount {
    fn name(&self) -> &'static str {
        "tag_count"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        let tags = ["<think>\n", "\n</think>\n", "\n<answer>\n", "\n</answer>"];
        let text = with_opened_thought(input);
        let once = tags.iter().filter(|tag| text.matches(*tag).count() == 1).count();
        Ok(Score::value(0.25 * once as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(completion: &str) -> Option<f64> {
        TagCount.score(&RewardInput::new("", completion, "")).unwrap().value
    }

    #[test]
    fn a_tag_that_ends_the_prompt_counts() {
        let score = |prompt| {
            let completion = "a\n</think>\n<answer>\nb\n</answer>";
            TagCount.score(&RewardInput::new(prompt, completion, "")).unwrap().value
        };
        assert_eq!((score("<think>\n"), score("<think>"), score("")), (Some(1.0), Some(0.75), Some(0.75)));
    }

    #[test]
    fn a_tag_counts_only_when_it_occurs_once() {
        assert_eq!(score("<think>\na\n</think>\n<answer>\nb\n</answer>"), Some(1.0));
        assert_eq!(score("<think>\na\n</think>\n<answer>\nb\n</answer>\n</answer>"), Some(0.75));
        assert_eq!(score("<think>a</think><answer>b</answer>"), Some(0.0));
        // `\n</think>\n` takes the newline that `\n<answer>\n` needs only in one's own match, so both count.
        assert_eq!(score("\n</think>\n<answer>\n"), Some(0.5));
    }
}
