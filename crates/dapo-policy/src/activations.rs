//! Memory of activations: what a backward pass on the CPU needs of a token's forward.

use crate::backend::LayerMemory;
use crate::config::ModelConfig;

/// Values of a token that a layer's backward needs, one width for each: the layer's input; queries and keys before
/// QK-norm, where there is one; rotated queries and keys; values; attention's output; the input with it added; gate and
/// up.
pub(crate) fn layer_widths(config: &ModelConfig) -> [usize; 10] {
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let plain = |width: usize| if config.qk_norm { width } else { 0 };
    [hidden, plain(queries), plain(keys), queries, keys, keys, queries, hidden, intermediate, intermediate]
}

/// Bytes a token that a backward pass on the CPU keeps of its forward pass: of all layers, or their inputs and one
/// layer at a time.
///
/// ```
/// use dapo_policy::{LayerMemory, ModelConfig, activation_bytes};
/// # let model = serde_json::json!({"architectures": ["LlamaForCausalLM"], "vocab_size": 49_152, "hidden_size": 576,
/// #     "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
/// #     "tie_word_embeddings": true});
/// # let smollm2 = ModelConfig::from_json(&model, "config.json".as_ref())?;
/// assert_eq!(activation_bytes(&smollm2, LayerMemory::Keep), 4 * (30 * 5760 + 576));
/// # Ok::<(), dapo_policy::PolicyError>(())
/// ```
pub fn activation_bytes(config: &ModelConfig, memory: LayerMemory) -> usize {
    let layer: usize = layer_widths(config).iter().sum();
    let layers = match memory {
        LayerMemory::Keep => config.num_hidden_layers * layer,
        LayerMemory::Recompute => config.num_hidden_layers * config.hidden_size + layer,
    };
    size_of::<f32>() * (layers + config.hidden_size)
}
