//! Values of expressions: exact, enclosed, modulo primes, at points, and in a canonical form.

pub(crate) mod canonical;
pub(crate) mod decimal;
pub(crate) mod evaluate;
pub(crate) mod exact;
pub(crate) mod factor;
pub(crate) mod polynomial;
pub(crate) mod residue;
pub(crate) mod sample;
pub(crate) mod special;
pub(crate) mod split_mix;

use crate::fuel::Spent;

/// Why a comparison or a step of it gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The budget is used up.
    OutOfFuel,
    /// The step does not apply to these expressions; another may.
    NotApplicable,
    /// The expression has no value.
    Undefined,
}

impl From<Spent> for Stop {
    fn from(_: Spent) -> Self {
        Self::OutOfFuel
    }
}
