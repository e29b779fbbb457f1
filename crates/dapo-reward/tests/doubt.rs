//! Answers that the text around them takes back.

use dapo_reward::{Verdict, VerifyConfig, verify};

fn is_correct(gold: &str, completion: &str) -> bool {
    verify(gold, completion, &VerifyConfig::default()).verdict == Verdict::Correct
}

#[test]
fn what_follows_a_closed_thought_decides() {
    for (thought, final_text) in [
        ("<think>\\boxed{9}</think>", "\nThe answer is 8."),
        ("<think>so \\boxed{9}</think>", "\n**8**"),
        ("<think>#### 9\n</think>", "\nThe result is $8$."),
        ("I think \\boxed{9}</think>", "\nSo the answer is 8."),
    ] {
        let completion = format!("{thought}{final_text}");
        assert!(is_correct("8", &completion), "{completion}");
        assert!(!is_correct("9", &completion), "{completion}");
    }
    assert!(!is_correct("9", "<think>so \\boxed{9}</think>\nI could not find it."));
    assert!(is_correct("9", "<think>so \\boxed{9}</think>\n"), "nothing is said behind the thought");
}

#[test]
fn a_denied_or_supposed_announcement_is_none() {
    for completion in [
        "Wrong answer: 6",
        "My previous answer is 6. It was wrong.",
        "It is not true that the answer is 6.",
        "I doubt that the answer is 6.",
        "We want to check if the answer is 6.",
        "Suppose the answer is 6. Then we get a contradiction.",
        "Assume the answer is 6; check fails.",
        "\u{9519}\u{8bef}\u{7b54}\u{6848}\u{ff1a}6",
    ] {
        assert!(!is_correct("6", completion), "{completion}");
    }
    for completion in
        ["I would say the answer is 6.", "If we add them, we see that the answer is 6.", "Final answer: 6"]
    {
        assert!(is_correct("6", completion), "{completion}");
    }
}

#[test]
fn a_correction_takes_the_place_of_the_answer() {
    for first in ["The answer is 6.", "So we get $6$.", "\\boxed{6}", "#### 6\n"] {
        for second in [" Wait, that is wrong. It should be 7.", " Actually, no. It's 7.", " Oops, I mean 7."] {
            let completion = format!("{first}{second}");
            assert!(is_correct("7", &completion), "{completion}");
            assert!(!is_correct("6", &completion), "{completion}");
        }
        let completion = format!("{first} Wait, that is wrong.");
        assert!(!is_correct("6", &completion), "{completion}");
        for second in
            [" I hope it is correct.", " Wait, let me check: 2 + 4 gives that.", " Other options are incorrect."]
        {
            let completion = format!("{first}{second}");
            if !first.starts_with('#') && !first.starts_with("So") {
                assert!(is_correct("6", &completion), "{completion}");
            }
        }
    }
}

#[test]
fn a_prefix_that_changes_a_value_is_not_dropped() {
    for completion in [
        "\u{7b54}\u{6848}\u{ff1a}\u{8d1f}36",
        "\u{7b54}\u{6848}\u{ff1a}\u{96f6}\u{4e0b}36",
        "\u{7b54}\u{6848}\u{ff1a}\u{6839}\u{53f7}36",
    ] {
        assert!(!is_correct("36", completion), "{completion}");
    }
    assert!(is_correct("36", "\u{7b54}\u{6848}\u{ff1a}36"));
}
