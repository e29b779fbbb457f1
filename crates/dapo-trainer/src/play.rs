//! Episodes: completions of several turns, with an environment in between.

use crate::conversation::{Rendered, Speech};
use crate::error::TrainerError;
use crate::sample::{Episode, Group, MODEL};
use dapo_data::{Begun, Prompt};
use dapo_policy::{
    AfterTurn, EndedTurn, FinishReason, GenerationConfig, More, Policy, PolicyError, Purpose, Request, Tokenizer,
    TurnAnswer, TurnLimits, Turns,
};
use dapo_reward::{EnvProblem, EnvStart, EnvStep, EnvTurn, EpisodeScore, Episodes, RewardSum, Said};
use dapo_sampler::mix;
use serde_json::Value;
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time after which a thread that waits for answers looks for other work.
const PAUSE: Duration = Duration::from_millis(1);

/// How episodes are played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Play<'a> {
    episodes: &'a Episodes,
    speech: Speech<'a>,
    generation: &'a GenerationConfig,
    /// The training step; 0 outside training.
    step: u64,
}

/// Episodes that were played, by draw and sample, until they are judged.
#[derive(Debug, Default)]
pub(crate) struct Played(Mutex<BTreeMap<(u64, usize), (Episode, EpisodeScore)>>);

impl Played {
    pub(crate) fn take(&self, draw: u64, sample: usize) -> Option<(Episode, EpisodeScore)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(draw, sample))
    }

    fn put(&self, draw: u64, sample: usize, conversation: Conversation) {
        let Conversation { episode, score, .. } = conversation;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((draw, sample), (episode, score));
    }
}

/// An episode on its way.
#[derive(Debug, Default)]
struct Conversation {
    episode: Episode,
    score: EpisodeScore,
    rendered: Rendered,
    state: Value,
}

/// A turn that is to be answered.
struct Task {
    id: usize,
    request: usize,
    sample: usize,
    turn: usize,
    token_ids: Vec<u32>,
    finish_reason: FinishReason,
    generated: usize,
    context: usize,
    conversation: Conversation,
}

/// A turn that was answered.
struct Answered {
    id: usize,
    request: usize,
    sample: usize,
    conversation: Conversation,
    then: AfterTurn,
}

impl<'a> Play<'a> {
    /// How the episodes of the rewards' environment are played, where they have one.
    pub(crate) fn of(
        rewards: &'a RewardSum,
        tokenizer: &'a Tokenizer,
        generation: &'a GenerationConfig,
        step: u64,
    ) -> Option<Self> {
        let episodes = rewards.episodes()?;
        Some(Self { episodes, speech: Speech { tokenizer, template: episodes.template }, generation, step })
    }

    /// Begins the episodes of groups that have none yet: their prompts then end with what the environment says first.
    ///
    /// # Errors
    /// When the environment fails, or its messages cannot be rendered.
    pub(crate) fn begin(&self, groups: &mut [Group]) -> Result<(), TrainerError> {
        let mut fresh: Vec<&mut Group> = groups.iter_mut().filter(|group| group.prompt.begun.is_none()).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let a_lane = fresh.len().div_ceil(self.episodes.environment.lanes().max(1));
        thread::scope(|scope| {
            let lanes = fresh.chunks_mut(a_lane).map(|groups| {
                scope.spawn(move || {
                    groups.iter_mut().try_for_each(|group| self.begin_one(group.draw, &mut group.prompt))
                })
            });
            let lanes: Vec<_> = lanes.collect();
            lanes.into_iter().try_for_each(|lane| lane.join().unwrap_or_else(|panic| Err(panicked(&*panic))))
        })
    }

    fn begin_one(&self, draw: u64, prompt: &mut Prompt) -> Result<(), TrainerError> {
        let start = self.episodes.environment.reset(&self.problem(draw, prompt)).map_err(TrainerError::Environment)?;
        let EnvStart { messages, tools, state, fault } = start;
        let before = (prompt.text.clone(), Arc::clone(&prompt.messages));
        if fault.is_none() {
            self.speech.begin(prompt, &messages, &tools)?;
        }
        let (text, messages) = before;
        prompt.begun = Some(Arc::new(Begun { state, is_faulty: fault.is_some(), text, messages }));
        Ok(())
    }

