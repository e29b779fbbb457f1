//! More completions of prompts, for as long as somebody asks for some.
#![allow(clippy::unwrap_used)]

mod common;

use common::{decoder, plain};
use dapo_policy::{
    Completion, Decoder, GenerationConfig, Gradients, Loss, Policy, PolicyError, Request, StopTokens, TokenBatch,
    TokenLogprobs,
};
use std::ops::ControlFlow;

/// A policy with the trait's own way to more completions, which computes the prompts again.
struct ByRounds<'a>(&'a Decoder);

impl Policy for ByRounds<'_> {
    fn generate(&self, requests: &[Request], config: &GenerationConfig) -> Result<Vec<Vec<Completion>>, PolicyError> {
        self.0.generate(requests, config)
    }

    fn logprobs(&self, batch: &TokenBatch, temperature: f32) -> Result<TokenLogprobs, PolicyError> {
        self.0.logprobs(batch, temperature)
    }

    fn logprobs_backward(
        &self,
        batch: &TokenBatch,
        temperature: f32,
        gradients: &mut Gradients,
        loss: &mut Loss<'_>,
    ) -> Result<(), PolicyError> {
        self.0.logprobs_backward(batch, temperature, gradients, loss)
    }
}

fn requests() -> Vec<Request> {
    let request = |(i, samples): (usize, usize)| Request {
        prompt_ids: (0..20 + 7 * i).map(|t| ((t * 31 + i * 17 + 3) % 50) as u32).collect(),
        samples,
        first_sample: 1,
        draw: i as u64,
    };
    [2, 0, 3, 1].into_iter().enumerate().map(request).collect()
}

/// Completions in portions of at most 2 until there are 6 of each request.
fn six_of_each(policy: &impl Policy, config: &GenerationConfig) -> Vec<Vec<Completion>> {
    let mut groups = vec![Vec::new(); requests().len()];
    let mut more = |number: usize, group: Vec<Completion>| {
        groups[number].extend(group);
        6usize.saturating_sub(groups[number].len()).min(2)
    };
    policy.generate_more(&requests(), config, &mut more).unwrap();
    groups
}

#[test]
fn more_completions_are_those_of_one_request_for_all() {
    let decoder = decoder(plain());
    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(StopTokens::new([7, 9])) };
    let at_once: Vec<Request> = requests().into_iter().map(|r| Request { samples: 6, ..r }).collect();
    let mut expected = decoder.generate(&at_once, &config).unwrap();
    expected[1].clear();
    let block = 32 * 2 * 32 * 8;
    // Room for all, for a few with their prompts, and for one sequence alone, whose prompt cannot be kept.
    for cache_bytes in [None, Some(5 * block), Some(2 * block)] {
        let config = GenerationConfig { cache_bytes, ..config.clone() };
        assert_eq!(six_of_each(&decoder, &config), expected, "{cache_bytes:?}");
        assert_eq!(six_of_each(&ByRounds(&decoder), &config), expected, "{cache_bytes:?}");
    }
}

#[test]
fn a_request_that_cannot_be_generated_is_refused_before_anything_is_shown() {
    let config = GenerationConfig { max_new_tokens: 0, ..GenerationConfig::new(StopTokens::none()) };
    let mut more = |number, _| unreachable!("request {number} was shown");
    let error = decoder(plain()).generate_more(&requests(), &config, &mut more).unwrap_err().to_string();
    assert_eq!(error, "max_new_tokens is 0, expected at least 1");
}

#[test]
fn a_watched_completion_is_that_of_generate_and_can_be_ended() {
    let decoder = decoder(plain());
    let stop = StopTokens::new([7, 9]);
    let config = GenerationConfig { max_new_tokens: 24, draft_tokens: 0, ..GenerationConfig::new(stop) };
    for request in requests().into_iter().filter(|request| request.samples > 0) {
        let expected = decoder.generate(std::slice::from_ref(&request), &config).unwrap()[0][0].clone();
        let mut seen = Vec::new();
        let mut watch = |tokens: &[u32]| {
            seen.push(tokens.to_vec());
            ControlFlow::Continue(())
        };
        let watched = decoder.generate_streamed(&request, &config, &mut watch).unwrap();
        assert_eq!(watched.as_ref(), Some(&expected));
        assert_eq!(seen.last(), Some(&expected.token_ids));
        assert!(seen.windows(2).all(|two| two[1].starts_with(&two[0])), "{seen:?}");
        assert!(seen.windows(2).all(|two| two[1].len() == two[0].len() + 1), "{seen:?}");

        let mut calls = 0;
        let mut stop = |_: &[u32]| {
            calls += 1;
            ControlFlow::Break(())
        };
        assert_eq!(decoder.generate_streamed(&request, &config, &mut stop).unwrap(), None);
        assert_eq!(calls, 1);
        assert_eq!(decoder.generate(std::slice::from_ref(&request), &config).unwrap()[0][0], expected);
    }
}
