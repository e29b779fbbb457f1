//! Texts that end completions of the tiny model.
#![allow(clippy::unwrap_used)]

use dapo_policy::{FinishReason, GenerationConfig, Policy, Request, StopStrings, StopTokens, load};

const TINY_MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tiny-qwen3");

#[test]
fn a_completion_is_cut_behind_the_token_that_completes_a_string() {
    let (policy, tokenizer) = load(TINY_MODEL.as_ref()).unwrap();
    let requests: Vec<Request> = ["12+7=", "305+99="]
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let prompt_ids = tokenizer.encode(prompt, false).unwrap();
            Request { prompt_ids, samples: 4, first_sample: 0, draw: i as u64 }
        })
        .collect();
    let stop = StopTokens::of(policy.config(), &tokenizer);
    let plain = GenerationConfig { max_new_tokens: 40, ..GenerationConfig::new(stop) };
    let whole = policy.generate(&requests, &plain).unwrap();
    let text = tokenizer.decode(&whole[0][0].token_ids, true).unwrap();
    let characters: Vec<char> = text.chars().collect();
    let mut cut = 0;
    for length in [1, 2, 4] {
        for string in characters.windows(length).map(|window| window.iter().collect::<String>()) {
            let stop_strings = StopStrings::new([string.as_str()], &tokenizer).unwrap();
            let config = GenerationConfig { stop_strings, ..plain.clone() };
            let stopped = policy.generate(&requests, &config).unwrap();
            for (stopped, whole) in stopped.iter().flatten().zip(whole.iter().flatten()) {
                let n = (1..whole.token_ids.len())
                    .find(|n| tokenizer.decode(&whole.token_ids[..*n], true).unwrap().contains(&string));
                let (n, reason) = n.map_or((whole.token_ids.len(), whole.finish_reason), |n| (n, FinishReason::Stop));
                assert_eq!(stopped.token_ids, whole.token_ids[..n], "{string:?}");
                assert_eq!(stopped.logprobs, whole.logprobs[..n]);
                assert_eq!(stopped.finish_reason, reason);
                cut += usize::from(n < whole.token_ids.len());
            }
        }
    }
    assert!(cut > 20, "{cut} completions were cut");
}

#[test]
fn a_string_that_ends_with_the_last_token_is_a_stop() {
    let (policy, tokenizer) = load(TINY_MODEL.as_ref()).unwrap();
    let prompt_ids = tokenizer.encode("12+7=", false).unwrap();
    let requests = [Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 }];
    let plain = GenerationConfig { max_new_tokens: 5, ..GenerationConfig::new(StopTokens::none()) };
    let whole = policy.generate(&requests, &plain).unwrap().remove(0).remove(0);
    assert_eq!(whole.finish_reason, FinishReason::Length);
    let text = tokenizer.decode(&whole.token_ids, true).unwrap();
    let config = GenerationConfig { stop_strings: StopStrings::new([text.as_str()], &tokenizer).unwrap(), ..plain };
    let stopped = policy.generate(&requests, &config).unwrap().remove(0).remove(0);
    assert_eq!((stopped.token_ids, stopped.finish_reason), (whole.token_ids, FinishReason::Stop));
}
