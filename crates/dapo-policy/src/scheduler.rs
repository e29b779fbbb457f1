//! The order of generation, one for all devices: prompts are computed once and continued by each of their completions, and
//! the batch is refilled as completions end.
//!
//! A completion depends on its key and its prompt alone, not on this order: random numbers are keyed by meaning, and a
//! row's bits do not depend on its batch. Scheduling decides only when and beside what it is computed.
//!
//! *Completions of several turns*: a sequence whose turn has ended is parked with its place and its part of the cache
//! until it is known what somebody else says; the tokens of that are computed on top of the cache, and the sequence
//! continues. Others advance meanwhile.
//!
//! What this leaves room for, and where it would go in:
//! - *Requests that arrive while it runs*: [`Scheduler::submit`] may be called between two steps. `Backend::generate` plans
//!   its memory from the requests that it is shown; there it would be shown a typical load.
//! - *A cache in blocks*: room is counted in blocks already; what they are is the generator's own. To reserve what is
//!   there rather than what may come, [`Generator::sequence_blocks`] would say what the next advance needs, and be
//!   asked before each.
//! - *A look at every layer's activations*: each backend runs prompts and decoding through one function per layer;
//!   `Backend::generate` would take the hook and hand it to the generator, which calls it behind each layer with the rows
//!   and the places or requests that they belong to.

use crate::error::PolicyError;
use crate::generator::{Ended, Ending, Generator, PromptCache, Room, Start};
use crate::policy::{GenerationProgress, More};
use crate::request::{Completion, ContextTokens, FinishReason, GenerationConfig, Request};
use crate::turns::{AfterTurn, EndedTurn, TurnAnswer, Turns};
use std::collections::VecDeque;

/// A request, and what has become of it.
struct Job<'r> {
    request: &'r Request,
    /// Samples that were handed over before, counted from the request's first.
    past: usize,
    /// Samples that are asked for now. All that follows is of these.
    samples: usize,
    /// Completions that have started.
    started: usize,
    finished: usize,
    completions: Vec<Option<Completion>>,
}

/// Which sequence is at a place, and what it has of earlier turns.
struct Sequence {
    number: usize,
    sample: usize,
    turns: usize,
    is_parked: bool,
    past: Completion,
    /// Advances made before its present turn began.
    begun: u64,
}

impl Sequence {
    fn new(number: usize, sample: usize, begun: u64) -> Self {
        let past = Completion {
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            finish_reason: FinishReason::Stop,
            context: Vec::new(),
        };
        Self { number, sample, turns: 0, is_parked: false, past, begun }
    }

    fn context_tokens(&self) -> usize {
        self.past.context.iter().map(|context| context.token_ids.len()).sum()
    }
}

/// Who speaks between turns, and within which limits.
pub(crate) struct Between<'g> {
    pub(crate) turns: &'g mut dyn Turns,
    pub(crate) config: &'g GenerationConfig,
    /// Sequences whose turns are not answered.
    pub(crate) parked: usize,
}

/// Requests on their way through a generator.
pub(crate) struct Scheduler<'r, 'g> {
    generator: &'g mut dyn Generator,
    room: Room,
    /// By number, in the order of their arrival.
    jobs: Vec<Job<'r>>,
    /// Numbers of those whose prompts are still to be computed.
    waiting: VecDeque<usize>,
    /// Numbers of those whose prompts are there, with completions that have not started.
    ready: VecDeque<usize>,
    /// By place.
    active: Vec<Option<Sequence>>,
    free_places: Vec<usize>,
    free_blocks: usize,
    /// `None` where completions have one turn.
    pub(crate) turns: Option<Between<'g>>,
    advances: u64,
    /// What has ended. Tokens include those of active sequences, as if each advance had drawn
    /// [`tokens_an_advance`](Generator::tokens_an_advance) of each.
    done: GenerationProgress,
    /// Memory of a step.
    starts: Vec<Start<'r>>,
    ended: Vec<Ended>,
}

