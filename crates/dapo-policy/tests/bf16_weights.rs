//! A decoder with weights in bf16 has the bits of one in f32 whose weights were rounded before. With products in bf16 it
//! has bits of its own, the same in rollout, score and training.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{Shape, adapted, batch, bits, decoder, numbers, plain};
use dapo_policy::{
    AdamWStep, Architecture, Completion, Compute, Decoder, GenerationConfig, Gradients, LayerMemory, LoraConfig,
    LoraTarget, Moments, Policy, Request, Segments, StopTokens, TokenBatch, ValueHead, WeightFormat,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
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

fn lora() -> LoraConfig {
    LoraConfig { rank: 5, alpha: 9.0, targets: LoraTarget::ALL.to_vec(), rslora: false }
}

/// Candle's rounding.
fn rounded(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    let round = |tensor: Tensor| tensor.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, round(tensor))).collect()
}

/// The decoder in bf16, and one in f32 with rounded weights; with the same adapters where it is to have some.
fn pair(shape: Shape, with_adapters: bool) -> (Decoder, Decoder) {
    let plain = decoder(shape);
    let mut reference = Decoder::new(plain.config().clone(), rounded(plain.tensors().unwrap())).unwrap();
    let mut own = if with_adapters { adapted(shape, &lora()) } else { plain };
    own.set_weight_format(WeightFormat::Bf16).unwrap();
    if with_adapters {
        reference = reference.with_lora(&lora(), 0).unwrap();
        reference.load_trainable(&own.trainable_tensors().unwrap()).unwrap();
    }
    (own, reference)
}

fn requests(shape: Shape, lengths: &[usize], samples: usize) -> Vec<Request> {
    let prompt = |(i, n): (usize, &usize)| Request {
        prompt_ids: (0..*n).map(|t| ((t * 31 + i * 17 + 3) % shape.vocab) as u32).collect(),
        samples,
        first_sample: 0,
        draw: i as u64,
    };
    lengths.iter().enumerate().map(prompt).collect()
}

/// Log-probs seen in training, and the gradient of every parameter.
fn gradients(decoder: &Decoder, batch: &TokenBatch) -> (Vec<u32>, Gradients) {
    let mut gradients = Gradients::new(decoder.parameters().len());
    let mut seen = vec![0.0; batch.targets.len()];
    let mut loss = |rows: dapo_policy::Rows<'_>, into: dapo_policy::RowGradients<'_>| {
        seen[rows.start..][..rows.logprobs.len()].copy_from_slice(rows.logprobs);
        for (i, (g, h)) in into.logprobs.iter_mut().zip(into.entropies).enumerate() {
            (*g, *h) = (((rows.start + i) as f32).sin(), 0.1);
        }
        Ok(())
    };
    decoder.logprobs_backward(batch, 0.9, &mut gradients, &mut loss).unwrap();
    (bits(seen), gradients)
}

