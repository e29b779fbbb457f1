//! Completions of several turns: what others say is read and not drawn, and log-probs are those of the whole conversation.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Shape, Talk, adapted, bits, decoder, plain, talk};
use dapo_policy::{
    AfterTurn, Architecture, EndedTurn, FinishReason, GenerationConfig, Gradients, LoraConfig, LoraTarget, Policy,
    PolicyError, Request, SamplingConfig, StopTokens, TokenGroup, TurnAnswer, TurnLimits, Turns, pack_tokens,
};
use proptest::prelude::*;

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let architectures = prop_oneof![Just(Architecture::Qwen3), Just(Architecture::Qwen2), Just(Architecture::Llama)];
    (architectures, 1..3usize, 1..3usize, 1..4usize, 1..4usize, 20..200usize, any::<bool>(), any::<u64>()).prop_map(
        |(architecture, layers, kv_heads, group, dim, vocab, tied, seed)| {
            let head_dim = 16 * dim;
            Shape { architecture, layers, kv_heads, group, head_dim, vocab, tied, seed }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn log_probs_over_turns_are_those_of_the_whole_conversation_bit_for_bit(
        shape in shapes(),
        has_adapters in any::<bool>(),
        lengths in prop::collection::vec(1..60usize, 1..4),
        samples in 1..4usize,
        max_new_tokens in 1..60usize,
        max_turn_tokens in prop::option::of(1..20usize),
        longest in 0..70usize,
        turns in 1..6usize,
        temperature in prop_oneof![Just(1.0f32), Just(0.7)],
        seed in any::<u64>(),
    ) {
        let lora = LoraConfig { rank: 3, alpha: 8.0, targets: LoraTarget::ALL.to_vec(), rslora: false };
        let decoder = if has_adapters { adapted(shape, &lora) } else { decoder(shape) };
        let request = |(i, n): (usize, &usize)| Request {
            prompt_ids: (0..*n).map(|t| ((t * 31 + i * 17 + 3) % shape.vocab) as u32).collect(),
            samples,
            first_sample: 0,
            draw: i as u64,
        };
        let requests: Vec<Request> = lengths.iter().enumerate().map(request).collect();
        let sampling = SamplingConfig { temperature, ..SamplingConfig::default() };
        let max_context = 150;
        let limits = TurnLimits { max_turn_tokens, max_context_tokens: max_context };
        // Turns end often: a tenth of the vocabulary ends them.
        let stop = StopTokens::new((0..shape.vocab as u32).step_by(10));
        let config =
            GenerationConfig { max_new_tokens, sampling, seed, turns: Some(limits), ..GenerationConfig::new(stop) };
        let of = |delay| Talk {
            vocab: shape.vocab, turns, longest, max_context, max_new_tokens, delay, calls: 0, open: Vec::new(),
        };
        let groups = on_threads(2, || talk(&decoder, &requests, &config, of(0)));

        // A completion does not depend on threads, on what is generated beside it, or on when turns are answered.
        let longest_sequence = lengths.iter().max().unwrap() + max_new_tokens + max_context;
        let one = longest_sequence.next_multiple_of(32) * shape.layers * shape.kv_heads * shape.head_dim * 8;
        let single = GenerationConfig { cache_bytes: Some(one), ..config.clone() };
        prop_assert_eq!(&groups, &on_threads(1, || talk(&decoder, &requests, &single, of(3))));
        let last = requests.len() - 1;
        prop_assert_eq!(&groups[last..], &talk(&decoder, &requests[last..], &config, of(1))[..]);

        let rolled_out = bits(groups.iter().flatten().flat_map(|c| c.logprobs.clone()));
        for completion in groups.iter().flatten() {
            prop_assert_eq!(completion.token_ids.len(), completion.logprobs.len());
            prop_assert!(completion.token_ids.len() <= max_new_tokens && completion.context.len() < turns);
        }
        let whole: Vec<TokenGroup<'_>> =
            requests.iter().zip(&groups).map(|(request, group)| TokenGroup::new(&request.prompt_ids, group)).collect();
        for max_tokens in [100_000, 200] {
            let (mut scored, mut trained) = (Vec::new(), Vec::new());
            for packed in pack_tokens(&whole, max_tokens).unwrap() {
                scored.extend(decoder.logprobs(&packed.tokens, temperature).unwrap().logprobs);
                let start = trained.len();
                trained.resize(start + packed.tokens.targets.len(), 0.0);
                let mut gradients = Gradients::new(decoder.parameters().len());
                decoder
                    .logprobs_backward(&packed.tokens, temperature, &mut gradients, &mut |rows, into| {
                        trained[start + rows.start..][..rows.logprobs.len()].copy_from_slice(rows.logprobs);
                        into.logprobs.fill(1.0);
                        Ok(())
                    })
                    .unwrap();
            }
            prop_assert_eq!(&bits(scored), &rolled_out, "at most {} tokens a batch", max_tokens);
            prop_assert_eq!(&bits(trained), &rolled_out, "in training");
        }
    }
}

fn requests() -> Vec<Request> {
    let request = |draw, prompt: &[u32]| Request { prompt_ids: prompt.to_vec(), samples: 5, first_sample: 2, draw };
    vec![request(4, &[3, 4]), request(9, &[5, 6, 7])]
}

fn config(limits: TurnLimits) -> GenerationConfig {
    let stop = StopTokens::new([7, 9]);
    GenerationConfig { max_new_tokens: 12, turns: Some(limits), ..GenerationConfig::new(stop) }
}

fn of(turns: usize) -> Talk {
    let vocab = plain().vocab;
    Talk { vocab, turns, longest: 6, max_context: 40, max_new_tokens: 12, delay: 0, calls: 0, open: Vec::new() }
}

#[test]
fn a_completion_of_one_turn_is_that_of_plain_generation() {
    let decoder = decoder(plain());
    let config = config(TurnLimits { max_turn_tokens: None, max_context_tokens: 40 });
    let expected = decoder.generate(&requests(), &GenerationConfig { turns: None, ..config.clone() }).unwrap();
    assert_eq!(talk(&decoder, &requests(), &config, of(1)), expected);
}

#[test]
fn turns_share_the_tokens_of_a_completion_and_have_their_own_limit() {
    let decoder = decoder(plain());
    let limits = TurnLimits { max_turn_tokens: Some(5), max_context_tokens: 40 };
    let groups = talk(&decoder, &requests(), &config(limits), of(9));
    let mut longest = 0;
    for completion in groups.iter().flatten() {
        assert!(completion.token_ids.len() <= 12);
        let mut ends: Vec<usize> = completion.context.iter().map(|context| context.at).collect();
        assert!(ends.is_sorted() && ends.first() != Some(&0));
        ends.insert(0, 0);
        ends.push(completion.token_ids.len());
        longest = longest.max(ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap());
        if completion.finish_reason == FinishReason::Stop {
            assert!([7, 9].contains(completion.token_ids.last().unwrap()));
        }
    }
    assert!(groups.iter().flatten().any(|completion| !completion.context.is_empty()));
    // A turn of nothing said in between joins the next one in this count.
    assert!((5..=12).contains(&longest), "{longest}");
}

#[test]
fn a_penalty_sees_what_others_said() {
    let decoder = decoder(plain());
    let limits = TurnLimits { max_turn_tokens: Some(3), max_context_tokens: 40 };
    let repeated = |repetition_penalty| {
        let sampling = SamplingConfig { repetition_penalty, ..SamplingConfig::default() };
        let config = GenerationConfig { sampling, stop: StopTokens::none(), ..config(limits) };
        let (mut after_context, mut repeated) = (0, 0);
        for completion in talk(&decoder, &requests(), &config, of(9)).iter().flatten() {
            for context in &completion.context {
                let after = &completion.token_ids[context.at..];
                after_context += after.len();
                repeated += after.iter().filter(|token| context.token_ids.contains(token)).count();
            }
        }
        assert!(after_context > 50, "{after_context}");
        repeated
    };
    // A token whose logit is positive can still be drawn.
    let (with, without) = (repeated(1e30), repeated(1.0));
    assert!(4 * with < without, "{with} and {without}");
}

#[test]
fn several_turns_need_limits_and_somebody_who_speaks() {
    let decoder = decoder(plain());
    let limits = TurnLimits { max_turn_tokens: None, max_context_tokens: 40 };
    let plain = GenerationConfig { turns: None, ..config(limits) };
    let error = decoder.generate_turns(&requests(), &plain, &mut of(1), &mut |_, _| 0).unwrap_err().to_string();
    assert_eq!(error, "turns is unset, expected the limits of completions of several turns");
    let error = decoder.generate(&requests(), &config(limits)).unwrap_err().to_string();
    assert_eq!(error, "turns is set, expected unset where nobody speaks between turns");
    let none = config(TurnLimits { max_turn_tokens: Some(0), ..limits });
    let error = decoder.generate_turns(&requests(), &none, &mut of(1), &mut |_, _| 0).unwrap_err().to_string();
    assert_eq!(error, "turns.max_turn_tokens is 0, expected at least 1");
    let most = decoder.config().max_position_embeddings;
    let large = config(TurnLimits { max_context_tokens: most, ..limits });
    let error = decoder.generate_turns(&requests(), &large, &mut of(1), &mut |_, _| 0).unwrap_err().to_string();
    assert!(error.starts_with("requests[0].prompt_ids is 2 tokens"), "{error}");
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    struct Outside(Option<usize>);
    impl Turns for Outside {
        fn ended(&mut self, turn: EndedTurn<'_>) -> Result<(), PolicyError> {
            self.0 = Some(turn.id);
            Ok(())
        }
        fn answers(&mut self, _: bool) -> Result<Vec<TurnAnswer>, PolicyError> {
            let then = AfterTurn::Append(vec![1, 100_000]);
            Ok(self.0.take().map(|id| TurnAnswer { id, then }).into_iter().collect())
        }
    }
    let config = config(TurnLimits { max_turn_tokens: Some(1), max_context_tokens: 40 });
    let error =
        decoder(plain()).generate_turns(&requests()[..1], &config, &mut Outside(None), &mut |_, _| 0).unwrap_err();
    assert!(error.to_string().starts_with("the answer to a turn[1] is 100000"), "{error}");
}
