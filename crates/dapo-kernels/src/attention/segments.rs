//! The sequences of a packed batch.

use candle_core::{Result, bail};

/// A run of tokens of a packed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index of its first token.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
    /// Index of the segment it continues.
    pub parent: Option<usize>,
}

/// The segments of a packed batch, end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    list: Vec<Segment>,
    /// A root and the segments that continue it, in order.
    families: Vec<Vec<usize>>,
}

impl Segments {
    /// Segments of the given lengths and parents, packed in this order.
    ///
    /// # Errors
    /// When a length is 0, or a parent does not come before its continuation or has a parent itself.
    pub fn new(lengths_and_parents: impl IntoIterator<Item = (usize, Option<usize>)>) -> Result<Self> {
        let mut list: Vec<Segment> = Vec::new();
        let mut families: Vec<Vec<usize>> = Vec::new();
        let mut family_of = Vec::new();
        let mut start = 0;
        for (index, (len, parent)) in lengths_and_parents.into_iter().enumerate() {
            if len == 0 {
                bail!("segments: segment {index} is empty");
            }
            let family = match parent {
                None => {
                    families.push(Vec::new());
                    families.len() - 1
                }
                Some(p) if p < index && list[p].parent.is_none() => family_of[p],
                Some(p) => {
                    bail!("segments: segment {index} names parent {p}, expected an earlier one without a parent")
                }
            };
            families[family].push(index);
            family_of.push(family);
            list.push(Segment { start, len, parent });
            start += len;
        }
        Ok(Self { list, families })
    }

    /// All segments in order.
    pub fn list(&self) -> &[Segment] {
        &self.list
    }

    pub(crate) fn families(&self) -> &[Vec<usize>] {
        &self.families
    }

    /// The segment that `segment` continues, if any.
    pub fn parent(&self, segment: &Segment) -> Option<&Segment> {
        segment.parent.map(|p| &self.list[p])
    }

    /// Number of tokens.
    pub fn total(&self) -> usize {
        self.list.last().map_or(0, |s| s.start + s.len)
    }

    /// Each token's position in its sequence: continuing segments count on from their parent.
    pub fn positions(&self) -> Vec<u32> {
        let mut positions = Vec::with_capacity(self.total());
        for segment in &self.list {
            let first = self.parent(segment).map_or(0, |p| p.len) as u32;
            positions.extend(first..first + segment.len as u32);
        }
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_go_on_from_the_parent() {
        let segments = Segments::new([(3, None), (2, Some(0)), (1, None), (2, Some(0))]).expect("valid");
        assert_eq!(segments.positions(), [0, 1, 2, 3, 4, 0, 3, 4]);
        assert_eq!(segments.total(), 8);
        assert_eq!(segments.families(), [vec![0, 1, 3], vec![2]]);
    }

    #[test]
    fn refuses_empty_segments_and_parents_that_are_not_roots() {
        assert!(Segments::new([(0, None)]).is_err());
        assert!(Segments::new([(1, Some(0))]).is_err());
        assert!(Segments::new([(1, None), (1, Some(0)), (1, Some(1))]).is_err());
    }
}
