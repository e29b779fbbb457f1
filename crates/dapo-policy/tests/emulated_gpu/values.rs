//! Value heads on the emulated kernels against those on the CPU.

use super::{ARCHITECTURES, WAYS, assert_close, flat, gradient, on_gpu, sample_batch, shape, step};
use crate::common::decoder;
use candle_core::{Device, Tensor};
use dapo_policy::{Architecture, Decoder, Gradients, LoraConfig, Moments, TokenBatch, ValueHead};
use std::collections::BTreeMap;

/// A head whose every weight differs.
fn head(decoder: &Decoder) -> ValueHead {
    let width = decoder.config().hidden_size;
    let weight: Vec<f32> = (0..width).map(|i| 0.1 - 0.07 * (i % 5) as f32).collect();
    let mut head = ValueHead::new(width);
    head.load(&BTreeMap::from([
        ("value_head.weight".to_owned(), Tensor::from_vec(weight, (1, width), &Device::Cpu).unwrap()),
        ("value_head.bias".to_owned(), Tensor::new(&[0.25f32], &Device::Cpu).unwrap()),
    ]))
    .unwrap();
    head
}

/// Gradients of Σ weightᵢ·Vᵢ, and, where asked for, of a weighted sum of log-probs beside it; the values that it saw.
fn backward(decoder: &Decoder, head: &mut ValueHead, batch: &TokenBatch, with_logprobs: bool) -> (Gradients, Vec<f32>) {
    let (mut gradients, mut seen) = (Gradients::new(decoder.parameters().len()), Vec::new());
    head.clear();
    let mut of_values = |values: &[f32], into: &mut [f32]| {
        seen = values.to_vec();
        into.iter_mut().enumerate().for_each(|(i, g)| *g = 0.4 - 0.1 * i as f32);
        Ok(())
    };
    if with_logprobs {
        let mut of_logprobs = |rows: dapo_policy::Rows<'_>, into: dapo_policy::RowGradients<'_>| {
            into.logprobs.iter_mut().enumerate().for_each(|(i, g)| *g = 0.3 + 0.1 * (rows.start + i) as f32);
            into.entropies.fill(0.0);
            Ok(())
        };
        let (losses, of_values) = (&mut of_logprobs, &mut of_values);
        decoder.logprobs_and_values_backward(batch, 0.8, head, &mut gradients, losses, of_values).unwrap();
    } else {
        decoder.values_backward(batch, head, &mut gradients, &mut of_values).unwrap();
    }
    (gradients, seen)
}

#[test]
fn values_and_the_gradient_of_every_parameter_agree_with_the_cpu() {
    for architecture in ARCHITECTURES {
        let (cpu, mut gpu) = (decoder(shape(architecture)), on_gpu(shape(architecture), false));
        let (mut of_cpu, mut of_gpu) = (head(&cpu), head(&cpu));
        let expected = cpu.values(&sample_batch(true), &of_cpu).unwrap();
        for (shared, memory) in WAYS {
            gpu.set_layer_memory(memory);
            let batch = sample_batch(shared);
            assert_close("values", &gpu.values(&batch, &of_gpu).unwrap(), &expected, 1e-5);
            for with_logprobs in [false, true] {
                let (on_cpu, _) = backward(&cpu, &mut of_cpu, &batch, with_logprobs);
                let (on_gpu, seen) = backward(&gpu, &mut of_gpu, &batch, with_logprobs);
                assert_close("values seen", &seen, &expected, 1e-5);
                for (index, (name, _)) in cpu.parameters().iter().enumerate() {
                    let Some(expected) = cpu.gradient(&on_cpu, index).unwrap() else {
                        assert_eq!((*name, with_logprobs), ("lm_head.weight", false), "only an unused head has none");
                        assert!(gpu.gradient(&on_gpu, index).unwrap().is_none());
                        continue;
                    };
                    let got = gradient(&gpu, &on_gpu, index);
                    assert_close(&format!("{architecture:?} {memory:?}: {name}"), &got, &flat(&expected), 4e-5);
                }
                assert_close("the head", of_gpu.gradient().0, of_cpu.gradient().0, 4e-5);
                assert_eq!(of_gpu.gradient().1, of_cpu.gradient().1);
            }
        }
    }
}