fn gradient_bits(decoder: &Decoder, gradients: &Gradients) -> Vec<Option<Vec<u32>>> {
    let flat = |tensor: Tensor| bits(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    (0..decoder.parameters().len()).map(|i| decoder.gradient(gradients, i).unwrap().map(flat)).collect()
}

fn tensor_bits(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<u32>> {
    let flat = |tensor: Tensor| bits(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    tensors.into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

fn rollout(decoder: &Decoder, requests: &[Request], max_new_tokens: usize) -> Vec<Vec<Completion>> {
    let config = GenerationConfig { max_new_tokens, seed: 3, ..GenerationConfig::new(StopTokens::new([1])) };
    decoder.generate(requests, &config).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn everything_has_the_bits_of_rounded_weights(
        shape in shapes(),
        with_adapters in any::<bool>(),
        recompute in any::<bool>(),
        lengths in prop::collection::vec(1..90usize, 1..5),
        samples in 1..9usize,
        max_new_tokens in 1..50usize,
    ) {
        let (mut own, mut reference) = pair(shape, with_adapters);
        let memory = if recompute { LayerMemory::Recompute } else { LayerMemory::Keep };
        own.set_layer_memory(memory);
        reference.set_layer_memory(memory);
        let requests = requests(shape, &lengths, samples);
        let groups = rollout(&own, &requests, max_new_tokens);
        prop_assert_eq!(&groups, &rollout(&reference, &requests, max_new_tokens), "generation");

        let batch = batch(&requests, &groups, true);
        let rolled_out = bits(groups.iter().flatten().flat_map(|c| c.logprobs.clone()));
        prop_assert_eq!(&bits(own.logprobs(&batch, 1.0).unwrap().logprobs), &rolled_out, "rollout and score");
        let scores = |decoder: &Decoder| decoder.logprobs(&batch, 0.9).unwrap();
        let scored = bits(scores(&own).logprobs);
        prop_assert_eq!(&scored, &bits(scores(&reference).logprobs), "scores");
        prop_assert_eq!(bits(scores(&own).entropies), bits(scores(&reference).entropies), "entropies");

        let ((seen, of_own), (seen_by_reference, of_reference)) = (gradients(&own, &batch), gradients(&reference, &batch));
        prop_assert_eq!(&seen, &scored, "score and training");
        prop_assert_eq!(&seen, &seen_by_reference, "training");
        prop_assert!(gradient_bits(&own, &of_own) == gradient_bits(&reference, &of_reference), "gradients");
        if with_adapters {
            let base = |decoder: &Decoder| bits(decoder.base_logprobs(&batch, 0.9).unwrap().logprobs);
            prop_assert_eq!(base(&own), base(&reference), "without the adapters");
        }

        let segments = Arc::new(Segments::new([(lengths[0], None)]).unwrap());
        let inside = |decoder: &Decoder| {
            let mut states = decoder.hidden_states(&requests[0].prompt_ids, &segments).unwrap();
            states.push(decoder.logits(&requests[0].prompt_ids, &segments).unwrap());
            states.into_iter().map(|s| bits(s.flatten_all().unwrap().to_vec1::<f32>().unwrap())).collect::<Vec<_>>()
        };
        prop_assert!(inside(&own) == inside(&reference), "hidden states and logits");
    }

    #[test]
    fn products_in_bf16_are_the_same_in_rollout_score_and_training(
        shape in shapes(),
        with_adapters in any::<bool>(),
        recompute in any::<bool>(),
        lengths in prop::collection::vec(1..90usize, 1..5),
        samples in 1..9usize,
        max_new_tokens in 1..50usize,
    ) {
        let (mut own, reference) = pair(shape, with_adapters);
        let unrounded = if with_adapters { adapted(shape, &lora()) } else { decoder(shape) };
        if !Compute::Bf16.is_supported() {
            let error = own.set_compute(Compute::Bf16).unwrap_err().to_string();
            prop_assert!(error.contains("AVX512-BF16"), "{}", error);
            return Ok(());
        }
        own.set_compute(Compute::Bf16).unwrap();
        own.set_layer_memory(if recompute { LayerMemory::Recompute } else { LayerMemory::Keep });
        let requests = requests(shape, &lengths, samples);
        let groups = rollout(&own, &requests, max_new_tokens);
        let everything = batch(&requests, &groups, true);
        let (seen, without) = gradients(&own, &everything);
        let rolled_out = bits(groups.iter().flatten().flat_map(|c| c.logprobs.clone()));
        prop_assert_eq!(&bits(own.logprobs(&everything, 1.0).unwrap().logprobs), &rolled_out, "rollout and score");
        let scored = bits(own.logprobs(&everything, 0.9).unwrap().logprobs);
        prop_assert_eq!(&seen, &scored, "score and training");

        // A backward pass that starts from what generation kept.
        let keeping = GenerationConfig {
            max_new_tokens, seed: 3, keep_activations_bytes: usize::MAX, ..GenerationConfig::new(StopTokens::new([1]))
        };
        prop_assert_eq!(&own.generate(&requests, &keeping).unwrap(), &groups);
        prop_assert!(gradient_bits(&own, &gradients(&own, &everything).1) == gradient_bits(&own, &without), "kept");

        // A completion among others, and alone.
        let first = batch(&requests[..1], &[groups[0][..1].to_vec()], true);
        let alone = bits(own.logprobs(&first, 1.0).unwrap().logprobs);
        prop_assert_eq!(&alone[..], &rolled_out[..alone.len()], "alone");

        // Not the gradient of f32 products, and about as far from it as rounding the weights moves it. How far that is
        // depends on how much of a gradient cancels, for both alike.
        let flat = |decoder: &Decoder, gradients: &Gradients| -> Vec<f64> {
            let tensor = |i| decoder.gradient(gradients, i).unwrap().unwrap().flatten_all().unwrap();
            let all = (0..decoder.parameters().len()).flat_map(|i| tensor(i).to_vec1::<f32>().unwrap());
            all.map(f64::from).collect()
        };
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let in_f32 = |decoder: &Decoder| flat(decoder, &gradients(decoder, &everything).1);
        let (rounded, unrounded) = (in_f32(&reference), in_f32(&unrounded));
        let (moved, by_weights) = (distance(&flat(&own, &without), &rounded), distance(&unrounded, &rounded));
        prop_assert!(moved > 0.0 && moved < 3.0 * by_weights, "{} against {}", moved, by_weights);
    }

    #[test]
    fn updates_change_f32_values_which_are_rounded_again(shape in shapes(), length in 2..60usize) {
        let (mut own, reference) = pair(shape, false);
        // The f32 values as they were, changed by the same gradients.
        let mut masters = decoder(shape);
        prop_assert!(tensor_bits(masters.tensors().unwrap()) == tensor_bits(own.tensors().unwrap()));
        let token_ids = (0..length).map(|t| (t * 7 % shape.vocab) as u32).collect();
        let segments = Arc::new(Segments::new([(length, None)]).unwrap());
        let batch = TokenBatch { token_ids, segments, targets: (1..length).collect() };
        let (_, of_reference) = gradients(&reference, &batch);
        let (mut moments, mut moments_of_masters) = (Moments::zeros(&own).unwrap(), Moments::zeros(&masters).unwrap());
        let step = AdamWStep {
            lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0,
        };
        let (_, of_own) = gradients(&own, &batch);
        let norm = own.adamw(&of_own, &mut moments, &step, 1.0).unwrap();
        prop_assert_eq!(norm, masters.adamw(&of_reference, &mut moments_of_masters, &step, 1.0).unwrap());
        prop_assert_eq!(own.weights_norm().unwrap(), masters.weights_norm().unwrap());
        prop_assert!(tensor_bits(own.tensors().unwrap()) == tensor_bits(masters.tensors().unwrap()), "f32 values");

        let config = masters.config().clone();
        let again = Decoder::new(config, rounded(masters.tensors().unwrap())).unwrap();
        let scores = |decoder: &Decoder| bits(decoder.logprobs(&batch, 1.0).unwrap().logprobs);
        prop_assert_eq!(scores(&own), scores(&again), "after the update");

        // A checkpoint has the f32 values: a run that continues from it is where it was.
        let mut resumed = decoder(shape);
        resumed.set_weight_format(WeightFormat::Bf16).unwrap();
        resumed.load_trainable(&own.trainable_tensors().unwrap()).unwrap();
        prop_assert_eq!(scores(&resumed), scores(&own), "resumed");
        prop_assert!(tensor_bits(resumed.tensors().unwrap()) == tensor_bits(own.tensors().unwrap()));
        // And back.
        own.set_weight_format(WeightFormat::F32).unwrap();
        prop_assert_eq!(scores(&own), scores(&masters), "in f32 again");
    }
}

#[test]
fn a_critic_has_the_bits_of_rounded_weights() {
    let (own, reference) = pair(plain(), false);
    let token_ids: Vec<u32> = (0..40).map(|t| t * 7 % 50).collect();
    let segments = Arc::new(Segments::new([(40, None)]).unwrap());
    let batch = TokenBatch { token_ids, segments, targets: (1..40).collect() };
    let mut next = numbers(9);
    let weights: Vec<f32> = (0..own.config().hidden_size).map(|_| next()).collect();
    let run = |decoder: &Decoder| {
        let mut head = ValueHead::new(weights.len());
        let weight = Tensor::from_slice(&weights, (1, weights.len()), &Device::Cpu).unwrap();
        let bias = Tensor::new(&[0.3f32], &Device::Cpu).unwrap();
        head.load(&BTreeMap::from([("value_head.weight".into(), weight), ("value_head.bias".into(), bias)])).unwrap();
        let values = decoder.values(&batch, &head).unwrap();
        let mut gradients = Gradients::new(decoder.parameters().len());
        let mut loss = |values: &[f32], into: &mut [f32]| {
            into.iter_mut().zip(values).for_each(|(g, v)| *g = v - 1.0);
            Ok(())
        };
        decoder.values_backward(&batch, &mut head, &mut gradients, &mut loss).unwrap();
        (bits(values), gradient_bits(decoder, &gradients))
    };
    assert!(run(&own) == run(&reference));
}

#[test]
fn products_in_bf16_need_weights_in_bf16() {
    let mut policy = decoder(plain());
    let error = policy.set_compute(Compute::Bf16).unwrap_err().to_string();
    assert_eq!(error, "compute is bf16 with weights in f32, expected f32, or weights in bf16");
    policy.set_weight_format(WeightFormat::Bf16).unwrap();
    if Compute::Bf16.is_supported() {
        policy.set_compute(Compute::Bf16).unwrap();
        let error = policy.set_weight_format(WeightFormat::F32).unwrap_err().to_string();
        assert!(error.contains("compute is bf16"), "{error}");
        policy.set_compute(Compute::F32).unwrap();
    }
    policy.set_weight_format(WeightFormat::F32).unwrap();
    assert!(tensor_bits(policy.tensors().unwrap()) == tensor_bits(decoder(plain()).tensors().unwrap()));
}

#[test]
fn what_is_not_trained_is_kept_in_bf16_alone() {
    for with_adapters in [true, false] {
        let (own, reference) = pair(plain(), with_adapters);
        // Of a model with adapters its own weights, of a frozen copy all.
        let own = if with_adapters { own } else { own.frozen_copy().unwrap() };
        let reference = if with_adapters { reference } else { reference.frozen_copy().unwrap() };
        let of = |decoder: &Decoder, name: &str| decoder.tensors().unwrap().remove(name).unwrap();
        for name in ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"] {
            let flat = |tensor: Tensor| bits(tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            assert_eq!(flat(of(&own, name)), flat(of(&reference, name)), "{name}, adapters {with_adapters}");
        }
    }
}

#[test]
fn adapters_can_be_put_on_before_and_after() {
    let mut before = decoder(plain()).with_lora(&lora(), 4).unwrap();
    before.set_weight_format(WeightFormat::Bf16).unwrap();
    let mut after = decoder(plain());
    after.set_weight_format(WeightFormat::Bf16).unwrap();
    let after = after.with_lora(&lora(), 4).unwrap();
    assert!(tensor_bits(before.tensors().unwrap()) == tensor_bits(after.tensors().unwrap()));
    let requests = requests(plain(), &[9, 20], 3);
    assert_eq!(rollout(&before, &requests, 20), rollout(&after, &requests, 20));
}

#[test]
fn a_reference_follows_by_steps_that_bf16_cannot_tell() {
    let (mut policy, _) = pair(plain(), false);
    let mut reference = policy.frozen_copy().unwrap();
    let begin = tensor_bits(rounded(policy.tensors().unwrap()));
    policy
        .update(|_, _, values| {
            for value in values {
                *value *= 1.5;
            }
            Ok(())
        })
        .unwrap();
    let name = "model.layers.0.mlp.up_proj.weight";
    let value = |decoder: &Decoder| decoder.tensors().unwrap()[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (start, target) = (f32::from_bits(begin[name][0]), value(&policy)[0]);
    let mut expected = start;
    for _ in 0..200 {
        reference.mix_from(&policy, 1e-3).unwrap();
        expected = 1e-3f64 as f32 * target + (1.0 - 1e-3f64) as f32 * expected;
    }
    assert_eq!(value(&reference)[0].to_bits(), expected.to_bits());
    assert!((expected - start).abs() > 0.05 * start.abs(), "{start} {expected}");
    // What it computes with is rounded.
    let config = policy.config().clone();
    let of_rounded = Decoder::new(config, rounded(reference.tensors().unwrap())).unwrap();
    let segments = Arc::new(Segments::new([(20, None)]).unwrap());
    let batch = TokenBatch { token_ids: (0..20).collect(), segments, targets: (1..20).collect() };
    let scores = |decoder: &Decoder| bits(decoder.logprobs(&batch, 1.0).unwrap().logprobs);
    assert_eq!(scores(&reference), scores(&of_rounded));
}

#[test]
fn rounded_values_alone_compute_as_beside_their_f32_values() {
    let (mut own, _) = pair(plain(), false);
    assert!(own.trains_in_bf16() && !decoder(plain()).trains_in_bf16());
    let segments = Arc::new(Segments::new([(20, None)]).unwrap());
    let batch = TokenBatch { token_ids: (0..20).collect(), segments, targets: (1..20).collect() };
    let scores = |decoder: &Decoder| bits(decoder.logprobs(&batch, 1.0).unwrap().logprobs);
    let (before, in_f32) = (scores(&own), own.trainable_tensors().unwrap());
    let in_f32 = in_f32.into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap())).collect::<BTreeMap<_, _>>();
    let names: Vec<String> = own.parameters().iter().map(|(name, _)| (*name).to_owned()).collect();
    let values = |name: &String| in_f32[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (index, name) in names.iter().enumerate() {
        own.set_parameter_rounded(index, &values(name)).unwrap();
    }
    assert_eq!(scores(&own), before);
    assert!(tensor_bits(own.tensors().unwrap()) == tensor_bits(rounded(in_f32.clone())));
    let (_, gradients) = gradients(&own, &batch);
    let step = AdamWStep { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 1.0 };
    let error = own.adamw(&gradients, &mut Moments::zeros(&own).unwrap(), &step, 1.0).unwrap_err().to_string();
    assert!(error.contains("without its f32 values"), "{error}");
    // A reference that follows it needs them, too.
    let mut follower = own.frozen_copy().unwrap();
    let mut expected = own.frozen_copy().unwrap();
    follower.mix_from_tensors(&in_f32, 0.25).unwrap();
    own.load_trainable(&in_f32).unwrap();
    assert!(tensor_bits(own.tensors().unwrap()) == tensor_bits(in_f32.clone()), "they are kept again");
    expected.mix_from(&own, 0.25).unwrap();
    assert!(tensor_bits(follower.tensors().unwrap()) == tensor_bits(expected.tensors().unwrap()));
    let error = follower.mix_from_tensors(&BTreeMap::new(), 0.25).unwrap_err().to_string();
    assert!(error.contains("is nothing, expected an f32 tensor of shape"), "{error}");
    let error = own.set_parameter_rounded(0, &[0.0]).unwrap_err().to_string();
    assert!(error.contains("is 1 values, expected "), "{error}");
}
