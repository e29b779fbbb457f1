//! Logits against candle-transformers' own Qwen3, on the same weights.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::qwen3::{Config, ModelForCausalLM};
use dapo_policy::{Segments, load};
use std::path::Path;
use std::sync::Arc;

#[test]
fn logits_equal_those_of_candle_transformers() {
    for name in ["tiny-qwen3", "tiny-qwen3-untied"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/parity").join(name);
        let (policy, _) = load(&folder).unwrap();
        let c = policy.config();
        let config = Config {
            vocab_size: c.vocab_size,
            hidden_size: c.hidden_size,
            intermediate_size: c.intermediate_size,
            num_hidden_layers: c.num_hidden_layers,
            num_attention_heads: c.num_attention_heads,
            head_dim: c.head_dim,
            attention_bias: false,
            num_key_value_heads: c.num_key_value_heads,
            max_position_embeddings: c.max_position_embeddings,
            sliding_window: None,
            max_window_layers: 0,
            tie_word_embeddings: c.tie_word_embeddings,
            rope_theta: c.rope_theta,
            rms_norm_eps: c.rms_norm_eps,
            use_sliding_window: false,
            hidden_act: candle_nn::Activation::Silu,
        };
        let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let mut theirs = ModelForCausalLM::new(&config, builder).unwrap();
        let ids: Vec<u32> = (0..29).map(|i| (i * 13 + 5) % 64).collect();
        let input = Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        // Theirs gives the last token's logits.
        let expected: Vec<f32> = theirs.forward(&input, 0).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let segments = Arc::new(Segments::new([(ids.len(), None)]).unwrap());
        let ours = policy.logits(&ids, &segments).unwrap().to_vec2::<f32>().unwrap();
        for (a, b) in ours[ids.len() - 1].iter().zip(&expected) {
            assert!((a - b).abs() < 1e-4, "{name}: {a} {b}");
        }
        assert_eq!(expected.len(), c.vocab_size);
    }
}