impl<'r, 'g> Scheduler<'r, 'g> {
    pub(crate) fn new(generator: &'g mut dyn Generator) -> Self {
        let room = generator.room();
        Self {
            generator,
            room,
            jobs: Vec::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
            active: (0..room.places).map(|_| None).collect(),
            free_places: (0..room.places).rev().collect(),
            free_blocks: room.blocks,
            turns: None,
            advances: 0,
            done: GenerationProgress::default(),
            starts: Vec::with_capacity(room.places),
            ended: Vec::with_capacity(room.places),
        }
    }

    /// Takes a request in.
    pub(crate) fn submit(&mut self, request: &'r Request) {
        if request.samples > 0 {
            self.waiting.push_back(self.jobs.len());
        }
        let samples = request.samples;
        self.jobs.push(Job { request, past: 0, samples, started: 0, finished: 0, completions: vec![None; samples] });
    }

    /// The tokens so far of the first active sequence.
    pub(crate) fn tokens_of_first(&self) -> Result<Vec<u32>, PolicyError> {
        let place = self.active.iter().position(Option::is_some);
        self.generator.tokens(place.ok_or_else(|| PolicyError::Internal("no sequence is active".into()))?)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.ready.is_empty() && self.is_idle()
    }

    /// Whether no sequence is active or parked.
    fn is_idle(&self) -> bool {
        self.free_places.len() == self.room.places
    }

    /// Sequences that advance.
    fn advancing(&self) -> usize {
        self.room.places - self.free_places.len() - self.turns.as_ref().map_or(0, |between| between.parked)
    }

    /// Fills the batch and takes it further; `more` is shown each request's number and completions when all are there, and says
    /// how many more are wanted.
    pub(crate) fn step(&mut self, more: &mut More<'_>) -> Result<(), PolicyError> {
        self.admit(more)?;
        if self.is_done() {
            return Ok(());
        }
        if self.is_idle() {
            return Err(PolicyError::Internal("no sequence fits the cache of keys and values".into()));
        }
        self.hear(more)?;
        let advancing = self.advancing();
        if advancing == 0 {
            return Ok(());
        }
        self.generator.advance(&mut self.ended)?;
        self.advances += 1;
        self.done.tokens += (advancing * self.generator.tokens_an_advance()) as u64;
        self.settle(more)
    }

    /// Continues or ends the parked sequences whose turns have been answered; waits for one where nothing else is left to do.
    fn hear(&mut self, more: &mut More<'_>) -> Result<(), PolicyError> {
        let wait = self.advancing() == 0;
        let Some(between) = self.turns.as_mut().filter(|between| between.parked > 0) else { return Ok(()) };
        let answers = between.turns.answers(wait)?;
        if wait && answers.is_empty() {
            return Err(PolicyError::Internal("no turn is answered, and nothing else is left to be generated".into()));
        }
        let mut appended = Vec::new();
        for TurnAnswer { id: place, then } in answers {
            let sequence = self.active.get_mut(place).and_then(Option::as_mut).filter(|sequence| sequence.is_parked);
            let Some(sequence) = sequence else {
                return Err(PolicyError::Internal(format!("turn {place} is answered, which is not open")));
            };
            sequence.is_parked = false;
            if let Some(between) = &mut self.turns {
                between.parked -= 1;
                if let AfterTurn::Append(tokens) = &then {
                    between.check(sequence, tokens)?;
                }
            }
            match then {
                AfterTurn::Append(token_ids) => {
                    if !token_ids.is_empty() {
                        let at = sequence.past.token_ids.len();
                        sequence.past.context.push(ContextTokens { at, token_ids: token_ids.clone() });
                    }
                    appended.push((place, token_ids));
                    sequence.begun = self.advances;
                    self.done.tokens += 1;
                }
                AfterTurn::End(reason) => self.finish(place, reason, more),
            }
        }
        if appended.is_empty() {
            return Ok(());
        }
        self.generator.append(&appended, &mut self.ended)?;
        self.settle(more)
    }

    pub(crate) fn progress(&self) -> GenerationProgress {
        self.done
    }

