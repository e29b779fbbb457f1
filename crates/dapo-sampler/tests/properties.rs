//! Whole runs with random settings and groups.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use dapo_sampler::{
    Account, DataOrder, Drawn, DropReason, DynamicSampler, GenBatch, GroupVerdict, OnExhausted, SamplerConfig,
    SamplerError, SurplusPolicy, TakenBatch, judge, needs_more,
};
use proptest::{collection::vec, prelude::*};

/// The metric of every draw, repeated without end.
type World = Vec<Vec<Option<f64>>>;

fn metric() -> impl Strategy<Value = Vec<Option<f64>>> {
    let value = prop_oneof![
        4 => Just(Some(0.0)),
        4 => Just(Some(1.0)),
        1 => Just(None),
        1 => (-1.0..1.0).prop_map(Some),
    ];
    let flat = (0..=5_usize, prop_oneof![Just(Some(0.0)), Just(Some(1.0)), Just(None)]);
    prop_oneof![vec(value, 0..6), flat.prop_map(|(len, value)| vec![value; len])]
}

fn world() -> impl Strategy<Value = World> {
    vec(metric(), 1..60)
}

fn config() -> impl Strategy<Value = SamplerConfig> {
    let gen_batch = prop_oneof![
        (1..12_usize).prop_map(|prompts| (GenBatch::Fixed(prompts), 1, None)),
        (1..6_usize, 0..12_usize).prop_map(|(min, more)| (GenBatch::Adaptive, min, Some(min + more))),
    ];
    let surplus = prop_oneof![
        3 => (1..4_u32).prop_map(|max_age| (SurplusPolicy::Carry, max_age)),
        1 => Just((SurplusPolicy::Discard, 1)),
    ];
    let on_exhausted =
        prop_oneof![Just(OnExhausted::TrainShort), Just(OnExhausted::KeepZeroStd), Just(OnExhausted::Error)];
    let tolerance = prop_oneof![3 => Just(0.0), 1 => Just(0.25)];
    let settings = (prop::bool::weighted(0.9), tolerance, 1..9_usize, gen_batch, 0..5_u32, surplus, on_exhausted);
    settings
        .prop_map(
            |(
                enabled,
                tolerance,
                train_batch,
                (gen_batch, gen_batch_min, gen_batch_max),
                max_gen_rounds,
                (surplus, max_age),
                on_exhausted,
            )| SamplerConfig {
                enabled,
                tolerance,
                train_batch,
                gen_batch,
                gen_batch_min,
                gen_batch_max,
                max_gen_rounds,
                surplus,
                max_age,
                on_exhausted,
                ..SamplerConfig::default()
            },
        )
        .prop_filter("settings that can fill a batch", |config| config.validate().is_ok())
}

/// What may happen to rounds and state on the way; none of it may change the outcome.
#[derive(Default, Clone, Copy)]
struct Disturbance {
    reverse_rounds: bool,
    store_and_read_back: bool,
}

/// One step: the sizes of its rounds and its outcome.
#[derive(Debug, PartialEq)]
struct Step {
    rounds: Vec<usize>,
    outcome: Result<TakenBatch<u64>, SamplerError>,
}

fn run(config: &SamplerConfig, dataset_len: usize, world: &World, steps: usize, disturb: Disturbance) -> Vec<Step> {
    let mut sampler = DynamicSampler::new(config.clone(), dataset_len).unwrap();
    let mut order = DataOrder::new(1, dataset_len).unwrap();
    let mut done = Vec::new();
    for _ in 0..steps {
        let mut rounds = Vec::new();
        while let Some(prompts) = sampler.next_round() {
            assert!(prompts > 0, "a round without prompts never ends");
            rounds.push(prompts);
            let groups = order.next_draws(prompts).into_iter().map(|(draw, _)| Drawn {
                draw,
                group: draw,
                metric: world[draw as usize % world.len()].clone(),
            });
            let mut groups: Vec<_> = groups.collect();
            if disturb.reverse_rounds {
                groups.reverse();
                groups.rotate_left(prompts / 3);
            }
            sampler.push_round(groups).unwrap();
            if disturb.store_and_read_back {
                sampler = serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
                order = serde_json::from_str(&serde_json::to_string(&order).unwrap()).unwrap();
            }
        }
        let outcome = sampler.take_batch();
        let failed = outcome.is_err();
        done.push(Step { rounds, outcome });
        if failed {
            break;
        }
        if disturb.store_and_read_back {
            sampler = serde_json::from_str(&serde_json::to_string(&sampler).unwrap()).unwrap();
        }
    }
    done
}

fn batches(steps: &[Step]) -> impl Iterator<Item = &TakenBatch<u64>> {
    steps.iter().filter_map(|step| step.outcome.as_ref().ok())
}

