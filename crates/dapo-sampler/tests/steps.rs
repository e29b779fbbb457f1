//! Single steps with hand-made rounds.
#![allow(clippy::unwrap_used)]

use dapo_sampler::{
    Account, Drawn, DropReason, DynamicSampler, GenBatch, GroupVerdict, OnExhausted, SamplerConfig, SamplerError,
    SurplusPolicy, TakenBatch,
};

/// A round from draw `first` on: `k`eep, all `c`orrect, all `w`rong, `a`bstained but for one completion.
fn round(first: u64, kinds: &str) -> Vec<Drawn<char>> {
    kinds
        .chars()
        .zip(first..)
        .map(|(kind, draw)| {
            let metric = match kind {
                'k' => vec![Some(1.0), Some(0.0), Some(1.0)],
                'c' => vec![Some(1.0); 3],
                'w' => vec![Some(0.0); 3],
                'a' => vec![None, Some(1.0), None],
                other => panic!("{other} is no kind of group"),
            };
            Drawn { draw, group: kind, metric }
        })
        .collect()
}

fn adaptive(min: usize, max: usize, config: SamplerConfig) -> SamplerConfig {
    SamplerConfig { gen_batch: GenBatch::Adaptive, gen_batch_min: min, gen_batch_max: Some(max), ..config }
}

fn fixed(train_batch: usize, prompts: usize, max_gen_rounds: u32) -> SamplerConfig {
    SamplerConfig { train_batch, gen_batch: GenBatch::Fixed(prompts), max_gen_rounds, ..SamplerConfig::default() }
}

fn sampler(config: SamplerConfig) -> DynamicSampler<char> {
    DynamicSampler::new(config, 1000).unwrap()
}

fn draws(batch: &TakenBatch<char>) -> Vec<u64> {
    batch.groups.iter().map(|group| group.draw).collect()
}

#[test]
fn keeps_drawing_until_the_batch_is_full() {
    let mut sampler = sampler(fixed(3, 4, 10));
    sampler.push_round(round(0, "cwkw")).unwrap();
    assert_eq!((sampler.missing(), sampler.next_round()), (2, Some(4)));
    sampler.push_round(round(4, "kack")).unwrap();
    assert_eq!((sampler.missing(), sampler.next_round()), (0, None));
    let batch = sampler.take_batch().unwrap();
    assert_eq!(draws(&batch), [2, 4, 7]);
    assert!(batch.groups.iter().all(|group| group.verdict == GroupVerdict::Keep && group.age == 0));
    assert_eq!(batch.missing, 0);
    let dropped: Vec<_> = batch.dropped.iter().map(|group| (group.draw, group.verdict)).collect();
    let expected = [
        (0, GroupVerdict::AllCorrect),
        (1, GroupVerdict::AllIncorrect),
        (3, GroupVerdict::AllIncorrect),
        (5, GroupVerdict::Other),
        (6, GroupVerdict::AllCorrect),
    ];
    assert_eq!(dropped, expected);
    assert!(batch.dropped.iter().all(|group| group.reason == DropReason::Uninformative));
    let account = Account {
        rounds: 2,
        generated: 8,
        trained: 3,
        all_correct: 2,
        all_incorrect: 2,
        other: 1,
        ..Account::default()
    };
    assert_eq!(batch.account, account);
    assert_eq!(account.check(), Ok(()));
}

#[test]
fn carries_surplus_for_one_step_and_then_lets_it_expire() {
    let mut sampler = sampler(fixed(2, 6, 10));
    sampler.push_round(round(0, "kkkkkk")).unwrap();
    let first = sampler.take_batch().unwrap();
    assert_eq!(draws(&first), [0, 1]);
    assert_eq!((first.account.carried_out, first.account.expired), (4, 0));

    // The next step is full from the start and draws nothing.
    assert_eq!(sampler.next_round(), None);
    let second = sampler.take_batch().unwrap();
    assert_eq!(second.groups.iter().map(|group| (group.draw, group.age)).collect::<Vec<_>>(), [(2, 1), (3, 1)]);
    let account = Account { carried_in: 4, trained: 2, expired: 2, ..Account::default() };
    assert_eq!(second.account, account);
    let expired: Vec<_> = second.dropped.iter().map(|group| (group.draw, group.age, group.reason)).collect();
    assert_eq!(expired, [(4, 1, DropReason::Expired), (5, 1, DropReason::Expired)]);
    assert_eq!(sampler.missing(), 2);
}

#[test]
fn carried_groups_come_before_this_steps() {
    let mut sampler = sampler(fixed(2, 3, 10));
    sampler.push_round(round(0, "kkk")).unwrap();
    sampler.take_batch().unwrap();
    assert_eq!((sampler.missing(), sampler.next_round()), (1, Some(3)));
    sampler.push_round(round(3, "wkk")).unwrap();
    let batch = sampler.take_batch().unwrap();
    assert_eq!(batch.groups.iter().map(|group| (group.draw, group.age)).collect::<Vec<_>>(), [(2, 1), (4, 0)]);
    assert_eq!((batch.account.carried_in, batch.account.carried_out), (1, 1));
}

