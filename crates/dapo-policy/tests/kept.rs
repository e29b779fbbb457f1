//! A backward pass that starts from what generation kept gives the gradients of one that begins with a forward, bit for
//! bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Shape, Talk, adapted, bits, decoder, plain, talk};
use dapo_policy::{
    AdamWStep, Architecture, Completion, Decoder, GenerationConfig, Gradients, LayerMemory, LoraConfig, LoraTarget,
    Moments, Policy, Request, SamplingConfig, StopTokens, TokenGroup, TurnLimits, activation_bytes, pack_tokens,
};
use proptest::prelude::*;

/// Most tokens of a block.
const BLOCK: usize = 8;

fn shapes() -> impl Strategy<Value = Shape> {
    let architectures = prop_oneof![Just(Architecture::Qwen3), Just(Architecture::Qwen2), Just(Architecture::Llama)];
    (architectures, 1..4usize, 1..3usize, 1..4usize, 1..4usize, 20..200usize, any::<bool>(), any::<u64>()).prop_map(
        |(architecture, layers, kv_heads, group, dim, vocab, tied, seed)| {
            let head_dim = 16 * dim;
            Shape { architecture, layers, kv_heads, group, head_dim, vocab, tied, seed }
        },
    )
}

fn adapters() -> impl Strategy<Value = Option<LoraConfig>> {
    let targets = prop::sample::subsequence(LoraTarget::ALL.to_vec(), 1..=7);
    let lora =
        (1..20usize, targets).prop_map(|(rank, targets)| LoraConfig { rank, alpha: 8.0, targets, rslora: false });
    prop::option::of(lora)
}

