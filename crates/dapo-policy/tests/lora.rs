//! Low-rank adapters: what they compute, what they learn, and what stays as it was.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{Device, Tensor};
use common::{Shape, adapted, bits, decoder, numbers, plain};
use dapo_policy::{
    Architecture, Decoder, Gradients, LayerMemory, LoraConfig, LoraTarget, Policy, Segments, TokenBatch, TokenLogprobs,
};
use std::collections::BTreeMap;
use std::sync::Arc;

const RANK: usize = 3;

fn lora(targets: &[LoraTarget]) -> LoraConfig {
    LoraConfig { rank: RANK, alpha: 4.5, targets: targets.to_vec(), rslora: false }
}

fn shapes() -> [Shape; 3] {
    let qwen2 = Shape { architecture: Architecture::Qwen2, tied: false, seed: 8, ..plain() };
    let llama = Shape { architecture: Architecture::Llama, tied: false, layers: 1, seed: 9, ..plain() };
    [plain(), qwen2, llama]
}

/// Two sequences, the second continuing the first.
fn tokens() -> TokenBatch {
    let segments = Arc::new(Segments::new([(9, None), (12, Some(0))]).unwrap());
    TokenBatch { token_ids: (0..21).map(|i| (i * 11 + 3) % 50).collect(), segments, targets: (4..21).collect() }
}

/// Gradients of Σ sin(i)·logprob + 0.2·Σ entropy.
fn gradients(decoder: &Decoder) -> Gradients {
    let mut gradients = Gradients::new(decoder.parameters().len());
    decoder
        .logprobs_backward(&tokens(), 0.9, &mut gradients, &mut |rows, into| {
            for (i, g) in into.logprobs.iter_mut().enumerate() {
                *g = ((rows.start + i) as f32).sin();
            }
            into.entropies.fill(0.2);
            Ok(())
        })
        .unwrap();
    gradients
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = b.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= tolerance * scale, "{name}: {x} {y} of {scale}");
    }
}

fn same_bits(a: &TokenLogprobs, b: &TokenLogprobs) -> bool {
    bits(a.logprobs.clone()) == bits(b.logprobs.clone()) && bits(a.entropies.clone()) == bits(b.entropies.clone())
}

#[test]
fn gradients_of_the_factors_follow_from_that_of_the_merged_weight() {
    for shape in shapes() {
        for targets in [&LoraTarget::ALL[..], &[LoraTarget::Value], &[LoraTarget::Key, LoraTarget::Down]] {
            let mut decoder = adapted(shape, &lora(targets));
            let merged = Decoder::new(decoder.config().clone(), decoder.tensors().unwrap()).unwrap();
            let of_weights = gradients(&merged);
            let weight_gradient = |name: &str| {
                let index = merged.parameters().iter().position(|(n, _)| *n == name).unwrap();
                of_weights.get(index).unwrap().clone()
            };
            for memory in [LayerMemory::Keep, LayerMemory::Recompute] {
                decoder.set_layer_memory(memory);
                let of_factors = gradients(&decoder);
                let (parameters, factors) = (decoder.parameters(), decoder.trainable_tensors().unwrap());
                assert_eq!(parameters.len(), 2 * shape.layers * targets.len());
                for (i, pair) in parameters.chunks_exact(2).enumerate() {
                    let module = pair[0].0.strip_suffix(".lora_A.weight").unwrap();
                    assert_eq!(pair[1].0, format!("{module}.lora_B.weight"));
                    let (a, b) = (&factors[pair[0].0], &factors[pair[1].0]);
                    // W' = W + s·B·A: ∂A = s·Bᵀ·∂W', ∂B = s·∂W'·Aᵀ.
                    let dw = (weight_gradient(&format!("{module}.weight")) * 1.5).unwrap();
                    let expected_a = b.t().unwrap().matmul(&dw).unwrap();
                    let expected_b = dw.matmul(&a.t().unwrap()).unwrap();
                    assert_close(module, &flat(of_factors.get(2 * i).unwrap()), &flat(&expected_a), 3e-4);
                    assert_close(module, &flat(of_factors.get(2 * i + 1).unwrap()), &flat(&expected_b), 3e-4);
                }
            }
        }
    }
}

