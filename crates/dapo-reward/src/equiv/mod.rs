//! Deciding whether two answers mean the same.

mod canonical;
mod compare;
mod decimal;
mod evaluate;
mod exact;
mod factor;
mod measure;
mod polynomial;
mod prepare;
mod real_set;
mod relation;
mod residue;
mod sample;
mod scalar;
mod special;
mod subject;
#[cfg(test)]
mod tests;

pub(crate) use compare::compare;
pub(crate) use decimal::is_positive;
pub(crate) use exact::rational;
pub(crate) use polynomial::polynomial_in;

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
