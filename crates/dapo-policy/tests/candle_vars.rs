//! The decoder as a differentiable operation on Candle's variables.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, SGD};
use common::{Shape, adapted, bits, decoder, plain};
use dapo_policy::candle::{PolicyVars, TokenTensors};
use dapo_policy::{
    Architecture, Decoder, GenerationConfig, Gradients, LoraConfig, LoraTarget, Policy, Request, Segments, StopTokens,
    TokenBatch,
};
use std::collections::BTreeMap;

const TEMPERATURE: f32 = 0.9;

fn lora() -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 4.5,
        targets: vec![LoraTarget::Query, LoraTarget::Value, LoraTarget::Down],
        rslora: true,
    }
}

/// Decoders of each architecture, and one with adapters; the same every time.
fn decoders() -> [Decoder; 4] {
    let qwen2 = Shape { architecture: Architecture::Qwen2, tied: false, seed: 8, ..plain() };
    let llama = Shape { architecture: Architecture::Llama, tied: false, layers: 1, seed: 9, ..plain() };
    [decoder(plain()), decoder(qwen2), decoder(llama), adapted(plain(), &lora())]
}

/// Three sequences, the second continuing the first.
fn batch(shift: u32) -> TokenBatch {
    let segments = Segments::new([(9, None), (12, Some(0)), (6, None)]).unwrap().into();
    let targets = (4..21).chain(23..27).collect();
    TokenBatch { token_ids: (0..27).map(|i| (i * 11 + 3 + shift) % 50).collect(), segments, targets }
}

fn weights(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32).sin()).collect()
}

/// Σ sin(i)·logprob + 0.2·Σ entropy.
fn loss(scores: &TokenTensors) -> Tensor {
    let count = scores.logprobs.dims1().unwrap();
    let weighted = (&scores.logprobs * Tensor::from_vec(weights(count), count, &Device::Cpu).unwrap()).unwrap();
    (weighted.sum_all().unwrap() + scores.entropies.affine(f64::from(0.2_f32), 0.0).unwrap().sum_all().unwrap())
        .unwrap()
}

/// The gradients of the same loss, as a trainer computes them.
fn expected(decoder: &Decoder, batches: &[TokenBatch]) -> Vec<Vec<f32>> {
    let mut gradients = Gradients::new(decoder.parameters().len());
    for batch in batches {
        let weights = weights(batch.targets.len());
        decoder
            .logprobs_backward(batch, TEMPERATURE, &mut gradients, &mut |rows, into| {
                into.logprobs.copy_from_slice(&weights[rows.start..][..rows.logprobs.len()]);
                into.entropies.fill(0.2);
                Ok(())
            })
            .unwrap();
    }
    (0..gradients.len()).map(|i| flat(gradients.get(i).unwrap())).collect()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn gradients(policy: &PolicyVars, loss: &Tensor) -> Vec<Vec<f32>> {
    let store = loss.backward().unwrap();
    policy.vars().iter().map(|var| flat(store.get(var).unwrap())).collect()
}

#[test]
fn every_parameter_gets_the_gradient_of_the_trainers_way_bit_for_bit() {
    for (decoder, policy) in decoders().iter().zip(decoders()) {
        let mut policy = PolicyVars::new(policy).unwrap();
        let scores = policy.token_logprobs(&batch(0), TEMPERATURE).unwrap();
        let plain = decoder.logprobs(&batch(0), TEMPERATURE).unwrap();
        assert_eq!(bits(flat(&scores.logprobs)), bits(plain.logprobs));
        assert_eq!(bits(flat(&scores.entropies)), bits(plain.entropies));
        let (got, expected) = (gradients(&policy, &loss(&scores)), expected(decoder, &[batch(0)]));
        assert_eq!(got.len(), decoder.parameters().len());
        for ((name, _), (got, expected)) in decoder.parameters().iter().zip(got.iter().zip(&expected)) {
            assert!(expected.iter().any(|g| *g != 0.0), "{name} has no gradient");
            assert_eq!(got, expected, "{name}");
        }
    }
}

#[test]
fn variables_have_the_names_shapes_and_values_of_the_parameters() {
    for (decoder, policy) in decoders().iter().zip(decoders()) {
        let policy = PolicyVars::new(policy).unwrap();
        let tensors = decoder.trainable_tensors().unwrap();
        let parameters = decoder.parameters();
        assert_eq!(policy.named_vars().count(), parameters.len());
        for ((name, var), (expected, shape)) in policy.named_vars().zip(parameters) {
            assert_eq!((name, var.shape()), (expected, shape));
            assert_eq!(flat(var), flat(&tensors[name]));
        }
    }
}

#[test]
fn either_result_alone_and_losses_of_several_batches_have_their_gradients() {
    let reference = decoder(plain());
    let mut policy = PolicyVars::new(decoder(plain())).unwrap();
    let [a, b] = [0, 5].map(|shift| policy.token_logprobs(&batch(shift), TEMPERATURE).unwrap());
    let together = (loss(&a) + loss(&b)).unwrap();
    let (got, one, two) =
        (gradients(&policy, &together), expected(&reference, &[batch(0)]), expected(&reference, &[batch(5)]));
    for (got, (one, two)) in got.iter().zip(one.iter().zip(&two)) {
        let size = one.iter().chain(two).fold(0.0f32, |m, x| m.max(x.abs()));
        for (got, (one, two)) in got.iter().zip(one.iter().zip(two)) {
            assert!((got - (one + two)).abs() <= 1e-6 * size);
        }
    }
    let parts = [a.logprobs.sum_all().unwrap(), a.entropies.sum_all().unwrap()].map(|part| gradients(&policy, &part));
    let sum = (a.logprobs.sum_all().unwrap() + a.entropies.sum_all().unwrap()).unwrap();
    for (sum, (x, y)) in gradients(&policy, &sum).iter().zip(parts[0].iter().zip(&parts[1])) {
        let size = x.iter().chain(y).fold(0.0f32, |m, x| m.max(x.abs()));
        for (sum, (x, y)) in sum.iter().zip(x.iter().zip(y)) {
            assert!((sum - (x + y)).abs() <= 1e-5 * size);
        }
    }
}

#[test]
fn backward_may_be_repeated_also_by_several_threads() {
    let mut policy = PolicyVars::new(decoder(plain())).unwrap();
    let loss = loss(&policy.token_logprobs(&batch(0), TEMPERATURE).unwrap());
    let doubled = loss.affine(2.0, 0.0).unwrap();
    let (first, twice) = (gradients(&policy, &loss), gradients(&policy, &doubled));
    let shared = &policy;
    std::thread::scope(|scope| {
        let run = |loss| scope.spawn(move || gradients(shared, loss));
        let runs = [run(&loss), run(&doubled), run(&loss), run(&doubled)];
        for (i, run) in runs.into_iter().enumerate() {
            assert_eq!(&run.join().unwrap(), if i % 2 == 0 { &first } else { &twice });
        }
    });
}

/// A decoder that is made of the variables' values.
fn rebuilt(policy: &PolicyVars, like: Decoder) -> Decoder {
    let tensors: BTreeMap<String, Tensor> =
        policy.named_vars().map(|(name, var)| (name.to_owned(), var.as_detached_tensor())).collect();
    let mut decoder = like;
    decoder.load_trainable(&tensors).unwrap();
    decoder
}

fn completions(decoder: &Decoder) -> Vec<Vec<u32>> {
    let request = Request { prompt_ids: vec![3, 7, 11], samples: 3, first_sample: 0, draw: 0 };
    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(StopTokens::none()) };
    let groups = decoder.generate(&[request], &config).unwrap();
    groups.into_iter().flatten().map(|completion| completion.token_ids).collect()
}

