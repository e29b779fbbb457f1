//! The decoder on the emulated kernels of a GPU against the decoder on the CPU.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod lora;
mod values;

use candle_core::Tensor;
use candle_nn::{Optimizer, SGD};
use common::{Shape, Talk, batch, decoder, talk};
use dapo_policy::candle::PolicyVars;
use dapo_policy::{
    AdamWStep, Architecture, Completion, Decoder, Device, FinishReason, GenerationConfig, Gradients, LayerMemory,
    Moments, Policy, Request, SamplingConfig, Segments, StopStrings, StopTokens, TokenBatch, TokenGroup, TokenLogprobs,
    TurnLimits, pack_tokens,
};
use std::ops::ControlFlow;
use std::sync::Arc;

fn shape(architecture: Architecture) -> Shape {
    let tied = architecture != Architecture::Llama;
    let head_dim = if architecture == Architecture::Llama { 32 } else { 64 };
    Shape { architecture, layers: 2, kv_heads: 1, group: 2, head_dim, vocab: 50, tied, seed: 11 }
}

const ARCHITECTURES: [Architecture; 3] = [Architecture::Qwen3, Architecture::Qwen2, Architecture::Llama];

fn on_gpu(shape: Shape, bf16: bool) -> Decoder {
    let mut decoder = decoder(shape);
    decoder.to_device(Device::Emulated { bf16 }).unwrap();
    decoder
}

/// Two prompts with two and one completions.
fn sample_batch(shared: bool) -> TokenBatch {
    let request =
        |prompt: &[u32], samples, draw| Request { prompt_ids: prompt.to_vec(), samples, first_sample: 0, draw };
    let requests = [request(&[3, 7, 11, 4, 2], 2, 0), request(&[9, 8], 1, 1)];
    let completion = |ids: &[u32]| Completion {
        token_ids: ids.to_vec(),
        logprobs: vec![0.0; ids.len()],
        finish_reason: FinishReason::Length,
        context: Vec::new(),
    };
    let groups = [vec![completion(&[5, 6, 7]), completion(&[1, 7, 30, 49])], vec![completion(&[12, 9])]];
    batch(&requests, &groups, shared)
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Fails where values differ by more than this part of the largest.
#[track_caller]
fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: lengths differ");
    let size = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance * size, "{what}: value {i} is {got}, expected {expected} ({size})");
    }
}

fn gradient(decoder: &Decoder, gradients: &Gradients, index: usize) -> Vec<f32> {
    flat(&decoder.gradient(gradients, index).unwrap().unwrap())
}

/// Gradients of a loss that weighs every log-prob and entropy differently.
fn gradients(decoder: &Decoder, batch: &TokenBatch) -> (Gradients, TokenLogprobs) {
    let mut gradients = Gradients::new(decoder.parameters().len());
    let mut seen = TokenLogprobs::default();
    decoder
        .logprobs_backward(batch, 0.8, &mut gradients, &mut |rows, into| {
            for i in 0..rows.logprobs.len() {
                into.logprobs[i] = 0.3 + 0.1 * (rows.start + i) as f32;
                into.entropies[i] = 0.05 - 0.02 * (rows.start + i) as f32;
            }
            seen.logprobs.extend(rows.logprobs);
            seen.entropies.extend(rows.entropies);
            Ok(())
        })
        .unwrap();
    (gradients, seen)
}

/// The ways in which a batch may be packed and a layer's values kept.
const WAYS: [(bool, LayerMemory); 3] =
    [(true, LayerMemory::Keep), (false, LayerMemory::Keep), (true, LayerMemory::Recompute)];

#[test]
fn log_probs_and_the_gradient_of_every_parameter_agree_with_the_cpu() {
    for architecture in ARCHITECTURES {
        let (cpu, mut gpu) = (decoder(shape(architecture)), on_gpu(shape(architecture), false));
        let expected = cpu.logprobs(&sample_batch(true), 0.8).unwrap();
        for (shared, memory) in WAYS {
            gpu.set_layer_memory(memory);
            let batch = sample_batch(shared);
            let scored = gpu.logprobs(&batch, 0.8).unwrap();
            assert_close("log-probs", &scored.logprobs, &expected.logprobs, 1e-5);
            assert_close("entropies", &scored.entropies, &expected.entropies, 1e-5);
            let ((of_cpu, _), (of_gpu, seen)) = (gradients(&cpu, &batch), gradients(&gpu, &batch));
            assert_eq!(seen, scored, "one forward serves both");
            for (index, (name, _)) in cpu.parameters().iter().enumerate() {
                let (expected, got) = (gradient(&cpu, &of_cpu, index), gradient(&gpu, &of_gpu, index));
                assert!(expected.iter().any(|g| *g != 0.0), "{name} has a gradient");
                assert_close(&format!("{architecture:?} {memory:?}: {name}"), &got, &expected, 4e-5);
            }
        }
    }
}