#[test]
fn discards_surplus_where_asked() {
    let mut sampler = sampler(SamplerConfig { surplus: SurplusPolicy::Discard, ..fixed(2, 4, 10) });
    sampler.push_round(round(0, "kwkk")).unwrap();
    let batch = sampler.take_batch().unwrap();
    assert_eq!((batch.account.discarded, batch.account.carried_out), (1, 0));
    assert_eq!(batch.dropped[1].reason, DropReason::Discarded);
    assert_eq!(batch.dropped[1].verdict, GroupVerdict::Keep);
    assert_eq!(sampler.missing(), 2);
}

#[test]
fn an_exhausted_step_trains_short() {
    let mut sampler = sampler(fixed(4, 2, 2));
    sampler.push_round(round(0, "kw")).unwrap();
    sampler.push_round(round(2, "wk")).unwrap();
    assert_eq!((sampler.missing(), sampler.next_round()), (2, None));
    let batch = sampler.take_batch().unwrap();
    assert_eq!((draws(&batch), batch.missing), (vec![0, 3], 2));
}

#[test]
fn an_exhausted_step_fails_where_asked_and_stays_as_it_is() {
    let mut sampler = sampler(SamplerConfig { on_exhausted: OnExhausted::Error, ..fixed(4, 4, 1) });
    sampler.push_round(round(0, "kwac")).unwrap();
    let before = sampler.clone();
    let error = sampler.take_batch().unwrap_err();
    assert!(matches!(error, SamplerError::Exhausted(_)));
    assert_eq!(
        error.to_string(),
        "take_batch: 1 of 4 groups were kept after 1 rounds of 4 prompts; dropped: 1 all correct, 1 all incorrect, \
         1 other, whose acc was 0 to 1, 0.571 on average (7 completions, 2 abstained)"
    );
    assert_eq!(sampler, before);
}

#[test]
fn an_exhausted_step_fills_up_with_dropped_groups_that_have_a_baseline() {
    let mut sampler = sampler(SamplerConfig { on_exhausted: OnExhausted::KeepZeroStd, ..fixed(3, 5, 1) });
    sampler.push_round(round(0, "awkwc")).unwrap();
    let batch = sampler.take_batch().unwrap();
    let verdicts: Vec<_> = batch.groups.iter().map(|group| (group.draw, group.verdict)).collect();
    assert_eq!(verdicts, [(2, GroupVerdict::Keep), (1, GroupVerdict::AllIncorrect), (3, GroupVerdict::AllIncorrect)]);
    assert_eq!(batch.dropped.iter().map(|group| group.draw).collect::<Vec<_>>(), [0, 4]);
    let account = Account {
        rounds: 1,
        generated: 5,
        trained: 1,
        all_correct: 1,
        all_incorrect: 2,
        other: 1,
        filled: 2,
        ..Account::default()
    };
    assert_eq!((batch.account, batch.missing), (account, 0));
    assert_eq!(account.check(), Ok(()));
}

#[test]
fn filling_up_with_too_few_groups_trains_short() {
    let mut sampler = sampler(SamplerConfig { on_exhausted: OnExhausted::KeepZeroStd, ..fixed(3, 3, 1) });
    sampler.push_round(round(0, "aaw")).unwrap();
    let batch = sampler.take_batch().unwrap();
    assert_eq!((draws(&batch), batch.missing, batch.account.filled), (vec![2], 2, 1));
}

#[test]
fn a_full_batch_is_not_filled() {
    let mut sampler = sampler(SamplerConfig { on_exhausted: OnExhausted::KeepZeroStd, ..fixed(2, 4, 1) });
    sampler.push_round(round(0, "wkwk")).unwrap();
    let batch = sampler.take_batch().unwrap();
    assert_eq!((draws(&batch), batch.account.filled), (vec![1, 3], 0));
}

#[test]
fn nothing_kept_is_an_error_that_tells_the_rewards() {
    let mut solved = sampler(fixed(2, 2, 1));
    solved.push_round(round(0, "cc")).unwrap();
    let error = solved.take_batch().unwrap_err();
    assert!(matches!(error, SamplerError::NothingKept(_)));
    assert_eq!(
        error.to_string(),
        "take_batch: nothing to train on: 0 of 2 groups were kept after 1 rounds of 2 prompts; dropped: \
         2 all correct, 0 all incorrect, 0 other, whose acc was 1 to 1, 1.000 on average (6 completions, 0 abstained)"
    );

    let mut ungraded = sampler(SamplerConfig { on_exhausted: OnExhausted::KeepZeroStd, ..fixed(1, 1, 1) });
    ungraded.push_round(vec![Drawn { draw: 0, group: 'n', metric: vec![None; 4] }]).unwrap();
    let error = ungraded.take_batch().unwrap_err().to_string();
    assert!(
        error.ends_with("0 all incorrect, 1 other, whose acc was never graded (4 completions abstained)"),
        "{error}"
    );
}