#[test]
fn only_the_adapters_are_trained() {
    let mut decoder = adapted(plain(), &lora(&[LoraTarget::Up, LoraTarget::Query]));
    let names: Vec<&str> = decoder.parameters().into_iter().map(|(name, _)| name).collect();
    let expected = [
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.lora_B.weight",
        "model.layers.0.mlp.up_proj.lora_A.weight",
        "model.layers.0.mlp.up_proj.lora_B.weight",
        "model.layers.1.self_attn.q_proj.lora_A.weight",
        "model.layers.1.self_attn.q_proj.lora_B.weight",
        "model.layers.1.mlp.up_proj.lora_A.weight",
        "model.layers.1.mlp.up_proj.lora_B.weight",
    ];
    assert_eq!(names, expected);
    // Query 48 → 64, up 48 → 80.
    assert_eq!(decoder.num_parameters(), 2 * RANK * ((48 + 64) + (48 + 80)));
    let gradients = gradients(&decoder);
    for (i, (name, shape)) in decoder.parameters().into_iter().enumerate() {
        assert_eq!(gradients.get(i).unwrap().dims(), shape.dims());
        assert!(flat(gradients.get(i).unwrap()).iter().any(|g| *g != 0.0), "{name}");
    }
    let (tensors, logprobs) = (decoder.tensors().unwrap(), decoder.base_logprobs(&tokens(), 1.0).unwrap());
    let mut seen = Vec::new();
    decoder
        .update(|index, name, values| {
            seen.push((index, name.to_owned()));
            values[0] += 0.5;
            Ok(())
        })
        .unwrap();
    assert!(seen.iter().map(|(i, name)| (*i, name.as_str())).eq(expected.into_iter().enumerate()));
    for (name, tensor) in decoder.tensors().unwrap() {
        let changed = flat(&tensor) != flat(&tensors[&name]);
        assert_eq!(changed, name.contains("q_proj") || name.contains("up_proj"), "{name}");
    }
    assert!(same_bits(&decoder.base_logprobs(&tokens(), 1.0).unwrap(), &logprobs));
}

#[test]
fn new_adapters_change_no_bit_and_old_ones_can_be_switched_off() {
    for shape in shapes() {
        let base = decoder(shape);
        let expected = base.logprobs(&tokens(), 0.7).unwrap();
        let new = decoder(shape).with_lora(&LoraConfig { rank: 8, ..LoraConfig::default() }, 3).unwrap();
        assert!(same_bits(&new.logprobs(&tokens(), 0.7).unwrap(), &expected));
        let trained = adapted(shape, &lora(&LoraTarget::ALL));
        assert!(!same_bits(&trained.logprobs(&tokens(), 0.7).unwrap(), &expected));
        assert!(same_bits(&trained.base_logprobs(&tokens(), 0.7).unwrap(), &expected));
        let error = base.base_logprobs(&tokens(), 0.7).unwrap_err().to_string();
        assert!(error.contains("without adapters"), "{error}");
    }
}

#[test]
fn merged_weights_give_the_logits_of_the_adapters() {
    for shape in shapes() {
        let adapted = adapted(shape, &lora(&LoraTarget::ALL));
        let merged = Decoder::new(adapted.config().clone(), adapted.tensors().unwrap()).unwrap();
        let TokenBatch { token_ids, segments, .. } = tokens();
        let logits = |decoder: &Decoder| flat(&decoder.logits(&token_ids, &segments).unwrap());
        assert_close("logits", &logits(&adapted), &logits(&merged), 2e-5);
        let distance: f32 = logits(&decoder(shape)).iter().zip(logits(&merged)).map(|(x, y)| (x - y).abs()).sum();
        assert!(distance > 1.0, "the adapters do something");
    }
}

#[test]
fn the_first_factor_is_uniform_and_keyed_by_seed_and_name() {
    let values = |seed: u64| {
        let decoder = decoder(plain()).with_lora(&LoraConfig { rank: 40, ..LoraConfig::default() }, seed).unwrap();
        decoder.trainable_tensors().unwrap().into_iter().map(|(name, t)| (name, flat(&t))).collect::<BTreeMap<_, _>>()
    };
    let (first, again, other) = (values(1), values(1), values(2));
    assert_eq!(first, again);
    for (name, values) in &first {
        if name.contains("lora_B") {
            assert!(values.iter().all(|v| v.to_bits() == 0), "{name}");
            continue;
        }
        let width = values.len() / 40;
        let bound = 1.0 / (width as f32).sqrt();
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest <= bound && largest > 0.99 * bound, "{name}: {largest} {bound}");
        // Mean 0 and variance bound²/3, within five standard errors.
        let n = values.len() as f32;
        let (mean, square) = (values.iter().sum::<f32>() / n, values.iter().map(|v| v * v).sum::<f32>() / n);
        assert!(mean.abs() < 5.0 * bound / (3.0 * n).sqrt(), "{name}: {mean}");
        assert!((square / (bound * bound / 3.0) - 1.0).abs() < 5.0 * (0.8 / n).sqrt(), "{name}: {square}");
        assert_ne!(values, &other[name]);
    }
    let of = |target: &str| &first[&format!("model.layers.0.{target}_proj.lora_A.weight")];
    assert_ne!(of("self_attn.q"), of("self_attn.k"));
}

