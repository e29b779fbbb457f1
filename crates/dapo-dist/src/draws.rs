//! Which rank makes which draw.
//!
//! A completion's random numbers are keyed by its draw, so its bytes do not depend on the rank that makes it.

use crate::{collect::gather, error::DistError, wire, world::World};
use std::{collections::BTreeMap, ops::Range};

/// Deals draws to ranks in small pieces, one after another, as cards are dealt.
///
/// Neighbouring draws belong to different ranks, so that long completions, which often come together, are spread. Pieces
/// are counted from draw 0 and not from the start of a round: the rank that has one more than the others changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dealing {
    piece: u64,
}

impl Dealing {
    /// Pieces of `piece` draws.
    ///
    /// # Errors
    ///
    /// [`DistError::Argument`] for 0.
    pub fn new(piece: u64) -> Result<Self, DistError> {
        if piece == 0 {
            let (what, expected) = ("the number of draws in a piece".to_owned(), "at least 1".to_owned());
            return Err(DistError::Argument { what, found: "0".to_owned(), expected });
        }
        Ok(Self { piece })
    }

    /// The rank of a world of `size` that makes a draw.
    pub fn maker(self, draw: u64, size: usize) -> usize {
        (draw / self.piece % size.max(1) as u64) as usize
    }

    /// The draws of a round that this rank makes, in order.
    pub fn mine(self, world: &dyn World, draws: Range<u64>) -> Vec<u64> {
        draws.filter(|draw| self.maker(*draw, world.size()) == world.rank()).collect()
    }

    /// Gives every rank what all ranks made of a round's draws, in the order of the draws.
    ///
    /// # Errors
    ///
    /// - [`DistError::Content`] if a rank gives a draw that is not its own, gives one twice, or lacks one.
    /// - See [`World`].
    pub fn gather(
        self,
        world: &dyn World,
        draws: Range<u64>,
        mine: &[(u64, Vec<u8>)],
    ) -> Result<Vec<(u64, Vec<u8>)>, DistError> {
        let mut bytes = Vec::new();
        for (draw, made) in mine {
            bytes.extend_from_slice(&draw.to_le_bytes());
            wire::put(&mut bytes, made);
        }
        let mut all = BTreeMap::new();
        for (rank, bytes) in gather(world, &bytes)?.into_iter().enumerate() {
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                let wrong = |found: String, expected: String| DistError::Content { rank, found, expected };
                let next =
                    wire::take_number(&mut bytes).and_then(|draw| Some((draw, wire::take(&mut bytes)?.to_vec())));
                let whole = || wrong("cut short".to_owned(), "a list of draws".to_owned());
                let (draw, made) = next.ok_or_else(whole)?;
                let maker = self.maker(draw, world.size());
                if maker != rank || !draws.contains(&draw) {
                    let expected = format!("the draws of rank {rank} among {} to {}", draws.start, draws.end);
                    return Err(wrong(format!("draw {draw}"), expected));
                }
                if all.insert(draw, made).is_some() {
                    return Err(wrong(format!("draw {draw} twice"), "each draw once".to_owned()));
                }
            }
        }
        let lacking = draws.clone().find(|draw| !all.contains_key(draw));
        match lacking {
            None => Ok(all.into_iter().collect()),
            Some(draw) => {
                let (rank, found) = (self.maker(draw, world.size()), format!("all but draw {draw}"));
                let expected = format!("its draws among {} to {}", draws.start, draws.end);
                Err(DistError::Content { rank, found, expected })
            }
        }
    }
}