/// Nothing, less than a block, some blocks, all.
fn budgets() -> impl Strategy<Value = Budget> {
    prop_oneof![
        Just(Budget::Bytes(0)),
        Just(Budget::Bytes(100)),
        (1..40usize).prop_map(Budget::Blocks),
        Just(Budget::Bytes(1 << 30)),
        Just(Budget::Bytes(usize::MAX)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Budget {
    Bytes(usize),
    Blocks(usize),
}

impl Budget {
    fn bytes(self, decoder: &Decoder) -> usize {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Blocks(blocks) => blocks * BLOCK * activation_bytes(decoder.config(), LayerMemory::Keep),
        }
    }
}

fn requests(lengths: &[usize], samples: usize, vocab: usize) -> Vec<Request> {
    let request = |(i, n): (usize, &usize)| Request {
        prompt_ids: (0..*n).map(|t| ((t * 31 + n * 17 + 3) % vocab) as u32).collect(),
        samples,
        first_sample: i,
        draw: i as u64,
    };
    lengths.iter().enumerate().map(request).collect()
}

/// What a pass over all completions in micro-batches shows the loss, and its gradients.
fn pass(decoder: &Decoder, requests: &[Request], groups: &[Vec<Completion>], max_tokens: usize) -> Vec<Vec<u32>> {
    let whole: Vec<TokenGroup<'_>> =
        requests.iter().zip(groups).map(|(request, group)| TokenGroup::new(&request.prompt_ids, group)).collect();
    let mut gradients = Gradients::new(decoder.parameters().len());
    let mut seen = Vec::new();
    for packed in pack_tokens(&whole, max_tokens).unwrap() {
        let scored = decoder.logprobs(&packed.tokens, 0.8).unwrap();
        seen.extend([bits(scored.logprobs), bits(scored.entropies)]);
        decoder
            .logprobs_backward(&packed.tokens, 0.8, &mut gradients, &mut |rows, into| {
                seen.extend([bits(rows.logprobs.to_vec()), bits(rows.entropies.to_vec())]);
                for (i, (g, h)) in into.logprobs.iter_mut().zip(into.entropies).enumerate() {
                    (*g, *h) = (((rows.start + i) as f32).sin(), 0.1);
                }
                Ok(())
            })
            .unwrap();
    }
    let of_parameter = |index| gradients.get(index).map(|g| bits(g.flatten_all().unwrap().to_vec1::<f32>().unwrap()));
    seen.extend((0..gradients.len()).filter_map(of_parameter));
    seen
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn tokens_of(requests: &[Request], groups: &[Vec<Completion>]) -> usize {
    let completions = groups.iter().flatten().map(|completion| completion.token_ids.len() - 1);
    completions.sum::<usize>() + requests.iter().map(|request| request.prompt_ids.len()).sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gradients_do_not_depend_on_what_is_kept(
        shape in shapes(),
        lora in adapters(),
        recompute in any::<bool>(),
        budget in budgets(),
        // Some prompts are the same.
        lengths in prop::collection::vec(prop_oneof![1..60usize, Just(9)], 1..5),
        samples in 1..5usize,
        max_new_tokens in 1..50usize,
        max_tokens in prop_oneof![Just(10_000usize), 1..200usize],
        draft_tokens in prop_oneof![Just(0usize), 1..8usize],
        temperature in prop_oneof![Just(0.0f32), Just(0.8)],
        released in prop::option::of((0..4u64, 0..4usize)),
        threads in 1..3usize,
        seed in any::<u64>(),
    ) {
        let mut decoder = lora.map_or_else(|| decoder(shape), |lora| adapted(shape, &lora));
        decoder.set_layer_memory(if recompute { LayerMemory::Recompute } else { LayerMemory::Keep });
        let requests = requests(&lengths, samples, shape.vocab);
        let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
        let stop = StopTokens::new([1, 2, 3]);
        let plain = GenerationConfig { max_new_tokens, sampling, seed, draft_tokens: 0, ..GenerationConfig::new(stop) };
        let groups = decoder.generate(&requests, &plain).unwrap();
        prop_assert_eq!(decoder.kept_tokens(), 0);
        let expected = pass(&decoder, &requests, &groups, max_tokens);

        let keep_activations_bytes = budget.bytes(&decoder);
        let keeping = GenerationConfig { keep_activations_bytes, draft_tokens, ..plain };
        let found = on_threads(threads, || {
            prop_assert_eq!(&decoder.generate(&requests, &keeping).unwrap(), &groups);
            if let Some((draw, sample)) = released {
                decoder.release_activations(&|d, s| (d, s) != (draw, sample));
            }
            Ok(pass(&decoder, &requests, &groups, max_tokens))
        })?;
        prop_assert!(found == expected, "budget of {} bytes", keep_activations_bytes);
        prop_assert!(decoder.kept_tokens() * activation_bytes(decoder.config(), LayerMemory::Keep) <= keep_activations_bytes);
        // What was used is used up, and a second pass computes it.
        prop_assert!(pass(&decoder, &requests, &groups, max_tokens) == expected);
    }

    #[test]
    fn completions_of_several_turns_are_kept_as_well(
        shape in shapes(),
        budget in budgets(),
        lengths in prop::collection::vec(1..40usize, 1..4),
        samples in 1..4usize,
        max_new_tokens in 1..50usize,
        max_turn_tokens in prop::option::of(1..20usize),
        turns in 1..6usize,
        delay in 0..4usize,
        max_tokens in prop_oneof![Just(10_000usize), 100..400usize],
        draft_tokens in prop_oneof![Just(0usize), 1..8usize],
        temperature in prop_oneof![Just(0.0f32), Just(0.8)],
    ) {
        let decoder = decoder(shape);
        let requests = requests(&lengths, samples, shape.vocab);
        let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
        let stop = StopTokens::new((0..shape.vocab as u32).step_by(10));
        let limits = TurnLimits { max_turn_tokens, max_context_tokens: 150 };
        let plain = GenerationConfig {
            max_new_tokens, sampling, turns: Some(limits), draft_tokens: 0, ..GenerationConfig::new(stop)
        };
        let of = |delay| Talk {
            vocab: shape.vocab, turns, longest: 30, max_context: 150, max_new_tokens, delay, calls: 0, open: Vec::new(),
        };
        let groups = talk(&decoder, &requests, &plain, of(0));
        let expected = pass(&decoder, &requests, &groups, max_tokens);
        let keeping = GenerationConfig { keep_activations_bytes: budget.bytes(&decoder), draft_tokens, ..plain };
        prop_assert_eq!(&talk(&decoder, &requests, &keeping, of(delay)), &groups);
        prop_assert!(pass(&decoder, &requests, &groups, max_tokens) == expected);
    }
}

fn kept_groups(decoder: &Decoder, bytes: usize) -> (Vec<Request>, Vec<Vec<Completion>>) {
    let requests = requests(&[7, 12, 20], 3, plain().vocab);
    let config = GenerationConfig {
        max_new_tokens: 20,
        keep_activations_bytes: bytes,
        ..GenerationConfig::new(StopTokens::new([7, 9, 11]))
    };
    let groups = decoder.generate(&requests, &config).unwrap();
    (requests, groups)
}

#[test]
fn everything_is_kept_where_it_fits_and_used_up_by_the_first_pass() {
    let decoder = decoder(plain());
    let (requests, groups) = kept_groups(&decoder, 1 << 30);
    assert_eq!(decoder.kept_tokens(), tokens_of(&requests, &groups));
    let trained = pass(&decoder, &requests, &groups, 10_000);
    assert_eq!(decoder.kept_tokens(), 0);
    assert!(trained == pass(&decoder, &requests, &groups, 10_000));
}

#[test]
fn completions_that_are_not_wanted_are_given_up_and_prompts_with_their_last_one() {
    let decoder = decoder(plain());
    let (requests, groups) = kept_groups(&decoder, 1 << 30);
    // The first sample's number is that of its request.
    decoder.release_activations(&|draw, sample| draw == 1 || (draw, sample) == (2, 3));
    let left = [groups[1].clone(), groups[2][1..2].to_vec()];
    assert_eq!(decoder.kept_tokens(), tokens_of(&requests[1..], &left));
    decoder.release_activations(&|_, _| false);
    assert_eq!(decoder.kept_tokens(), 0);
}

#[test]
fn the_completions_of_the_earliest_draws_are_kept_where_memory_is_short() {
    let decoder = decoder(plain());
    let block = BLOCK * activation_bytes(decoder.config(), LayerMemory::Keep);
    // The prompts have 6 blocks; of the completions those of the first draw have 9 at most.
    let (requests, groups) = kept_groups(&decoder, 15 * block);
    decoder.release_activations(&|draw, _| draw == 0);
    assert_eq!(decoder.kept_tokens(), tokens_of(&requests[..1], &groups[..1]));
}

#[test]
fn nothing_kept_outlives_a_change_of_the_weights() {
    let mut decoder = decoder(plain());
    let (requests, groups) = kept_groups(&decoder, 1 << 30);
    let mut gradients = Gradients::new(decoder.parameters().len());
    let whole = [TokenGroup::new(&requests[0].prompt_ids, &groups[0])];
    let batch = &pack_tokens(&whole, 1000).unwrap()[0].tokens;
    decoder
        .logprobs_backward(batch, 1.0, &mut gradients, &mut |_, into| {
            into.logprobs.fill(1.0);
            Ok(())
        })
        .unwrap();
    assert!(decoder.kept_tokens() > 0);
    let mut moments = Moments::zeros(&decoder).unwrap();
    let step = AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1, grad_scale: 1.0 };
    decoder.adamw(&gradients, &mut moments, &step, 1.0).unwrap();
    assert_eq!(decoder.kept_tokens(), 0);
    let changed = pass(&decoder, &requests, &groups, 1000);

    kept_groups(&decoder, 1 << 30);
    decoder
        .update(|_, _, values| {
            values[0] += 0.5;
            Ok(())
        })
        .unwrap();
    assert_eq!(decoder.kept_tokens(), 0);
    assert!(pass(&decoder, &requests, &groups, 1000) != changed);
}