#[test]
fn wrong_adapters_are_errors_that_name_the_field() {
    let error = |rank: usize, alpha: f64, targets: &[LoraTarget]| {
        let lora = LoraConfig { rank, alpha, targets: targets.to_vec(), rslora: false };
        decoder(plain()).with_lora(&lora, 0).unwrap_err().to_string()
    };
    let query = [LoraTarget::Query];
    assert_eq!(error(0, 1.0, &query), "lora.rank is 0, expected at least 1");
    assert_eq!(error(49, 1.0, &query), "lora.rank is 49, expected at most hidden_size = 48");
    assert_eq!(error(2, 0.0, &query), "lora.alpha is 0, expected a finite number above 0");
    assert_eq!(error(2, f64::NAN, &query), "lora.alpha is NaN, expected a finite number above 0");
    assert!(error(2, 1.0, &[]).starts_with("lora.targets is empty, expected some of q_proj, k_proj"));
    let twice = [LoraTarget::Query, LoraTarget::Up, LoraTarget::Query];
    assert_eq!(error(2, 1.0, &twice), "lora.targets[2] is q_proj, expected each target once");
    let second = adapted(plain(), &lora(&query)).with_lora(&lora(&query), 0).unwrap_err().to_string();
    assert!(second.contains("expected a model without adapters"), "{second}");
    for target in LoraTarget::ALL {
        assert_eq!(target.to_string().parse::<LoraTarget>().unwrap(), target);
    }
    assert_eq!(
        "lm_head".parse::<LoraTarget>().unwrap_err().to_string(),
        "lora target is lm_head, expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
    );
}

#[test]
fn rslora_scales_by_the_root_of_the_rank() {
    let of = |alpha, rslora| {
        let lora = LoraConfig { rank: 16, alpha, rslora, ..LoraConfig::default() };
        adapted(plain(), &lora).tensors().unwrap()
    };
    // α / √16 of α = 4.5 is α / 16 of α = 18.
    let (stabilised, plain, same) = (of(4.5, true), of(4.5, false), of(18.0, false));
    for (name, tensor) in stabilised.iter().filter(|(name, _)| name.contains("_proj.weight")) {
        assert_eq!(flat(tensor), flat(&same[name]), "{name}");
        assert_ne!(flat(tensor), flat(&plain[name]), "{name}");
    }
}

#[test]
fn gradients_for_other_tensors_are_refused() {
    let decoder = adapted(plain(), &lora(&[LoraTarget::Gate]));
    let backward = |decoder: &Decoder, n: usize| {
        let outcome = decoder.logprobs_backward(&tokens(), 1.0, &mut Gradients::new(n), &mut |_, _| Ok(()));
        outcome.unwrap_err().to_string()
    };
    assert!(backward(&decoder, 5).contains("5 gradients for 4 trainable tensors"));
    assert!(backward(&decoder.frozen_copy().unwrap(), 0).contains("0 gradients for 0 trainable tensors"));
}

