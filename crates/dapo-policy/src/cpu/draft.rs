//! Drafts: guesses at the next tokens of a sequence, from text that is there (prompt lookup).
//!
//! While few sequences are active, reading the weights takes most of the time of a forward, and a few rows more cost
//! little. So a forward also computes what follows guessed tokens. A token is drawn from each row in turn, with the
//! random number of its position, as long as the draw before it is the guessed token. A row has the same bits whatever is
//! computed beside it, so completions and log-probs are those of one token at a time: guesses decide on time alone.

use std::collections::{BTreeMap, VecDeque};

/// Rows of a forward up to which another one costs little; see the measurements in `docs/benchmarks.md`.
const ROWS: usize = 4;
/// Tokens at the end of a sequence that have to occur before, for a guess.
const LEAST: usize = 2;
/// Tokens at the end of a sequence that are compared.
const MOST: usize = 5;
/// Forwards without a guess after one of which nothing came true: at first, and at most.
const PAUSES: (u32, u32) = (1, 16);
/// Completions of a request that have ended and are looked through.
const OTHERS: usize = 8;
/// Tokens at the end of a text that are looked through.
const LOOKED_THROUGH: usize = 2048;
/// Begins a completion; no token.
const BEGIN: u32 = u32::MAX;

/// The texts of the requests of one call, which outlives neither.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// By the number of the request.
    requests: BTreeMap<usize, Request>,
}

#[derive(Debug)]
struct Request {
    prompt: Vec<u32>,
    /// What some of its completions that have ended consist of, the last ones.
    completions: VecDeque<Vec<u32>>,
}

impl Texts {
    pub(super) fn put_prompt(&mut self, number: usize, prompt: &[u32]) {
        self.requests
            .entry(number)
            .or_insert_with(|| Request { prompt: prompt.to_vec(), completions: VecDeque::with_capacity(OTHERS) });
    }

    /// Takes over the text of a completion that has ended.
    pub(super) fn put_completion(&mut self, draft: Draft) {
        let Some(request) = self.requests.get_mut(&draft.number) else { return };
        if request.completions.len() == OTHERS {
            request.completions.pop_front();
        }
        request.completions.push_back(draft.text);
    }

    /// The texts to look through for a completion of a request: other completions, the latest first, and the prompt.
    fn of(&self, number: usize) -> impl Iterator<Item = &[u32]> {
        let request = self.requests.get(&number);
        let completions = request.into_iter().flat_map(|request| request.completions.iter().rev());
        completions.chain(request.map(|request| &request.prompt)).map(Vec::as_slice)
    }
}

/// What one sequence guesses with.
#[derive(Debug)]
pub(super) struct Draft {
    /// Number of the request.
    number: usize,
    /// What follows the prompt, behind a [`BEGIN`].
    text: Vec<u32>,
    /// The guessed tokens of the forward that is computed.
    pub(super) tokens: Vec<u32>,
    /// Forwards still to come without a guess, and how many there will be when the next guess fails.
    pause: (u32, u32),
}

impl Draft {
    /// For a completion of up to `tokens` tokens.
    pub(super) fn new(number: usize, tokens: usize) -> Self {
        let mut text = Vec::with_capacity(1 + tokens);
        text.push(BEGIN);
        Self { number, text, tokens: Vec::with_capacity(ROWS), pause: (0, PAUSES.0) }
    }

    /// Tokens that follow: drawn or put in by others.
    pub(super) fn see(&mut self, tokens: &[u32]) {
        self.text.extend_from_slice(tokens);
    }

    /// Guesses up to `most` tokens, for one of `active` sequences.
    pub(super) fn guess(&mut self, texts: &Texts, active: usize, most: usize) {
        self.tokens.clear();
        let most = most.min((ROWS / active).saturating_sub(1));
        if most == 0 {
            return;
        }
        if self.pause.0 > 0 {
            self.pause.0 -= 1;
            return;
        }
        continuation(&self.text, texts.of(self.number), most, &mut self.tokens);
    }

    /// Takes note of how many of the guessed tokens were drawn.
    pub(super) fn came_true(&mut self, count: usize) {
        if self.tokens.is_empty() {
            return;
        }
        let (_, next) = self.pause;
        self.pause = if count > 0 { (0, PAUSES.0) } else { (next, PAUSES.1.min(2 * next)) };
    }
}

