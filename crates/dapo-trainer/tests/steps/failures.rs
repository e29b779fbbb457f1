//! Steps that fail or find nothing to train on, and what is kept of a trainer then.

use crate::{MAX_NEW_TOKENS, config, model, prompts, rewards, trainer};
use dapo_data::Prompt;
use dapo_loss::{Denominator, LossConfig, LossError};
use dapo_policy::{GenerationConfig, Gradients, SamplingConfig, StopTokens};
use dapo_reward::{Accuracy, RewardError, RewardSum, TagCount};
use dapo_sampler::{FilterMetric, GenBatch, OnExhausted, SamplerConfig};
use dapo_trainer::{
    Fate, OptimizerConfig, Trainer, TrainerConfig, TrainerError, TrainingGroup, TrainingSequence, Update, accumulate,
    pack, roll_out,
};

#[test]
fn a_step_that_fails_leaves_the_trainer_as_it_was() {
    /// Fails on purpose, by a reward that is not a number, from its given call on.
    #[derive(Debug)]
    struct Failing(std::sync::atomic::AtomicUsize);
    impl dapo_reward::RewardFn for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }
        fn score(&self, _: &dapo_reward::RewardInput<'_>) -> Result<dapo_reward::Score, dapo_reward::RewardFault> {
            let order = std::sync::atomic::Ordering::SeqCst;
            let left = self.0.fetch_update(order, order, |left| Some(left.saturating_sub(1))).unwrap();
            Ok(dapo_reward::Score::value(if left == 0 { f64::NAN } else { 0.0 }))
        }
    }
    let with = |calls| {
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let failing = Failing(std::sync::atomic::AtomicUsize::new(calls));
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(failing))]).unwrap();
        Trainer::new(policy, tokenizer, prompts, rewards, config()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    // The first step scores 12 groups of 4; the third one draws again.
    let (mut failing, mut sound) = (with(50), with(usize::MAX));
    let mut steps = 0;
    let error = loop {
        match failing.step() {
            Ok(_) => steps += 1,
            Err(error) => break error,
        }
    };
    assert!(steps > 0 && failing.is_whole(), "{error}");
    // It names the function and the sample whose value is not a number.
    let TrainerError::Reward(RewardError::NotFinite { component, draw, sample, value }) = &error else {
        panic!("{error}")
    };
    assert!(component == "failing" && *draw > 0 && *sample < 4 && value.is_nan(), "{error}");
    for _ in 0..steps {
        sound.step().unwrap();
    }
    failing.save(&folder.path().join("failing"), "tiny").unwrap();
    sound.save(&folder.path().join("sound"), "tiny").unwrap();
    for file in ["trainer.json", "optimizer.safetensors", "model/model.safetensors"] {
        let read = |name: &str| std::fs::read(folder.path().join(name).join(file)).unwrap();
        assert!(read("failing") == read("sound"), "{file}");
    }
}

#[test]
fn a_step_that_fails_between_two_updates_cannot_be_saved() {
    // The first update destroys the weights.
    let optimizer = OptimizerConfig { lr: 1e30, warmup_steps: 0, ..OptimizerConfig::default() };
    let mut trainer = trainer(TrainerConfig { optimizer, mini_batches: 2, ..config() });
    assert!(trainer.is_whole());
    let error = trainer.step().unwrap_err();
    assert!(!trainer.is_whole(), "{error}");
    assert!(
        matches!(error, TrainerError::Diverged { update: 1, step: Some(1), norm } if norm.is_nan() || norm > 1e9),
        "{error}"
    );
    let trained = trainer.failed_groups().iter().filter(|record| record.fate.is_trained());
    let samples: Vec<_> = trained.flat_map(|record| &record.group.samples).collect();
    assert!(samples.len() >= 4 && samples.iter().all(|sample| sample.advantage.is_some()));
    let folder = tempfile::tempdir().unwrap();
    let refused = trainer.save(&folder.path().join("checkpoint"), "tiny").unwrap_err();
    assert!(matches!(refused, TrainerError::Torn { step: 1 }), "{refused}");
}

