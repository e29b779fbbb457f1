//! From prompts to judged groups of completions.

use crate::activity::{Activity, Observer, RolloutProgress};
use crate::error::TrainerError;
use crate::judge::{Clock, Finished, Judge, Known};
use crate::overlap::generate_and_score;
use crate::play::{Play, Played};
use crate::sample::Group;
use dapo_data::Prompt;
use dapo_policy::{Completion, GenerationConfig, GenerationProgress, Policy, Request, Tokenizer};
use dapo_reward::RewardSum;

/// Completes every prompt `group_size` times and judges the completions. Each prompt comes with its draw index, which
/// keys its random numbers. Rewards get the training step; 0 is outside training. Where the rewards are those of an
/// environment, each completion is an episode with it.
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

/// [`roll_out`]; `observer` is shown how far it is, as `to_activity` has it.
///
/// # Errors
/// As there.
pub fn roll_out_observed(
    policy: &impl Policy,
    tokenizer: &Tokenizer,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    rewards: &RewardSum,
    step: u64,
    observer: &mut Observer<'_>,
    to_activity: &ToActivity<'_>,
) -> Result<Vec<Group>, TrainerError> {
    let judge = Judge { tokenizer, rewards, step, clock: &Clock::default() };
    roll_out_by(policy, judge, prompts, group_size, generation, observer, to_activity)
}

/// Turns how far a generation is into what an [`Observer`] is shown.
pub type ToActivity<'a> = dyn Fn(GenerationProgress) -> Activity + Sync + 'a;

/// [`roll_out`] with a judge; `observer` is shown how far it is, as `to_activity` has it.
///
/// # Errors
/// As there.
pub(crate) fn roll_out_by(
    policy: &impl Policy,
    judge: Judge<'_>,
    prompts: &[(u64, &Prompt)],
    group_size: usize,
    generation: &GenerationConfig,
    observer: &mut Observer<'_>,
    to_activity: &ToActivity<'_>,
) -> Result<Vec<Group>, TrainerError> {
    let mut groups: Vec<Group> = prompts.iter().map(|(draw, prompt)| Group::new(*draw, (*prompt).clone())).collect();
    let more = vec![group_size; groups.len()];
    add_completions_by(policy, judge, &mut groups, &more, generation, observer, to_activity)?;
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
    let judge = Judge { tokenizer, rewards, step, clock: &Clock::default() };
    let to_activity = |_| Activity::Rollout(RolloutProgress::default());
    add_completions_by(policy, judge, groups, more, generation, &mut |_| (), &to_activity)
}

/// [`add_completions`] with a judge; `observer` is shown how far it is, as `to_activity` has it.
///
/// # Errors
/// As there.
pub(crate) fn add_completions_by(
    policy: &impl Policy,
    judge: Judge<'_>,
    groups: &mut [Group],
    more: &[usize],
    generation: &GenerationConfig,
    observer: &mut Observer<'_>,
    to_activity: &ToActivity<'_>,
) -> Result<(), TrainerError> {
    if let Some(play) = Play::of(judge.rewards, judge.tokenizer, generation, judge.step) {
        observer(to_activity(GenerationProgress::default()));
        play.begin(groups)?;
        let (mut completions, played) = (vec![Vec::new(); groups.len()], Played::default());
        play.generate(policy, groups, &requests(groups, more), &played, &mut |number, group| {
            completions[number] = group;
            0
        })?;
        let finished = groups.iter().zip(completions);
        let finished = finished.map(|(group, of)| Finished::of(of, judge.tokenizer, group, Some(&played)));
        let finished = finished.collect::<Result<_, _>>()?;
        return judge.add(groups, finished, Known::new());
    }
    let requests = requests(groups, more);
    let mut watch = |progress| observer(to_activity(progress));
    let (finished, known) = if judge.rewards.waiting().is_empty() {
        let completions = policy.generate_watched(&requests, generation, &mut watch)?;
        observer(Activity::Scoring { completions: completions.iter().map(Vec::len).sum() });
        let finished = groups.iter().zip(completions);
        let finished = finished.map(|(group, of)| Finished::of(of, judge.tokenizer, group, None));
        (finished.collect::<Result<_, _>>()?, Known::new())
    } else {
        generate_and_score(policy, judge, groups, &requests, generation, &mut watch)?
    };
    judge.add(groups, finished, known)
}

/// [`roll_out`], and more completions of each group for as long as `more` asks for some. A policy that keeps its
/// prompts does not compute them again; the groups are as if all their completions had been made at once.
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
    to_activity: &ToActivity<'_>,
) -> Result<Vec<Group>, TrainerError> {
    let mut groups: Vec<Group> = prompts.iter().map(|(draw, prompt)| Group::new(*draw, (*prompt).clone())).collect();
    let play = Play::of(judge.rewards, judge.tokenizer, generation, judge.step);
    play.map_or(Ok(()), |play| play.begin(&mut groups))?;
    let (requests, played) = (requests(&groups, &vec![group_size; groups.len()]), Played::default());
    let begun = if play.is_some() { groups.clone() } else { Vec::new() };
    let (mut failure, mut progress) = (None, GenerationProgress::default());
    observer(to_activity(progress));
    let mut add = |number: usize, completions: Vec<Completion>| {
        let group = &mut groups[number..=number];
        progress.completions += completions.len();
        progress.tokens += completions.iter().map(|completion| completion.token_ids.len() as u64).sum::<u64>();
        // After a failure, what has been asked for is all that is still generated.
        let of_group = Finished::of(completions, judge.tokenizer, &group[0], play.map(|_| &played));
        let finished = of_group.map_err(TrainerError::from);
        let wanted = match finished.and_then(|finished| judge.add(group, vec![finished], Known::new())) {
            Ok(()) if failure.is_none() => more(&group[0]),
            Ok(()) => 0,
            Err(error) => {
                failure.get_or_insert(error);
                0
            }
        };
        progress.requests += usize::from(wanted == 0);
        observer(to_activity(progress));
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
