//! Arithmetic for what no fraction expresses: enclosures of real and complex numbers at any precision.

pub(crate) mod complex;
pub(crate) mod elementary;
pub(crate) mod float;
pub(crate) mod interval;

use crate::fuel::Spent;

/// Why a value has no enclosure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumericError {
    /// It does not exist: division by zero, logarithm of zero.
    Undefined,
    /// Not decidable at this precision.
    Imprecise,
    /// Too large or too small to write down, or no function known here.
    OutOfRange,
    /// The work is not worth it.
    OutOfFuel,
}

impl From<Spent> for NumericError {
    fn from(_: Spent) -> Self {
        Self::OutOfFuel
    }
}

pub(crate) type Numeric<T> = Result<T, NumericError>;