#[test]
fn mastery_is_judged_by_correctness_and_by_enough_groups() {
    // Greedy to all intents: the completions of a group are alike, so that no group carries a signal.
    let alike = SamplingConfig { temperature: 1e-3, ..SamplingConfig::default() };
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let generation = GenerationConfig {
        max_new_tokens: MAX_NEW_TOKENS,
        sampling: SamplingConfig::GREEDY,
        ..GenerationConfig::new(StopTokens::of(policy.config(), &tokenizer))
    };
    let drawn: Vec<_> = (0..).zip(&prompts).collect();
    let greedy = roll_out(&policy, &tokenizer, &drawn, 1, &generation, &rewards(), 0).unwrap();
    let solved: Vec<Prompt> = prompts
        .iter()
        .zip(&greedy)
        .filter(|(_, group)| group.samples[0].reward.correct == Some(true))
        .map(|(prompt, _)| prompt.clone())
        .collect();
    assert!(!solved.is_empty(), "the model solves none of the problems");
    let unsolved = |prompt: &Prompt| Prompt { answer: "1000".into(), ..prompt.clone() };
    let end = |prompts: Vec<Prompt>, gen_batch: usize, metric: FilterMetric| {
        let (policy, tokenizer) = model();
        let sampler = SamplerConfig {
            train_batch: 2,
            gen_batch: GenBatch::Fixed(gen_batch),
            max_gen_rounds: 2,
            metric,
            ..SamplerConfig::default()
        };
        let config = TrainerConfig { sampling: alike, sampler, ..config() };
        // Worth 1 whatever the answer: a metric above 0 does not mean that the answer is correct.
        let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(TagCount))]).unwrap();
        let mut trainer = Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap();
        let mut skipped = 0;
        loop {
            match trainer.step() {
                Ok(outcome) => {
                    assert_eq!((outcome.metrics.updates, outcome.trained().count()), (0, 0));
                    skipped += 1;
                    assert!(skipped < 20);
                }
                Err(TrainerError::NoSignal(end)) => return (end.ends_well, skipped),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let few = solved[..2].to_vec();
    assert_eq!(end(few, 2, FilterMetric::Acc), (true, 0), "as many groups as there are problems");
    let many: Vec<Prompt> = (0..20).map(|i| solved[i % solved.len()].clone()).collect();
    assert_eq!(end(many.clone(), 1, FilterMetric::Acc), (true, 3), "two groups a step, until they are four batches");
    let incorrect: Vec<Prompt> = many.iter().map(unsolved).collect();
    assert_eq!(end(incorrect.clone(), 4, FilterMetric::Acc), (false, 0));
    assert_eq!(end(incorrect, 4, FilterMetric::Component("tag_count".into())), (false, 0));
    let half: Vec<Prompt> =
        many.iter().enumerate().map(|(i, p)| if i % 2 == 0 { unsolved(p) } else { p.clone() }).collect();
    assert_eq!(end(half, 10, FilterMetric::Acc), (false, 0), "half of the problems are not mastered");
}

#[test]
fn the_loss_names_the_sample_it_refuses() {
    let (policy, _) = model();
    let sequence = |sample, old: f32| TrainingSequence {
        sample,
        token_ids: vec![5, 6, 7],
        old_logprobs: vec![-1.0, old, -1.0],
        advantage: 1.0,
        in_loss: sample != 4,
        ..TrainingSequence::default()
    };
    let group = |draw, sequences| TrainingGroup { draw, prompt_ids: vec![3, 4], sequences, ..TrainingGroup::default() };
    let groups = [
        group(11, vec![sequence(0, -1.0)]),
        group(12, vec![sequence(4, -1.0), sequence(5, -2.0), sequence(7, f32::NAN)]),
    ];
    let batch = &pack(&groups, 1000).unwrap()[0];
    let config = LossConfig::default();
    let denominator = Denominator::of_step(config.aggregation, &[3, 3, 3], config.empty_sequences).unwrap();
    let (mut gradients, mut update) = (Gradients::new(policy.parameters().len()), Update::default());
    let error = accumulate(&policy, batch, 1.0, &config, denominator, &mut gradients, &mut update).unwrap_err();
    let TrainerError::Loss { draw: Some(12), sample: Some(7), source } = &error else { panic!("{error:?}") };
    assert!(matches!(source, LossError::NonFinite { array: "old_logprobs", sequence: 2, position: 1, .. }), "{source}");
    assert_eq!(error.to_string(), format!("draw 12, sample 7: {source}"));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), source.to_string());
}

