//! Ranks that train as one: the same bytes at any number of them.

use crate::episodes::{calculator, of_turns};
use crate::{config, model, prompts, rewards};
use dapo_dist::{World, threads};
use dapo_loss::{Aggregation, Kl, LossConfig};
use dapo_policy::{LoraConfig, LoraTarget, WeightFormat};
use dapo_reward::{Accuracy, RewardFault, RewardFn, RewardInput, RewardSum, RewardTerm, Score};
use dapo_sampler::{GenBatch, PerPrompt, SamplerConfig};
use dapo_trainer::{
    CriticConfig, CriticLayers, GroupRecord, OptimizerConfig, ReferenceSync, Trainer, TrainerConfig, TrainerError,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SHARDS: usize = 4;

#[derive(Clone)]
struct Case {
    config: TrainerConfig,
    weights: WeightFormat,
    lora: bool,
    rewards: fn() -> RewardSum,
}

fn case(config: TrainerConfig) -> Case {
    Case { config: TrainerConfig { shards: SHARDS, ..config }, weights: WeightFormat::F32, lora: false, rewards }
}

fn in_bf16(config: TrainerConfig) -> Case {
    Case { weights: WeightFormat::Bf16, ..case(config) }
}

impl Case {
    fn trainer(&self) -> Trainer {
        let (mut policy, tokenizer) = model();
        if self.lora {
            let targets = vec![LoraTarget::Query, LoraTarget::Output, LoraTarget::Down];
            policy = policy.with_lora(&LoraConfig { rank: 4, alpha: 8.0, targets, rslora: false }, 3).unwrap();
        }
        policy.set_weight_format(self.weights).unwrap();
        let prompts = prompts(&tokenizer);
        Trainer::new(policy, tokenizer, prompts, (self.rewards)(), self.config.clone()).unwrap()
    }
}

/// Runs `work` on every rank of a world, and returns what it returns by rank.
fn on_ranks<T: Send>(size: usize, work: impl Fn(Arc<dyn World>) -> T + Sync) -> Vec<T> {
    let work = &work;
    thread::scope(|scope| {
        let ranks = threads::worlds(size, Duration::from_mins(2)).into_iter().map(|world| {
            scope.spawn(move || {
                let world: Arc<dyn World> = Arc::from(world);
                let value = work(Arc::clone(&world));
                world.finish().unwrap();
                value
            })
        });
        ranks.collect::<Vec<_>>().into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// What a run leaves: metrics and groups of each step, and the files of the checkpoint after the last.
#[derive(Clone, PartialEq)]
struct Trace {
    metrics: Vec<String>,
    groups: Vec<Vec<GroupRecord>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Trace {
    fn of(trainer: &mut Trainer, steps: usize) -> Self {
        let (mut metrics, mut groups) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            let outcome = trainer.step().unwrap();
            metrics.push(format!("{:?}", outcome.metrics));
            groups.push(outcome.groups);
        }
        Self { metrics, groups, files: saved(trainer) }
    }

    fn assert_is(&self, expected: &Self, what: &str) {
        for (step, (found, expected)) in self.metrics.iter().zip(&expected.metrics).enumerate() {
            assert_eq!(found, expected, "{what}: metrics of step {}", step + 1);
        }
        for (step, (found, expected)) in self.groups.iter().zip(&expected.groups).enumerate() {
            assert_eq!(found.len(), expected.len(), "{what}: groups of step {}", step + 1);
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{what}: groups of step {}", step + 1);
            }
        }
        assert!(self.files.keys().eq(expected.files.keys()), "{what}: {:?}", self.files.keys());
        for (file, bytes) in &self.files {
            assert!(*bytes == expected.files[file], "{what}: {file}");
        }
    }
}

/// The files of a checkpoint, which every rank writes in its turn.
fn saved(trainer: &mut Trainer) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("checkpoint");
    for rank in 0..trainer.world().size() {
        trainer.gather_moments(rank).unwrap();
        if rank == trainer.world().rank() {
            trainer.save(&checkpoint, "tiny").unwrap();
        }
    }
    let mut found = BTreeMap::new();
    list(&checkpoint, "", &mut found);
    found
}

fn list(dir: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            list(&path, &format!("{name}/"), found);
        } else {
            found.insert(name, std::fs::read(path).unwrap());
        }
    }
}