#[test]
fn a_cap_of_zero_is_one_pass_over_the_data() {
    let mut sampler = DynamicSampler::new(fixed(4, 4, 0), 10).unwrap();
    sampler.push_round(round(0, "wwww")).unwrap();
    sampler.push_round(round(4, "kwww")).unwrap();
    assert_eq!(sampler.next_round(), Some(2));
    sampler.push_round(round(8, "ww")).unwrap();
    assert_eq!(sampler.next_round(), None);
    assert_eq!(draws(&sampler.take_batch().unwrap()), [4]);
    assert_eq!(sampler.next_round(), Some(4), "the next step has a pass of its own");
}

#[test]
fn without_filtering_a_step_is_one_round_and_keeps_every_group_with_a_baseline() {
    let config = SamplerConfig { enabled: false, on_exhausted: OnExhausted::Error, ..fixed(5, 24, 10) };
    let mut sampler = sampler(config);
    assert_eq!(sampler.next_round(), Some(5));
    sampler.push_round(round(0, "wkcak")).unwrap();
    assert_eq!(sampler.next_round(), None);
    let batch = sampler.take_batch().unwrap();
    assert_eq!((draws(&batch), batch.missing), (vec![0, 1, 2, 4], 1));
    let account = Account { rounds: 1, generated: 5, trained: 4, other: 1, ..Account::default() };
    assert_eq!(batch.account, account);
}

#[test]
fn adaptive_rounds_follow_the_keep_rate_within_bounds() {
    let mut sampler = sampler(adaptive(2, 20, fixed(8, 1, 4)));
    assert_eq!(sampler.next_round(), Some(8), "a rate of 1/2 before the first round");
    sampler.push_round(round(0, "kwwwwwww")).unwrap();
    assert_eq!(sampler.next_round(), Some(17), "7 missing at (1+1)/(8+2): half of 35");
    sampler.push_round(round(8, "wwwwwwwwwwwwwwwww")).unwrap();
    assert_eq!(sampler.next_round(), Some(20), "7 missing at (1+1)/(25+2): half of 94.5, and 20 at most");
    sampler.push_round(round(25, "kkkkkkwwwwwwwwwwwwww")).unwrap();
    assert_eq!(sampler.next_round(), Some(6), "late: 1 missing at (6+1)/(37+2); the first round is forgotten");
    sampler.push_round(round(45, "kkwwww")).unwrap();
    sampler.take_batch().unwrap();
    assert_eq!((sampler.missing(), sampler.next_round()), (7, Some(17)), "7 missing at (8+1)/(43+2): half of 35");
}

#[test]
fn draws_no_surplus_while_half_of_the_groups_are_kept() {
    let mut sampler = sampler(adaptive(1, 100, fixed(16, 1, 10)));
    let mut draw = 0;
    for step in 0..20 {
        while let Some(prompts) = sampler.next_round() {
            assert!(prompts <= sampler.missing(), "step {step}");
            // Every other group is kept, the larger half of an odd number.
            let verdicts: String = (0..prompts).map(|i| if i % 2 == 0 { 'k' } else { 'w' }).collect();
            sampler.push_round(round(draw, &verdicts)).unwrap();
            draw += prompts as u64;
        }
        let account = sampler.take_batch().unwrap().account;
        assert_eq!((account.trained, account.carried_out, account.carried_in), (16, 0, 0), "step {step}");
    }
}

#[test]
fn a_step_without_a_group_to_train_on_can_be_skipped() {
    let mut sampler = sampler(fixed(2, 3, 2));
    sampler.push_round(round(0, "ccw")).unwrap();
    assert_eq!(sampler.skip_step(), Err(SamplerError::Unfinished { missing: 2, prompts: 3 }));
    sampler.push_round(round(3, "ccc")).unwrap();
    assert_eq!(sampler.dropped().len(), 6);
    assert!(matches!(sampler.take_batch(), Err(SamplerError::NothingKept(_))));
    let skipped = sampler.skip_step().unwrap();
    assert_eq!((skipped.groups.len(), skipped.dropped.len(), skipped.missing), (0, 6, 2));
    assert_eq!((skipped.account.generated, skipped.account.all_correct, skipped.account.all_incorrect), (6, 5, 1));
    assert!(skipped.account.check().is_ok());
    assert_eq!(sampler.next_round(), Some(3), "the next step begins");
    sampler.push_round(round(6, "kwc")).unwrap();
    sampler.push_round(round(9, "wwc")).unwrap();
    let refused = sampler.skip_step();
    assert!(matches!(refused, Err(SamplerError::Unfinished { .. })), "there is a group to train on: {refused:?}");
}