/// Changes every trainable value a little.
fn train(decoder: &mut Decoder, seed: u64) {
    let mut next = numbers(seed);
    decoder
        .update(|_, _, values| {
            for value in values {
                *value += 0.1 * next();
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_frozen_copy_keeps_its_values_while_the_policy_learns() {
    let mut policy = decoder(plain());
    let reference = policy.frozen_copy().unwrap();
    let before = policy.logprobs(&tokens(), 1.0).unwrap();
    train(&mut policy, 4);
    assert!(same_bits(&reference.logprobs(&tokens(), 1.0).unwrap(), &before));
    assert!(!same_bits(&policy.logprobs(&tokens(), 1.0).unwrap(), &before));
    assert_eq!((reference.parameters().len(), reference.num_parameters()), (0, 0));
    let adapted = adapted(plain(), &lora(&LoraTarget::ALL));
    let copy = adapted.frozen_copy().unwrap();
    assert!(copy.lora().is_none());
    for (name, tensor) in adapted.tensors().unwrap() {
        assert_eq!(flat(&tensor), flat(&copy.tensors().unwrap()[&name]), "{name}");
    }
}

#[test]
fn a_reference_moves_towards_the_policy_by_the_mixup() {
    for adapters in [false, true] {
        let mut policy = if adapters { adapted(plain(), &lora(&LoraTarget::ALL)) } else { decoder(plain()) };
        let mut reference = policy.frozen_copy().unwrap();
        let old = reference.tensors().unwrap().into_iter().map(|(n, t)| (n, flat(&t))).collect::<BTreeMap<_, _>>();
        train(&mut policy, 6);
        reference.mix_from(&policy, 0.0).unwrap();
        let values = |decoder: &Decoder| -> BTreeMap<String, Vec<f32>> {
            decoder.tensors().unwrap().into_iter().map(|(name, tensor)| (name, flat(&tensor))).collect()
        };
        assert_eq!(values(&reference), old);
        reference.mix_from(&policy, 0.25).unwrap();
        let new = values(&policy);
        for (name, mixed) in values(&reference) {
            let expected: Vec<f32> = new[&name].iter().zip(&old[&name]).map(|(p, r)| 0.25 * p + 0.75 * r).collect();
            assert_close(&name, &mixed, &expected, 1e-6);
        }
        // The packed weights have moved as well.
        let rebuilt = Decoder::new(reference.config().clone(), reference.tensors().unwrap()).unwrap();
        let score = |decoder: &Decoder| decoder.logprobs(&tokens(), 1.0).unwrap();
        assert!(same_bits(&score(&reference), &score(&rebuilt)));
        reference.mix_from(&policy, 1.0).unwrap();
        assert_eq!(values(&reference), new);
        assert!(same_bits(&score(&reference), &score(&policy)) != adapters);
    }
}

#[test]
fn references_that_cannot_be_mixed_are_refused() {
    let mut reference = decoder(plain());
    let error = reference.mix_from(&decoder(plain()), 1.5).unwrap_err().to_string();
    assert_eq!(error, "mixup is 1.5, expected a number from 0 to 1");
    assert!(reference.mix_from(&decoder(plain()), f64::NAN).unwrap_err().to_string().contains("mixup is NaN"));
    let other = decoder(Shape { layers: 1, ..plain() });
    assert!(reference.mix_from(&other, 0.5).unwrap_err().to_string().contains("another shape"));
    let mut adapted = adapted(plain(), &lora(&[LoraTarget::Gate]));
    assert!(adapted.mix_from(&reference, 0.5).unwrap_err().to_string().contains("reference is a model with adapters"));
}

#[test]
fn trainable_tensors_come_back_bit_for_bit() {
    let targets = [LoraTarget::Output, LoraTarget::Gate];
    let make: [&dyn Fn() -> Decoder; 2] = [&|| decoder(plain()), &|| adapted(plain(), &lora(&targets))];
    for make in make {
        let (mut first, mut second) = (make(), make());
        train(&mut first, 10);
        second.load_trainable(&first.trainable_tensors().unwrap()).unwrap();
        let score = |decoder: &Decoder| decoder.logprobs(&tokens(), 1.0).unwrap();
        assert!(same_bits(&score(&first), &score(&second)));
        assert!(!same_bits(&score(&make()), &score(&second)));
        // Handles to its own tensors do no harm.
        second.load_trainable(&second.trainable_tensors().unwrap()).unwrap();
        assert!(same_bits(&score(&first), &score(&second)));
        let names: Vec<String> = second.parameters().into_iter().map(|(name, _)| name.to_owned()).collect();
        let mut wrong = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let mut tensors = make().trainable_tensors().unwrap();
            change(&mut tensors);
            let error = second.load_trainable(&tensors).unwrap_err().to_string();
            assert!(same_bits(&score(&first), &score(&second)), "nothing has changed");
            error
        };
        let last = names.last().unwrap();
        assert!(wrong(&|t| drop(t.remove(last))).starts_with(&format!("{last} is nothing, expected an f32 tensor")));
        let small = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(wrong(&|t| drop(t.insert(last.clone(), small.clone()))).contains("a tensor of shape [3]"));
        assert!(
            wrong(&|t| drop(t.insert("other".into(), small.clone()))).contains("other is a tensor, expected absent")
        );
        let narrow = |t: &mut BTreeMap<String, Tensor>| {
            let tensor = t[last].to_dtype(candle_core::DType::BF16).unwrap();
            t.insert(last.clone(), tensor);
        };
        assert!(wrong(&narrow).contains("a tensor of type BF16"));
    }
}