    /// Starts sequences while there is room.
    fn admit(&mut self, more: &mut More<'_>) -> Result<(), PolicyError> {
        while !self.ready.is_empty() || self.prefill()? {
            self.starts.clear();
            while let Some(start) = self.next_start() {
                self.starts.push(start);
            }
            if self.starts.is_empty() {
                break;
            }
            self.generator.start(&self.starts, &mut self.ended)?;
            if self.room.prompts == PromptCache::Copied {
                for i in 0..self.starts.len() {
                    let Start { number, sample, .. } = self.starts[i];
                    let job = &self.jobs[number];
                    if sample + 1 == job.past + job.samples {
                        self.release_prompt(number);
                    }
                }
            }
            self.settle(more)?;
        }
        Ok(())
    }

    /// Gives the next sequence a place and blocks, where there are any.
    fn next_start(&mut self) -> Option<Start<'r>> {
        let number = *self.ready.front()?;
        let job = &mut self.jobs[number];
        let blocks = self.generator.sequence_blocks(job.request.prompt_ids.len());
        let free_blocks = self.free_blocks.checked_sub(blocks)?;
        let place = self.free_places.pop()?;
        self.free_blocks = free_blocks;
        let sample = job.past + job.started;
        let start = Start { place, number, request: job.request, sample };
        self.active[place] = Some(Sequence::new(number, sample, self.advances));
        self.done.tokens += 1;
        job.started += 1;
        if job.started == job.samples {
            self.ready.pop_front();
        }
        Some(start)
    }

    /// Computes the next waiting prompts in one batch; says whether there were any and room for them.
    fn prefill(&mut self) -> Result<bool, PolicyError> {
        if self.free_places.is_empty() {
            return Ok(false);
        }
        // Where a prompt takes up nothing of the cache, as many are computed at once as fill a batch.
        let wanted = match self.room.prompts {
            PromptCache::Copied => self.room.places,
            PromptCache::Shared | PromptCache::Kept => self.free_places.len(),
        };
        let (mut chosen, mut tokens, mut samples, mut reserved) = (Vec::new(), 0, 0, 0);
        while let Some(&number) = self.waiting.front() {
            let Job { request, samples: wanted_of_it, .. } = self.jobs[number];
            let len = request.prompt_ids.len();
            let (prompt, own) = (self.generator.prompt_blocks(len), self.generator.sequence_blocks(len));
            // Each must be able to start at least one sequence, or none might ever end.
            let fits = self.free_blocks >= reserved + prompt + own;
            let full = !chosen.is_empty() && tokens + len > self.room.prefill_tokens;
            if samples >= wanted || !fits || full {
                break;
            }
            self.waiting.pop_front();
            self.free_blocks -= prompt;
            reserved += own;
            tokens += len;
            samples += wanted_of_it;
            chosen.push((number, request));
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        self.generator.prefill(&chosen)?;
        self.ready.extend(chosen.into_iter().map(|(number, _)| number));
        Ok(true)
    }

    fn release_prompt(&mut self, number: usize) {
        self.generator.release_prompt(number);
        self.free_blocks += self.generator.prompt_blocks(self.jobs[number].request.prompt_ids.len());
    }

    /// Takes in what has ended.
    fn settle(&mut self, more: &mut More<'_>) -> Result<(), PolicyError> {
        let mut ended = std::mem::take(&mut self.ended);
        for Ended { place, ending } in ended.drain(..) {
            let Some(sequence) = self.active[place].as_mut().filter(|sequence| !sequence.is_parked) else {
                return Err(PolicyError::Internal(format!("place {place} ended, where no sequence is")));
            };
            let request = self.jobs[sequence.number].request;
            let turn = match ending {
                Ending::Finished(turn) => turn,
                Ending::NotFinite(position) => {
                    let (draw, sample) = (request.draw, request.first_sample + sequence.sample);
                    return Err(PolicyError::Logits { draw, sample, position });
                }
            };
            let counted = 1 + (self.advances - sequence.begun) * self.generator.tokens_an_advance() as u64;
            self.done.tokens = self.done.tokens.saturating_sub(counted) + turn.token_ids.len() as u64;
            let Some(between) = &mut self.turns else {
                let reason = turn.finish_reason;
                sequence.past = turn;
                self.finish(place, reason, more);
                continue;
            };
            sequence.past.token_ids.extend_from_slice(&turn.token_ids);
            sequence.past.logprobs.extend_from_slice(&turn.logprobs);
            sequence.turns += 1;
            sequence.is_parked = true;
            between.parked += 1;
            self.generator.park(place)?;
            between.turns.ended(EndedTurn {
                id: place,
                request: sequence.number,
                sample: request.first_sample + sequence.sample,
                turn: sequence.turns,
                token_ids: &turn.token_ids,
                finish_reason: turn.finish_reason,
                generated: sequence.past.token_ids.len(),
                context: sequence.context_tokens(),
            })?;
        }
        self.ended = ended;
        Ok(())
    }

    /// Takes a completion in and frees its place.
    fn finish(&mut self, place: usize, finish_reason: FinishReason, more: &mut More<'_>) {
        let Some(Sequence { number, sample, past, .. }) = self.active[place].take() else { return };
        let job = &mut self.jobs[number];
        job.completions[sample - job.past] = Some(Completion { finish_reason, ..past });
        job.finished += 1;
        self.done.completions += 1;
        self.generator.release(place);
        self.free_places.push(place);
        self.free_blocks += self.generator.sequence_blocks(job.request.prompt_ids.len());
        if job.finished == job.samples {
            self.hand_over(number, more);
        }
    }

    /// Hands a request's completions over, and continues its prompt where more are wanted: at once where it was kept, else once
    /// it is computed again.
    fn hand_over(&mut self, number: usize, more: &mut More<'_>) {
        let job = &mut self.jobs[number];
        self.done.requests += 1;
        let samples = more(number, std::mem::take(&mut job.completions).into_iter().flatten().collect());
        (job.past, job.samples) = (job.past + job.samples, samples);
        (job.started, job.finished) = (0, 0);
        job.completions.resize(samples, None);
        match self.room.prompts {
            PromptCache::Kept if samples > 0 => return self.ready.push_back(number),
            PromptCache::Kept | PromptCache::Shared => self.release_prompt(number),
            PromptCache::Copied => {}
        }
        if samples > 0 {
            self.waiting.push_front(number);
        }
    }
}

