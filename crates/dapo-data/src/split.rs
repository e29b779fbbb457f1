//! Setting problems apart for validation.

use crate::error::DataError;
use crate::problem::Problem;
use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;

/// Splits problems into those to train on and those to validate on, each in the given order.
///
/// A problem is set apart iff h / 2^64 < `share`, where h is the SipHash-2-4 with the key (`seed`, 0) of its messages:
/// of each in turn the role and the content in UTF-8, each followed by the byte 0xFF. So a problem's side depends on the
/// seed and its prompt alone: adding, removing or reordering others does not move it, repeats fall on the same side,
/// and what a smaller share sets apart a larger one does too. The number set apart is `share` of all only on average.
///
/// # Errors
/// When `share` is not in [0, 1).
pub fn split(problems: Vec<Problem>, share: f64, seed: u64) -> Result<(Vec<Problem>, Vec<Problem>), DataError> {
    if !(0.0..1.0).contains(&share) {
        return Err(DataError::setting("share", &share, "a share of the problems, in [0, 1)"));
    }
    // Exact, as scaling by a power of two loses nothing and the largest share below 1 stays below 2^64.
    let bound = (share * 2f64.powi(64)).ceil() as u64;
    Ok(problems.into_iter().partition(|problem| prompt_hash(problem, seed) >= bound))
}

/// A hash of a problem's messages that stays the same in all versions.
pub(super) fn prompt_hash(problem: &Problem, seed: u64) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(seed, 0);
    for part in problem.messages.iter().flat_map(|message| [&message.role, &message.content]) {
        hasher.write(part.as_bytes());
        // No text has this byte, so no two conversations are one sequence of bytes.
        hasher.write(&[0xff]);
    }
    hasher.finish()
}
