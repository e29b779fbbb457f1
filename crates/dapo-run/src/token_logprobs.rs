//! Which completions of a step are logged with the log-probs of their tokens, and the tokens' texts.

use dapo_trainer::GroupRecord;
use std::collections::{BTreeMap, BTreeSet};

/// Places of at most `most` samples: number of the group, number of the sample. They are spread evenly over the outcomes
/// (the group's fate, correctness, truncation) and, within an outcome, over the step. The same records give the
/// same places.
pub(crate) fn chosen(records: &[GroupRecord], most: usize) -> BTreeSet<(usize, usize)> {
    let mut outcomes: BTreeMap<_, Vec<(usize, usize)>> = BTreeMap::new();
    for (group, record) in records.iter().enumerate() {
        for (number, sample) in record.group.samples.iter().enumerate() {
            let outcome = (record.fate as u8, sample.reward.correct, sample.is_truncated());
            outcomes.entry(outcome).or_default().push((group, number));
        }
    }
    spread(&outcomes.into_values().collect::<Vec<_>>(), most)
}

/// At most `most` places, as many of each list as of the others as far as it has them.
fn spread(lists: &[Vec<(usize, usize)>], most: usize) -> BTreeSet<(usize, usize)> {
    let mut shares = vec![0; lists.len()];
    let mut left = most.min(lists.iter().map(Vec::len).sum());
    while left > 0 {
        for (share, _) in shares.iter_mut().zip(lists).filter(|(share, list)| **share < list.len()) {
            let takes = usize::from(left > 0);
            *share += takes;
            left -= takes;
        }
    }
    let of_list = |(list, share): (&Vec<_>, usize)| (0..share).map(|place| list[place * list.len() / share]).collect();
    lists.iter().zip(shares).flat_map(|(list, share)| -> Vec<(usize, usize)> { of_list((list, share)) }).collect()
}

/// Tokens after which text is shown although its last character is not whole.
const LONGEST_CHARACTER: usize = 8;

/// The text that each token adds. A character that several tokens make up is the last one's; the others add nothing.
pub(crate) fn texts<E>(ids: &[u32], decode: impl Fn(&[u32]) -> Result<String, E>) -> Result<Vec<String>, E> {
    let mut texts = Vec::with_capacity(ids.len());
    // The tokens of the last text that was whole, which decide how the next one begins, and how many tokens are shown.
    let (mut before, mut shown) = (0, 0);
    for end in 1..=ids.len() {
        let known = decode(&ids[before..shown])?;
        let text = decode(&ids[before..end])?;
        let is_whole = !text.ends_with('\u{fffd}') || end == ids.len() || end - shown >= LONGEST_CHARACTER;
        if is_whole {
            let added = match text.strip_prefix(&known) {
                Some(added) => added.to_owned(),
                None => decode(&ids[shown..end])?,
            };
            texts.push(added);
            (before, shown) = (shown, end);
        } else {
            texts.push(String::new());
        }
    }
    Ok(texts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{spread, texts};
    use std::convert::Infallible;

    /// Tokens that are bytes.
    fn of_bytes(bytes: &[u8]) -> Vec<String> {
        let ids: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
        let decode = |ids: &[u32]| {
            let bytes: Vec<u8> = ids.iter().map(|id| *id as u8).collect();
            Ok::<_, Infallible>(String::from_utf8_lossy(&bytes).into_owned())
        };
        texts(&ids, decode).unwrap()
    }

    #[test]
    fn texts_of_tokens_make_up_the_completion() {
        assert_eq!(of_bytes(b"ab"), ["a", "b"]);
        assert_eq!(of_bytes("aé🙂b".as_bytes()), ["a", "", "é", "", "", "", "🙂", "b"]);
        assert_eq!(of_bytes(b"a\xc3"), ["a", "\u{fffd}"], "an end within a character");
        let endless = of_bytes(&[0x80; 20]);
        assert_eq!(endless.concat(), "\u{fffd}".repeat(20));
        assert_eq!(endless.iter().filter(|text| !text.is_empty()).count(), 3);
        assert_eq!(of_bytes(b""), Vec::<String>::new());
    }

    #[test]
    fn decoders_that_treat_the_first_token_otherwise_lose_no_space() {
        let decode = |ids: &[u32]| {
            let text: String = ids.iter().map(|id| ["▁one", "▁two", "!"][*id as usize]).collect();
            Ok::<_, Infallible>(text.replace('▁', " ").trim_start().to_owned())
        };
        assert_eq!(texts(&[0, 1, 2, 1], decode).unwrap(), ["one", " two", "!", " two"]);
    }

    #[test]
    fn places_are_spread_over_outcomes() {
        let list = |group: usize, length: usize| (0..length).map(|sample| (group, sample)).collect::<Vec<_>>();
        let lists = [list(0, 10), list(1, 1), list(2, 4)];
        let found: Vec<_> = spread(&lists, 6).into_iter().collect();
        assert_eq!(found, [(0, 0), (0, 3), (0, 6), (1, 0), (2, 0), (2, 2)]);
        assert_eq!(spread(&lists, 100).len(), 15);
        assert_eq!(spread(&lists, 0).len(), 0);
        assert_eq!(spread(&[], 8).len(), 0);
        assert_eq!(spread(&lists, 2).into_iter().collect::<Vec<_>>(), [(0, 0), (1, 0)]);
    }
}
