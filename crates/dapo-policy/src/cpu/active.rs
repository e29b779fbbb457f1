//! A sequence that is generated on the CPU.

use super::draft::{Draft, Texts};
use super::kept::KeptRows;
use crate::error::PolicyError;
use crate::generator::{Ended, Ending};
use crate::request::{Completion, FinishReason, GenerationConfig};
use crate::sampling::Draws;
use crate::stop_strings::Tail;
use dapo_kernels::attention::KvCache;

/// An active sequence.
pub(super) struct Active {
    pub(super) place: usize,
    /// Tokens of the sequence before this turn's: those of the prompt, of earlier turns, and of others.
    before: usize,
    /// Tokens generated in earlier turns.
    drawn: usize,
    /// Tokens that this turn may have.
    limit: usize,
    /// Of this turn.
    pub(super) token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    /// The last token of a turn that has ended; no cache has it yet.
    pub(super) last: u32,
    draws: Draws,
    tail: Tail,
    /// What is kept of it for a backward pass.
    pub(super) kept: Option<KeptRows>,
    /// Guesses at its next tokens, where some are made.
    pub(super) draft: Option<Draft>,
}

/// A sequence whose turn has ended, with its cache of each layer.
pub(super) struct Parked {
    pub(super) active: Active,
    pub(super) caches: Vec<KvCache>,
}

/// What drawing a token led to.
pub(super) enum Drawn {
    Active,
    Finished(FinishReason),
    NotFinite,
}

impl Active {
    /// A sequence that continues a prompt.
    pub(super) fn new(place: usize, prompt_len: usize, config: &GenerationConfig, draws: Draws) -> Self {
        let limit = config.turn_limit(0);
        Self {
            place,
            before: prompt_len,
            drawn: 0,
            limit,
            token_ids: Vec::with_capacity(limit),
            logprobs: Vec::with_capacity(limit),
            last: 0,
            draws,
            tail: Tail::default(),
            kept: None,
            draft: None,
        }
    }

    /// Lets tokens be guessed.
    pub(super) fn with_draft(mut self, draft: Option<Draft>) -> Self {
        self.draft = draft;
        self
    }

    /// Guesses up to `most` tokens that follow the last one.
    pub(super) fn guess(&mut self, texts: &Texts, active: usize, most: usize) {
        let left = self.limit.saturating_sub(self.token_ids.len() + 1);
        if let Some(draft) = &mut self.draft {
            draft.guess(texts, active, most.min(left));
        }
    }

    /// The guessed tokens.
    fn guessed(&self) -> &[u32] {
        self.draft.as_ref().map_or(&[], |draft| &draft.tokens)
    }

    /// The tokens that are computed next, the last one and those that are guessed, with their positions.
    pub(super) fn next_tokens(&self) -> impl Iterator<Item = (u32, u32)> {
        let position = self.before + self.token_ids.len() - 1;
        let tokens = self.token_ids.last().into_iter().chain(self.guessed());
        tokens.enumerate().map(move |(i, token)| (*token, (position + i) as u32))
    }

    /// After a turn: the positions of its last token, and of `tokens` that follow.
    pub(super) fn positions_of_next(&self, tokens: usize) -> impl Iterator<Item = u32> + use<> {
        (self.before - 1..self.before + tokens).map(|position| position as u32)
    }

    /// After a turn: begins the next one behind these tokens.
    pub(super) fn begin_turn(&mut self, tokens: &[u32], config: &GenerationConfig) {
        self.before += tokens.len();
        self.limit = config.turn_limit(self.drawn);
        self.draws.see(&config.sampling, tokens);
        if let Some(draft) = &mut self.draft {
            draft.see(tokens);
            draft.tokens.clear();
        }
        self.tail = Tail::default();
    }

    /// Draws a token from the first row of logits, and one from each further row as long as the draw before it is the guessed
    /// token that the row follows. Returns what the last draw led to, and the number of rows used.
    pub(super) fn draw_rows<'r>(
        &mut self,
        rows: impl Iterator<Item = &'r [f32]>,
        config: &GenerationConfig,
    ) -> Result<(Drawn, usize), PolicyError> {
        let mut outcome = (Drawn::Active, 0);
        for (number, row) in rows.enumerate() {
            outcome = (self.draw(row, config)?, number + 1);
            let guess = self.guessed().get(number);
            if !matches!(outcome.0, Drawn::Active) || guess.is_none() || self.token_ids.last() != guess {
                break;
            }
        }
        if let Some(draft) = &mut self.draft {
            draft.came_true(outcome.1.saturating_sub(1));
        }
        Ok(outcome)
    }

    /// Draws the next token.
    pub(super) fn draw(&mut self, logits: &[f32], config: &GenerationConfig) -> Result<Drawn, PolicyError> {
        let position = self.drawn + self.token_ids.len();
        let Some((token, logprob)) = self.draws.next(logits, &config.sampling, position) else {
            return Ok(Drawn::NotFinite);
        };
        self.token_ids.push(token);
        self.logprobs.push(logprob);
        if let Some(draft) = &mut self.draft {
            draft.see(&[token]);
        }
        let finish = config.finish(&mut self.tail, token, self.token_ids.len(), self.limit)?;
        Ok(finish.map_or(Drawn::Active, Drawn::Finished))
    }

    /// The report of a sequence whose turn has ended, with what it has drawn in it.
    pub(super) fn ended(&mut self, drawn: &Drawn) -> Option<Ended> {
        let length = self.token_ids.len();
        let ending = match drawn {
            Drawn::Active => return None,
            Drawn::NotFinite => Ending::NotFinite(self.drawn + length),
            Drawn::Finished(finish_reason) => {
                (self.before, self.drawn) = (self.before + length, self.drawn + length);
                self.last = self.token_ids.last().copied().unwrap_or_default();
                Ending::Finished(Completion {
                    token_ids: std::mem::take(&mut self.token_ids),
                    logprobs: std::mem::take(&mut self.logprobs),
                    finish_reason: *finish_reason,
                    context: Vec::new(),
                })
            }
        };
        Some(Ended { place: self.place, ending })
    }
}
