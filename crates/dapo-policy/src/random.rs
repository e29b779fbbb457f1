//! Random numbers for weights, each tensor's from a stream of its own.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

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