#[test]
fn in_bf16_values_differ_by_its_rounding() {
    let (cpu, gpu) = (decoder(shape(Architecture::Qwen3)), on_gpu(shape(Architecture::Qwen3), true));
    let (batch, mut on_gpu) = (sample_batch(true), head(&cpu));
    let mut on_cpu = on_gpu.clone();
    assert_close("values", &gpu.values(&batch, &on_gpu).unwrap(), &cpu.values(&batch, &on_cpu).unwrap(), 0.03);
    backward(&cpu, &mut on_cpu, &batch, true);
    backward(&gpu, &mut on_gpu, &batch, true);
    assert_close("the head", on_gpu.gradient().0, on_cpu.gradient().0, 0.03);
}

#[test]
fn an_update_clips_by_the_norm_of_decoder_and_head_together() {
    let shape = shape(Architecture::Qwen3);
    let (mut cpu, mut gpu) = (decoder(shape), on_gpu(shape, false));
    let update = |decoder: &mut Decoder| {
        let (mut head, mut moments) = (head(decoder), Moments::zeros(decoder).unwrap());
        let (gradients, _) = backward(decoder, &mut head, &sample_batch(true), true);
        let norm = decoder.adamw_with_head(&gradients, &mut moments, &mut head, &step(1), 0.5).unwrap();
        let own: f64 = (0..gradients.len())
            .map(|i| gradient(decoder, &gradients, i))
            .flatten()
            .map(|g| f64::from(g).powi(2))
            .sum();
        assert!((norm - (own + head.squared_norm()).sqrt()).abs() < 1e-4 * norm, "{norm}");
        (norm, head)
    };
    let ((on_cpu, of_cpu), (on_gpu, of_gpu)) = (update(&mut cpu), update(&mut gpu));
    assert!((on_cpu - on_gpu).abs() < 1e-4 * on_cpu, "{on_cpu} {on_gpu}");
    let weights = |head: &ValueHead| flat(&head.tensors().unwrap()["value_head.weight"]);
    assert_ne!(weights(&of_cpu), weights(&head(&cpu)));
    assert_close("the head's weights", &weights(&of_gpu), &weights(&of_cpu), 1e-4);
    let (expected, got) = (cpu.trainable_tensors().unwrap(), gpu.trainable_tensors().unwrap());
    for (name, expected) in expected {
        assert_close(&name, &flat(&got[&name]), &flat(&expected), 2e-3);
    }
}

#[test]
fn a_value_head_trains_beside_adapters() {
    let lora = LoraConfig { rank: 2, ..LoraConfig::default() };
    let cpu = decoder(shape(Architecture::Qwen3)).with_lora(&lora, 3).unwrap();
    let mut gpu = decoder(shape(Architecture::Qwen3)).with_lora(&lora, 3).unwrap();
    gpu.to_device(dapo_policy::Device::Emulated { bf16: false }).unwrap();
    let (mut of_cpu, mut of_gpu) = (head(&cpu), head(&cpu));
    let (on_cpu, _) = backward(&cpu, &mut of_cpu, &sample_batch(true), false);
    let (on_gpu, _) = backward(&gpu, &mut of_gpu, &sample_batch(true), false);
    for (index, (name, _)) in cpu.parameters().iter().enumerate() {
        assert_close(name, &gradient(&gpu, &on_gpu, index), &gradient(&cpu, &on_cpu, index), 4e-5);
    }
    assert_close("the head", of_gpu.gradient().0, of_cpu.gradient().0, 4e-5);
}