    fn problem<'p>(&self, draw: u64, prompt: &'p Prompt) -> EnvProblem<'p> {
        let begun = prompt.begun.as_deref();
        EnvProblem {
            prompt: begun.map_or(&prompt.text, |begun| &begun.text),
            messages: begun.map_or(&prompt.messages, |begun| &begun.messages),
            answer: &prompt.answer,
            alternatives: &prompt.alternatives,
            columns: &prompt.columns,
            draw,
            seed: seed(self.generation.seed, self.generation.purpose, draw, 0),
            step: self.step,
        }
    }

    /// Plays the episodes of requests for groups, shows each group's completions to `more` and leaves the episodes in `played`.
    ///
    /// # Errors
    /// When generation or the environment fails.
    pub(crate) fn generate(
        &self,
        policy: &impl Policy,
        groups: &[Group],
        requests: &[Request],
        played: &Played,
        more: &mut More<'_>,
    ) -> Result<(), TrainerError> {
        let limits = self.episodes.limits;
        let turns =
            TurnLimits { max_turn_tokens: limits.max_turn_tokens, max_context_tokens: limits.max_context_tokens };
        let config = GenerationConfig { turns: Some(turns), ..self.generation.clone() };
        let prompts: Vec<(u64, Prompt)> = groups.iter().map(|group| (group.draw, group.prompt.clone())).collect();
        let prompts = prompts.as_slice();
        let outcome = thread::scope(|scope| {
            let (answered, answers) = channel();
            let lanes = (0..self.episodes.environment.lanes().max(1)).map(|_| {
                let (tasks, to_do) = channel::<Task>();
                let answered = answered.clone();
                scope.spawn(move || self.work(prompts, &to_do, &answered));
                tasks
            });
            let lanes = lanes.collect();
            let mut table = Table { lanes, answers, prompts, conversations: BTreeMap::new(), played };
            policy.generate_turns(requests, &config, &mut table, more)
        });
        outcome.map_err(|error| match error {
            PolicyError::Turns(source) => match source.downcast::<TrainerError>() {
                Ok(error) => *error,
                Err(source) => TrainerError::Environment(source),
            },
            other => other.into(),
        })
    }

    /// Answers turns until there are no more.
    fn work(
        &self,
        prompts: &[(u64, Prompt)],
        tasks: &Receiver<Task>,
        answered: &Sender<Result<Answered, TrainerError>>,
    ) {
        for task in tasks {
            let (draw, prompt) = &prompts[task.request];
            // Nothing of the environment's is looked at after a panic.
            let answer = catch_unwind(AssertUnwindSafe(|| self.answer(*draw, prompt, task)));
            // Nobody listens after an error.
            let _ = answered.send(answer.unwrap_or_else(|panic| Err(panicked(&*panic))));
        }
    }

    fn answer(&self, draw: u64, prompt: &Prompt, task: Task) -> Result<Answered, TrainerError> {
        let Task { id, request, sample, turn, token_ids, finish_reason, generated, context, mut conversation } = task;
        let limits = self.episodes.limits;
        let text = self.speech.tokenizer.decode(&token_ids, true)?;
        let is_last = turn >= limits.max_turns || generated >= self.generation.max_new_tokens;
        let begun = prompt.begun.as_deref();
        let step = match begun.filter(|begun| !begun.is_faulty) {
            None => EnvStep { fault: Some("reset".to_owned()), ..EnvStep::default() },
            Some(begun) => {
                let turn = EnvTurn {
                    problem: self.problem(draw, prompt),
                    sample,
                    seed: seed(self.generation.seed, self.generation.purpose, draw, sample as u64 + 1),
                    turn,
                    text: &text,
                    is_truncated: finish_reason == FinishReason::Length,
                    is_last,
                    history: &conversation.episode.turns,
                    state: if turn == 1 { &begun.state } else { &conversation.state },
                };
                self.episodes.environment.step(&turn).map_err(TrainerError::Environment)?
            }
        };
        conversation.episode.turns.push(Said::new(MODEL, text));
        if step.messages.iter().any(|said| said.role == MODEL) {
            let expected = "another role, such as user or tool: that one is the model's";
            return Err(TrainerError::setting("the role of what env says", &MODEL, expected));
        }
        let messages = conversation.take_in(step);
        let is_done = conversation.episode.is_done;
        let mut then = AfterTurn::End(if is_done { finish_reason } else { FinishReason::Length });
        if !is_done && !is_last {
            let Conversation { rendered, episode, .. } = &mut conversation;
            let last = token_ids.last().copied();
            let tokens = self.speech.after_turn(prompt, rendered, &episode.turns, &messages, last)?;
            if context + tokens.len() <= limits.max_context_tokens {
                episode.turns.extend(messages);
                then = AfterTurn::Append(tokens);
            }
        }
        if let AfterTurn::End(_) = then {
            for (name, value) in [("turns", turn), ("context_tokens", context)] {
                conversation.score.log.entry(name.to_owned()).or_insert(value as f64);
            }
        }
        Ok(Answered { id, request, sample, conversation, then })
    }
}

