//! Verification of pairs: the first line is the gold answer, the rest the completion.
#![no_main]

use dapo_reward::{DapoRule, VerifyConfig, dapo_grade, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (gold, completion) = text.split_once('\n').unwrap_or((text, text));
    let first = verify(gold, completion, &VerifyConfig::default());
    assert_eq!(first, verify(gold, completion, &VerifyConfig::default()));
    dapo_grade(completion, gold, DapoRule::AnswerLineOrBox);
});
