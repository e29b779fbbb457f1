//! A budget of work, so that every question ends.

use std::cell::Cell;

/// Work left, in units of roughly a nanosecond.
#[derive(Debug)]
pub(crate) struct Fuel(Cell<u64>);

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent;

impl Fuel {
    /// What one comparison may cost.
    pub(crate) const COMPARISON: u64 = 10_000_000;
    /// What all comparisons among the answers to one question may cost.
    pub(crate) const GROUP: u64 = 50 * Self::COMPARISON;

    pub(crate) fn new(units: u64) -> Self {
        Self(Cell::new(units))
    }

    /// Takes `units` from the budget.
    pub(crate) fn spend(&self, units: u64) -> Result<(), Spent> {
        let left = self.0.get().checked_sub(units);
        self.0.set(left.unwrap_or(0));
        left.map(|_| ()).ok_or(Spent)
    }

    pub(crate) fn left(&self) -> u64 {
        self.0.get()
    }

    /// The cost of multiplying numbers of this many bits.
    pub(crate) fn spend_product(&self, bits: usize) -> Result<(), Spent> {
        let limbs = (bits / 64 + 1) as u64;
        self.spend(40 + limbs * limbs.min(32) * 2)
    }
}
