//! What a comparison carries along, and what it decides.

use crate::algebra::Stop;
use crate::fuel::Fuel;
use crate::rule::Rule;

/// A decision and the rule that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) equal: bool,
    pub(crate) rule: Rule,
}

impl Decision {
    pub(crate) fn new(equal: bool, rule: Rule) -> Self {
        Self { equal, rule }
    }

    pub(crate) fn correct(rule: Rule) -> Self {
        Self::new(true, rule)
    }

    pub(crate) fn incorrect(rule: Rule) -> Self {
        Self::new(false, rule)
    }
}

/// The outcome of comparing two answers.
pub(crate) type Comparison = Result<Decision, Stop>;

/// What a comparison carries along.
pub(crate) struct Judge<'f> {
    pub(crate) fuel: &'f Fuel,
    pub(crate) precision: u32,
    /// Whether the values compared are entries of a structure of decimals: two stated digits suffice there.
    pub(crate) in_decimals: bool,
}