fn on_world(case: &Case, world: Arc<dyn World>) -> Trainer {
    let mut trainer = case.trainer();
    trainer.set_world(world).unwrap();
    trainer
}

/// Runs a case alone and at several sizes, and returns the run alone.
fn assert_same_at_any_size(name: &str, case: &Case, steps: usize) -> Trace {
    let alone = Trace::of(&mut case.trainer(), steps);
    for size in [1, 2, 4] {
        let traces = on_ranks(size, |world| Trace::of(&mut on_world(case, world), steps));
        for (rank, trace) in traces.iter().enumerate() {
            trace.assert_is(&alone, &format!("{name}, rank {rank} of {size}"));
        }
    }
    alone
}

fn carried(trace: &Trace) -> usize {
    trace.groups.iter().flatten().filter(|record| record.age > 0).count()
}

/// More groups a step than shards, so that a shard has several, and some are carried.
fn of_eleven() -> TrainerConfig {
    let sampler = SamplerConfig { train_batch: 11, gen_batch: GenBatch::Fixed(9), ..config().sampler };
    TrainerConfig { sampler, ..config() }
}

#[test]
fn full_weights_come_out_the_same_at_any_number_of_ranks() {
    let trace = assert_same_at_any_size("full weights", &case(of_eleven()), 6);
    assert!(carried(&trace) > 0, "no group was carried");
    let drawn: Vec<usize> = trace.groups.iter().map(Vec::len).collect();
    assert!(drawn.iter().any(|groups| *groups > 18), "no step drew again: {drawn:?}");
}

#[test]
fn adapters_and_a_kl_term_come_out_the_same_at_any_number_of_ranks() {
    let loss = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, ..LossConfig::default() };
    let updates = TrainerConfig { mini_batches: 2, updates_per_batch: 2, micro_batch_tokens: 90, loss, ..of_eleven() };
    let trace = assert_same_at_any_size("adapters", &Case { lora: true, ..case(updates) }, 6);
    assert!(carried(&trace) > 0, "no group was carried");
}

#[test]
fn kl_in_the_reward_and_more_completions_come_out_the_same_at_any_number_of_ranks() {
    let per_prompt = Some(PerPrompt { increment: 2, max_samples: 8 });
    let sampler = SamplerConfig { per_prompt, ..of_eleven().sampler };
    let with = |kl_in_reward| case(TrainerConfig { kl_in_reward, sampler: sampler.clone(), ..of_eleven() });
    for kl in [0.0, 0.1] {
        let trace = assert_same_at_any_size(&format!("KL {kl} in the reward"), &with(kl), 3);
        let sizes = trace.groups.iter().flatten().map(|record| record.group.samples.len());
        assert!(sizes.collect::<std::collections::BTreeSet<_>>().len() > 1, "all groups have one size");
    }
}

#[test]
fn losses_that_look_at_all_micro_batches_come_out_the_same_at_any_number_of_ranks() {
    let entropies = LossConfig { top_entropy_quantile: 0.5, entropy_coef: 0.01, ..LossConfig::default() };
    let local = LossConfig { aggregation: Aggregation::LocalTokenMean, ..LossConfig::default() };
    for (name, loss) in [("entropies", entropies), ("means of micro-batches", local)] {
        let config = TrainerConfig { loss, micro_batch_tokens: 120, mini_batches: 2, ..of_eleven() };
        assert_same_at_any_size(name, &case(config), 2);
    }
}

