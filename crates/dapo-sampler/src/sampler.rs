//! The sampler: rounds of groups in, batches of informative groups out.

use std::mem;

use serde::{Deserialize, Serialize};

use crate::{
    account::Account,
    config::{GenBatch, OnExhausted, SamplerConfig, SurplusPolicy},
    error::{SamplerError, expect_config},
    group::{Drawn, DropReason, DroppedGroup, KeptGroup, TakenBatch},
    keep_rate::KeepRate,
    shortage::{Shortage, ValueSummary},
    verdict::{GroupVerdict, graded, judge},
};

/// The keep rate is that of the latest rounds that together hold this many batches.
const KEEP_RATE_BATCHES: usize = 4;

/// Collects groups until a batch of informative ones is full.
///
/// A step asks [`next_round`](Self::next_round) how many prompts to draw and hands their groups to
/// [`push_round`](Self::push_round), until there is no next round; [`take_batch`](Self::take_batch) ends the step and
/// begins the next one. The state can be stored at any moment between two of these calls, also within a step; a
/// restored sampler gives the same results.
///
/// A round is judged as a whole and groups are chosen by draw index, so neither the order within a round nor the
/// order in which completions finished changes the outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DynamicSampler<G> {
    config: SamplerConfig,
    dataset_len: usize,
    /// The lowest draw index a new group may have.
    next_draw: u64,
    keep_rate: KeepRate,
    /// This step's account so far; the terms of kept groups follow when the batch is taken.
    account: Account,
    /// Informative groups by draw index, carried ones first.
    kept: Vec<KeptGroup<G>>,
    dropped: Vec<DroppedGroup<G>>,
}

