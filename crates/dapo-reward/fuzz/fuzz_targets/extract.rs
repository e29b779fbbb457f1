//! Extraction: spans lie on character boundaries, whatever the text and the profile.
#![no_main]

use dapo_reward::{Profile, extract_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in ["auto", "choice", "last-number", "last-math", "answer-is"] {
        let Ok(profile) = name.parse::<Profile>() else { return };
        if let Some(found) = extract_answer(text, &profile) {
            assert!(!found.text(text).is_empty());
        }
    }
});