fn with_critic(layers: CriticLayers) -> TrainerConfig {
    let optimizer = OptimizerConfig { lr: 1e-3, warmup_steps: 0, ..OptimizerConfig::default() };
    let critic = CriticConfig { layers, optimizer, ..CriticConfig::default() };
    let sampler = SamplerConfig { enabled: false, ..of_eleven().sampler };
    TrainerConfig { critic: Some(critic), kl_in_reward: 0.02, mini_batches: 2, sampler, ..of_eleven() }
}

#[test]
fn critics_come_out_the_same_at_any_number_of_ranks() {
    for layers in [CriticLayers::Own, CriticLayers::Shared] {
        assert_same_at_any_size(&format!("{layers:?}"), &case(with_critic(layers)), 3);
    }
}

/// The f32 values of a file of weights.
fn values(file: &[u8]) -> Vec<f32> {
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    let bytes = tensors.iter().flat_map(|(_, tensor)| tensor.data().as_chunks().0);
    bytes.map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn weights_in_bf16_come_out_the_same_at_any_number_of_ranks() {
    let loss = LossConfig { kl: Kl { coef: 0.1, ..Kl::default() }, ..LossConfig::default() };
    let reference_sync = ReferenceSync { every: Some(2), mixup: 0.5 };
    let following = TrainerConfig { loss, reference_sync, ..of_eleven() };
    for (name, config, files) in [
        ("a reference that follows", following, &["model/model.safetensors", "reference.safetensors"][..]),
        ("own", with_critic(CriticLayers::Own), &["model/model.safetensors", "critic.safetensors"]),
        ("shared", with_critic(CriticLayers::Shared), &["model/model.safetensors"]),
    ] {
        let trace = assert_same_at_any_size(name, &in_bf16(config), 3);
        for file in files {
            // In f32: the lower halves are not 0.
            let values = values(&trace.files[*file]);
            let exact = values.iter().filter(|value| value.to_bits() & 0xffff != 0).count();
            assert!(exact > values.len() / 2, "{name}: {exact} of {} in {file}", values.len());
        }
    }
}

#[test]
fn a_rank_keeps_its_share_of_moments_and_of_f32_values() {
    for (config, models) in [(of_eleven(), 1), (with_critic(CriticLayers::Own), 2)] {
        for (case, bytes_a_value) in [(case(config.clone()), 8), (in_bf16(config), 12)] {
            let alone = case.trainer();
            let values = models * alone.policy().num_parameters() as u64;
            let of_head = if models == 2 { alone.policy().config().hidden_size as u64 + 1 } else { 0 };
            assert_eq!(alone.optimizer_bytes(), bytes_a_value * (values + of_head));
            for size in [2, 4] {
                let bytes = on_ranks(size, |world| on_world(&case, world).optimizer_bytes());
                assert_eq!(bytes.iter().sum::<u64>(), alone.optimizer_bytes());
                let most = bytes.into_iter().max().unwrap();
                assert!(most <= alone.optimizer_bytes() * 3 / (2 * size as u64), "{most} at {size} ranks");
            }
        }
    }
}

#[test]
fn episodes_come_out_the_same_at_any_number_of_ranks() {
    let rewards = || RewardSum::of(vec![RewardTerm::new(1.0, calculator())]).unwrap();
    let sampler = SamplerConfig { train_batch: 6, gen_batch: GenBatch::Fixed(9), ..of_turns().sampler };
    assert_same_at_any_size("episodes", &Case { rewards, ..case(TrainerConfig { sampler, ..of_turns() }) }, 3);
}

#[test]
fn a_run_continues_at_another_number_of_ranks() {
    assert_continues(&case(of_eleven()));
}

#[test]
fn weights_in_bf16_continue_at_another_number_of_ranks() {
    assert_continues(&in_bf16(with_critic(CriticLayers::Own)));
}

fn assert_continues(case: &Case) {
    let whole = Trace::of(&mut case.trainer(), 6);
    let folder = tempfile::tempdir().unwrap();
    let mut metrics = Vec::new();
    for (part, size) in [2, 4, 1].into_iter().enumerate() {
        let (before, after) = (folder.path().join(part.to_string()), folder.path().join((part + 1).to_string()));
        let of_ranks = on_ranks(size, |world| {
            let rank = world.rank();
            let mut trainer = on_world(case, world);
            if part > 0 {
                trainer.restore(&before).unwrap();
            }
            let trace = Trace::of(&mut trainer, 2);
            trainer.gather_moments(0).unwrap();
            if rank == 0 {
                trainer.save(&after, "tiny").unwrap();
            }
            trace
        });
        metrics.extend(of_ranks[0].metrics.clone());
        if part == 2 {
            assert!(of_ranks[0].files == whole.files, "the checkpoint differs");
        }
    }
    assert_eq!(metrics, whole.metrics);
}

#[test]
fn a_rank_saves_only_with_what_all_ranks_keep() {
    for case in [case(of_eleven()), in_bf16(of_eleven())] {
        saves_only_what_was_gathered(&case);
    }
}

fn saves_only_what_was_gathered(case: &Case) {
    let errors = on_ranks(2, |world| {
        let mut trainer = on_world(case, world);
        trainer.step().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let early = trainer.save(&folder.path().join("early"), "tiny");
        trainer.gather_moments(0).unwrap();
        if trainer.world().rank() == 0 {
            trainer.save(&folder.path().join("first"), "tiny").unwrap();
        }
        trainer.step().unwrap();
        let late = trainer.save(&folder.path().join("late"), "tiny");
        [early, late].map(|saved| saved.err().map(|error| error.to_string()))
    });
    let expected =
        "moments is those of one of several ranks, expected all of them: gather_moments brings them to one rank";
    for [early, late] in &errors {
        assert_eq!(early, late);
    }
    assert!(errors.iter().all(|[early, _]| early.as_deref() == Some(expected)), "{errors:?}");
}

#[test]
fn what_several_ranks_keep_is_not_divided_again() {
    let errors = on_ranks(2, |world| {
        let mut trainer = on_world(&in_bf16(of_eleven()), Arc::clone(&world));
        trainer.set_world(world).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.starts_with("moments is those of one of several ranks")), "{errors:?}");
}

#[test]
fn shards_change_an_update_by_rounding_alone() {
    let weights = |shards| {
        let config = TrainerConfig { shards, ..of_eleven() };
        let mut trainer = Case { config, ..case(of_eleven()) }.trainer();
        // A tensor is a handle on what the update changes.
        let weights = |trainer: &Trainer| -> Vec<f32> {
            let tensors = trainer.policy().trainable_tensors().unwrap();
            tensors.values().flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
        };
        let before = weights(&trainer);
        let metrics = trainer.step().unwrap().metrics;
        let moved: Vec<f32> = before.iter().zip(weights(&trainer)).map(|(before, after)| after - before).collect();
        (metrics, moved)
    };
    let ((one, moved), (four, moved_by_four)) = (weights(1), weights(4));
    let close = |a: Option<f64>, b: Option<f64>| (a.unwrap() - b.unwrap()).abs() <= 1e-6 * a.unwrap().abs();
    assert!(close(one.grad_norm, four.grad_norm), "{:?} and {:?}", one.grad_norm, four.grad_norm);
    assert!((one.loss.unwrap() - four.loss.unwrap()).abs() < 1e-9 && close(one.entropy, four.entropy));
    assert!(moved != moved_by_four, "the sums have one order");
    let length = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let apart: Vec<f32> = moved.iter().zip(&moved_by_four).map(|(a, b)| a - b).collect();
    assert!(length(&apart) < 0.02 * length(&moved), "{} of {}", length(&apart), length(&moved));
}

#[test]
fn a_world_above_the_shards_is_refused() {
    let errors = on_ranks(4, |world| {
        let mut trainer = Case { config: TrainerConfig { shards: 2, ..config() }, ..case(config()) }.trainer();
        trainer.set_world(world).unwrap_err().to_string()
    });
    for error in errors {
        assert_eq!(error, "shards is 2, expected a power of two of at least 4, the number of ranks");
    }
    let (policy, tokenizer) = model();
    let prompts = prompts(&tokenizer);
    let error = Trainer::new(policy, tokenizer, prompts, rewards(), TrainerConfig { shards: 6, ..config() });
    assert_eq!(error.unwrap_err().to_string(), "shards is 6, expected a power of two");
}

/// Is no number for one draw.
#[derive(Debug)]
struct NotANumber {
    of_draw: u64,
}

impl RewardFn for NotANumber {
    fn name(&self) -> &'static str {
        "not_a_number"
    }

    fn score(&self, input: &RewardInput<'_>) -> Result<Score, RewardFault> {
        Ok(Score::value(if input.draw == self.of_draw { f64::NAN } else { 0.0 }))
    }
}