#[test]
fn small_adaptive_rounds_stay_above_the_lower_bound() {
    let config = adaptive(4, 20, fixed(1, 1, 10));
    assert_eq!(sampler(config).next_round(), Some(4));
}

#[test]
fn taking_an_unfinished_batch_is_an_error() {
    let mut sampler = sampler(fixed(2, 4, 10));
    let error = sampler.take_batch().unwrap_err();
    assert_eq!(error, SamplerError::Unfinished { missing: 2, prompts: 4 });
    assert_eq!(error.to_string(), "take_batch: 2 groups are missing, expected a round of 4 more prompts first");
}

#[test]
fn a_faulty_round_is_refused_and_changes_nothing() {
    let mut sampler = sampler(fixed(4, 2, 10));
    sampler.push_round(round(5, "kw")).unwrap();
    let before = sampler.clone();
    let twice = round(9, "kk").into_iter().map(|drawn| Drawn { draw: 9, ..drawn }).collect();
    let nan = vec![round(7, "k").remove(0), Drawn { draw: 8, group: 'n', metric: vec![None, Some(f64::NAN)] }];
    for (faulty, message) in [
        (round(7, "k"), "push_round: the round has 1 groups, expected 2"),
        (round(7, ""), "push_round: the round has 0 groups, expected 2"),
        (round(6, "kw"), "push_round: draw index 6 is used twice or too low, expected distinct indices from 7 on"),
        (twice, "push_round: draw index 9 is used twice or too low, expected distinct indices from 7 on"),
        (nan, "push_round: completion 1 of draw 8 has the metric NaN, expected a finite number"),
    ] {
        assert_eq!(sampler.push_round(faulty).unwrap_err().to_string(), message);
        assert_eq!(sampler, before);
    }
    sampler.push_round(round(7, "kk")).unwrap();
    sampler.push_round(round(9, "kk")).unwrap();
    let error = sampler.push_round(round(11, "k")).unwrap_err();
    assert_eq!(error, SamplerError::RoundSize { got: 1, expected: 0 });
}

#[test]
fn new_settings_hold_from_the_next_step_and_drop_what_they_would_not_carry() {
    let carry = |max_age| SamplerConfig { surplus: SurplusPolicy::Carry, max_age, ..fixed(1, 4, 10) };
    let mut sampler = sampler(carry(3));
    sampler.push_round(round(0, "kkkk")).unwrap();
    assert_eq!(sampler.reconfigure(carry(1)), Err(SamplerError::MidStep { rounds: 1 }));
    sampler.take_batch().unwrap();
    sampler.take_batch().unwrap();
    // Draws 2 and 3 now have age 2.
    assert!(sampler.reconfigure(SamplerConfig { train_batch: 0, ..carry(1) }).is_err());
    let mut discarding = sampler.clone();

    sampler.reconfigure(carry(1)).unwrap();
    assert_eq!((sampler.missing(), sampler.config()), (1, &carry(1)));
    sampler.push_round(round(4, "kwww")).unwrap();
    let batch = sampler.take_batch().unwrap();
    assert_eq!((batch.account.carried_in, batch.account.expired), (2, 2));
    assert_eq!(batch.account.check(), Ok(()));

    discarding.reconfigure(SamplerConfig { surplus: SurplusPolicy::Discard, ..carry(1) }).unwrap();
    discarding.push_round(round(4, "kwww")).unwrap();
    let batch = discarding.take_batch().unwrap();
    assert_eq!((batch.account.carried_in, batch.account.discarded), (2, 2));
    assert_eq!(batch.account.check(), Ok(()));
}

#[test]
fn an_empty_data_set_is_an_error() {
    let error = DynamicSampler::<()>::new(SamplerConfig::default(), 0).unwrap_err();
    assert_eq!(error.to_string(), "dataset_len is 0, expected a data set of at least 1 prompt");
}

#[test]
fn accounts_and_verdicts_are_read_under_their_earlier_names() {
    let written = serde_json::to_string(&Account { all_incorrect: 3, ..Account::default() }).unwrap();
    let earlier = written.replace("all_incorrect", "all_wrong");
    assert_ne!(earlier, written);
    assert_eq!(serde_json::from_str::<Account>(&earlier).unwrap().all_incorrect, 3);
    assert_eq!(serde_json::from_str::<GroupVerdict>("\"all_wrong\"").unwrap(), GroupVerdict::AllIncorrect);
    assert_eq!(serde_json::to_string(&GroupVerdict::AllIncorrect).unwrap(), "\"all_incorrect\"");
}