#[test]
fn a_step_with_too_few_groups_shows_all_of_them_where_that_is_an_error() {
    let sampler =
        SamplerConfig { train_batch: 12, max_gen_rounds: 1, on_exhausted: OnExhausted::Error, ..config().sampler };
    let mut trainer = trainer(TrainerConfig { sampler, ..config() });
    let Err(TrainerError::NoSignal(end)) = trainer.step() else { panic!("the batch is full, or another error") };
    let kept = end.groups.iter().filter(|record| record.fate == Fate::Kept).count();
    assert!(kept > 0 && kept == end.shortage.kept, "{end:?}");
    assert_eq!(end.groups.len(), 12);
    assert!(end.groups.is_sorted_by_key(|record| record.group.draw));
    assert!(!end.ends_well && !end.is_mastered() && trainer.is_whole());
    assert!(
        end.to_string().starts_with(&format!("too few groups to train on: {kept} of 12 groups were kept")),
        "{end}"
    );
}

/// Makes of a `trainer.json` what the second format had: with the numbers of carried groups that are in a file of their
/// own.
fn to_format_2(state: &mut serde_json::Value, checkpoint: &std::path::Path) {
    let bytes = std::fs::read(checkpoint.join("groups.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| {
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        let words: Vec<u32> = bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();
        words.into_iter()
    };
    let (mut lengths, mut tokens) = (words("lengths"), words("tokens"));
    let (mut logprobs, mut old) = (words("logprobs").map(f32::from_bits), words("old_logprobs").map(f32::from_bits));
    state["format"] = 2.into();
    for entry in state["sampler"]["kept"].as_array_mut().unwrap() {
        let group = &mut entry["group"];
        group["prompt"]["token_ids"] = tokens.by_ref().take(lengths.next().unwrap() as usize).collect();
        for sample in group["samples"].as_array_mut().unwrap() {
            let mut length = || lengths.next().unwrap() as usize;
            sample["completion"]["token_ids"] = tokens.by_ref().take(length()).collect();
            sample["completion"]["logprobs"] = logprobs.by_ref().take(length()).collect();
            match length() {
                0xFFFF_FFFF => {}
                length => sample["old_logprobs"] = old.by_ref().take(length).collect(),
            }
        }
    }
    assert!(lengths.len() + tokens.len() + logprobs.len() + old.len() == 0);
    std::fs::remove_file(checkpoint.join("groups.safetensors")).unwrap();
    std::fs::remove_file(checkpoint.join("manifest.json")).unwrap();
}

/// Makes of a `trainer.json` of the second format what the first had; gives the number of its groups.
fn to_format_1(state: &mut serde_json::Value) -> usize {
    const LISTS: [(&str, &str); 4] =
        [("completion", "completions"), ("text", "texts"), ("reward", "rewards"), ("kl_term", "kl_terms")];
    state["format"] = 1.into();
    let entries = state["sampler"]["kept"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        let mut group = serde_json::json!({ "prompt": entry["group"]["prompt"] });
        let samples = entry["group"]["samples"].as_array().unwrap();
        for (of, list) in LISTS {
            group[list] = samples.iter().filter_map(|sample| sample.get(of).cloned()).collect();
        }
        entry["group"] = group;
    }
    entries.len()
}

#[test]
fn checkpoints_of_earlier_formats_continue_to_the_bit() {
    for (kl_in_reward, format) in [(0.0, 1), (0.5, 1), (0.0, 2)] {
        let config = TrainerConfig { kl_in_reward, ..config() };
        let mut whole = trainer(config.clone());
        whole.step().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = folder.path().join("checkpoint");
        whole.save(&checkpoint, "tiny").unwrap();
        let file = checkpoint.join("trainer.json");
        let mut state = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        to_format_2(&mut state, &checkpoint);
        if format == 1 {
            assert!(to_format_1(&mut state) > 0, "no group was carried: nothing was shown");
        }
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();

        let mut resumed = trainer(config);
        let refused = resumed.restore(&checkpoint).unwrap_err().to_string();
        assert!(refused.contains("manifest.json: missing, expected the sizes and hashes"), "{refused}");
        resumed.restore_unverified(&checkpoint).unwrap();
        let (expected, found) = (whole.step().unwrap(), resumed.step().unwrap());
        assert_eq!(expected.metrics, found.metrics);
        assert_eq!(expected.groups, found.groups);
        assert!(found.groups.iter().any(|record| record.age > 0 && record.fate.is_trained()));

        let prompts = state["order"]["prompts"].take();
        state["order"]["prompts"] = u64::MAX.into();
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();
        let error = resumed.restore_unverified(&checkpoint).unwrap_err().to_string();
        let said = "trainer.json: an order of 18446744073709551615 prompts, expected one of the ";
        assert!(error.contains(said), "{error}");
        state["order"]["prompts"] = prompts;

        state["format"] = 4.into();
        std::fs::write(&file, serde_json::to_vec(&state).unwrap()).unwrap();
        let error = resumed.restore_unverified(&checkpoint).unwrap_err().to_string();
        assert!(error.ends_with("trainer.json: format 4, expected format 1 to 3"), "{error}");
    }
}

/// All files of a folder.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn damage_to_any_file_of_a_checkpoint_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("step-1");
    let mut whole = trainer(config());
    whole.step().unwrap();
    whole.save(&checkpoint, "tiny").unwrap();
    let refusal = || trainer(config()).restore(&checkpoint).unwrap_err().to_string();
    let files = files(&checkpoint);
    assert!(files.iter().any(|file| file.ends_with("groups.safetensors")) && files.len() > 8, "{files:?}");
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for bit in [0, bytes.len() * 8 / 3, bytes.len() * 8 - 1] {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(file, flipped).unwrap();
            let error = refusal();
            assert!(error.contains(name), "bit {bit} of {name}: {error}");
        }
        for cut in [0, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(file, &bytes[..cut]).unwrap();
            let error = refusal();
            assert!(error.contains(name), "{name} cut to {cut} bytes: {error}");
        }
        std::fs::remove_file(file).unwrap();
        assert!(refusal().contains(name), "{name} removed");
        std::fs::create_dir(file).unwrap();
        assert!(refusal().contains(name), "{name} replaced by a folder");
        std::fs::remove_dir(file).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    trainer(config()).restore(&checkpoint).unwrap();

    // A folder that is named as that of another step.
    let renamed = folder.path().join("step-2");
    std::fs::rename(&checkpoint, &renamed).unwrap();
    for error in [trainer(config()).restore(&renamed), trainer(config()).restore_unverified(&renamed)] {
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("that of step 1, expected that of step 2, as its folder is named"), "{error}");
    }
}

