//! From prompts to judged groups of completions.

use crate::activity::{Activity, Observer};
use crate::error::TrainerError;
use crate::play::{Play, Played};
use crate::prompt::Prompt;
use crate::sample::{Group, Sample};
use dapo_policy::{Completion, FinishReason, GenerationConfig, GenerationProgress, Policy, Request, Tokenizer};
use dapo_reward::{Ending, RewardInput, RewardSum};

/// Completes every prompt `group_size` times and judges the completions. Each prompt comes with its draw index, which keys
/// its random numbers. Rewards get the training step; 0 is outside training. Where the rewards are those of an environment, each
/// completion is an episode with it.
///
/// # Errors
/// When generation fails, a completion cannot be decoded, or a reward function is at fault.
pub fn roll_out(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
    step: u64,
) -> Result<Vec<Group>, TrainerError> {
    let mut groups: Vec<Group> = prompts.iter().map(|(draw, prompt)| Group::new(*draw, (*prompt).clone())).collect();
    let more = vec![group_size; groups.len()];
    add_completions(policy, tokenizer, &mut groups, &more, generation, rewards, step)?;
    Ok(groups)
}

/// As [`roll_out`]; `observer` is shown how far it is, as `activity` puts it.
pub(crate) fn roll_out_observed(
    policy: &impl Policy,
    judge: Judge<'_>,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    observer: &mut Observer<'_>,
    activity: &(dyn Fn(GenerationProgress) -> Activity + Sync),
) -> Result<Vec<Group>, TrainerError> {
    let mut groups: Vec<Group> = prompts.iter().map(|(draw, prompt)| Group::new(*draw, (*prompt).clone())).collect();
    let more = vec![group_size; groups.len()];
    let Judge { tokenizer, rewards, step } = judge;
    if Play::of(rewards, tokenizer, generation, step).is_some() {
        observer(activity(GenerationProgress::default()));
        add_completions(policy, tokenizer, &mut groups, &more, generation, rewards, step)?;
        return Ok(groups);
    }
    let requests = requests(&groups, &more);
    let completions = policy.generate_watched(&requests, generation, &mut |progress| observer(activity(progress)))?;
    observer(Activity::Scoring { completions: completions.iter().map(Vec::len).sum() });
    judge.add(&mut groups, completions, None)?;
    Ok(groups)
}

/// Adds `more[i]` judged completions to group i; the groups are as if all had been made at once.
///
/// # Errors
/// As [`roll_out`]; the groups then have the samples that they had.
pub fn add_completions(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    groups: &mut [Group],
    more: &[usize],
    generation: &GenerationConfig,
    rewards: &RewardSum,
    step: u64,
) -> Result<(), TrainerError> {
    let Some(play) = Play::of(rewards, tokenizer, generation, step) else {
        let completions = policy.generate(&requests(groups, more), generation)?;
        return Judge { tokenizer, rewards, step }.add(groups, completions, None);
    };
    play.begin(groups)?;
    let (mut completions, played) = (vec![Vec::new(); groups.len()], Played::default());
    play.generate(policy, groups, &requests(groups, more), &played, &mut |number, group| {
        completions[number] = group;
        0
    })?;
    Judge { tokenizer, rewards, step }.add(groups, completions, Some(&played))
}

/// What makes samples of completions.
#[derive(Clone, Copy)]
pub(crate) struct Judge<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) rewards: &'a RewardSum,
    /// The training step that rewards get.
    pub(crate) step: u64,
}

