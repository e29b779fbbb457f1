//! The small messages of fixed size with which ranks tell each other what they do.

use crate::error::Place;

/// Bytes of a note.
pub(crate) const NOTE: usize = 128;
/// A sender and its note.
pub(crate) type Letter = (usize, [u8; NOTE]);
const LABEL: usize = NOTE - 18;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Heartbeat,
    AllToAll,
    AllGather,
    Broadcast,
    Barrier,
    Unknown,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Heartbeat, Self::AllToAll, Self::AllGather, Self::Broadcast, Self::Barrier, Self::Unknown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Heartbeat => "heartbeat",
            Self::AllToAll => "all-to-all",
            Self::AllGather => "all-gather",
            Self::Broadcast => "broadcast",
            Self::Barrier => "barrier",
            Self::Unknown => "unknown operation",
        }
    }
}

/// What a rank does, and how many bytes it has for the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    pub(crate) length: u64,
    /// At most `LABEL` bytes.
    pub(crate) phase: String,
}

impl Note {
    pub(crate) fn new(kind: Kind, sequence: u64, phase: &str) -> Self {
        let end = (0..=LABEL.min(phase.len())).rev().find(|&end| phase.is_char_boundary(end)).unwrap_or(0);
        Self { kind, sequence, length: 0, phase: phase[..end].to_owned() }
    }

    pub(crate) fn encode(&self, length: u64) -> [u8; NOTE] {
        let mut bytes = [0; NOTE];
        bytes[0] = Kind::ALL.iter().position(|kind| *kind == self.kind).unwrap_or_default() as u8;
        bytes[1..9].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[9..17].copy_from_slice(&length.to_le_bytes());
        bytes[17] = self.phase.len() as u8;
        bytes[18..18 + self.phase.len()].copy_from_slice(self.phase.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; NOTE]) -> Self {
        let number = |start: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[start + byte]));
        let label = &bytes[18..18 + usize::from(bytes[17]).min(LABEL)];
        Self {
            kind: Kind::ALL.get(usize::from(bytes[0])).copied().unwrap_or(Kind::Unknown),
            sequence: number(1),
            length: number(9),
            phase: String::from_utf8_lossy(label).into_owned(),
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place { phase: self.phase.clone(), operation: self.kind.name(), sequence: self.sequence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_the_way_and_labels_are_cut_between_characters() {
        for label in ["", "step 12: gradients", &"ä".repeat(200), &format!("x{}", "ä".repeat(200))] {
            let note = Note::new(Kind::AllGather, u64::MAX - 3, label);
            let read = Note::decode(&note.encode(1 << 40));
            assert_eq!(read, Note { length: 1 << 40, ..note.clone() });
            assert!(label.starts_with(&read.phase) && read.phase.len() + 1 >= label.len().min(LABEL));
        }
        assert_eq!(Note::decode(&[255; NOTE]).kind, Kind::Unknown);
    }
}
