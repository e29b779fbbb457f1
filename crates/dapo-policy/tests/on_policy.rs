//! The log-probs of a rollout are the log-probs of training, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Shape, adapted, batch, bits, decoder, plain};
use dapo_policy::{
    Architecture, FinishReason, GenerationConfig, Gradients, LayerMemory, LoraConfig, LoraTarget, Policy, Request,
    SamplingConfig, Segments, StopTokens, TokenBatch,
};
use proptest::prelude::*;
use std::sync::Arc;

fn shapes() -> impl Strategy<Value = Shape> {
    let architectures = prop_oneof![Just(Architecture::Qwen3), Just(Architecture::Qwen2), Just(Architecture::Llama)];
    (architectures, 1..3usize, 1..3usize, 1..4usize, 1..4usize, 20..200usize, any::<bool>(), any::<u64>()).prop_map(
        |(architecture, layers, kv_heads, group, dim, vocab, tied, seed)| {
            let head_dim = 16 * dim;
            Shape { architecture, layers, kv_heads, group, head_dim, vocab, tied, seed }
        },
    )
}

/// No adapters, or adapters on some of the projections.
fn adapters() -> impl Strategy<Value = Option<LoraConfig>> {
    let targets = prop::sample::subsequence(LoraTarget::ALL.to_vec(), 1..=7);
    let lora = (1..40usize, 0.5..40f64, targets).prop_map(|(rank, alpha, targets)| LoraConfig {
        rank,
        alpha,
        targets,
        rslora: rank % 2 == 0,
    });
    prop::option::of(lora)
}

fn memories() -> impl Strategy<Value = LayerMemory> {
    prop_oneof![Just(LayerMemory::Keep), Just(LayerMemory::Recompute)]
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rollout_and_training_log_probs_are_equal_bit_for_bit(
        shape in shapes(),
        lora in adapters(),
        memory in memories(),
        lengths in prop::collection::vec(1..90usize, 1..5),
        samples in 1..4usize,
        max_new_tokens in 1..70usize,
        temperature in prop_oneof![Just(1.0f32), Just(0.7), Just(1.3)],
        seed in any::<u64>(),
    ) {
        let mut decoder = lora.map_or_else(|| decoder(shape), |lora| adapted(shape, &lora));
        decoder.set_layer_memory(memory);
        let requests: Vec<Request> = lengths
            .iter()
            .enumerate()
            .map(|(i, n)| Request {
                prompt_ids: (0..*n).map(|t| ((t * 31 + i * 17 + 3) % shape.vocab) as u32).collect(),
                samples, first_sample: 0,
                draw: i as u64,
            })
            .collect();
        let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
        let stop = StopTokens::new([1, 2]);
        let config = GenerationConfig { max_new_tokens, sampling, seed, ..GenerationConfig::new(stop) };
        let groups = on_threads(2, || decoder.generate(&requests, &config)).unwrap();

        // A completion does not depend on threads, on what is generated beside it, or on how many at a time.
        let longest = lengths.iter().max().unwrap() + max_new_tokens;
        let one = longest.next_multiple_of(32) * shape.layers * shape.kv_heads * shape.head_dim * 8;
        let single = GenerationConfig { cache_bytes: Some(one), ..config.clone() };
        prop_assert_eq!(&groups, &on_threads(1, || decoder.generate(&requests, &single)).unwrap());
        let last = requests.len() - 1;
        prop_assert_eq!(&groups[last..], &decoder.generate(&requests[last..], &config).unwrap()[..]);

        let rolled_out = bits(groups.iter().flatten().flat_map(|c| c.logprobs.clone()));
        for (shared, threads) in [(true, 2), (false, 2), (true, 1)] {
            let batch = batch(&requests, &groups, shared);
            let scored = on_threads(threads, || decoder.logprobs(&batch, temperature)).unwrap();
            prop_assert_eq!(&bits(scored.logprobs), &rolled_out, "shared {}, threads {}", shared, threads);
            let mut trained = vec![0.0; rolled_out.len()];
            let mut gradients = Gradients::new(decoder.parameters().len());
            decoder
                .logprobs_backward(&batch, temperature, &mut gradients, &mut |rows, into| {
                    trained[rows.start..][..rows.logprobs.len()].copy_from_slice(rows.logprobs);
                    into.logprobs.fill(1.0);
                    Ok(())
                })
                .unwrap();
            prop_assert_eq!(&bits(trained), &rolled_out, "in training");
        }
    }

    // With several threads, so many sequences are divided among them.
    #[test]
    fn many_sequences_are_the_same_on_any_number_of_threads(
        shape in shapes(),
        lora in adapters(),
        lengths in prop::collection::vec(1..50usize, 1..5),
        samples in 5..20usize,
        threads in 2..5usize,
        max_new_tokens in 1..40usize,
    ) {
        let decoder = lora.map_or_else(|| decoder(shape), |lora| adapted(shape, &lora));
        let prompt = |n: usize, i: usize| (0..n).map(|t| ((t * 31 + i * 17 + 3) % shape.vocab) as u32).collect();
        let request = |(i, n): (usize, &usize)| {
            Request { prompt_ids: prompt(*n, i), samples, first_sample: 0, draw: i as u64 }
        };
        let requests: Vec<Request> = lengths.iter().enumerate().map(request).collect();
        let config = GenerationConfig { max_new_tokens, seed: 5, ..GenerationConfig::new(StopTokens::new([1, 2, 3])) };
        let gradients = |groups: &[Vec<_>]| {
            let mut gradients = Gradients::new(decoder.parameters().len());
            let mut loss = |_: dapo_policy::Rows<'_>, into: dapo_policy::RowGradients<'_>| {
                into.logprobs.fill(1.0);
                Ok(())
            };
            decoder.logprobs_backward(&batch(&requests, groups, true), 1.0, &mut gradients, &mut loss).unwrap();
            let flat = |i| decoder.gradient(&gradients, i).unwrap().unwrap().flatten_all().unwrap();
            (0..decoder.parameters().len()).map(|i| bits(flat(i).to_vec1().unwrap())).collect::<Vec<_>>()
        };
        let groups = on_threads(1, || decoder.generate(&requests, &config)).unwrap();
        let expected = gradients(&groups);
        let keeping = GenerationConfig { keep_activations_bytes: usize::MAX, ..config };
        prop_assert_eq!(&on_threads(threads, || decoder.generate(&requests, &keeping)).unwrap(), &groups);
        prop_assert!(gradients(&groups) == expected, "from kept activations");
    }

    #[test]
    fn a_shared_prompt_gives_the_gradients_of_separate_copies(
        shape in shapes(),
        lora in adapters(),
        memory in memories(),
        prompt in 1..40usize,
        n in 2..5usize,
    ) {
        let mut decoder = lora.map_or_else(|| decoder(shape), |lora| adapted(shape, &lora));
        decoder.set_layer_memory(memory);
        let prompt_ids = (0..prompt).map(|t| (t * 7 % shape.vocab) as u32).collect();
        let requests = [Request { prompt_ids, samples: n, first_sample: 0, draw: 0 }];
        let config = GenerationConfig { max_new_tokens: 33, ..GenerationConfig::new(StopTokens::none()) };
        let groups = decoder.generate(&requests, &config).unwrap();
        let gradients = |shared| {
            let mut gradients = Gradients::new(decoder.parameters().len());
            decoder
                .logprobs_backward(&batch(&requests, &groups, shared), 1.0, &mut gradients, &mut |rows, into| {
                    for (i, (g, h)) in into.logprobs.iter_mut().zip(into.entropies).enumerate() {
                        (*g, *h) = (((rows.start + i) as f32).sin(), 0.1);
                    }
                    Ok(())
                })
                .unwrap();
            gradients
        };
        let (shared, separate) = (gradients(true), gradients(false));
        for (index, (name, _)) in decoder.parameters().into_iter().enumerate() {
            let a: Vec<f32> = shared.get(index).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let b: Vec<f32> = separate.get(index).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let largest = b.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
            for (x, y) in a.iter().zip(&b) {
                prop_assert!((x - y).abs() <= 2e-4 * largest, "{}: {} {}", name, x, y);
            }
        }
    }
}

