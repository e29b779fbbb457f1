//! Tokens that are guessed ahead save forwards and change no completion.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Shape, adapted, decoder, plain};
use dapo_policy::{Completion, Decoder, GenerationConfig, LoraConfig, Policy, Request, SamplingConfig, StopTokens};
use std::ops::ControlFlow;

fn request(samples: usize) -> Request {
    Request { prompt_ids: vec![3, 4, 5, 3, 4], samples, first_sample: 0, draw: 0 }
}

fn config(draft_tokens: usize, sampling: SamplingConfig) -> GenerationConfig {
    GenerationConfig { max_new_tokens: 60, draft_tokens, sampling, ..GenerationConfig::new(StopTokens::none()) }
}

/// A completion and the number of forwards that it took.
fn watched(decoder: &Decoder, config: &GenerationConfig) -> (Completion, usize) {
    let mut forwards = 0;
    let mut watch = |_: &[u32]| {
        forwards += 1;
        ControlFlow::Continue(())
    };
    let completion = decoder.generate_streamed(&request(1), config, &mut watch).unwrap().unwrap();
    (completion, forwards)
}

#[test]
fn a_completion_that_repeats_itself_takes_fewer_forwards() {
    let decoder = decoder(Shape { layers: 1, vocab: 12, ..plain() });
    let (expected, one_by_one) = watched(&decoder, &config(0, SamplingConfig::GREEDY));
    // The first token is drawn from the prompt's logits.
    assert_eq!(one_by_one, 59);
    // The model is random; greedy decoding soon runs in a circle.
    for (tokens, most) in [(1, 36), (3, 24), (100, 24)] {
        let (completion, forwards) = watched(&decoder, &config(tokens, SamplingConfig::GREEDY));
        assert_eq!(completion, expected);
        assert!(forwards <= most, "{forwards} forwards with {tokens} guessed tokens");
    }
}

#[test]
fn samples_are_the_same_to_the_bit_under_every_way_of_drawing() {
    let some = SamplingConfig { temperature: 0.3, ..SamplingConfig::default() };
    let ways = [
        SamplingConfig::GREEDY,
        some,
        SamplingConfig { repetition_penalty: 1.3, ..SamplingConfig::GREEDY },
        SamplingConfig { repetition_penalty: 0.8, ..some },
        SamplingConfig { top_k: Some(3), top_p: 0.9, min_p: 0.01, ..some },
    ];
    let lora = LoraConfig { rank: 4, alpha: 8.0, ..LoraConfig::default() };
    for decoder in [decoder(plain()), adapted(plain(), &lora)] {
        for sampling in ways {
            for samples in [1, 2, 4, 9] {
                let of = |draft_tokens| decoder.generate(&[request(samples)], &config(draft_tokens, sampling)).unwrap();
                let expected = of(0);
                for draft_tokens in [1, 2, 7] {
                    assert_eq!(of(draft_tokens), expected, "{sampling:?}, {samples} samples");
                }
            }
        }
    }
}

#[test]
fn a_stop_token_or_the_limit_among_guessed_tokens_ends_the_completion() {
    let decoder = decoder(plain());
    let all = decoder.generate(&[request(1)], &config(0, SamplingConfig::GREEDY)).unwrap()[0][0].token_ids.clone();
    for last in [30, 41, 55] {
        for limit in [last, 60] {
            let stop = StopTokens::new([all[last]]);
            let of = |draft_tokens| {
                let config = config(draft_tokens, SamplingConfig::GREEDY);
                let config = GenerationConfig { stop: stop.clone(), max_new_tokens: limit, ..config };
                decoder.generate(&[request(1)], &config).unwrap()
            };
            assert_eq!(of(5), of(0));
        }
    }
}
