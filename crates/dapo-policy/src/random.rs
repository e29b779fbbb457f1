//! Random weights, each tensor from a stream of its own.

use crate::{Decoder, ModelConfig, PolicyError};
use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// Half the width of a uniform distribution whose deviation is 0.02.
const BOUND: f32 = 0.034_641_016;

/// Numbers in ±`bound` from the stream of (seed, purpose, name).
pub(crate) fn uniform(name: &str, seed: u64, purpose: [u8; 8], count: usize, bound: f32) -> Vec<f32> {
    // FNV-1a of the name.
    let hash =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut key = [0u8; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, u64::from_le_bytes(purpose), hash]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let mut rng = ChaCha8Rng::from_seed(key);
    let mut next = || ((rng.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0) * bound;
    (0..count).map(|_| next()).collect()
}

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
