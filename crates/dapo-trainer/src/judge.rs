//! From completions to judged samples.

use crate::error::TrainerError;
use crate::play::Played;
use crate::sample::{Episode, Group, Sample};
use dapo_policy::{Completion, FinishReason, PolicyError, Tokenizer};
use dapo_reward::{Ending, EpisodeScore, RewardInput, RewardSum, Score};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Scores of all completions by the places of their components.
pub(crate) type Known = BTreeMap<usize, Vec<Score>>;

/// What makes samples of completions.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) rewards: &'a RewardSum,
    /// The training step that rewards get.
    pub(crate) step: u64,
    pub(crate) clock: &'a Clock,
}

/// Time in which completions were scored and none was generated.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// Adds the time since `start`.
    pub(crate) fn add_since(&self, start: Instant) {
        let nanoseconds = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// Completions of a group with their texts, and with the episodes that they are, where they are some.
#[derive(Default)]
pub(crate) struct Finished {
    completions: Vec<Completion>,
    texts: Vec<String>,
    episodes: Vec<Option<(Episode, EpisodeScore)>>,
}

impl Finished {
    /// Completions that follow those which a group has. Where episodes were played, they are theirs.
    ///
    /// # Errors
    /// When a completion cannot be decoded.
    pub(crate) fn of(
        completions: Vec<Completion>,
        tokenizer: &Tokenizer,
        group: &Group,
        played: Option<&Played>,
    ) -> Result<Self, PolicyError> {
        let first = group.samples.len();
        let episodes: Vec<_> =
            (first..first + completions.len()).map(|sample| played?.take(group.draw, sample)).collect();
        let text = |(completion, episode): (&Completion, &Option<(Episode, EpisodeScore)>)| match episode {
            Some((episode, _)) => Ok(episode.model_text()),
            None => tokenizer.decode(&completion.token_ids, true),
        };
        let texts = completions.iter().zip(&episodes).map(text).collect::<Result<_, _>>()?;
        Ok(Self { completions, texts, episodes })
    }
}

impl Judge<'_> {
    /// What rewards see of completions that follow those which a group has.
    pub(crate) fn inputs<'b>(
        self,
        group: &'b Group,
        finished: &'b Finished,
    ) -> impl Iterator<Item = RewardInput<'b>> + use<'b> {
        let (prompt, first, step) = (&group.prompt, group.samples.len(), self.step);
        let samples = finished.completions.iter().zip(&finished.texts).zip(&finished.episodes);
        samples.enumerate().map(move |(i, ((completion, text), episode))| {
            let is_truncated = completion.finish_reason == FinishReason::Length;
            RewardInput::new(&prompt.text, text, &prompt.answer)
                .with_alternatives(&prompt.alternatives)
                .with_messages(&prompt.messages)
                .with_token_ids(&completion.token_ids)
                .with_ending(if is_truncated { Ending::Length } else { Ending::Stop })
                .with_columns(&prompt.columns)
                .with_place(group.draw, first + i, step)
                .with_episode(episode.as_ref().map(|(_, score)| score))
        })
    }

    /// Judges completions and adds them to their groups, which are unchanged after an error. `known` are the scores of the
    /// components at some places.
    ///
    /// # Errors
    /// When a reward function is at fault.
    pub(crate) fn add(self, groups: &mut [Group], finished: Vec<Finished>, known: Known) -> Result<(), TrainerError> {
        let inputs: Vec<RewardInput<'_>> =
            groups.iter().zip(&finished).flat_map(|(group, finished)| self.inputs(group, finished)).collect();
        let started = Instant::now();
        let judged = self.rewards.score_rest(&inputs, known);
        self.clock.add_since(started);
        let mut judged = judged?.into_iter();
        for (group, Finished { completions, texts, episodes }) in groups.iter_mut().zip(finished) {
            let samples = completions.into_iter().zip(texts).zip(episodes).zip(&mut judged);
            group.samples.extend(samples.map(|(((completion, text), played), reward)| {
                Sample::new(completion, text, reward).with_episode(played.map(|(episode, _)| episode))
            }));
        }
        Ok(())
    }
}