#[test]
fn the_decoder_follows_every_step_of_an_optimiser() {
    for (original, policy) in decoders().into_iter().zip(decoders()) {
        let mut policy = PolicyVars::new(policy).unwrap();
        // Packed copies of the weights are made before the first change.
        let before = completions(&policy.decoder().unwrap());
        let mut sgd = SGD::new(policy.vars(), 0.05).unwrap();
        let mut adamw = AdamW::new(policy.vars(), ParamsAdamW { lr: 0.05, ..ParamsAdamW::default() }).unwrap();
        sgd.backward_step(&loss(&policy.token_logprobs(&batch(0), TEMPERATURE).unwrap())).unwrap();
        adamw.backward_step(&loss(&policy.token_logprobs(&batch(0), TEMPERATURE).unwrap())).unwrap();

        let expected = rebuilt(&policy, original);
        let scores = flat(&policy.token_logprobs(&batch(3), TEMPERATURE).unwrap().logprobs);
        assert_eq!(bits(scores), bits(expected.logprobs(&batch(3), TEMPERATURE).unwrap().logprobs));
        let after = completions(&policy.decoder().unwrap());
        assert_eq!(after, completions(&expected));
        assert_ne!(before, after, "steps too small to show");
        let scores = policy.token_logprobs(&batch(3), TEMPERATURE).unwrap();
        let got = gradients(&policy, &loss(&scores));
        assert_eq!(got, self::expected(&expected, &[batch(3)]));
    }
}

#[test]
fn backward_uses_the_weights_of_the_forward_or_is_an_error() {
    let reference = expected(&decoder(plain()), &[batch(0)]);
    let mut policy = PolicyVars::new(decoder(plain())).unwrap();
    let loss = loss(&policy.token_logprobs(&batch(0), TEMPERATURE).unwrap());
    let var: Var = policy.vars()[3].clone();
    var.set(&(var.as_tensor() * 1.5).unwrap()).unwrap();
    // The decoder has not been used since: it still has the weights that the loss was computed with.
    assert_eq!(gradients(&policy, &loss), reference);
    drop(policy.decoder().unwrap());
    let error = loss.backward().unwrap_err().to_string();
    assert!(error.starts_with("variables is changed since the log-probs were computed"), "{error}");
}

#[test]
fn one_that_trains_nothing_and_wrong_batches_are_refused() {
    let frozen = decoder(plain()).frozen_copy().unwrap();
    let error = PolicyVars::new(frozen).unwrap_err().to_string();
    assert_eq!(error, "decoder is one without trainable tensors, expected at least one");
    let mut policy = PolicyVars::new(decoder(plain())).unwrap();
    let wrong = TokenBatch { targets: vec![0], ..batch(0) };
    let error = policy.token_logprobs(&wrong, TEMPERATURE).unwrap_err().to_string();
    assert!(error.starts_with("targets[0] is 0"), "{error}");
    assert!(policy.token_logprobs(&batch(0), 0.0).unwrap_err().to_string().starts_with("temperature is 0"));
    let none = TokenBatch { targets: Vec::new(), ..batch(0) };
    let scores = policy.token_logprobs(&none, TEMPERATURE).unwrap();
    assert_eq!((scores.logprobs.dims(), scores.entropies.dims()), (&[0][..], &[0][..]));
}