impl<G> DynamicSampler<G> {
    /// A sampler at the beginning of its first step, for a data set of `dataset_len` prompts.
    ///
    /// # Errors
    /// [`SamplerError::Config`] as from [`SamplerConfig::validate`], and for an empty data set.
    pub fn new(config: SamplerConfig, dataset_len: usize) -> Result<Self, SamplerError> {
        config.validate()?;
        expect_config(dataset_len > 0, "dataset_len", &dataset_len, "a data set of at least 1 prompt")?;
        Ok(Self {
            config,
            dataset_len,
            next_draw: 0,
            keep_rate: KeepRate::default(),
            account: Account::default(),
            kept: Vec::new(),
            dropped: Vec::new(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Changes the settings between two steps, for example of a run that was resumed with others.
    ///
    /// Carried groups that the new settings would not have carried are dropped and counted in the coming step.
    ///
    /// # Errors
    /// [`SamplerError::Config`] as from [`SamplerConfig::validate`]; [`SamplerError::MidStep`] if the present step
    /// has judged a round already. The sampler is then unchanged.
    pub fn reconfigure(&mut self, config: SamplerConfig) -> Result<(), SamplerError> {
        config.validate()?;
        if self.account.rounds > 0 {
            return Err(SamplerError::MidStep { rounds: self.account.rounds });
        }
        self.config = config;
        for group in mem::take(&mut self.kept) {
            match self.drop_at_age(group.age) {
                Some(reason) => self.drop_surplus(group, reason),
                None => self.kept.push(group),
            }
        }
        Ok(())
    }

    /// The informative groups at hand, by draw index; between two steps, those that are carried.
    pub fn kept(&self) -> &[KeptGroup<G>] {
        &self.kept
    }

    /// The informative groups at hand, to change them: each with the number of steps since it was generated, as the
    /// coming step counts them. Verdicts and metrics stay.
    pub fn kept_mut(&mut self) -> impl Iterator<Item = (u32, &mut G)> {
        self.kept.iter_mut().map(|kept| (kept.age, &mut kept.group))
    }

    /// How many groups the batch still lacks.
    pub fn missing(&self) -> usize {
        self.config.train_batch.saturating_sub(self.kept.len())
    }

    /// How many prompts to draw for the next round; `None` when the batch is full or no further round is permitted,
    /// that is, when the batch is to be taken.
    pub fn next_round(&self) -> Option<usize> {
        let missing = self.missing();
        if missing == 0 {
            return None;
        }
        if !self.config.enabled {
            return (self.account.rounds == 0).then_some(missing);
        }
        let prompts = match self.config.gen_batch {
            GenBatch::Fixed(prompts) => prompts,
            GenBatch::Adaptive => {
                let rounds = u64::from(self.config.max_gen_rounds);
                // The last quarter of the permitted rounds must fill the batch.
                let is_late = rounds > 0 && 4 * (self.account.rounds + 1) > 3 * rounds;
                let rate = &self.keep_rate;
                let prompts = if is_late { rate.prompts_for(missing) } else { rate.cautious_prompts_for(missing) };
                prompts.min(self.config.most_prompts()).max(self.config.gen_batch_min)
            }
        };
        match self.config.max_gen_rounds {
            0 => {
                let left = (self.dataset_len as u64).saturating_sub(self.account.generated);
                (left > 0).then(|| prompts.min(left as usize))
            }
            rounds => (self.account.rounds < u64::from(rounds)).then_some(prompts),
        }
    }

    /// Judges one whole round, in any order.
    ///
    /// # Errors
    /// The round must have as many groups as [`next_round`](Self::next_round) asked for
    /// ([`SamplerError::RoundSize`]), draw indices above those of all earlier rounds ([`SamplerError::Draw`]) and
    /// finite metric values ([`SamplerError::Metric`]). The sampler is otherwise unchanged.
    pub fn push_round(&mut self, mut round: Vec<Drawn<G>>) -> Result<(), SamplerError> {
        let expected = self.next_round();
        if expected != Some(round.len()) {
            return Err(SamplerError::RoundSize { got: round.len(), expected: expected.unwrap_or(0) });
        }
        round.sort_by_key(|drawn| drawn.draw);
        let next_draw = self.check_round(&round)?;

        let (judged, kept_before) = (round.len(), self.kept.len());
        for Drawn { draw, group, metric } in round {
            let verdict = self.judge(&metric);
            self.account.count_generated(verdict);
            let group = KeptGroup { draw, group, metric, verdict, age: 0 };
            if verdict == GroupVerdict::Keep {
                self.kept.push(group);
            } else {
                self.dropped.push(group.dropped(DropReason::Uninformative));
            }
        }
        self.next_draw = next_draw;
        self.account.rounds += 1;
        let window = KEEP_RATE_BATCHES.saturating_mul(self.config.train_batch);
        self.keep_rate.push(judged, self.kept.len() - kept_before, window);
        Ok(())
    }

    /// Ends the step: the first `train_batch` informative groups by draw index, the dropped ones with their reasons, and the
    /// account. The next step begins with the groups that are carried.
    ///
    /// # Errors
    /// [`SamplerError::Unfinished`] while there is a [`next_round`](Self::next_round),
    /// [`SamplerError::Exhausted`] for a short batch under [`OnExhausted::Error`], and
    /// [`SamplerError::NothingKept`] if there is no group at all to train on. The sampler is then unchanged.
    pub fn take_batch(&mut self) -> Result<TakenBatch<G>, SamplerError> {
        let missing = self.missing();
        if let Some(prompts) = self.next_round() {
            return Err(SamplerError::Unfinished { missing, prompts });
        }
        let on_exhausted = if self.config.enabled { self.config.on_exhausted } else { OnExhausted::TrainShort };
        if missing > 0 && on_exhausted == OnExhausted::Error {
            return Err(SamplerError::Exhausted(Box::new(self.shortage())));
        }
        let fills = on_exhausted == OnExhausted::KeepZeroStd;
        if self.kept.is_empty() && !(fills && self.dropped.iter().any(can_fill)) {
            return Err(SamplerError::NothingKept(Box::new(self.shortage())));
        }
        Ok(self.end_step(missing, fills))
    }

    /// Ends a step without a single group to train on, where [`take_batch`](Self::take_batch) would be an error: the batch is
    /// empty, all groups of the step are among the dropped ones, and the next step begins.
    ///
    /// # Errors
    /// [`SamplerError::Unfinished`] while there is a [`next_round`](Self::next_round) or a group to train on. The sampler is
    /// then unchanged.
    pub fn skip_step(&mut self) -> Result<TakenBatch<G>, SamplerError> {
        let missing = self.missing();
        let prompts = self.next_round().unwrap_or(0);
        if prompts > 0 || !self.kept.is_empty() {
            return Err(SamplerError::Unfinished { missing, prompts });
        }
        Ok(self.end_step(missing, false))
    }

    /// The dropped groups of the present step so far: what there is to look at when nothing was kept.
    pub fn dropped(&self) -> &[DroppedGroup<G>] {
        &self.dropped
    }

    fn end_step(&mut self, mut missing: usize, fills: bool) -> TakenBatch<G> {
        let mut groups = mem::take(&mut self.kept);
        let surplus = groups.split_off(self.config.train_batch.min(groups.len()));
        self.account.trained = groups.len() as u64;
        if fills {
            groups
                .extend(self.dropped.extract_if(.., |group| can_fill(group)).take(missing).map(DroppedGroup::put_back));
            self.account.filled = groups.len() as u64 - self.account.trained;
            missing -= self.account.filled as usize;
        }
        for group in surplus {
            match self.drop_at_age(group.age + 1) {
                Some(reason) => self.drop_surplus(group, reason),
                None => self.kept.push(KeptGroup { age: group.age + 1, ..group }),
            }
        }
        let carried = self.kept.len() as u64;
        self.account.carried_out = carried;
        let account = mem::replace(&mut self.account, Account { carried_in: carried, ..Account::default() });
        debug_assert_eq!(account.check(), Ok(()));
        let mut dropped = mem::take(&mut self.dropped);
        dropped.sort_by_key(|group| group.draw);
        TakenBatch { groups, missing, dropped, account }
    }

    /// The verdict under the present settings.
    fn judge(&self, metric: &[Option<f64>]) -> GroupVerdict {
        let least = if self.config.keeps_lone { 1 } else { 2 };
        if !self.config.enabled && graded(metric) >= least {
            return GroupVerdict::Keep;
        }
        judge(metric, self.config.tolerance, self.config.correct_above)
    }

    /// Checks a round sorted by draw index; gives the lowest index the following round may have.
    fn check_round(&self, round: &[Drawn<G>]) -> Result<u64, SamplerError> {
        let mut expected = self.next_draw;
        for drawn in round {
            let draw = drawn.draw;
            // The last index has no successor.
            if draw < expected || draw == u64::MAX {
                return Err(SamplerError::Draw { draw, expected: self.next_draw });
            }
            expected = draw + 1;
            for (completion, value) in drawn.metric.iter().enumerate() {
                if let Some(value) = *value
                    && !value.is_finite()
                {
                    return Err(SamplerError::Metric { draw, completion, value });
                }
            }
        }
        Ok(expected)
    }

    /// Why an informative group may not be trained at this age, if it may not.
    fn drop_at_age(&self, age: u32) -> Option<DropReason> {
        match self.config.surplus {
            SurplusPolicy::Discard => Some(DropReason::Discarded),
            SurplusPolicy::Carry => (age > self.config.max_age).then_some(DropReason::Expired),
        }
    }

    fn drop_surplus(&mut self, group: KeptGroup<G>, reason: DropReason) {
        if reason == DropReason::Expired {
            self.account.expired += 1;
        } else {
            self.account.discarded += 1;
        }
        self.dropped.push(group.dropped(reason));
    }

    fn shortage(&self) -> Shortage {
        let dropped = self.dropped.iter().filter(|group| group.reason == DropReason::Uninformative);
        Shortage {
            metric: self.config.judged_metric().clone(),
            train_batch: self.config.train_batch,
            kept: self.kept.len(),
            rounds: self.account.rounds,
            generated: self.account.generated,
            all_correct: self.account.all_correct,
            all_incorrect: self.account.all_incorrect,
            other: self.account.other,
            values: ValueSummary::of(dropped.flat_map(|group| &group.metric)),
        }
    }
}

/// Whether an uninformative group still has a baseline.
fn can_fill<G>(group: &DroppedGroup<G>) -> bool {
    group.reason == DropReason::Uninformative && graded(&group.metric) >= 2
}
