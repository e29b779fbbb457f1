//! Low-rank adapters on the emulated kernels.

use super::common::{adapted, decoder, numbers};
use super::{
    ARCHITECTURES, WAYS, assert_close, assert_rounded, carried_over, flat, gradient, gradients, requests,
    round_weights, sample_batch, shape, step, update, update_both,
};
use dapo_policy::{
    Architecture, Decoder, Device, GenerationConfig, LoraConfig, LoraTarget, Moments, Policy, SamplingConfig,
    StopTokens,
};

const EMULATED: Device = Device::Emulated { bf16: false };

/// Ranks that are no multiple of anything, a scale that is no power of two; all projections, and some of each group.
fn configs() -> [LoraConfig; 3] {
    use LoraTarget::{Down, Gate, Key, Query, Up, Value};
    [
        LoraConfig { rank: 5, alpha: 3.5, targets: LoraTarget::ALL.to_vec(), rslora: false },
        LoraConfig { rank: 3, alpha: 4.5, targets: vec![Value, Query, Up], rslora: true },
        LoraConfig { rank: 1, alpha: 0.3, targets: vec![Key, Gate, Down], rslora: false },
    ]
}

fn on_gpu(architecture: Architecture, lora: &LoraConfig, bf16: bool) -> Decoder {
    let mut decoder = adapted(shape(architecture), lora);
    decoder.to_device(Device::Emulated { bf16 }).unwrap();
    decoder
}