/// Puts up to `most` tokens into `guess` that followed where the end of `text` occurs: the longest end, latest in `text`
/// itself, then in the first of the `others`. Behind the end of `text` the guess follows itself, as in a text that runs in
/// a circle.
fn continuation<'a>(text: &[u32], others: impl Iterator<Item = &'a [u32]>, most: usize, guess: &mut Vec<u32>) {
    let (mut best, mut length, mut in_circle) = (&[][..], LEAST - 1, false);
    for (source, is_own) in std::iter::once((text, true)).chain(others.map(|other| (other, false))) {
        for place in (1..source.len()).rev().take(LOOKED_THROUGH) {
            let found = common_end(&source[..place], text);
            if found > length {
                (best, length, in_circle) = (&source[place..], found, is_own);
            }
            if length == MOST {
                break;
            }
        }
        if length == MOST {
            break;
        }
    }
    guess.clear();
    for i in 0..most {
        let token = if i < best.len() || !in_circle { best.get(i) } else { guess.get(i - best.len()) };
        let Some(token) = token.copied() else { return };
        guess.push(token);
    }
}

/// Tokens at the ends of both that are equal, up to [`MOST`].
fn common_end(a: &[u32], b: &[u32]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take(MOST).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(text: &[u32], others: &[&[u32]], most: usize) -> Vec<u32> {
        let mut guess = vec![99];
        continuation(text, others.iter().copied(), most, &mut guess);
        guess
    }

    #[test]
    fn what_followed_the_longest_end_is_guessed_and_of_equal_ones_the_latest() {
        // 2 3 was followed by 4 and later by 5; 1 2 3 by 4 alone.
        assert_eq!(guess(&[BEGIN, 1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3], &[], 3), [4, 9, 2]);
        assert_eq!(guess(&[BEGIN, 1, 2, 3, 4, 9, 2, 3, 5, 8, 7, 2, 3], &[], 3), [5, 8, 7]);
        assert_eq!(guess(&[BEGIN, 1, 2, 7, 2], &[], 3), [0; 0]);
        assert_eq!(guess(&[BEGIN, 1, 2], &[], 3), [0; 0]);
    }

    #[test]
    fn a_text_in_a_circle_goes_on_in_it() {
        assert_eq!(guess(&[BEGIN, 6, 6, 6], &[], 3), [6, 6, 6]);
        assert_eq!(guess(&[BEGIN, 3, 4, 5, 3, 4], &[], 5), [5, 3, 4, 5, 3]);
    }

    #[test]
    fn a_prompt_and_other_completions_of_it_are_looked_through_as_well() {
        let others = [&[BEGIN, 7, 8, 9][..], &[1, 2, 3]];
        assert_eq!(guess(&[BEGIN], &others, 3), [0; 0]);
        // The beginning of another completion.
        assert_eq!(guess(&[BEGIN, 7], &others, 3), [8, 9]);
        assert_eq!(guess(&[BEGIN, 1, 2], &others, 3), [3]);
        assert_eq!(guess(&[BEGIN, 2, 3], &others, 3), [0; 0]);
    }

    #[test]
    fn the_last_completions_of_a_request_stay() {
        let mut texts = Texts::default();
        texts.put_prompt(5, &[1, 2]);
        for token in 0..20 {
            let mut draft = Draft::new(5, 1);
            draft.see(&[token]);
            texts.put_completion(draft);
        }
        let of: Vec<&[u32]> = texts.of(5).collect();
        assert_eq!((of.len(), of[0], of[7], of[8]), (9, &[BEGIN, 19][..], &[BEGIN, 12][..], &[1, 2][..]));
        assert_eq!(texts.of(4).count(), 0);
    }

    #[test]
    fn guesses_pause_ever_longer_while_none_comes_true() {
        let mut texts = Texts::default();
        texts.put_prompt(0, &[1, 2, 1, 2, 1]);
        let mut draft = Draft::new(0, 10);
        draft.see(&[2, 1]);
        let mut guessed = |true_ones: usize| {
            (0..24)
                .map(|_| {
                    draft.guess(&texts, 1, 3);
                    draft.came_true(true_ones.min(draft.tokens.len()));
                    usize::from(!draft.tokens.is_empty())
                })
                .collect::<Vec<_>>()
        };
        let failing = guessed(0);
        let places: Vec<usize> = (0..24).filter(|i| failing[*i] == 1).collect();
        assert_eq!(places, [0, 2, 5, 10, 19]);
        assert_eq!(guessed(1).iter().sum::<usize>(), 24 - 16 + 4);
    }

    #[test]
    fn many_sequences_share_the_rows() {
        let mut texts = Texts::default();
        texts.put_prompt(3, &(0..40).chain(0..40).collect::<Vec<_>>());
        let mut draft = Draft::new(3, 10);
        draft.see(&[7, 8]);
        for (active, most, expected) in [(1, 100, 3), (1, 2, 2), (2, 100, 1), (3, 100, 0), (4, 100, 0), (1, 0, 0)] {
            draft.guess(&texts, active, most);
            assert_eq!(draft.tokens.len(), expected, "{active} sequences");
        }
    }
}