/// √Σ (a − b)² / √Σ a².
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let difference: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / a.iter().map(|a| a.powi(2)).sum::<f32>()).sqrt()
}

/// The yardstick is what rounding nothing but the weights to bf16 does to the same figure on the CPU, `nearby`. On its
/// way each weight's product meets some 16 roundings of that size: weight, input, output, residual stream, norm and
/// attention, and the gradients of each. They are independent, so that √16 yardsticks bound them.
#[track_caller]
fn assert_rounded(what: &str, expected: &[f32], nearby: &[f32], got: &[f32]) {
    let (yardstick, off) = (distance(expected, nearby), distance(expected, got));
    assert!(off < 4.0 * yardstick, "{what} differ by {off}, with rounded weights by {yardstick}");
}

/// Rounds what is trained of a decoder to bf16.
fn round_weights(decoder: &mut Decoder) {
    decoder
        .update(|_, _, values| {
            for x in values {
                *x = half::bf16::from_f32(*x).to_f32();
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn in_bf16_they_differ_by_its_rounding() {
    for architecture in ARCHITECTURES {
        let (cpu, mut gpu) = (decoder(shape(architecture)), on_gpu(shape(architecture), true));
        let mut rounded = decoder(shape(architecture));
        round_weights(&mut rounded);
        for (shared, memory) in WAYS {
            gpu.set_layer_memory(memory);
            let batch = sample_batch(shared);
            let ((of_cpu, expected), (of_rounded, nearby)) = (gradients(&cpu, &batch), gradients(&rounded, &batch));
            let (of_gpu, seen) = gradients(&gpu, &batch);
            let about = format!("{architecture:?} {memory:?}");
            assert_rounded(&format!("{about}: log-probs"), &expected.logprobs, &nearby.logprobs, &seen.logprobs);
            assert_rounded(&format!("{about}: entropies"), &expected.entropies, &nearby.entropies, &seen.entropies);
            for (index, (name, _)) in cpu.parameters().iter().enumerate() {
                let (expected, nearby) = (gradient(&cpu, &of_cpu, index), gradient(&rounded, &of_rounded, index));
                assert_rounded(&format!("{about}: {name}"), &expected, &nearby, &gradient(&gpu, &of_gpu, index));
            }
        }
    }
}

#[test]
fn gradients_of_two_batches_add_up_and_clearing_begins_anew() {
    let gpu = on_gpu(shape(Architecture::Qwen2), false);
    let (mut sum, _) = gradients(&gpu, &sample_batch(true));
    let once: Vec<Vec<f32>> = (0..sum.len()).map(|i| gradient(&gpu, &sum, i)).collect();
    let add = |sum: &mut Gradients| {
        gpu.logprobs_backward(&sample_batch(true), 0.8, sum, &mut |rows, into| {
            for i in 0..rows.logprobs.len() {
                into.logprobs[i] = 0.3 + 0.1 * (rows.start + i) as f32;
                into.entropies[i] = 0.05 - 0.02 * (rows.start + i) as f32;
            }
            Ok(())
        })
        .unwrap();
    };
    add(&mut sum);
    for (i, once) in once.iter().enumerate() {
        let twice: Vec<f32> = once.iter().map(|g| 2.0 * g).collect();
        assert_close("twice", &gradient(&gpu, &sum, i), &twice, 1e-5);
    }
    sum.clear();
    assert!(gpu.gradient(&sum, 0).unwrap().is_none());
    add(&mut sum);
    for (i, once) in once.iter().enumerate() {
        assert_eq!(&gradient(&gpu, &sum, i), once, "the same bits on every run");
    }
}

#[test]
fn logits_agree_with_the_cpu() {
    let ids = [4u32, 9, 30, 2, 2, 17];
    let segments = Arc::new(Segments::new([(3, None), (2, Some(0)), (1, None)]).unwrap());
    for architecture in ARCHITECTURES {
        let expected = flat(&decoder(shape(architecture)).logits(&ids, &segments).unwrap());
        let got = flat(&on_gpu(shape(architecture), false).logits(&ids, &segments).unwrap());
        assert_close("logits", &got, &expected, 1e-5);
    }
}

fn requests() -> Vec<Request> {
    let prompt = |len: usize, seed: usize| (0..len).map(|i| ((i * 7 + seed * 13 + 3) % 50) as u32).collect();
    // Below, at and above whole blocks of the cache.
    [(3, 3), (32, 2), (33, 1), (40, 2)]
        .into_iter()
        .enumerate()
        .map(|(i, (len, samples))| Request { prompt_ids: prompt(len, i), samples, first_sample: i, draw: i as u64 })
        .collect()
}

/// Whoever speaks up to `turns - 1` times in a completion.
fn talker(vocab: usize, turns: usize) -> Talk {
    Talk { vocab, turns, longest: 40, max_context: 90, max_new_tokens: 21, delay: 1, calls: 0, open: Vec::new() }
}

#[test]
fn greedy_turns_give_the_cpus_tokens_and_log_probs_of_the_whole_conversation() {
    for architecture in ARCHITECTURES {
        let limits = TurnLimits { max_turn_tokens: Some(6), max_context_tokens: 90 };
        let config = GenerationConfig {
            max_new_tokens: 21,
            sampling: SamplingConfig::GREEDY,
            turns: Some(limits),
            ..GenerationConfig::new(StopTokens::new([1, 2, 5]))
        };
        let vocab = shape(architecture).vocab;
        let expected = talk(&decoder(shape(architecture)), &requests(), &config, talker(vocab, 5));
        let gpu = on_gpu(shape(architecture), false);
        let got = talk(&gpu, &requests(), &config, talker(vocab, 5));
        let mut context = 0;
        for (expected, got) in expected.iter().flatten().zip(got.iter().flatten()) {
            assert_eq!((&expected.token_ids, &expected.context), (&got.token_ids, &got.context));
            assert_eq!(expected.finish_reason, got.finish_reason);
            assert_close("log-probs", &got.logprobs, &expected.logprobs, 1e-4);
            context += got.context.len();
        }
        assert!(context > 5, "{context}");
        let requests = requests();
        let whole = requests.iter().zip(&got).map(|(request, group)| TokenGroup::new(&request.prompt_ids, group));
        let groups: Vec<TokenGroup<'_>> = whole.collect();
        let packed = pack_tokens(&groups, 100_000).unwrap().remove(0);
        let scored = gpu.logprobs(&packed.tokens, 1.0).unwrap().logprobs;
        let rolled_out: Vec<f32> = got.iter().flatten().flat_map(|completion| completion.logprobs.clone()).collect();
        assert_close("scores", &scored, &rolled_out, 1e-4);
    }
}

#[test]
fn drawn_turns_depend_on_neither_the_room_nor_when_they_are_answered() {
    let shape = shape(ARCHITECTURES[0]);
    let gpu = on_gpu(shape, false);
    let limits = TurnLimits { max_turn_tokens: Some(6), max_context_tokens: 90 };
    let config = GenerationConfig {
        max_new_tokens: 21,
        seed: 3,
        turns: Some(limits),
        ..GenerationConfig::new(StopTokens::new([1, 2]))
    };
    let groups = talk(&gpu, &requests(), &config, talker(shape.vocab, 4));
    let late = Talk { delay: 5, ..talker(shape.vocab, 4) };
    assert_eq!(talk(&gpu, &requests(), &config, late), groups);
    let last = requests().len() - 1;
    assert_eq!(talk(&gpu, &requests()[last..], &config, talker(shape.vocab, 4))[..], groups[last..]);
    // A completion of one turn is that of plain generation.
    let plain = gpu.generate(&requests(), &GenerationConfig { turns: None, ..config.clone() }).unwrap();
    let whole = GenerationConfig { turns: Some(TurnLimits { max_turn_tokens: None, ..limits }), ..config };
    assert_eq!(talk(&gpu, &requests(), &whole, talker(shape.vocab, 1)), plain);
}

#[test]
fn greedy_generation_gives_the_cpus_tokens() {
    for architecture in ARCHITECTURES {
        let config = GenerationConfig {
            max_new_tokens: 11,
            sampling: SamplingConfig::GREEDY,
            ..GenerationConfig::new(StopTokens::new([1, 2, 5]))
        };
        let expected = decoder(shape(architecture)).generate(&requests(), &config).unwrap();
        let got = on_gpu(shape(architecture), false).generate(&requests(), &config).unwrap();
        for (expected, got) in expected.iter().flatten().zip(got.iter().flatten()) {
            assert_eq!((&expected.token_ids, expected.finish_reason), (&got.token_ids, got.finish_reason));
            assert_close("log-probs", &got.logprobs, &expected.logprobs, 1e-4);
        }
    }
}

#[test]
fn sampled_generation_draws_by_the_same_keys_whatever_is_beside_it() {
    let shape = shape(Architecture::Qwen3);
    let gpu = on_gpu(shape, false);
    let base = SamplingConfig::default();
    for sampling in [
        base,
        SamplingConfig { temperature: 0.7, top_p: 0.9, top_k: Some(20), ..base },
        SamplingConfig { temperature: 1.2, min_p: 0.1, ..base },
    ] {
        let config =
            GenerationConfig { max_new_tokens: 20, sampling, seed: 5, ..GenerationConfig::new(StopTokens::new([1])) };
        let expected = decoder(shape).generate(&requests(), &config).unwrap();
        let got = gpu.generate(&requests(), &config).unwrap();
        // Rounding may turn a draw at a boundary: rarely, and the rest of that completion with it.
        let pairs = || expected.iter().flatten().zip(got.iter().flatten());
        let same = pairs().filter(|(a, b)| a.token_ids == b.token_ids).count();
        assert!(same >= 7, "{same} of 8 completions agree");
        for (a, b) in pairs().filter(|(a, b)| a.token_ids == b.token_ids) {
            assert_eq!(a.finish_reason, b.finish_reason);
            assert_close("log-probs", &b.logprobs, &a.logprobs, 1e-4);
        }
        // Room for one sequence at a time: 3 blocks of 32 positions, 2 layers, one head of 64, keys and values of 4 bytes.
        let one = GenerationConfig { cache_bytes: Some(3 * 32 * 2 * 64 * 2 * 4), ..config.clone() };
        assert_eq!(gpu.generate(&requests(), &one).unwrap(), got, "completions do not depend on the batch");
        let too_little = GenerationConfig { cache_bytes: Some(1000), ..config };
        let error = gpu.generate(&requests(), &too_little).unwrap_err().to_string();
        assert!(error.starts_with("cache_bytes is 1000"), "{error}");
    }
}

#[test]
fn a_stop_string_ends_a_completion_with_the_same_token_as_on_the_cpu() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/tiny-qwen3");
    let (cpu, tokenizer) = dapo_policy::load(folder.as_ref()).unwrap();
    let (mut gpu, _) = dapo_policy::load(folder.as_ref()).unwrap();
    gpu.to_device(Device::Emulated { bf16: false }).unwrap();
    let prompt_ids = tokenizer.encode("12+7=", false).unwrap();
    let requests = [Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 }];
    let sampling = SamplingConfig::GREEDY;
    let plain = GenerationConfig { max_new_tokens: 16, sampling, ..GenerationConfig::new(StopTokens::none()) };
    let whole = cpu.generate(&requests, &plain).unwrap().remove(0).remove(0);
    // Strings that end at tokens 2 to 16: within eight tokens that are drawn at once, and with the last one.
    for end in [2, 7, 8, 9, 13, 16] {
        let text = tokenizer.decode(&whole.token_ids[..end], true).unwrap();
        let stop_strings = StopStrings::new([text], &tokenizer).unwrap();
        let config = GenerationConfig { stop_strings, ..plain.clone() };
        let [expected, got] =
            [&cpu, &gpu].map(|policy| policy.generate(&requests, &config).unwrap().remove(0).remove(0));
        assert_eq!((got.token_ids.len(), got.finish_reason), (end, FinishReason::Stop));
        assert_eq!((&got.token_ids, got.logprobs.len()), (&expected.token_ids, end));
    }
}

#[test]
fn a_repetition_penalty_is_refused() {
    let sampling = SamplingConfig { repetition_penalty: 1.2, ..SamplingConfig::default() };
    let config = GenerationConfig { sampling, ..GenerationConfig::new(StopTokens::none()) };
    let error = on_gpu(shape(Architecture::Qwen3), false).generate(&requests(), &config).unwrap_err().to_string();
    assert_eq!(error, "repetition_penalty is 1.2, expected 1 on a GPU, which draws without a penalty; a CPU has one");
}

#[test]
fn more_completions_are_those_of_one_request_for_all() {
    let gpu = on_gpu(shape(Architecture::Qwen3), false);
    let config = GenerationConfig { max_new_tokens: 6, ..GenerationConfig::new(StopTokens::none()) };
    let all: Vec<Request> = requests().into_iter().map(|r| Request { samples: 4, ..r }).collect();
    let mut groups = vec![Vec::new(); all.len()];
    let mut more = |number: usize, group: Vec<Completion>| {
        groups[number].extend(group);
        4usize.saturating_sub(groups[number].len()).min(1)
    };
    gpu.generate_more(&requests(), &config, &mut more).unwrap();
    assert_eq!(groups, gpu.generate(&all, &config).unwrap());
}

#[test]
fn a_rollouts_log_probs_agree_with_a_training_pass_to_rounding() {
    let gpu = on_gpu(shape(Architecture::Qwen2), false);
    assert!(!gpu.exact_rollout() && decoder(shape(Architecture::Qwen2)).exact_rollout());
    let config = GenerationConfig { max_new_tokens: 9, ..GenerationConfig::new(StopTokens::none()) };
    let groups = gpu.generate(&requests(), &config).unwrap();
    let scored = gpu.logprobs(&batch(&requests(), &groups, true), 1.0).unwrap();
    let rolled_out: Vec<f32> = groups.iter().flatten().flat_map(|c| c.logprobs.clone()).collect();
    assert_close("log-probs", &scored.logprobs, &rolled_out, 1e-5);
}

fn step(number: u64) -> AdamWStep {
    AdamWStep { lr: 1e-2, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: number, grad_scale: 1.0 }
}

fn update(decoder: &mut Decoder, moments: &mut Moments, number: u64, max_norm: f64) -> f64 {
    let (gradients, _) = gradients(decoder, &sample_batch(true));
    decoder.adamw(&gradients, moments, &step(number), max_norm).unwrap()
}

/// Two updates of both, the first clipped; their norms must agree. Returns the second one's moments.
fn update_both(cpu: &mut Decoder, gpu: &mut Decoder) -> Moments {
    let (mut of_cpu, mut of_gpu) = (Moments::zeros(cpu).unwrap(), Moments::zeros(gpu).unwrap());
    for (number, max_norm) in [(1, 0.5), (2, f64::INFINITY)] {
        let expected = update(cpu, &mut of_cpu, number, max_norm);
        let norm = update(gpu, &mut of_gpu, number, max_norm);
        assert!((norm - expected).abs() < 1e-5 * expected, "{norm} {expected}");
    }
    of_gpu
}

/// Another decoder's moments, as a checkpoint would carry them over.
fn carried_over(moments: &Moments, from: &Decoder, to: &Decoder) -> Moments {
    let mut carried = Moments::zeros(to).unwrap();
    for index in 0..to.parameters().len() {
        let (m, v) = moments.read(from, index).unwrap();
        carried.write(to, index, &m, &v).unwrap();
    }
    carried
}

#[test]
fn updates_give_the_cpus_weights_and_can_go_on_from_what_was_read() {
    let shape = shape(Architecture::Qwen3);
    let (mut cpu, mut gpu) = (decoder(shape), on_gpu(shape, false));
    let mut of_gpu = update_both(&mut cpu, &mut gpu);
    let (expected, got) = (cpu.tensors().unwrap(), gpu.tensors().unwrap());
    for (name, expected) in &expected {
        assert_close(name, &flat(&got[name]), &flat(expected), 2e-4);
    }
    // A second decoder takes the weights and moments, as from a checkpoint, and goes on to the bit.
    let mut second = on_gpu(shape, false);
    second.load_trainable(&got).unwrap();
    let mut moments = carried_over(&of_gpu, &gpu, &second);
    update(&mut gpu, &mut of_gpu, 3, 1.0);
    update(&mut second, &mut moments, 3, 1.0);
    let (first, second_weights) = (gpu.tensors().unwrap(), second.tensors().unwrap());
    for (name, tensor) in &first {
        assert_eq!(flat(tensor), flat(&second_weights[name]), "{name}");
    }
    // Back on the CPU the decoder has the device's weights.
    second.to_device(Device::Cpu).unwrap();
    let (a, b) = (second.logprobs(&sample_batch(true), 1.0).unwrap(), gpu.logprobs(&sample_batch(true), 1.0).unwrap());
    assert_close("log-probs", &a.logprobs, &b.logprobs, 1e-5);
}

#[test]
fn gradients_that_are_not_finite_change_nothing() {
    let mut gpu = on_gpu(shape(Architecture::Qwen3), false);
    let mut gradients = Gradients::new(gpu.parameters().len());
    gpu.logprobs_backward(&sample_batch(true), 1.0, &mut gradients, &mut |_, into| {
        into.logprobs.fill(f32::NAN);
        Ok(())
    })
    .unwrap();
    let before = gpu.tensors().unwrap();
    let mut moments = Moments::zeros(&gpu).unwrap();
    assert!(!gpu.adamw(&gradients, &mut moments, &step(1), 1.0).unwrap().is_finite());
    for (name, tensor) in gpu.tensors().unwrap() {
        assert_eq!(flat(&tensor), flat(&before[&name]), "{name}");
    }
}

#[test]
fn a_reference_is_a_copy_on_the_device_that_can_follow() {
    let mut policy = on_gpu(shape(Architecture::Qwen3), false);
    let mut reference = policy.frozen_copy().unwrap();
    assert!(reference.is_on_device());
    let before = policy.logprobs(&sample_batch(true), 1.0).unwrap();
    policy
        .update(|_, _, values| {
            for x in values {
                *x *= 1.1;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(reference.logprobs(&sample_batch(true), 1.0).unwrap(), before);
    let after = policy.logprobs(&sample_batch(true), 1.0).unwrap();
    assert_ne!(after, before);
    reference.mix_from(&policy, 1.0).unwrap();
    assert_eq!(reference.logprobs(&sample_batch(true), 1.0).unwrap(), after);
}

#[test]
fn what_does_not_run_on_a_gpu_is_refused_by_name() {
    let narrow = Shape { head_dim: 96, ..shape(Architecture::Qwen3) };
    let error = decoder(narrow).to_device(Device::Emulated { bf16: true }).unwrap_err().to_string();
    assert_eq!(error, "head_dim is 96, expected 32, 64 or 128 on a GPU");
    let gpu = on_gpu(shape(Architecture::Qwen3), false);
    let mut bad = sample_batch(true);
    bad.token_ids[0] = 50;
    assert!(gpu.logprobs(&bad, 1.0).is_err());
    assert!(gpu.logprobs(&sample_batch(true), 0.0).is_err());
}

#[test]
fn variables_on_the_host_train_a_decoder_on_a_device() {
    let (reference, shared) = (on_gpu(shape(Architecture::Qwen3), false), sample_batch(true));
    let mut policy = PolicyVars::new(on_gpu(shape(Architecture::Qwen3), false)).unwrap();
    let (expected, seen) = gradients(&reference, &shared);
    let scores = policy.token_logprobs(&shared, 0.8).unwrap();
    assert_eq!(flat(&scores.logprobs), reference.logprobs(&shared, 0.8).unwrap().logprobs);
    let weights = |a: f32, b: f32| {
        let values: Vec<f32> = (0..seen.logprobs.len()).map(|i| a + b * i as f32).collect();
        Tensor::from_vec(values, seen.logprobs.len(), &candle_core::Device::Cpu).unwrap()
    };
    let loss = (scores.logprobs * weights(0.3, 0.1)).unwrap().sum_all().unwrap();
    let loss = (loss + (scores.entropies * weights(0.05, -0.02)).unwrap().sum_all().unwrap()).unwrap();
    let store = loss.backward().unwrap();
    for (index, (name, var)) in policy.named_vars().enumerate() {
        assert_eq!(flat(store.get(var).unwrap()), gradient(&reference, &expected, index), "{name}");
    }

    let mut sgd = SGD::new(policy.vars(), 0.1).unwrap();
    sgd.step(&store).unwrap();
    let tensors = policy.named_vars().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect();
    let mut moved = on_gpu(shape(Architecture::Qwen3), false);
    moved.load_trainable(&tensors).unwrap();
    let (after, moved) = (policy.decoder().unwrap(), moved.logprobs(&shared, 0.8).unwrap());
    assert_eq!(after.logprobs(&shared, 0.8).unwrap(), moved);
    assert_ne!(seen.logprobs, moved.logprobs);
}

#[test]
fn a_watched_completion_is_that_of_generate_and_can_be_ended() {
    let decoder = on_gpu(shape(Architecture::Qwen3), false);
    let config = GenerationConfig { max_new_tokens: 24, ..GenerationConfig::new(StopTokens::new([7, 9])) };
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
        assert!(seen.windows(2).all(|two| two[1].len() <= two[0].len() + 8), "{seen:?}");

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