#[test]
fn log_probs_and_the_gradient_of_every_factor_agree_with_the_cpu() {
    for (architecture, lora) in ARCHITECTURES.into_iter().zip(configs()) {
        let (cpu, mut gpu) = (adapted(shape(architecture), &lora), on_gpu(architecture, &lora, false));
        let base = decoder(shape(architecture)).logprobs(&sample_batch(true), 0.8).unwrap();
        let without = gpu.base_logprobs(&sample_batch(true), 0.8).unwrap();
        assert_close("log-probs without adapters", &without.logprobs, &base.logprobs, 1e-5);
        let expected = cpu.logprobs(&sample_batch(true), 0.8).unwrap();
        assert_ne!(expected, base);
        for (shared, memory) in WAYS {
            gpu.set_layer_memory(memory);
            let batch = sample_batch(shared);
            let scored = gpu.logprobs(&batch, 0.8).unwrap();
            assert_close("log-probs", &scored.logprobs, &expected.logprobs, 1e-5);
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

#[test]
fn in_bf16_they_differ_by_its_rounding() {
    for (architecture, lora) in ARCHITECTURES.into_iter().zip(configs()) {
        let (cpu, gpu) = (adapted(shape(architecture), &lora), on_gpu(architecture, &lora, true));
        let mut base = decoder(shape(architecture));
        round_weights(&mut base);
        let mut rounded = base.with_lora(&lora, 0).unwrap();
        rounded.load_trainable(&cpu.trainable_tensors().unwrap()).unwrap();
        round_weights(&mut rounded);
        let batch = sample_batch(true);
        let ((of_cpu, expected), (of_rounded, nearby)) = (gradients(&cpu, &batch), gradients(&rounded, &batch));
        let (of_gpu, seen) = gradients(&gpu, &batch);
        assert_rounded("log-probs", &expected.logprobs, &nearby.logprobs, &seen.logprobs);
        for (index, (name, _)) in cpu.parameters().iter().enumerate() {
            let (expected, nearby) = (gradient(&cpu, &of_cpu, index), gradient(&rounded, &of_rounded, index));
            assert_rounded(name, &expected, &nearby, &gradient(&gpu, &of_gpu, index));
        }
    }
}

#[test]
fn greedy_generation_gives_the_cpus_tokens() {
    for (architecture, lora) in ARCHITECTURES.into_iter().zip(configs()) {
        let config = GenerationConfig {
            max_new_tokens: 9,
            sampling: SamplingConfig::GREEDY,
            ..GenerationConfig::new(StopTokens::none())
        };
        let plain = decoder(shape(architecture)).generate(&requests(), &config).unwrap();
        let expected = adapted(shape(architecture), &lora).generate(&requests(), &config).unwrap();
        let got = on_gpu(architecture, &lora, false).generate(&requests(), &config).unwrap();
        assert!(plain.iter().flatten().zip(expected.iter().flatten()).any(|(a, b)| a.token_ids != b.token_ids));
        for (expected, got) in expected.iter().flatten().zip(got.iter().flatten()) {
            assert_eq!(expected.token_ids, got.token_ids);
            assert_close("log-probs", &got.logprobs, &expected.logprobs, 1e-4);
        }
    }
}

#[test]
fn updates_change_the_adapters_as_on_the_cpu_and_can_go_on_from_what_was_read() {
    let [lora, ..] = configs();
    let architecture = Architecture::Qwen2;
    let (mut cpu, mut gpu) = (adapted(shape(architecture), &lora), on_gpu(architecture, &lora, false));
    let mut of_gpu = update_both(&mut cpu, &mut gpu);
    let (expected, trained) = (cpu.trainable_tensors().unwrap(), gpu.trainable_tensors().unwrap());
    for (name, expected) in &expected {
        assert_close(name, &flat(&trained[name]), &flat(expected), 2e-4);
    }
    let (expected, merged) = (cpu.tensors().unwrap(), gpu.tensors().unwrap());
    for (name, expected) in &expected {
        assert_close(name, &flat(&merged[name]), &flat(expected), 2e-4);
    }
    let base = gpu.base_logprobs(&sample_batch(true), 1.0).unwrap();
    let untouched = cpu.base_logprobs(&sample_batch(true), 1.0).unwrap();
    assert_close("the model's own weights", &base.logprobs, &untouched.logprobs, 1e-5);

    // Adapters put on where the decoder is already on the device, with values and moments as from a checkpoint.
    let mut second = decoder(shape(architecture));
    second.to_device(EMULATED).unwrap();
    let mut second = second.with_lora(&lora, 1).unwrap();
    assert!(second.is_on_device());
    second.load_trainable(&trained).unwrap();
    let mut moments = carried_over(&of_gpu, &gpu, &second);
    update(&mut gpu, &mut of_gpu, 3, 1.0);
    update(&mut second, &mut moments, 3, 1.0);
    let (first, other) = (gpu.trainable_tensors().unwrap(), second.trainable_tensors().unwrap());
    for (name, tensor) in &first {
        assert_ne!(flat(tensor), flat(&trained[name]), "{name} was updated");
        assert_eq!(flat(tensor), flat(&other[name]), "{name}");
    }
    // Back on the CPU the decoder has what the device had.
    let expected = gpu.logprobs(&sample_batch(true), 1.0).unwrap();
    second.to_device(Device::Cpu).unwrap();
    let back = second.logprobs(&sample_batch(true), 1.0).unwrap();
    assert_close("log-probs", &back.logprobs, &expected.logprobs, 1e-5);
}

#[test]
fn gradients_and_moments_of_the_whole_model_are_not_those_of_its_adapters() {
    let targets = LoraTarget::ALL[..5].to_vec();
    let mut whole = decoder(shape(Architecture::Llama));
    whole.to_device(EMULATED).unwrap();
    let (of_whole, _) = gradients(&whole, &sample_batch(true));
    let mut moments = Moments::zeros(&whole).unwrap();
    let mut adapted = whole.with_lora(&LoraConfig { rank: 2, alpha: 2.0, targets, rslora: false }, 0).unwrap();
    let error = adapted.adamw(&of_whole, &mut moments, &step(1), 1.0).unwrap_err().to_string();
    assert_eq!(error, "gradients is those of a decoder that trains other tensors, expected those of this one");
    let (of_adapters, _) = gradients(&adapted, &sample_batch(true));
    let error = adapted.adamw(&of_adapters, &mut moments, &step(1), 1.0).unwrap_err().to_string();
    assert!(error.starts_with("moments is those of a decoder that trains other tensors"), "{error}");
}

#[test]
fn a_copy_has_the_adapters_merged() {
    let [lora, ..] = configs();
    let mut policy = on_gpu(Architecture::Llama, &lora, false);
    let copy = policy.frozen_copy().unwrap();
    assert!(copy.is_on_device() && copy.lora().is_none());
    let (of_copy, of_policy) =
        (copy.logprobs(&sample_batch(true), 1.0).unwrap(), policy.logprobs(&sample_batch(true), 1.0).unwrap());
    assert_close("log-probs", &of_copy.logprobs, &of_policy.logprobs, 1e-5);
    let mut next = numbers(3);
    policy
        .update(|_, _, values| {
            for x in values {
                *x += 0.1 * next();
            }
            Ok(())
        })
        .unwrap();
    assert_ne!(policy.logprobs(&sample_batch(true), 1.0).unwrap(), of_policy);
    assert_eq!(copy.logprobs(&sample_batch(true), 1.0).unwrap(), of_copy);
}
