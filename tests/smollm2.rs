//! SmolLM2-135M-Instruct, from its quantised GGUF file, against transformers on the same dequantised weights.
//!
//! Needs the file: `scripts/fetch-smollm2.sh DIR`, then
//! `DAPO_SMOLLM2_GGUF=DIR/SmolLM2-135M-Instruct.Q4_1.gguf cargo test --release --test smollm2 -- --ignored`.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use dapo::policy::{GenerationConfig, Policy, Request, SamplingConfig, Segments, StopTokens, TokenBatch};
use std::path::Path;
use std::sync::Arc;

fn ids(tensor: &Tensor) -> Vec<u32> {
    tensor.to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

#[test]
#[ignore = "needs the model file, named by DAPO_SMOLLM2_GGUF"]
fn log_probs_and_greedy_chat_tokens_are_those_of_transformers() {
    let model = std::env::var_os("DAPO_SMOLLM2_GGUF").expect("DAPO_SMOLLM2_GGUF names the model file");
    let (policy, tokenizer) = dapo::policy::load(Path::new(&model)).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/smollm2-135m.safetensors");
    let reference = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for i in 0..4 {
        let token_ids = ids(&reference[&format!("text.{i}.input_ids")]);
        let segments = Arc::new(Segments::new([(token_ids.len(), None)]).unwrap());
        let batch = TokenBatch { targets: (1..token_ids.len()).collect(), token_ids, segments };
        let scored = policy.logprobs(&batch, 1.0).unwrap();
        let expected: Vec<f32> = reference[&format!("text.{i}.logprobs")].to_vec1().unwrap();
        let entropies: Vec<f32> = reference[&format!("text.{i}.entropy")].to_vec1().unwrap();
        assert_eq!(scored.logprobs.len(), expected.len());
        for (t, (found, expected)) in scored.logprobs.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() < 2e-3, "text {i}, token {t}: {found}, expected {expected}");
        }
        for (found, expected) in scored.entropies.iter().zip(&entropies) {
            assert!((found - expected).abs() < 2e-3, "text {i}: entropy {found}, expected {expected}");
        }
    }
    let stop = StopTokens::of(policy.config(), &tokenizer);
    let config =
        GenerationConfig { max_new_tokens: 24, sampling: SamplingConfig::GREEDY, ..GenerationConfig::new(stop) };
    for i in 0..3 {
        let prompt_ids = ids(&reference[&format!("chat.{i}.prompt_ids")]);
        let expected = ids(&reference[&format!("chat.{i}.greedy_ids")]);
        let found = policy.generate(&[Request { prompt_ids, samples: 1, first_sample: 0, draw: 0 }], &config).unwrap();
        let found = &found[0][0].token_ids;
        println!("{}", tokenizer.decode(found, false).unwrap());
        assert_eq!(found, &expected, "chat {i}");
    }
}