/// [`roll_out`], and more completions of each group for as long as `more` asks for some. A policy that keeps its prompts does
/// not compute them again; the groups are as if all their completions had been made at once.
///
/// # Errors
/// As [`roll_out`].
pub(crate) fn roll_out_more(
    policy: &impl Policy,
    judge: Judge<'_>,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    more: &(dyn Fn(&Group) -> usize + Sync),
    observer: &mut Observer<'_>,
    activity: &(dyn Fn(GenerationProgress) -> Activity + Sync),
) -> Result<Vec<Group>, TrainerError> {
    let mut groups: Vec<Group> = prompts.iter().map(|(draw, prompt)| Group::new(*draw, (*prompt).clone())).collect();
    let play = Play::of(judge.rewards, judge.tokenizer, generation, judge.step);
    play.map_or(Ok(()), |play| play.begin(&mut groups))?;
    let (requests, played) = (requests(&groups, &vec![group_size; groups.len()]), Played::default());
    let begun = if play.is_some() { groups.clone() } else { Vec::new() };
    let (mut failure, mut progress) = (None, GenerationProgress::default());
    observer(activity(progress));
    let mut add = |number: usize, completions: Vec<Completion>| {
        let group = &mut groups[number..=number];
        progress.completions += completions.len();
        progress.tokens += completions.iter().map(|completion| completion.token_ids.len() as u64).sum::<u64>();
        // After a failure, what has been asked for is all that is still generated.
        let wanted = match judge.add(group, vec![completions], play.map(|_| &played)) {
            Ok(()) if failure.is_none() => more(&group[0]),
            Ok(()) => 0,
            Err(error) => {
                failure.get_or_insert(error);
                0
            }
        };
        progress.requests += usize::from(wanted == 0);
        observer(activity(progress));
        wanted
    };
    match play {
        Some(play) => play.generate(policy, &begun, &requests, &played, &mut add)?,
        None => policy.generate_more(&requests, generation, &mut add)?,
    }
    failure.map_or(Ok(groups), Err)
}

/// What to ask of the policy for `more[i]` completions of group i.
fn requests(groups: &[Group], more: &[usize]) -> Vec<Request> {
    let request = |(group, more): (&Group, &usize)| Request {
        prompt_ids: group.prompt.token_ids.clone(),
        samples: *more,
        first_sample: group.samples.len(),
        draw: group.draw,
    };
    groups.iter().zip(more).map(request).collect()
}

impl Judge<'_> {
    /// Judges completions and adds them to their groups, which are unchanged after an error. Where episodes were played, the
    /// completions are theirs.
    fn add(
        self,
        groups: &mut [Group],
        completions: Vec<Vec<Completion>>,
        played: Option<&Played>,
    ) -> Result<(), TrainerError> {
        let Self { tokenizer, rewards, step } = self;
        let mut episodes = Vec::new();
        for (group, completions) in groups.iter().zip(&completions) {
            let first = group.samples.len();
            episodes.extend((first..first + completions.len()).map(|sample| played?.take(group.draw, sample)));
        }
        let mut of_each = episodes.iter();
        let mut text = |completion: &Completion| match of_each.next() {
            Some(Some((episode, _))) => Ok(episode.model_text()),
            _ => tokenizer.decode(&completion.token_ids, true),
        };
        let texts = completions
            .iter()
            .map(|group| group.iter().map(&mut text).collect::<Result<Vec<_>, _>>())
            .collect::<Result<Vec<_>, _>>()?;
        let mut scores = episodes.iter().map(|played| played.as_ref().map(|(_, score)| score));
        let mut inputs = Vec::with_capacity(completions.iter().map(Vec::len).sum());
        for ((group, completions), texts) in groups.iter().zip(&completions).zip(&texts) {
            let first = group.samples.len();
            inputs.extend(completions.iter().zip(texts).enumerate().map(|(i, (completion, text))| {
                let is_truncated = completion.finish_reason == FinishReason::Length;
                let prompt = &group.prompt;
                RewardInput::new(&prompt.text, text, &prompt.answer)
                    .with_alternatives(&prompt.alternatives)
                    .with_messages(&prompt.messages)
                    .with_token_ids(&completion.token_ids)
                    .with_ending(if is_truncated { Ending::Length } else { Ending::Stop })
                    .with_columns(&prompt.columns)
                    .with_place(group.draw, first + i, step)
                    .with_episode(scores.next().flatten())
            }));
        }
        let mut judged = rewards.score_batch(&inputs)?.into_iter();
        let mut episodes = episodes.into_iter().map(|played| Some(played?.0));
        for ((group, completions), texts) in groups.iter_mut().zip(completions).zip(texts) {
            let samples = completions.into_iter().zip(texts).zip(&mut judged);
            group.samples.extend(samples.map(|((completion, text), reward)| {
                Sample::new(completion, text, reward).with_episode(episodes.next().flatten())
            }));
        }
        Ok(())
    }
}
