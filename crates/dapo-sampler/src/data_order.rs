//! The order in which prompts are drawn.

use serde::{Deserialize, Serialize};

use crate::error::{SamplerError, expect_config};
use crate::split_mix::{SplitMix, mix};

/// Endless seeded order over a data set: every epoch is a fresh permutation, every draw has its own index.
///
/// Draw d belongs to epoch ⌊d / n⌋ of n prompts and is entry d mod n of that epoch's permutation. The order
/// depends on nothing but the seed, n and d.
///
/// A permutation is a Fisher–Yates shuffle, from the last entry down, over the stream
///
/// ```text
/// x_i = mix(mix(mix(seed) + epoch) + (i + 1) · 0x9e3779b97f4a7c15),   i = 0, 1, …   (mod 2⁶⁴)
/// ```
///
/// with SplitMix64's `mix`; an index below b is ⌊x · b / 2⁶⁴⌋, where the x that would favour some indices are skipped.
///
/// ```
/// use dapo_sampler::DataOrder;
///
/// let mut order = DataOrder::new(7, 3)?;
/// let draws = order.next_draws(6);
/// assert_eq!(draws.iter().map(|&(draw, _)| draw).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
/// let mut first_epoch: Vec<usize> = draws[..3].iter().map(|&(_, prompt)| prompt).collect();
/// first_epoch.sort();
/// assert_eq!(first_epoch, [0, 1, 2]);
/// # Ok::<(), dapo_sampler::SamplerError>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Position", into = "Position")]
pub struct DataOrder {
    position: Position,
    /// The permutation last used and its epoch.
    permutation: Option<(u64, Vec<usize>)>,
}

/// All there is to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    seed: u64,
    prompts: usize,
    next_draw: u64,
}

impl DataOrder {
    /// An order over `prompts` prompts, at draw 0.
    ///
    /// # Errors
    /// [`SamplerError::Config`] if there are no prompts.
    pub fn new(seed: u64, prompts: usize) -> Result<Self, SamplerError> {
        Position { seed, prompts, next_draw: 0 }.try_into()
    }

    /// The next draw index and the index of its prompt in the data set.
    pub fn next_draw(&mut self) -> (u64, usize) {
        let Position { seed, prompts, next_draw: draw } = self.position;
        let (epoch, entry) = (draw / prompts as u64, (draw % prompts as u64) as usize);
        let permutation = match self.permutation.take() {
            Some((of, permutation)) if of == epoch => permutation,
            _ => permutation(seed, epoch, prompts),
        };
        let prompt = permutation[entry];
        self.permutation = Some((epoch, permutation));
        self.position.next_draw += 1;
        (draw, prompt)
    }

    /// The next `count` draws.
    pub fn next_draws(&mut self, count: usize) -> Vec<(u64, usize)> {
        (0..count).map(|_| self.next_draw()).collect()
    }

    /// Takes draws back, so that `draws` were made: the next ones are the same again.
    ///
    /// # Errors
    /// [`SamplerError::Config`] if fewer were made.
    pub fn rewind(&mut self, draws: u64) -> Result<(), SamplerError> {
        let made = self.draws();
        expect_config(draws <= made, "draws", &draws, "at most the number of draws made")?;
        self.position.next_draw = draws;
        Ok(())
    }

    /// How many draws were made.
    pub fn draws(&self) -> u64 {
        self.position.next_draw
    }

    /// The epoch of the next draw.
    pub fn epoch(&self) -> u64 {
        self.position.next_draw / self.position.prompts as u64
    }

    /// Prompts in the data set.
    pub fn prompts(&self) -> usize {
        self.position.prompts
    }
}

/// Equal orders give the same draws from here on.
impl PartialEq for DataOrder {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for DataOrder {}

impl TryFrom<Position> for DataOrder {
    type Error = SamplerError;

    fn try_from(position: Position) -> Result<Self, SamplerError> {
        expect_config(position.prompts > 0, "prompts", &position.prompts, "a data set of at least 1 prompt")?;
        Ok(Self { position, permutation: None })
    }
}

impl From<DataOrder> for Position {
    fn from(order: DataOrder) -> Self {
        order.position
    }
}

/// The numbers 0..len, shuffled by the stream of (seed, epoch).
fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<usize> {
    let mut stream = SplitMix::new(mix(mix(seed).wrapping_add(epoch)));
    let mut order: Vec<usize> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_documented_one() {
        // From a transcription of the documented stream in another language.
        assert_eq!(permutation(7, 0, 10), [0, 1, 2, 4, 9, 5, 8, 6, 3, 7]);
        assert_eq!(permutation(7, 1, 10), [0, 1, 7, 6, 9, 5, 2, 4, 8, 3]);
        assert_eq!(permutation(8, 0, 10), [7, 1, 0, 9, 4, 3, 6, 8, 5, 2]);
    }

    #[test]
    fn draws_that_are_taken_back_come_again() {
        let mut order = DataOrder::new(3, 4).unwrap();
        order.next_draws(3);
        let drawn = order.next_draws(7);
        order.rewind(3).unwrap();
        assert_eq!(order.next_draws(7), drawn, "across epochs too");
        assert_eq!(order.rewind(11).unwrap_err().to_string(), "draws is 11, expected at most the number of draws made");
    }

    #[test]
    fn shuffles_without_bias() {
        // Each of the 24 orders of four prompts is expected 1000 times; χ² with 23 degrees of freedom stays below 50
        // in all but one case in a thousand.
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..24_000 {
            *counts.entry(permutation(3, epoch, 4)).or_insert(0_u32) += 1;
        }
        let chi2: f64 = counts.values().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert_eq!(counts.len(), 24);
        assert!(chi2 < 50.0, "{chi2}");
    }

    #[test]
    fn an_empty_data_set_is_an_error_also_when_read_back() {
        let error = DataOrder::new(0, 0).unwrap_err();
        assert_eq!(error.to_string(), "prompts is 0, expected a data set of at least 1 prompt");
        assert!(serde_json::from_str::<DataOrder>(r#"{"seed":0,"prompts":0,"next_draw":5}"#).is_err());
    }
}