#[test]
fn a_stop_token_ends_a_completion_and_belongs_to_it() {
    let decoder = decoder(plain());
    let requests = [Request { prompt_ids: vec![3, 4], samples: 40, first_sample: 0, draw: 0 }];
    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(StopTokens::new([7, 9, 11])) };
    let completions = decoder.generate(&requests, &config).unwrap().remove(0);
    assert_eq!(completions.len(), 40);
    for completion in &completions {
        let stop = completion.token_ids.iter().position(|t| config.stop.contains(*t));
        match completion.finish_reason {
            FinishReason::Stop => assert_eq!(stop, Some(completion.token_ids.len() - 1)),
            FinishReason::Length => assert_eq!((stop, completion.token_ids.len()), (None, 12)),
        }
        assert_eq!(completion.logprobs.len(), completion.token_ids.len());
    }
    assert!(completions.iter().any(|c| c.finish_reason == FinishReason::Stop));
    assert!(completions.iter().any(|c| c.finish_reason == FinishReason::Length));
    assert!(completions.iter().any(|c| c.token_ids != completions[0].token_ids));
}

#[test]
fn bad_requests_are_errors_that_name_the_field() {
    let decoder = decoder(plain());
    let request = |prompt_ids: Vec<u32>| [Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 }];
    let error =
        |requests: &[Request], config: &GenerationConfig| decoder.generate(requests, config).unwrap_err().to_string();
    let config = GenerationConfig::new(StopTokens::none());
    assert!(error(&request(vec![]), &config).contains("requests[0].prompt_ids is 0 tokens"));
    assert!(error(&request(vec![1; 400]), &config).contains("at most the model's 512 with 256 new ones"));
    assert!(
        error(&request(vec![1, 50]), &config)
            .contains("requests[0].prompt_ids[1] is 50, expected an id below the vocabulary size, 50")
    );
    assert!(
        error(&request(vec![1]), &GenerationConfig { max_new_tokens: 0, ..config.clone() })
            .contains("max_new_tokens is 0")
    );
    let small = GenerationConfig { cache_bytes: Some(100), ..config.clone() };
    assert!(
        error(&request(vec![1]), &small).contains(
            "cache_bytes is 100, expected at least 147456, the keys and values of one sequence of 257 tokens"
        )
    );
    let sampling = SamplingConfig { top_p: 0.0, ..SamplingConfig::default() };
    assert!(error(&request(vec![1]), &GenerationConfig { sampling, ..config.clone() }).contains("top_p is 0"));
    let batch =
        TokenBatch { token_ids: vec![1, 2], segments: Arc::new(Segments::new([(2, None)]).unwrap()), targets: vec![0] };
    let message = |batch: &TokenBatch| decoder.logprobs(batch, 1.0).unwrap_err().to_string();
    assert_eq!(message(&batch), "targets[0] is 0, expected a token with a predecessor");
    let too_many = TokenBatch { token_ids: vec![1, 2, 3], targets: vec![2], ..batch };
    assert_eq!(message(&too_many), "token_ids is 3 tokens, expected the segments' 2");
}
