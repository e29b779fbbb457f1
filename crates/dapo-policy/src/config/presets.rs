//! Shapes of published models.

use super::{Architecture, ModelConfig, SourceFields};

impl ModelConfig {
    /// The shape of Qwen3-0.6B: 596,049,920 parameters.
    pub fn qwen3_0_6b() -> Self {
        Self {
            architecture: Architecture::Qwen3,
            vocab_size: 151_936,
            hidden_size: 1024,
            intermediate_size: 3072,
            num_hidden_layers: 28,
            num_attention_heads: 16,
            num_key_value_heads: 8,
            head_dim: 128,
            rope_theta: 1e6,
            rope_scaling: None,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            qk_norm: true,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            max_position_embeddings: 40_960,
            bos_token_id: Some(151_643),
            eos_token_ids: vec![151_645, 151_643],
            pad_token_id: Some(151_643),
            source: SourceFields::default(),
        }
    }

    /// The shape of Qwen3-4B: 4,022,468,096 parameters.
    pub fn qwen3_4b() -> Self {
        Self {
            hidden_size: 2560,
            intermediate_size: 9728,
            num_hidden_layers: 36,
            num_attention_heads: 32,
            ..Self::qwen3_0_6b()
        }
    }
}