impl Conversation {
    /// Takes in what an environment answers, but for its messages.
    fn take_in(&mut self, step: EnvStep) -> Vec<Said> {
        let Self { episode, score, state, .. } = self;
        let EnvStep { messages, is_done, reward, correct, log, state: next, fault } = step;
        episode.rewards.push(reward.unwrap_or(0.0));
        episode.is_done = is_done || fault.is_some();
        let is_silent = is_done && reward.is_none() && score.value.is_none();
        let so_far = score.value.unwrap_or(0.0) + reward.unwrap_or(0.0);
        // An end by a limit is worth what was said before it, and nothing where nothing was.
        score.value = (fault.is_none() && !is_silent).then_some(so_far);
        score.correct = correct.or(score.correct);
        score.log.extend(log);
        *state = next;
        messages
    }
}

/// Hands turns to the environment's lanes, and answers back.
struct Table<'a> {
    lanes: Vec<Sender<Task>>,
    answers: Receiver<Result<Answered, TrainerError>>,
    /// With their draws, by request.
    prompts: &'a [(u64, Prompt)],
    /// Of episodes whose model is at its turn, by request and sample.
    conversations: BTreeMap<(usize, usize), Conversation>,
    played: &'a Played,
}

impl Table<'_> {
    /// The next answer. Meanwhile this thread does what else is asked of its pool: an environment may use the pool, too.
    fn next(&self) -> Result<Result<Answered, TrainerError>, PolicyError> {
        loop {
            match self.answers.recv_timeout(PAUSE) {
                Ok(answered) => return Ok(answered),
                Err(RecvTimeoutError::Timeout) => while rayon::yield_now() == Some(rayon::Yield::Executed) {},
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
    }
}

impl Turns for Table<'_> {
    fn ended(&mut self, turn: EndedTurn<'_>) -> Result<(), PolicyError> {
        let EndedTurn { id, request, sample, turn, token_ids, finish_reason, generated, context } = turn;
        let conversation = self.conversations.remove(&(request, sample)).unwrap_or_default();
        let token_ids = token_ids.to_vec();
        let task = Task { id, request, sample, turn, token_ids, finish_reason, generated, context, conversation };
        // An episode stays on its lane.
        let lane = self.prompts[request].0.wrapping_add(sample as u64) % self.lanes.len() as u64;
        self.lanes[lane as usize].send(task).map_err(|_| gone())
    }

    fn answers(&mut self, wait: bool) -> Result<Vec<TurnAnswer>, PolicyError> {
        let first = if wait { Some(self.next()?) } else { None };
        let mut answers = Vec::new();
        for answered in first.into_iter().chain(self.answers.try_iter()) {
            let answered = answered.map_err(|error| PolicyError::Turns(Box::new(error)))?;
            let Answered { id, request, sample, conversation, then } = answered;
            if let AfterTurn::End(_) = then {
                self.played.put(self.prompts[request].0, sample, conversation);
            } else {
                self.conversations.insert((request, sample), conversation);
            }
            answers.push(TurnAnswer { id, then });
        }
        Ok(answers)
    }
}

fn gone() -> PolicyError {
    PolicyError::Turns("the environment answers no longer".into())
}

fn panicked(panic: &(dyn Any + Send)) -> TrainerError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned());
    TrainerError::Environment(format!("it panicked: {text}").into())
}

/// The seed of a draw, or of a sample of it where that is above 0: below 2⁵³, which every JSON reader takes exactly.
fn seed(seed: u64, purpose: Purpose, draw: u64, sample: u64) -> u64 {
    let words = [purpose as u64, draw, sample];
    words.into_iter().fold(mix(seed), |hash, word| mix(hash.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ mix(word))) >> 11
}
