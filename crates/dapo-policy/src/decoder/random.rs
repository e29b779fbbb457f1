//! A decoder with random weights.

use super::Decoder;
use crate::config::ModelConfig;
use crate::error::PolicyError;
use crate::random::uniform;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Half the width of a uniform distribution whose deviation is 0.02.
const BOUND: f32 = 0.034_641_016;

impl Decoder {
    /// A decoder with random weights, for training from nothing and for measurements: norms are 1, biases 0, everything else
    /// uniform with a standard deviation of 0.02, keyed by the seed and the tensor's name.
    ///
    /// # Errors
    /// When the configuration is invalid.
    ///
    /// ```
    /// use dapo_policy::{Decoder, ModelConfig};
    /// let config = ModelConfig { num_hidden_layers: 1, vocab_size: 100, ..ModelConfig::qwen3_0_6b() };
    /// assert_eq!(Decoder::random(config, 7)?.num_parameters(), 15_834_368);
    /// # Ok::<(), dapo_policy::PolicyError>(())
    /// ```
    pub fn random(config: ModelConfig, seed: u64) -> Result<Self, PolicyError> {
        config.validate()?;
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let count = shape.iter().product();
            let values = match shape.len() {
                1 if name.contains("_proj.") => vec![0.0; count],
                1 => vec![1.0; count],
                _ => uniform(&name, seed, *b"weights\0", count, BOUND),
            };
            Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
        };
        let tensors = config.parameter_shapes().into_par_iter().map(tensor).collect::<Result<_, PolicyError>>()?;
        Self::new(config, tensors)
    }
}