impl Between<'_> {
    /// Fails where tokens cannot follow a turn of this sequence.
    fn check(&self, sequence: &Sequence, tokens: &[u32]) -> Result<(), PolicyError> {
        let bad = |found: String, expected: String| {
            Err(PolicyError::Setting { field: "the answer to a turn".into(), found, expected })
        };
        let most = self.config.turns.map_or(0, |turns| turns.max_context_tokens);
        let context = sequence.context_tokens() + tokens.len();
        if context > most {
            return bad(format!("the last of {context} tokens of others"), format!("at most {most} of them"));
        }
        if self.config.turn_limit(sequence.past.token_ids.len()) == 0 {
            return bad("one that continues".into(), "an end: every token has been generated".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TurnLimits;
    use crate::stop::StopTokens;
    use std::collections::BTreeMap;

    /// Draws two tokens of each sequence an advance; sample s of a request has s + 1 tokens. Checks what it is asked.
    struct Fake {
        room: Room,
        prompts: BTreeMap<usize, usize>,
        /// Request, sample and length.
        active: BTreeMap<usize, (usize, usize, usize)>,
        most_active: usize,
        prefills: Vec<Vec<usize>>,
        not_finite: Option<(usize, usize)>,
        parked: BTreeMap<usize, (usize, usize, usize)>,
        appended: Vec<(usize, Vec<u32>)>,
    }

    impl Fake {
        fn new(places: usize, blocks: usize, prompts: PromptCache) -> Self {
            let room = Room { places, blocks, prefill_tokens: 8, prompts };
            let (prompts, active, prefills) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
            let (parked, appended) = (BTreeMap::new(), Vec::new());
            Self { room, prompts, active, most_active: 0, prefills, not_finite: None, parked, appended }
        }

        fn used_blocks(&self) -> usize {
            let prompts: usize = self.prompts.values().map(|len| self.prompt_blocks(*len)).sum();
            prompts + (self.active.len() + self.parked.len()) * self.sequence_blocks(0)
        }

        fn draw(&mut self, place: usize, ended: &mut Vec<Ended>) {
            let (number, sample, length) = self.active.get_mut(&place).unwrap();
            *length += 1;
            if self.not_finite == Some((*number, *length)) {
                ended.push(Ended { place, ending: Ending::NotFinite(*length - 1) });
            } else if *length > *sample {
                let completion = Completion {
                    token_ids: vec![*number as u32; *length],
                    logprobs: vec![0.0; *length],
                    finish_reason: FinishReason::Stop,
                    context: Vec::new(),
                };
                ended.push(Ended { place, ending: Ending::Finished(completion) });
            }
        }
    }

    impl Generator for Fake {
        fn room(&self) -> Room {
            self.room
        }

        fn prompt_blocks(&self, tokens: usize) -> usize {
            if self.room.prompts == PromptCache::Copied { 0 } else { tokens }
        }

        fn sequence_blocks(&self, _prompt_tokens: usize) -> usize {
            2
        }

        fn prefill(&mut self, prompts: &[(usize, &Request)]) -> Result<(), PolicyError> {
            self.prefills.push(prompts.iter().map(|(number, _)| *number).collect());
            self.prompts.extend(prompts.iter().map(|(number, request)| (*number, request.prompt_ids.len())));
            assert!(self.used_blocks() <= self.room.blocks);
            Ok(())
        }

        fn start(&mut self, starts: &[Start<'_>], ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
            for start in starts {
                assert!(self.prompts.contains_key(&start.number), "the prompt is there");
                assert!(
                    self.active.insert(start.place, (start.number, start.sample, 0)).is_none(),
                    "the place is free"
                );
                self.draw(start.place, ended);
            }
            self.most_active = self.most_active.max(self.active.len());
            assert!(self.active.len() <= self.room.places && self.used_blocks() <= self.room.blocks);
            Ok(())
        }

        fn advance(&mut self, ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
            assert!(!self.active.is_empty());
            for place in self.active.keys().copied().collect::<Vec<_>>() {
                for _ in 0..2 {
                    if ended.last().is_none_or(|e| e.place != place) {
                        self.draw(place, ended);
                    }
                }
            }
            Ok(())
        }

        fn park(&mut self, place: usize) -> Result<(), PolicyError> {
            let (number, sample, _) = self.active.remove(&place).unwrap();
            assert!(self.parked.insert(place, (number, sample, 0)).is_none());
            Ok(())
        }

        fn append(&mut self, turns: &[(usize, Vec<u32>)], ended: &mut Vec<Ended>) -> Result<(), PolicyError> {
            for (place, tokens) in turns {
                let sequence = self.parked.remove(place).unwrap();
                assert!(self.active.insert(*place, sequence).is_none());
                self.appended.push((sequence.0, tokens.clone()));
                self.draw(*place, ended);
            }
            Ok(())
        }

        fn tokens_an_advance(&self) -> usize {
            2
        }

        fn tokens(&self, place: usize) -> Result<Vec<u32>, PolicyError> {
            let (number, _, length) = self.active[&place];
            Ok(vec![number as u32; length])
        }

        fn release(&mut self, place: usize) {
            let parked = self.parked.remove(&place);
            let (number, ..) = parked.unwrap_or_else(|| self.active.remove(&place).unwrap());
            let copied = self.room.prompts == PromptCache::Copied;
            assert!(copied || self.prompts.contains_key(&number), "a shared prompt is there as long as a sequence");
        }

        fn release_prompt(&mut self, number: usize) {
            assert!(self.prompts.remove(&number).is_some());
        }
    }

    fn requests(of: &[(usize, usize)]) -> Vec<Request> {
        let request = |(draw, (len, samples)): (usize, &(usize, usize))| Request {
            prompt_ids: vec![0; *len],
            samples: *samples,
            first_sample: 3,
            draw: draw as u64,
        };
        of.iter().enumerate().map(request).collect()
    }

    /// Runs all requests, and what `more` asks for.
    fn run_more(fake: &mut Fake, requests: &[Request], more: &mut More<'_>) -> Result<(), PolicyError> {
        let mut scheduler = Scheduler::new(fake);
        for request in requests {
            scheduler.submit(request);
        }
        while !scheduler.is_done() {
            scheduler.step(more)?;
        }
        Ok(())
    }

    /// Runs all requests; the groups in the order in which they were reported.
    fn run(fake: &mut Fake, requests: &[Request]) -> Result<Vec<(usize, Vec<Completion>)>, PolicyError> {
        let mut groups = Vec::new();
        let mut note = |number, group| {
            groups.push((number, group));
            0
        };
        run_more(fake, requests, &mut note)?;
        Ok(groups)
    }

    fn lengths(group: &[Completion]) -> Vec<usize> {
        group.iter().map(|completion| completion.token_ids.len()).collect()
    }

    #[test]
    fn every_sample_is_generated_once_whatever_the_room() {
        for prompts in [PromptCache::Copied, PromptCache::Shared, PromptCache::Kept] {
            for (places, blocks) in [(1, 7), (2, 7), (3, 12), (5, 40), (64, 200)] {
                let mut fake = Fake::new(places, blocks, prompts);
                let requests = requests(&[(3, 4), (5, 1), (2, 0), (1, 6), (4, 2)]);
                let mut groups = run(&mut fake, &requests).unwrap();
                groups.sort_by_key(|(number, _)| *number);
                assert_eq!(groups.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 3, 4]);
                for (number, group) in groups {
                    assert_eq!(lengths(&group), (1..=requests[number].samples).collect::<Vec<_>>());
                    assert!(group.iter().all(|completion| completion.token_ids[0] == number as u32));
                }
                assert!(fake.prompts.is_empty() && fake.active.is_empty(), "everything is released");
                assert_eq!(fake.prefills.concat(), [0, 1, 3, 4], "each prompt is computed once, in order");
                assert!(
                    fake.prefills.iter().all(|p| p.iter().map(|n| requests[*n].prompt_ids.len()).sum::<usize>() <= 8)
                );
            }
        }
    }

    #[test]
    fn more_completions_continue_a_prompt_that_is_kept_and_compute_another_again() {
        let requests = requests(&[(3, 2), (5, 1), (2, 0), (1, 2)]);
        // What each request asks for after its first completions, and then.
        let asked = [&[1, 3][..], &[], &[7], &[2]];
        for (prompts, computed) in [(PromptCache::Kept, 3), (PromptCache::Shared, 6), (PromptCache::Copied, 6)] {
            for (places, blocks) in [(1, 7), (2, 9), (3, 12), (64, 200)] {
                let mut fake = Fake::new(places, blocks, prompts);
                let mut shown: Vec<Vec<Vec<usize>>> = vec![Vec::new(); 4];
                let mut more = |number: usize, group: Vec<Completion>| {
                    shown[number].push(lengths(&group));
                    asked[number].get(shown[number].len() - 1).copied().unwrap_or(0)
                };
                run_more(&mut fake, &requests, &mut more).unwrap();
                // Sample s has s + 1 tokens: the samples go on where the last ones ended.
                assert_eq!(shown[0], [vec![1, 2], vec![3], vec![4, 5, 6]]);
                assert_eq!(shown[1], [[1]]);
                assert!(shown[2].is_empty());
                assert_eq!(shown[3], [[1, 2], [3, 4]]);
                assert_eq!(fake.prefills.concat().len(), computed, "{prompts:?}, {places} places, {blocks} blocks");
                assert!(fake.prompts.is_empty() && fake.active.is_empty(), "everything is released");
            }
        }
    }

    #[test]
    fn a_place_that_ended_is_filled_while_the_others_go_on() {
        let mut fake = Fake::new(3, 100, PromptCache::Copied);
        run(&mut fake, &requests(&[(1, 9)])).unwrap();
        assert_eq!(fake.most_active, 3);
    }

    #[test]
    fn counts_what_has_ended_and_ends_with_the_exact_number_of_tokens() {
        let requests = requests(&[(1, 5), (1, 2)]);
        let mut fake = Fake::new(3, 100, PromptCache::Copied);
        let mut scheduler = Scheduler::new(&mut fake);
        for request in &requests {
            scheduler.submit(request);
        }
        let mut seen = Vec::new();
        while !scheduler.is_done() {
            scheduler.step(&mut |_, _| 0).unwrap();
            seen.push(scheduler.progress());
        }
        let never_fewer = |of: fn(&GenerationProgress) -> usize| seen.is_sorted_by_key(of);
        assert!(never_fewer(|p| p.requests) && never_fewer(|p| p.completions));
        // Samples of 1 to 5 and of 1 and 2 tokens.
        assert_eq!(seen.last(), Some(&GenerationProgress { requests: 2, completions: 7, tokens: 15 + 3 }));
        assert!(seen[0].tokens > 2 && seen[0].completions < 7, "{seen:?}");
    }

    #[test]
    fn a_group_is_reported_with_its_last_completion() {
        let requests = requests(&[(1, 5), (1, 2)]);
        let groups = run(&mut Fake::new(7, 100, PromptCache::Shared), &requests).unwrap();
        assert_eq!(groups.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_request_may_arrive_while_others_are_active() {
        let requests = requests(&[(1, 4), (2, 3)]);
        let mut fake = Fake::new(3, 100, PromptCache::Shared);
        let mut numbers = Vec::new();
        let mut scheduler = Scheduler::new(&mut fake);
        scheduler.submit(&requests[0]);
        let mut note = |number, _| {
            numbers.push(number);
            0
        };
        scheduler.step(&mut note).unwrap();
        assert!(!scheduler.is_idle());
        scheduler.submit(&requests[1]);
        while !scheduler.is_done() {
            scheduler.step(&mut note).unwrap();
        }
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
    }

    #[test]
    fn a_token_that_cannot_be_drawn_is_an_error_with_its_place() {
        let mut fake = Fake::new(4, 100, PromptCache::Copied);
        fake.not_finite = Some((1, 2));
        let error = run(&mut fake, &requests(&[(1, 1), (1, 3)])).unwrap_err();
        assert!(matches!(error, PolicyError::Logits { draw: 1, sample: 4, position: 1 }), "{error}");
    }

    /// Answers turns late and in another order: request 0 has two turns, the others `turns`.
    struct Late {
        open: Vec<(usize, usize, usize)>,
        turns: usize,
        calls: usize,
        most_open: usize,
    }

    impl Turns for Late {
        fn ended(&mut self, turn: EndedTurn<'_>) -> Result<(), PolicyError> {
            assert_eq!(turn.context, 2 * (turn.turn - 1), "two tokens after each turn");
            assert_eq!(
                turn.generated,
                turn.turn * turn.token_ids.len(),
                "each turn of a sample is as long as its first"
            );
            self.open.push((turn.id, turn.request, turn.turn));
            self.most_open = self.most_open.max(self.open.len());
            Ok(())
        }

        fn answers(&mut self, wait: bool) -> Result<Vec<TurnAnswer>, PolicyError> {
            self.calls += 1;
            if self.open.is_empty() || !(wait || self.calls.is_multiple_of(3)) {
                return Ok(Vec::new());
            }
            let (id, request, turn) = self.open.pop().unwrap();
            let last = if request == 0 { 2 } else { self.turns };
            let then = if turn == last {
                AfterTurn::End(FinishReason::Length)
            } else {
                AfterTurn::Append(vec![request as u32, turn as u32])
            };
            Ok(vec![TurnAnswer { id, then }])
        }
    }

    fn config_of_turns() -> GenerationConfig {
        let turns = Some(TurnLimits { max_turn_tokens: None, max_context_tokens: 100 });
        GenerationConfig { turns, ..GenerationConfig::new(StopTokens::none()) }
    }

    #[test]
    fn sequences_continue_after_what_others_say_whenever_that_comes() {
        let config = config_of_turns();
        for prompts in [PromptCache::Copied, PromptCache::Shared, PromptCache::Kept] {
            for (places, blocks) in [(1, 7), (2, 7), (3, 12), (64, 200)] {
                let mut fake = Fake::new(places, blocks, prompts);
                let requests = requests(&[(3, 4), (5, 1), (2, 0), (1, 3)]);
                let mut late = Late { open: Vec::new(), turns: 3, calls: 0, most_open: 0 };
                let mut groups = BTreeMap::new();
                let mut more = |number: usize, group: Vec<Completion>| {
                    assert!(groups.insert(number, group).is_none());
                    0
                };
                let mut scheduler = Scheduler::new(&mut fake);
                scheduler.turns = Some(Between { turns: &mut late, config: &config, parked: 0 });
                for request in &requests {
                    scheduler.submit(request);
                }
                while !scheduler.is_done() {
                    scheduler.step(&mut more).unwrap();
                }
                assert_eq!(groups.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
                for (number, group) in groups {
                    let turns = if number == 0 { 2 } else { 3 };
                    assert_eq!(lengths(&group), (1..=requests[number].samples).map(|n| n * turns).collect::<Vec<_>>());
                    for (sample, completion) in group.iter().enumerate() {
                        let context = (1..turns).map(|turn| {
                            let token_ids = vec![number as u32, turn as u32];
                            ContextTokens { at: turn * (sample + 1), token_ids }
                        });
                        assert_eq!(completion.context, context.collect::<Vec<_>>());
                        assert_eq!(completion.finish_reason, FinishReason::Length, "the answer's reason");
                        assert_eq!(completion.logprobs.len(), completion.token_ids.len());
                    }
                }
                assert!(fake.prompts.is_empty() && fake.active.is_empty() && fake.parked.is_empty());
                assert!(late.most_open > 1 || places == 1, "others advance while a turn is not answered");
            }
        }
    }

    #[test]
    fn answers_beyond_the_limits_and_to_no_turn_are_errors() {
        struct Once(Vec<TurnAnswer>);
        impl Turns for Once {
            fn ended(&mut self, _: EndedTurn<'_>) -> Result<(), PolicyError> {
                Ok(())
            }
            fn answers(&mut self, _: bool) -> Result<Vec<TurnAnswer>, PolicyError> {
                Ok(std::mem::take(&mut self.0))
            }
        }
        let append = |id, tokens| vec![TurnAnswer { id, then: AfterTurn::Append(vec![1; tokens]) }];
        for (answers, message) in [
            (append(0, 101), "the answer to a turn is the last of 101 tokens of others, expected at most 100 of them"),
            (append(1, 1), "internal error: turn 1 is answered, which is not open"),
            (Vec::new(), "internal error: no turn is answered, and nothing else is left to be generated"),
        ] {
            let (config, requests) = (config_of_turns(), requests(&[(1, 1)]));
            let (mut fake, mut once) = (Fake::new(1, 100, PromptCache::Copied), Once(answers));
            let mut scheduler = Scheduler::new(&mut fake);
            scheduler.turns = Some(Between { turns: &mut once, config: &config, parked: 0 });
            scheduler.submit(&requests[0]);
            let error = loop {
                if let Err(error) = scheduler.step(&mut |_, _| 0) {
                    break error.to_string();
                }
            };
            assert_eq!(error, message);
        }
    }

    #[test]
    fn a_sequence_that_never_fits_is_an_error() {
        let error = run(&mut Fake::new(4, 3, PromptCache::Shared), &requests(&[(5, 1)])).unwrap_err();
        assert!(matches!(error, PolicyError::Internal(_)), "{error}");
    }
}