/// An independent reading of the rules: the trained draws with their ages, and what is carried, step by step.
fn expected(config: &SamplerConfig, world: &World, steps: &[Step]) -> Vec<Vec<(u64, u32)>> {
    let informative = |draw: u64| {
        let values: Vec<f64> = world[draw as usize % world.len()].iter().copied().flatten().collect();
        let differ = values.iter().any(|a| values.iter().any(|b| a - b > config.tolerance));
        values.len() >= 2 && (differ || !config.enabled)
    };
    let mut next_draw = 0;
    let mut carried: Vec<(u64, u32)> = Vec::new();
    let mut trained = Vec::new();
    for step in steps {
        let drawn = step.rounds.iter().sum::<usize>() as u64;
        carried.extend((next_draw..next_draw + drawn).filter(|&draw| informative(draw)).map(|draw| (draw, 0)));
        next_draw += drawn;
        let rest = carried.split_off(carried.len().min(config.train_batch));
        trained.push(std::mem::replace(&mut carried, rest));
        for (_, age) in &mut carried {
            *age += 1;
        }
        match config.surplus {
            SurplusPolicy::Carry => carried.retain(|&(_, age)| age <= config.max_age),
            SurplusPolicy::Discard => carried.clear(),
        }
    }
    trained
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accounts_add_up(config in config(), world in world(), dataset_len in 1..40_usize) {
        let steps = run(&config, dataset_len, &world, 12, Disturbance::default());
        let mut carried = 0;
        for (step, batch) in steps.iter().zip(batches(&steps)) {
            let account = batch.account;
            prop_assert_eq!(account.check(), Ok(()));
            prop_assert_eq!(
                account.generated + account.carried_in,
                account.trained + account.all_correct + account.all_incorrect + account.other
                    + account.discarded + account.carried_out + account.expired
            );
            prop_assert_eq!(account.generated, step.rounds.iter().sum::<usize>() as u64);
            prop_assert_eq!(account.rounds, step.rounds.len() as u64);
            prop_assert_eq!(account.carried_in, carried);
            carried = account.carried_out;
            // The terms are those of the groups handed out.
            prop_assert_eq!(account.trained + account.filled, batch.groups.len() as u64);
            prop_assert_eq!(batch.groups.len() + batch.missing, config.train_batch);
            let kept = batch.groups.iter().filter(|group| group.verdict == GroupVerdict::Keep).count();
            prop_assert_eq!(account.trained, kept as u64);
            let dropped = |reason| batch.dropped.iter().filter(|group| group.reason == reason).count() as u64;
            prop_assert_eq!(account.discarded, dropped(DropReason::Discarded));
            prop_assert_eq!(account.expired, dropped(DropReason::Expired));
            let with = |verdict| {
                let put_back = batch.groups.iter().filter(|group| group.verdict == verdict).count();
                (put_back + batch.dropped.iter().filter(|group| group.verdict == verdict).count()) as u64
            };
            prop_assert_eq!(account.all_correct, with(GroupVerdict::AllCorrect));
            prop_assert_eq!(account.all_incorrect, with(GroupVerdict::AllIncorrect));
            prop_assert_eq!(account.other, with(GroupVerdict::Other));
        }
        let total: Account = batches(&steps).map(|batch| batch.account).sum();
        prop_assert_eq!(total.check(), Ok(()));
    }

    #[test]
    fn no_group_is_lost_or_handed_out_twice(config in config(), world in world(), dataset_len in 1..40_usize) {
        let steps = run(&config, dataset_len, &world, 12, Disturbance::default());
        let mut seen = BTreeSet::new();
        let (mut generated, mut carried) = (0, 0);
        for batch in batches(&steps) {
            for (draw, group, metric) in batch.groups.iter().map(|kept| (kept.draw, kept.group, &kept.metric))
                .chain(batch.dropped.iter().map(|dropped| (dropped.draw, dropped.group, &dropped.metric)))
            {
                prop_assert!(seen.insert(draw), "draw {} twice", draw);
                prop_assert_eq!(draw, group);
                prop_assert_eq!(metric, &world[draw as usize % world.len()]);
            }
            prop_assert!(batch.dropped.is_sorted_by_key(|group| group.draw));
            prop_assert!(batch.groups.is_sorted_by_key(|group| (group.verdict != GroupVerdict::Keep, group.draw)));
            generated += batch.account.generated;
            carried = batch.account.carried_out;
        }
        prop_assert_eq!(seen.len() as u64 + carried, generated);
        prop_assert!(seen.iter().all(|&draw| draw < generated));
    }

    #[test]
    fn trains_what_the_rules_say(config in config(), world in world(), dataset_len in 1..40_usize) {
        let steps = run(&config, dataset_len, &world, 12, Disturbance::default());
        for (step, expected) in steps.iter().zip(expected(&config, &world, &steps)) {
            let short = expected.len() < config.train_batch;
            match &step.outcome {
                Ok(batch) => {
                    let trained = &batch.groups[..batch.account.trained as usize];
                    let trained: Vec<_> = trained.iter().map(|group| (group.draw, group.age)).collect();
                    prop_assert_eq!(trained, expected);
                    prop_assert!(!(short && config.enabled && config.on_exhausted == OnExhausted::Error));
                    prop_assert!(!batch.groups.is_empty());
                    prop_assert!(batch.account.filled == 0 || config.on_exhausted == OnExhausted::KeepZeroStd);
                }
                Err(SamplerError::Exhausted(shortage)) => {
                    prop_assert!(short && config.enabled && config.on_exhausted == OnExhausted::Error);
                    prop_assert_eq!(shortage.kept, expected.len());
                }
                Err(SamplerError::NothingKept(_)) => prop_assert!(expected.is_empty()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }

    #[test]
    fn the_outcome_does_not_depend_on_the_order_within_a_round(
        config in config(), world in world(), dataset_len in 1..40_usize,
    ) {
        let reversed = Disturbance { reverse_rounds: true, ..Disturbance::default() };
        prop_assert_eq!(
            run(&config, dataset_len, &world, 8, reversed),
            run(&config, dataset_len, &world, 8, Disturbance::default())
        );
    }

    #[test]
    fn stored_state_goes_on_as_it_would_have(config in config(), world in world(), dataset_len in 1..40_usize) {
        let stored = Disturbance { store_and_read_back: true, ..Disturbance::default() };
        prop_assert_eq!(
            run(&config, dataset_len, &world, 8, stored),
            run(&config, dataset_len, &world, 8, Disturbance::default())
        );
    }

    #[test]
    fn every_step_ends(config in config(), dataset_len in 1..40_usize, kind in 0..3_usize) {
        // Nothing is ever kept, or everything.
        let world = vec![[vec![Some(1.0); 4], vec![None; 4], vec![Some(1.0), Some(0.0)]][kind].clone()];
        for step in run(&config, dataset_len, &world, 4, Disturbance::default()) {
            if config.max_gen_rounds > 0 {
                prop_assert!(step.rounds.len() <= config.max_gen_rounds as usize);
            } else if config.enabled {
                prop_assert!(step.rounds.iter().sum::<usize>() <= dataset_len);
            }
            if config.gen_batch == GenBatch::Adaptive && config.enabled {
                let (min, max) = (config.gen_batch_min, config.most_prompts());
                let whole = &step.rounds[..step.rounds.len().saturating_sub(1)];
                prop_assert!(step.rounds.iter().all(|prompts| *prompts <= max));
                prop_assert!(whole.iter().all(|prompts| *prompts >= min));
            }
            if !config.enabled {
                prop_assert!(step.rounds.len() <= 1);
            }
        }
    }

    #[test]
    fn no_group_is_trained_past_its_age_limit(config in config(), world in world(), dataset_len in 1..40_usize) {
        let limit = match config.surplus {
            SurplusPolicy::Carry => config.max_age,
            SurplusPolicy::Discard => 0,
        };
        let steps = run(&config, dataset_len, &world, 12, Disturbance::default());
        let mut first_draw_of_step = Vec::new();
        let mut generated = 0;
        for (step, batch) in batches(&steps).enumerate() {
            first_draw_of_step.push(generated);
            generated += batch.account.generated;
            for group in &batch.groups {
                prop_assert!(group.age <= limit);
                let born = first_draw_of_step.partition_point(|&first| first <= group.draw) - 1;
                prop_assert_eq!(step - born, group.age as usize);
            }
        }
    }

    #[test]
    fn verdicts_do_not_depend_on_the_order_of_completions(mut metric in metric(), tolerance in 0.0..0.5) {
        let verdict = judge(&metric, tolerance, 0.0);
        metric.reverse();
        prop_assert_eq!(judge(&metric, tolerance, 0.0), verdict);
        metric.push(None);
        prop_assert_eq!(judge(&metric, tolerance, 0.0), verdict, "abstaining changes nothing");
        prop_assert_eq!(needs_more(&metric, tolerance, metric.len() + 1), verdict != GroupVerdict::Keep);
        prop_assert!(!needs_more(&metric, tolerance, metric.len()));
    }

    #[test]
    fn every_epoch_is_a_permutation(seed: u64, prompts in 1..50_usize, skip in 0..200_usize) {
        let mut order = DataOrder::new(seed, prompts).unwrap();
        let draws = order.next_draws(4 * prompts + skip);
        for (epoch, chunk) in draws.chunks_exact(prompts).enumerate() {
            let distinct: BTreeSet<_> = chunk.iter().map(|&(_, prompt)| prompt).collect();
            prop_assert_eq!(distinct.len(), prompts);
            prop_assert!(distinct.into_iter().all(|prompt| prompt < prompts));
            prop_assert!(chunk.iter().enumerate().all(|(i, &(draw, _))| draw == (epoch * prompts + i) as u64));
        }

        let mut stopped = DataOrder::new(seed, prompts).unwrap();
        stopped.next_draws(skip);
        let mut resumed: DataOrder = serde_json::from_str(&serde_json::to_string(&stopped).unwrap()).unwrap();
        prop_assert_eq!(&resumed, &stopped);
        prop_assert_eq!((resumed.draws(), resumed.epoch()), (skip as u64, (skip / prompts) as u64));
        prop_assert_eq!(resumed.next_draws(4 * prompts), &draws[skip..]);
    }
}