#[test]
fn kl_can_be_switched_on_and_off_and_on_again() {
    let folder = tempfile::tempdir().unwrap();
    let with_kl = |coef: f32, every: Option<u64>| {
        let mut config = config();
        config.loss.kl.coef = coef;
        config.reference_sync = dapo_trainer::ReferenceSync { every, mixup: 0.5 };
        trainer(config)
    };
    let kl = |trainer: &mut Trainer| trainer.step().unwrap().metrics.ref_kl;
    let checkpoint = |name: &str| folder.path().join(name);
    let mut plain = with_kl(0.0, None);
    plain.step().unwrap();
    plain.save(&checkpoint("plain"), "tiny").unwrap();
    // On: against the model that the run began with.
    let mut on = with_kl(0.1, None);
    on.restore(&checkpoint("plain")).unwrap();
    let against_start = kl(&mut on).unwrap();
    assert!(against_start > 0.0, "{against_start}");
    on.save(&checkpoint("on"), "tiny").unwrap();
    // Off, and the steps are those of a trainer that never had a reference.
    let mut off = with_kl(0.0, None);
    off.restore(&checkpoint("on")).unwrap();
    assert_eq!(kl(&mut off), None);
    // A following reference that stops stays where it was, also over checkpoints.
    let mut following = with_kl(0.1, Some(1));
    following.restore(&checkpoint("plain")).unwrap();
    following.step().unwrap();
    following.save(&checkpoint("following"), "tiny").unwrap();
    let mut stopped = with_kl(0.1, None);
    stopped.restore(&checkpoint("following")).unwrap();
    stopped.save(&checkpoint("stopped"), "tiny").unwrap();
    let reference = |name: &str| std::fs::read(checkpoint(name).join("reference.safetensors")).unwrap();
    assert!(reference("following") == reference("stopped"));
    assert!(!checkpoint("on").join("reference.safetensors").exists());
}
