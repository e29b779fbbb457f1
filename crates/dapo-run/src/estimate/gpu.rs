//! Memory of a GPU, by what takes it and when.
//!
//! What a pass has had stays for the next one, and so do gradients; keys and values are given back after a rollout.

use super::memory::{Memory, Part, Phases};
use super::{DataSizes, Parameters, Shape, Work, estimate};
use crate::settings::RunConfig;
use dapo_policy::LayerMemory;
use dapo_policy::ModelConfig;

/// The driver's context and cuBLAS's workspace, about.
const CONTEXT: u64 = 1 << 30;
/// Logits of a chunk of rows.
const CHUNK_LOGITS: f64 = 134_217_728.0;

const CACHE: &str = "keys and values";

/// What a GPU with so much memory leaves for keys and values beside all else that a run needs of it, in bytes: by the
/// settings alone, so that a run that is resumed has the same.
pub(crate) fn cache_left(config: &RunConfig, model: &ModelConfig, total: usize) -> usize {
    let mut config = config.clone();
    config.model.device = "cuda".into();
    let mut memory = estimate(&config, model, DataSizes::default()).memory;
    memory.parts.retain(|part| part.name != CACHE);
    // The estimate is one.
    (total / 20 * 19).saturating_sub(usize::try_from(memory.roll_out()).unwrap_or(usize::MAX))
}

impl Memory {
    pub(super) fn of_gpu(config: &RunConfig, shape: &Shape, parameters: &Parameters, work: &Work) -> Self {
        let reference = config.has_reference() && parameters.adapters == 0;
        let trained = parameters.trained();
        let critic = u64::from(config.has_own_critic());
        let parts = [
            ("weights in bf16", 2 * (parameters.model + parameters.adapters), Phases::Always),
            ("f32 of what is trained", 4 * trained, Phases::Always),
            ("optimiser's moments", 8 * trained, Phases::Always),
            ("gradients", 4 * trained, Phases::Always),
            ("reference model", if reference { 2 * parameters.model } else { 0 }, Phases::Always),
            ("critic", critic * (2 * (parameters.model + parameters.adapters) + 4 * trained), Phases::Always),
            ("critic's moments and gradients", critic * 12 * trained, Phases::Always),
            ("activations", shape.gpu_activations(config, work) as u64, Phases::Always),
            ("head, a chunk of rows", shape.gpu_head(config, work) as u64, Phases::Always),
            ("driver and libraries", CONTEXT, Phases::Always),
            (CACHE, shape.growing(config, work) as u64, Phases::RollOut),
            ("logits", 4 * (2.0 * work.at_a_time as f64 * shape.vocab) as u64, Phases::RollOut),
        ];
        let parts = parts.into_iter().map(|(name, bytes, phases)| Part { name, bytes, phases });
        Self { gpu: true, parts: parts.filter(|part| part.bytes > 0).collect() }
    }
}

impl Shape {
    fn gpu_activations(&self, config: &RunConfig, work: &Work) -> f64 {
        let qkv = self.queries + 2.0 * self.keys;
        let plain = if self.qk_norm { qkv } else { 0.0 };
        // In bf16: queries, keys and values before and after rotation, what attention gives, the sum behind it, gate and up;
        // in f32 a number a head.
        let layer = 2.0 * (plain + qkv + self.queries + self.hidden + 2.0 * self.intermediate) + 4.0 * self.heads;
        let layers = if config.train.layer_memory == LayerMemory::Keep { self.layers } else { 1.0 };
        let inputs = 2.0 * self.layers * self.hidden;
        // Two of the width, two of the MLP's, two of attention's, one of queries, keys and values; the residual stream, and
        // its gradient in f32.
        let scratch = 2.0 * (2.0 * self.hidden + 2.0 * self.intermediate + 2.0 * self.queries + qkv);
        Self::micro_batch(config, work) * (layers * layer + inputs + scratch + 6.0 * self.hidden)
    }

    /// Logits in f32 and their gradient in bf16; rows before and after the norm, and their gradients.
    fn gpu_head(&self, config: &RunConfig, work: &Work) -> f64 {
        let rows = Self::micro_batch(config, work);
        let chunk = (CHUNK_LOGITS / self.vocab).clamp(16.0, 8192.0).min(rows);
        6.0 * chunk * self.vocab + 8.0 * rows * self.hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Layer, resolve};

    #[test]
    fn the_cache_and_the_rest_fill_a_gpu_and_no_more() -> Result<(), Box<dyn std::error::Error>> {
        let model = ModelConfig::qwen3_0_6b();
        let of = |layers: &[&str]| -> Result<RunConfig, Box<dyn std::error::Error>> {
            let layers = layers.iter().map(|layer| Layer::parse(layer)).collect::<Result<Vec<_>, _>>()?;
            Ok(resolve(&layers)?.config)
        };
        let (config, total) = (of(&["sampler.train_batch=16"])?, 80 << 30);
        let left = cache_left(&config, &model, total);
        // 18 bytes a parameter, 2 GiB of context and logits, and a micro-batch's activations.
        assert!((55 << 30..60 << 30).contains(&left), "{left}");
        assert_eq!(cache_left(&config, &model, 2 * total) - left, total / 20 * 19);
        assert_eq!(cache_left(&config, &model, 4 << 30), 0);
        let adapters = cache_left(&of(&["sampler.train_batch=16", "lora.rank=16"])?, &model, total);
        assert!(adapters > left + (8 << 30), "{adapters}");
        Ok(())
    }
}