#[test]
fn a_reward_that_fails_on_one_rank_fails_the_step_on_all_and_changes_nothing() {
    let failing = |of_draw| {
        RewardSum::new(vec![(1.0, Box::new(Accuracy::default())), (1.0, Box::new(NotANumber { of_draw }))]).unwrap()
    };
    let trainer = |of_draw: u64| {
        let (policy, tokenizer) = model();
        let prompts = prompts(&tokenizer);
        let config = TrainerConfig { shards: SHARDS, ..config() };
        Trainer::new(policy, tokenizer, prompts, failing(of_draw), config).unwrap()
    };
    let mut alone = trainer(u64::MAX);
    let mut states = vec![saved(&mut alone)];
    let mut draws = vec![0];
    for _ in 0..4 {
        let outcome = alone.step().unwrap();
        states.push(saved(&mut alone));
        draws.push(draws[draws.len() - 1] + outcome.metrics.dynamic_sampling.generated);
    }
    let failing_step = (1..4).find(|step| draws[*step] < draws[step + 1]).unwrap();
    let of_draw = draws[failing_step] + 2;
    let outcomes = on_ranks(4, |world| {
        let mut trainer = trainer(of_draw);
        trainer.set_world(world).unwrap();
        for _ in 0..failing_step {
            trainer.step().unwrap();
        }
        // Twice: the ranks still agree after the first failure.
        let first = trainer.step().unwrap_err().to_string();
        let error = trainer.step().unwrap_err();
        assert_eq!(error.to_string(), first);
        assert!(trainer.is_whole());
        (error, saved(&mut trainer))
    });
    let maker = (of_draw % 4) as usize;
    for (rank, (error, files)) in outcomes.into_iter().enumerate() {
        let TrainerError::Rank { rank: named, cause, .. } = &error else { panic!("{error}") };
        assert_eq!((*named, cause.is_some()), (maker, rank == maker));
        let text = error.to_string();
        assert!(text.starts_with(&format!("rank {maker}: ")) && text.contains("not_a_number"), "{text}");
        assert!(files == states[failing_step], "rank {rank} is not as it was");
    }
}

#[test]
fn weights_that_diverge_are_an_error_of_all_ranks_alike() {
    let optimizer = OptimizerConfig { lr: 1e30, warmup_steps: 0, ..OptimizerConfig::default() };
    let config = TrainerConfig { optimizer, mini_batches: 2, ..config() };
    for case in [case(config.clone()), in_bf16(config)] {
        let alone = case.trainer().step().unwrap_err().to_string();
        let outcomes = on_ranks(2, |world| {
            let mut trainer = on_world(&case, world);
            let error = trainer.step().unwrap_err();
            (error.to_string(), trainer.is_whole())
        });
        assert_eq!(outcomes, [(alone.clone(), false), (alone, false)]);
    }
}
