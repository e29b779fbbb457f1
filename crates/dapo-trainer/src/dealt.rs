//! Draws that are dealt to the ranks: each makes some of them, and all ranks have all of them.

use crate::activity::{Activity, Observer};
use crate::error::TrainerError;
use crate::judge::{Clock, Judge};
use crate::parcel::Made;
use crate::rollout::roll_out_by;
use crate::sample::Group;
use crate::team::Team;
use crate::trainer::Trainer;
use dapo_data::Prompt;
use dapo_dist::Dealing;
use dapo_policy::{GenerationConfig, GenerationProgress};
use dapo_reward::RewardSum;

/// Draws that are dealt to a rank at a time: each is a prompt with all of its completions.
const PIECE: u64 = 1;

/// Makes this rank's part of some draws, which follow each other, and takes the others' parts. Draws that are judged by
/// `rewards` may be waited for.
///
/// # Errors
/// What `make` returns on any rank, on all of them; and when the ranks lose each other.
pub(crate) fn make_together(
    team: &Team,
    drawn: &[(u64, &Prompt)],
    rewards: &RewardSum,
    make: impl FnOnce(&[(u64, &Prompt)]) -> Result<Vec<Made>, TrainerError>,
) -> Result<Vec<Made>, TrainerError> {
    if team.is_alone() {
        return make(drawn);
    }
    let (world, dealing) = (&**team.world(), Dealing::new(PIECE)?);
    let is_own = |(draw, _): &&(u64, &Prompt)| dealing.maker(*draw, world.size()) == world.rank();
    let own: Vec<(u64, &Prompt)> = drawn.iter().filter(is_own).copied().collect();
    let make = || if own.is_empty() { Ok(Vec::new()) } else { make(&own) };
    let waits = rewards.episodes().is_some() || !rewards.waiting().is_empty();
    let made = if waits { team.alive_during(make) } else { make() };
    let sent = made.and_then(|made| {
        made.into_iter().map(|made| Ok((made.group.draw, made.into_bytes()?))).collect::<Result<Vec<_>, TrainerError>>()
    });
    let sent = team.agree(sent)?;
    let (Some((first, _)), Some((last, _))) = (drawn.first(), drawn.last()) else { return Ok(Vec::new()) };
    let all = dealing.gather(world, *first..last + 1, &sent)?;
    let read = |((draw, bytes), (_, prompt)): (&(u64, Vec<u8>), &(u64, &Prompt))| {
        Made::of_bytes(bytes, dealing.maker(*draw, world.size()), *draw, prompt)
    };
    all.iter().zip(drawn).map(read).collect()
}

impl Trainer {
    /// Completes every prompt `group_size` times with the present policy and judges the completions by `rewards`, outside
    /// training: [`roll_out_observed`](crate::roll_out_observed) in step 0. The draw indices follow each other. The ranks that
    /// train as one divide the prompts; every rank calls it and has all groups, those of one rank bit for bit. `observer` is
    /// shown how far this rank is, as `to_activity` has it of the number of this rank's prompts.
    ///
    /// # Errors
    /// As there; [`TrainerError::Rank`] where it is another rank's, and [`TrainerError::Dist`].
    pub fn roll_out(
        &self,
        prompts: &[(u64, &Prompt)],
        group_size: usize,
        generation: &GenerationConfig,
        rewards: &RewardSum,
        observer: &mut Observer<'_>,
        to_activity: impl Fn(usize, GenerationProgress) -> Activity + Sync,
    ) -> Result<Vec<Group>, TrainerError> {
        let judge = Judge { tokenizer: self.tokenizer(), rewards, step: 0, clock: &Clock::default() };
        let made = make_together(&self.team, prompts, rewards, |own| {
            let of_own = |progress| to_activity(own.len(), progress);
            let groups = roll_out_by(self.policy(), judge, own, group_size, generation, observer, &of_own)?;
            Ok(groups.into_iter().map(|group| Made { group, kl_sums: Vec::new() }).collect())
        })?;
        Ok(made.into_iter().map(|made| made.group).collect())
    }
}
