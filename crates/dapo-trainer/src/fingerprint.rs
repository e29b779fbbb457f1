//! Fingerprints of what a checkpoint relies on and does not hold.

use crate::error::TrainerError;
use dapo_data::Prompt;
use dapo_policy::Decoder;

/// Fingerprint of a policy's weights, adapters merged.
///
/// # Errors
/// When the device fails.
pub fn fingerprint_of_weights(policy: &Decoder) -> Result<String, TrainerError> {
    let mut hash = Hash::default();
    let shapes = policy.config().parameter_shapes();
    let mut places: Vec<usize> = (0..shapes.len()).collect();
    places.sort_unstable_by_key(|place| &shapes[*place].0);
    for place in places {
        hash.add(shapes[place].0.as_bytes());
        dapo_kernels::with_slice(&policy.tensor(place)?, |values| {
            for value in values {
                hash.word(u64::from(value.to_bits()));
            }
            Ok(())
        })?;
    }
    Ok(hash.text())
}

/// Number and fingerprint of the prompts, in their order.
pub fn fingerprint_of_data(prompts: &[Prompt]) -> String {
    let mut hash = Hash::default();
    for prompt in prompts {
        hash.add(prompt.id.as_bytes());
        hash.add(prompt.answer.as_bytes());
        prompt.alternatives.iter().for_each(|answer| hash.add(answer.as_bytes()));
        prompt.token_ids.iter().for_each(|token| hash.word(u64::from(*token)));
        hash.word(u64::MAX);
    }
    format!("{} prompts, {}", prompts.len(), hash.text())
}

/// Tells accidents apart, not attacks: FNV-1a over 64-bit words, with a multiplier that spreads high bits too.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Hash {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }

    fn add(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        for byte in bytes {
            self.word(u64::from(*byte));
        }
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)
    }
}
