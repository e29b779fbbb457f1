//! TensorBoard's event files: TFRecords of protocol buffers.
//!
//! A record is its length (8 bytes), a checksum of that (4), its bytes, and a checksum of these (4), little-endian. Of the
//! message `Event` the fields used are 1 (wall time), 2 (step), 3 (version of the file, in the first record) and 5 (a
//! `Summary`: values with a tag, 1, and a number, 2).

use super::crc32c::masked;
use super::record::{Kept, Record, is_of_evaluation};

const VERSION: &str = "brain.Event:2";

/// The first record of a file.
pub(super) fn header(time: f64) -> Vec<u8> {
    let mut event = event(time, 0);
    bytes(&mut event, 3, VERSION.as_bytes());
    frame(&event)
}

/// A record of all figures that were measured.
pub(super) fn encode(record: &Record) -> Vec<u8> {
    let mut summary = Vec::new();
    for (name, value) in &record.values {
        let Some(value) = value else { continue };
        let mut scalar = Vec::new();
        bytes(&mut scalar, 1, name.as_bytes());
        key(&mut scalar, 2, Wire::Four);
        scalar.extend((*value as f32).to_le_bytes());
        bytes(&mut summary, 1, &scalar);
    }
    let mut event = event(record.time, record.step);
    bytes(&mut event, 5, &summary);
    frame(&event)
}

/// Bytes of the records that stay; `None` where this is no event file. What follows a damaged record cannot be read,
/// and goes.
pub(super) fn kept(file: &[u8], kept: Kept) -> Option<usize> {
    let mut end = 0;
    while let Some((event, length)) = record(&file[end..]) {
        if end > 0 {
            let (step, tag) = step_and_tag(event)?;
            if !kept.has(step, tag.is_some_and(is_of_evaluation)) {
                break;
            }
        }
        end += length;
    }
    (end > 0 || file.is_empty()).then_some(end)
}

/// The first record, and its length with the checksums.
fn record(file: &[u8]) -> Option<(&[u8], usize)> {
    let number = |at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(u64::from_le_bytes(file.get(..8)?.try_into().ok()?)).ok()?;
    let end = length.checked_add(12)?;
    let event = file.get(12..end)?;
    (number(8)? == masked(&file[..8]) && number(end)? == masked(event)).then_some((event, end + 4))
}

/// The step of an event, and the tag of its first value.
fn step_and_tag(event: &[u8]) -> Option<(u64, Option<&str>)> {
    let (mut step, mut tag) = (0, None);
    for field in fields(event)? {
        match field {
            (2, Content::Number(number)) => step = number,
            (5, Content::Bytes(summary)) => {
                if let Some((1, Content::Bytes(value))) = fields(summary)?.first()
                    && let Some((1, Content::Bytes(name))) = fields(value)?.first()
                {
                    tag = std::str::from_utf8(name).ok();
                }
            }
            _ => {}
        }
    }
    Some((step, tag))
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A number of four or eight bytes.
    Fixed,
}

/// The fields of a message; `None` where it is damaged.
fn fields(mut message: &[u8]) -> Option<Vec<(u64, Content<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        let content = match key & 7 {
            0 => Content::Number(take_varint(&mut message)?),
            1 => take(&mut message, 8).map(|_| Content::Fixed)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                Content::Bytes(take(&mut message, length)?)
            }
            5 => take(&mut message, 4).map(|_| Content::Fixed)?,
            _ => return None,
        };
        fields.push((key >> 3, content));
    }
    Some(fields)
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// How a field's content is written.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Eight = 1,
    Length = 2,
    Four = 5,
}

fn event(time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, Wire::Eight);
    event.extend(time.to_le_bytes());
    key(&mut event, 2, Wire::Varint);
    varint(&mut event, step);
    event
}

fn frame(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length, masked(&length).to_le_bytes().as_slice(), event, &masked(event).to_le_bytes()].concat()
}

fn key(message: &mut Vec<u8>, field: u64, wire: Wire) {
    varint(message, field << 3 | wire as u64);
}

fn bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(message, field, Wire::Length);
    varint(message, content.len() as u64);
    message.extend(content);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(step: u64, name: &str) -> Vec<u8> {
        encode(&Record { step, time: 1.5, values: vec![(name.into(), Some(0.25)), ("train/x".into(), None)] })
    }

    #[test]
    fn only_records_up_to_a_step_stay() {
        let records = [
            header(1.0),
            record_of(0, "eval/a"),
            record_of(1, "train/a"),
            record_of(300, "train/a"),
            record_of(300, "eval/a"),
            record_of(301, "train/a"),
        ];
        let file = records.concat();
        let ends: Vec<usize> = (1..=6).map(|n| records[..n].concat().len()).collect();
        let at = |steps, evaluation| kept(&file, Kept { steps, evaluation }).unwrap_or(0);
        assert_eq!([at(0, false), at(0, true), at(1, false), at(299, true)], [ends[0], ends[1], ends[2], ends[2]]);
        assert_eq!(
            [at(300, false), at(300, true), at(301, false), at(999, false)],
            [ends[3], ends[4], ends[5], ends[5]]
        );
    }

    #[test]
    fn what_follows_damage_goes_and_other_files_are_left_alone() {
        let whole = [header(1.0), record_of(1, "train/a"), record_of(2, "train/a")].concat();
        let all = Kept { steps: 9, evaluation: true };
        let (first, second) = (header(1.0).len(), header(1.0).len() + record_of(1, "train/a").len());
        for cut in second..whole.len() {
            assert_eq!(kept(&whole[..cut], all), Some(second), "{cut}");
        }
        for at in first..second {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert_eq!(kept(&damaged, all), Some(first), "{at}");
        }
        assert_eq!((kept(b"", all), kept(b"some text that is no event file", all)), (Some(0), None));
    }
}
