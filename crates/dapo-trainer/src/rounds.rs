//! The rounds of a step: prompts are drawn and rolled out until enough groups carry a signal. Ranks that train as one
//! divide the draws of a round, and have all of its groups after it.

use crate::activity::{Activity, Observer, RolloutProgress};
use crate::advantages::filter_metric;
use crate::dealt::make_together;
use crate::error::TrainerError;
use crate::judge::{Clock, Judge};
use crate::kept::release_dropped;
use crate::metrics::{GroupSums, StepMetrics, share};
use crate::parcel::Made;
use crate::rollout::{add_completions_by, roll_out_by, roll_out_more};
use crate::sample::Group;
use crate::trainer::Trainer;
use dapo_data::Prompt;
use dapo_policy::GenerationProgress;
use dapo_sampler::{Drawn, SamplerError, TakenBatch};
use std::sync::Arc;

impl Trainer {
    /// Rounds of rollouts until the sampler is satisfied.
    pub(crate) fn sample(
        &mut self,
        metrics: &mut StepMetrics,
        clock: &Clock,
        observer: &mut Observer<'_>,
    ) -> Result<TakenBatch<Arc<Group>>, TrainerError> {
        let mut sums = GroupSums::of(self.rewards().names());
        let mut kl_sum = 0.0;
        let mut progress = RolloutProgress { needed: self.config().sampler.train_batch, ..RolloutProgress::default() };
        while let Some(count) = self.sampler.next_round() {
            let drawn = self.order.next_draws(count);
            progress.round += 1;
            progress.groups = progress.drawn;
            progress.drawn += drawn.len() as u64;
            progress.kept = self.sampler.kept().len();
            progress.tokens = sums.tokens();
            observer(Activity::Rollout(progress));
            let groups = self.round(&drawn, &mut kl_sum, clock, progress, observer)?;
            let (sampler, filter) = (&self.config().sampler, self.config().overlong_filter);
            let drawn = groups.into_iter().map(|group| {
                sums.add(&group);
                let metric = filter_metric(sampler.judged_metric(), &group, filter);
                Drawn { draw: group.draw, metric, group: Arc::new(group) }
            });
            self.sampler.push_round(drawn.collect())?;
            release_dropped(&self.policy, self.sampler.kept());
        }
        if self.reference.is_some() && self.config().kl_in_reward > 0.0 {
            metrics.ref_kl = share(kl_sum, sums.tokens());
        }
        sums.write(metrics);
        let taken = match self.sampler.take_batch() {
            Ok(taken) => taken,
            Err(SamplerError::NothingKept(shortage) | SamplerError::Exhausted(shortage)) => {
                self.without_signal(*shortage)?
            }
            Err(error) => return Err(error.into()),
        };
        metrics.dynamic_sampling = taken.account;
        Ok(taken)
    }

    /// One round's groups, and the sum of their KL terms.
    fn round(
        &self,
        drawn: &[(u64, usize)],
        kl_sum: &mut f64,
        clock: &Clock,
        before: RolloutProgress,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Group>, TrainerError> {
        self.team.phase(self.steps() + 1, format_args!("round {}", before.round));
        let drawn: Vec<(u64, &Prompt)> = drawn.iter().map(|(draw, i)| (*draw, &self.prompts[*i])).collect();
        let made = make_together(&self.team, &drawn, self.rewards(), |own| self.make(own, clock, before, observer))?;
        // In the order in which one rank adds them: pass by pass over all groups.
        let passes = made.iter().map(|made| made.kl_sums.len()).max().unwrap_or_default();
        for pass in 0..passes {
            for sum in made.iter().filter_map(|made| made.kl_sums.get(pass)) {
                *kl_sum -= sum / f64::from(self.config().kl_in_reward);
            }
        }
        Ok(made.into_iter().map(|made| made.group).collect())
    }

    /// The groups of draws, with more completions where the per-prompt mode asks for them, and KL in the reward.
    fn make(
        &self,
        prompts: &[(u64, &Prompt)],
        clock: &Clock,
        before: RolloutProgress,
        observer: &mut Observer<'_>,
    ) -> Result<Vec<Made>, TrainerError> {
        let (policy, tokenizer, rewards) = (self.policy(), self.tokenizer(), self.rewards());
        let (config, generation) = (self.config(), &self.generation);
        let (size, sampler, filter) = (config.group_size, &config.sampler, config.overlong_filter);
        let judge = Judge { tokenizer, rewards, step: self.steps() + 1, clock };
        let more = |group: &Group| sampler.more_completions(&filter_metric(&sampler.metric, group, filter));
        let activity = |of: GenerationProgress| {
            let (groups, tokens) = (before.groups + of.requests as u64, before.tokens + of.tokens);
            Activity::Rollout(RolloutProgress { groups, tokens, ..before })
        };
        // A metric with KL terms needs them between two calls of the policy, for all groups at once.
        if sampler.per_prompt.is_some() && config.kl_in_reward == 0.0 {
            let groups = roll_out_more(policy, judge, prompts, size, generation, &more, observer, &activity)?;
            return Ok(groups.into_iter().map(|group| Made { group, kl_sums: Vec::new() }).collect());
        }
        let mut groups = roll_out_by(policy, judge, prompts, size, generation, observer, &activity)?;
        let mut kl_sums = vec![Vec::new(); groups.len()];
        loop {
            for (sums, sum) in kl_sums.iter_mut().zip(self.add_kl_terms(&mut groups)?) {
                sums.push(sum);
            }
            let more: Vec<usize> = groups.iter().map(&more).collect();
            if more.iter().all(|more| *more == 0) {
                return Ok(groups.into_iter().zip(kl_sums).map(|(group, kl_sums)| Made { group, kl_sums }).collect());
            }
            add_completions_by(policy, judge, &mut groups, &more, generation, observer, &activity)?;
        }
    }
}
