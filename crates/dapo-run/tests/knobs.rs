//! No setting is ignored: for every key there is a row that changes it and says what must change with it, and what must
//! not.
//!
//! A row names settings under which the key matters, two values, and the effect. Rows are judged on real runs of the
//! tiny model.
#![allow(clippy::unwrap_used)]

use dapo_policy::Compute;
use dapo_reward::RewardInput;
use dapo_run::{Layer, Run, RunFolder, resolve};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// What a change of the key must do to the run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    /// Other completions from the first step on.
    Rollout,
    /// Other weights on CPUs with AVX512-BF16; refused by others.
    Products,
    /// Another number of prompts drawn.
    Draws,
    /// The first step generates the same completions, and chooses or rewards or trains them otherwise.
    Update,
    /// Nothing but the evaluations.
    Evaluation,
    /// Another account of the groups that were dropped.
    Account,
    /// Other rewards for the same completions.
    Reward,
    /// More or fewer files, with the same content where both have them.
    Files,
    /// Other counts of problems.
    Counts,
    /// Nothing: the key bounds memory, or is for people.
    Nothing,
}
use Effect::{Account, Counts, Draws, Evaluation, Files, Nothing, Products, Reward, Rollout, Update};

/// `(key, settings under which it matters, one value, another value, effect)`.
type Row = (&'static str, &'static [&'static str], &'static str, &'static str, Effect);

const BASE: [&str; 11] = [
    "model.path=builtin:tiny",
    "data.train=[\"builtin:addition\"]",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=3",
    "rewards.soft_overlong.cache_len=12",
    "optimizer.lr=3e-4",
    "optimizer.warmup_steps=0",
    "train.steps=2",
    "train.mini_batches=2",
    "train.updates_per_batch=2",
];

const TEXT: &[&str] = &["rewards.accuracy.grader=text"];
const LORA: &[&str] = &["lora.rank=2"];
const KL: &[&str] = &["loss.kl.coef=0.5"];
/// On a CPU every ratio to the rollout is 1, which is outside of a band below 1.
const HALF: &[&str] = &["loss.rollout_correction.high=0.5", "optimizer.eps=1e-3"];
const EVAL: &[&str] = &["eval.every=1", "data.validation=[\"builtin:addition\"]", "eval.limit=12", "eval.samples=2"];
const SHORT: &[&str] = &["sampler.max_gen_rounds=1", "sampler.gen_batch=3", "sampler.on_exhausted=keep-zero-std"];
const PER_PROMPT: &[&str] = &["sampler.per_prompt.max_samples=8", "sampler.gen_batch=12"];
/// An incorrect answer scores 1: whether that is correct is a matter of the bound.
const SCORED: &[&str] =
    &["rewards.accuracy.correct=2", "rewards.accuracy.incorrect=1", "sampler.metric=score", "sampler.gen_batch=12"];
/// What the critic learns in a step shows in the advantages of the next.
const CRITIC: &[&str] = &["critic.optimizer={ lr = 1e-3, eps = 1e-5 }", "train.steps=3"];
const FALLING: &[&str] = &["critic.optimizer={ lr = 1e-3, schedule = 'cosine' }", "train.steps=3"];
const SHARED: &[&str] = &["critic.layers=shared"];
const SURPLUS: &[&str] = &["sampler.gen_batch=16", "train.steps=4"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("seed", &[], "0", "1", Rollout),
    ("algorithm", &[], "grpo", "rloo", Update),
    ("model.weights", &[], "f32", "bf16", Rollout),
    ("model.compute", &["model.weights=bf16"], "f32", "bf16", Products),
    ("lora.rank", &[], "", "2", Update),
    ("lora.alpha", LORA, "32", "8", Update),
    ("lora.rslora", LORA, "false", "true", Update),
    ("lora.targets", LORA, "[\"q_proj\", \"v_proj\"]", "[\"down_proj\"]", Update),
    ("data.train", &[], "[\"builtin:addition\"]", "[\"TWICE\"]", Rollout),
    ("data.validation", &["eval.every=1", "data.validation_split=0.1", "eval.limit=9000"], "[]", "[\"TWICE\"]", Evaluation),
    ("data.validation_split", &[], "0.0", "0.5", Rollout),
    ("data.limit", &[], "none", "50", Rollout),
    ("data.deduplicate", &["data.train=[\"TWICE\"]"], "true", "false", Counts),
    ("data.max_prompt_tokens", &[], "2048", "14", Rollout),
    ("data.system", &[], "\"\"", "\"1+1=\"", Rollout),
    ("data.suffix", &[], "\"\"", "\"17\"", Rollout),
    ("rollout.group_size", &[], "4", "5", Rollout),
    ("rollout.max_new_tokens", &[], "40", "30", Rollout),
    ("rollout.temperature", &[], "1.0", "0.7", Rollout),
    ("rollout.top_p", &[], "1.0", "0.8", Rollout),
    ("rollout.top_k", &[], "none", "2", Rollout),
    ("rollout.min_p", &[], "0.0", "0.3", Rollout),
    ("rollout.repetition_penalty", &[], "1.0", "1.3", Rollout),
    ("rollout.stop", &[], "[]", "[\"9\"]", Rollout),
    ("rollout.ignore_eos", &[], "false", "true", Rollout),
    ("rollout.cache_mib", &[], "2048", "1", Nothing),
    ("rollout.keep_activations_mib", &[], "2048", "0", Nothing),
    ("rollout.draft_tokens", &[], "3", "0", Nothing),
    ("sampler.dynamic", &["sampler.gen_batch=3"], "true", "false", Rollout),
    ("sampler.metric", &["sampler.gen_batch=12"], "acc", "soft_overlong", Update),
    ("sampler.tolerance", &["sampler.gen_batch=12", "sampler.metric=seq_reward"], "0.0", "2.2", Update),
    ("sampler.correct_above", SCORED, "0.0", "1.5", Account),
    ("sampler.train_batch", &["sampler.gen_batch=12"], "3", "2", Update),
    ("sampler.gen_batch", &[], "adaptive", "12", Rollout),
    ("sampler.gen_batch_min", &[], "1", "9", Rollout),
    ("sampler.gen_batch_max", &["sampler.train_batch=8"], "none", "2", Draws),
    ("sampler.max_gen_rounds", &["sampler.gen_batch=3", "sampler.train_batch=6"], "10", "2", Rollout),
    ("sampler.surplus", SURPLUS, "carry", "discard", Update),
    ("sampler.max_age", SURPLUS, "1", "3", Update),
    ("sampler.on_exhausted", SHORT, "train-short", "keep-zero-std", Update),
    ("sampler.per_prompt.max_samples", &["sampler.gen_batch=12"], "", "8", Rollout),
    ("sampler.per_prompt.increment", PER_PROMPT, "1", "4", Rollout),
    ("rewards.accuracy.weight", &[], "1.0", "0.25", Reward),
    ("rewards.accuracy.on_abstain", &[], "drop", "ignore", Reward),
    ("rewards.accuracy.correct", &[], "1.0", "2.0", Reward),
    ("rewards.accuracy.incorrect", &[], "-1.0", "0.0", Reward),
    ("rewards.accuracy.grader.name", &[], "math", "strict-box", Reward),
    ("rewards.accuracy.grader.profile.rules", &[], "auto", "boxed", Reward),
    ("rewards.accuracy.grader.profile.window", &[], "none", "3", Reward),
    ("rewards.accuracy.grader.profile.after_think", &[], "false", "true", Reward),
    ("rewards.accuracy.grader.precision", &[], "6", "2", Reward),
    ("rewards.accuracy.grader.ignore_case", TEXT, "true", "false", Reward),
    ("rewards.accuracy.grader.ignore_whitespace", TEXT, "true", "false", Reward),
    ("rewards.accuracy.grader.ignore_punctuation", TEXT, "true", "false", Reward),
    ("rewards.accuracy.grader.ignore_articles", TEXT, "true", "false", Reward),
    ("rewards.format.weight", &[], "1.0", "0.5", Reward),
    ("rewards.format.pattern", &["rewards.format.weight=1.0"], "think-answer", "think", Reward),
    ("rewards.tag_count.weight", &[], "1.0", "0.5", Reward),
    ("rewards.soft_overlong.weight", &[], "1.0", "0.5", Reward),
    ("rewards.soft_overlong.max_len", &[], "none", "24", Reward),
    ("rewards.soft_overlong.cache_len", &[], "12", "20", Reward),
    ("rewards.soft_overlong.penalty_factor", &[], "1.0", "2.0", Reward),
    ("rewards.soft_overlong.floor", &["rewards.soft_overlong.max_len=24"], "true", "false", Reward),
    ("rewards.proportional_overlong.weight", &[], "1.0", "0.5", Reward),
    ("rewards.proportional_overlong.threshold", &[], "none", "10", Reward),
    ("rewards.proportional_overlong.factor", &[], "0.5", "1.0", Reward),
    ("rewards.repetition.weight", &[], "1.0", "0.5", Reward),
    ("rewards.repetition.ngram_size", &[], "3", "2", Reward),
    ("rewards.repetition.max_penalty", &[], "-1.0", "-0.5", Reward),
    ("rewards.length.weight", &[], "1.0", "0.5", Reward),
    ("rewards.length.on_abstain", &["rewards.accuracy.on_abstain=ignore"], "drop", "ignore", Reward),
    ("rewards.length.min_incorrect", &[], "-1.0", "-2.0", Reward),
    ("rewards.length.max_incorrect", &[], "-0.5", "-0.25", Reward),
    ("rewards.length.min_correct", &[], "0.5", "0.25", Reward),
    ("rewards.length.max_correct", &[], "1.0", "2.0", Reward),
    ("rewards.length.max_len", &[], "1000", "100", Reward),
    ("rewards.length.unit", &[], "characters", "tokens", Reward),
    ("overlong.filter", &["rollout.max_new_tokens=28", "sampler.gen_batch=12"], "off", "mask", Update),
    ("overlong.filter", &["rollout.max_new_tokens=28", "sampler.gen_batch=12"], "mask", "drop", Update),
    ("advantage.baseline", &[], "mean", "leave-one-out", Update),
    ("advantage.scale", &[], "group", "batch", Update),
    ("advantage.scale", &[], "group", "none", Update),
    ("advantage.scale", &[], "batch", "whiten", Update),
    ("advantage.std", &[], "sample", "population", Update),
    ("advantage.eps", &[], "1e-6", "1.0", Update),
    ("loss.policy_loss.name", &[], "dapo", "cispo", Update),
    ("loss.policy_loss.clip.low", &[], "0.2", "0.01", Update),
    ("loss.policy_loss.clip.high", &[], "0.28", "0.01", Update),
    ("loss.policy_loss.dual_clip", &["train.updates_per_batch=8", "optimizer.lr=0.01", "train.steps=1"], "none", "1.05", Update),
    ("loss.policy_loss.tau_positive", &["loss.policy_loss=sapo"], "1.0", "2.0", Update),
    ("loss.policy_loss.tau_negative", &["loss.policy_loss=sapo"], "1.05", "2.0", Update),
    ("loss.aggregation.name", &[], "token-mean", "seq-mean-token-mean", Update),
    ("loss.aggregation.name", &["train.micro_batch_tokens=120"], "token-mean", "local-token-mean", Update),
    ("loss.aggregation.max_len", &["loss.aggregation=seq-mean-token-sum-norm", "optimizer.eps=1e-3"], "none", "400", Update),
    ("loss.empty_sequences", &["loss.aggregation=seq-mean-token-mean", "overlong.filter=mask", "rollout.max_new_tokens=28",
        "optimizer.eps=1e-3", "sampler.gen_batch=12"], "exclude", "count", Update),
    ("loss.entropy_coef", &[], "0.0", "0.1", Update),
    ("loss.top_entropy_quantile", &[], "1.0", "0.2", Update),
    ("loss.rollout_correction.level", HALF, "token", "off", Update),
    ("loss.rollout_correction.outside", HALF, "truncate", "mask", Update),
    ("loss.rollout_correction.low", &["optimizer.eps=1e-3"], "0.0", "1.5", Update),
    ("loss.rollout_correction.high", &["optimizer.eps=1e-3"], "2.0", "0.5", Update),
    ("loss.rollout_correction.reject.low", &[], "none", "1.5", Update),
    ("loss.rollout_correction.reject.high", &[], "none", "0.75", Update),
    ("loss.kl.coef", &[], "0.0", "0.5", Update),
    ("loss.kl.estimator", KL, "k3", "k2", Update),
    ("loss.kl.estimator", KL, "k3", "k3+", Update),
    ("loss.kl.times_ratio", KL, "false", "true", Update),
    ("rewards.kl_coef", &["train.steps=3"], "0.0", "0.5", Update),
    ("reference_sync.every", KL, "none", "1", Update),
    ("reference_sync.mixup", &["loss.kl.coef=0.5", "reference_sync.every=1"], "1.0", "0.5", Update),
    ("optimizer.lr", &[], "3e-4", "5e-4", Update),
    ("optimizer.warmup_steps", &[], "0", "10", Update),
    ("optimizer.warmup_ratio", &["optimizer.warmup_steps=", "optimizer.decay_steps=20"], "0.0", "0.5", Update),
    ("optimizer.schedule", &[], "constant", "linear", Update),
    ("optimizer.min_lr_ratio", &["optimizer.schedule=cosine"], "0.0", "0.5", Update),
    ("optimizer.decay_steps", &["optimizer.schedule=cosine"], "none", "20", Update),
    ("optimizer.beta1", &[], "0.9", "0.5", Update),
    ("optimizer.beta2", &[], "0.999", "0.9", Update),
    ("optimizer.eps", &[], "1e-8", "1e-3", Update),
    ("optimizer.weight_decay", &[], "0.1", "10.0", Update),
    ("optimizer.max_grad_norm", &["optimizer.eps=1e-3"], "1.0", "0.01", Update),
    ("critic.layers", CRITIC, "own", "shared", Update),
    ("critic.gamma", CRITIC, "1.0", "0.9", Update),
    ("critic.lambda", CRITIC, "1.0", "0.5", Update),
    ("critic.clip", CRITIC, "0.5", "1e-4", Update),
    ("critic.coef", SHARED, "0.5", "0.1", Update),
    ("critic.whiten", CRITIC, "true", "false", Update),
    ("critic.warmup_steps", CRITIC, "0", "1", Update),
    ("critic.optimizer.lr", CRITIC, "1e-3", "1e-2", Update),
    ("critic.optimizer.warmup_steps", CRITIC, "0", "10", Update),
    ("critic.optimizer.warmup_ratio", &["critic.optimizer.lr=1e-3", "critic.optimizer.decay_steps=20"], "0.0", "0.5", Update),
    ("critic.optimizer.schedule", CRITIC, "constant", "linear", Update),
    ("critic.optimizer.min_lr_ratio", FALLING, "0.0", "0.5", Update),
    ("critic.optimizer.decay_steps", FALLING, "none", "20", Update),
    ("critic.optimizer.beta1", CRITIC, "0.9", "0.5", Update),
    ("critic.optimizer.beta2", CRITIC, "0.999", "0.9", Update),
    ("critic.optimizer.eps", CRITIC, "1e-8", "1e-3", Update),
    ("critic.optimizer.weight_decay", CRITIC, "0.1", "10.0", Update),
    ("critic.optimizer.max_grad_norm", CRITIC, "1.0", "0.01", Update),
    ("train.steps", &[], "2", "3", Files),
    ("train.passes", &["train.steps=", "data.limit=6"], "1.0", "1.5", Files),
    ("train.updates_per_batch", &[], "2", "1", Update),
    ("train.mini_batches", &[], "2", "1", Update),
    ("train.min_mini_batch", &["sampler.gen_batch=3", "sampler.max_gen_rounds=1", "train.mini_batches=1"], "none", "1.0", Update),
    ("train.micro_batch_tokens", &[], "4096", "64", Nothing),
    ("train.shards", &[], "1", "4", Update),
    ("train.layer_memory", &[], "keep", "recompute", Nothing),
    ("eval.every", EVAL, "1", "2", Evaluation),
    ("eval.at_start", EVAL, "true", "false", Evaluation),
    ("eval.samples", EVAL, "2", "3", Evaluation),
    ("eval.temperature", EVAL, "1.0", "0.0", Evaluation),
    ("eval.top_p", EVAL, "0.7", "0.1", Evaluation),
    ("eval.top_k", EVAL, "none", "2", Evaluation),
    ("eval.min_p", EVAL, "0.0", "0.9", Evaluation),
    ("eval.repetition_penalty", EVAL, "1.0", "1.3", Evaluation),
    ("eval.stop", EVAL, "none", "[\"9\"]", Evaluation),
    ("eval.max_new_tokens", EVAL, "none", "20", Evaluation),
    ("eval.limit", EVAL, "12", "10", Evaluation),
    ("output.checkpoint_every", &[], "0", "1", Files),
    ("output.keep_checkpoints", &["output.checkpoint_every=1", "train.steps=3"], "0", "1", Files),
    ("output.checkpoint_minutes", &["output.checkpoint_every=2", "train.steps=3"], "none", "1e-9", Nothing),
    ("output.completions", &[], "true", "false", Files),
    ("output.trackers", &[], "[]", "[\"csv\", \"tensorboard\"]", Files),
    ("output.keep_best", EVAL, "", "eval/avg_at_k", Files),
    ("dist.timeout_s", &[], "600.0", "9.0", Nothing),
];

const GUARDS: &str = "src/guards.rs; and tests/endings.rs: a guard ends a run, which continues with a warning";

const RUNS: &str = "tests/environments.rs";
const WAYS: &str = "dapo-external's tests/environment.rs; tests/url.rs for what all servers share";
const TEMPLATES: &str = "dapo-trainer's src/conversation.rs";

/// Keys whose effect needs what a run of the tiny model does not have, and where it is tested instead.
const ELSEWHERE: &[(&str, &str)] = &[
    ("guards.kl", GUARDS),
    ("guards.max_kl", GUARDS),
    ("guards.ratio", GUARDS),
    ("guards.max_clipped", GUARDS),
    ("guards.entropy", GUARDS),
    ("guards.min_entropy", GUARDS),
    ("guards.rewards", GUARDS),
    ("guards.truncation", GUARDS),
    ("guards.accuracy", GUARDS),
    ("guards.min_accuracy_share", GUARDS),
    ("guards.steps", GUARDS),
    ("data.fields.prompt", "tests/own_data.rs: columns of other names"),
    ("data.fields.answer", "tests/own_data.rs: columns of other names"),
    ("data.fields.system", "tests/own_data.rs: columns of other names"),
    ("data.fields.choices", "tests/own_data.rs: columns of other names"),
    ("data.on_bad_line", "tests/own_data.rs: a file with bad lines"),
    ("env.command", RUNS),
    ("env.url", WAYS),
    ("env.python", WAYS),
    ("env.dir", RUNS),
    ("env.weight", RUNS),
    ("env.on_abstain", RUNS),
    ("env.max_turns", RUNS),
    ("env.max_turn_tokens", RUNS),
    ("env.max_context_tokens", RUNS),
    ("env.template", TEMPLATES),
    ("env.timeout_s", WAYS),
    ("env.on_error", RUNS),
    ("env.workers", WAYS),
    ("env.python_bin", WAYS),
    ("env.api_key_env", WAYS),
    ("env.deadline_s", WAYS),
    ("env.retries", WAYS),
    ("env.backoff_s", WAYS),
    ("rewards.correct", "tests/own_rewards.rs: all judges of settings use one grader"),
    ("loss.rollout_correction.reject.by", "dapo-loss's tests/formulas.rs: on a CPU every ratio is 1, its mean too"),
    ("model.path", "tests/runs.rs: a run from every kind of model"),
    ("output.token_logprobs", "tests/runs.rs: as many completions of a step as asked for have their tokens"),
    ("train.on_mastered", "tests/endings.rs: the three ways in which a run ends that has mastered its data"),
    ("model.revision", "dapo-hub's tests/hub"),
    ("model.device", "dapo-policy's tests/emulated_gpu.rs, and src/placement.rs"),
    ("data.enable_thinking", "dapo-policy's tests/tokenizer.rs, with Qwen3's own template"),
];

/// What a run left behind.
#[derive(Clone, Debug, PartialEq)]
struct Trace {
    /// Token counts and texts of the first step's completions.
    first_completions: Option<String>,
    metrics: Vec<serde_json::Value>,
    evaluations: String,
    weights: Vec<u8>,
    files: BTreeSet<String>,
    counts: dapo_run::ProblemCounts,
}

fn settings(data: &Path, context: &[&str], key: &str, value: &str) -> Vec<Layer> {
    let twice = data.to_string_lossy();
    let own = format!("{key}={value}");
    let all = BASE.iter().chain(context).copied().chain([own.as_str()]);
    all.map(|setting| Layer::Override(setting.replace("TWICE", &twice))).collect()
}

fn trace(layers: &[Layer]) -> Trace {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let settings = resolve(layers).unwrap();
    let mut run = Run::create(&settings, &path).unwrap_or_else(|error| panic!("{layers:?}: {error}"));
    run.evaluate_at_start().unwrap();
    while !run.is_finished() {
        run.step().unwrap_or_else(|error| panic!("{layers:?}: {error}"));
    }
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
    let completion = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {} {} {}\n", line["draw"], line["prompt"], line["sample"], line["completion"])
    };
    let first = fs::read_to_string(run.folder().completions_file(1)).ok();
    let (_, checkpoint) = run.folder().last_checkpoint().unwrap().unwrap();
    let weights = ["model/model.safetensors", "adapter/adapter_model.safetensors"];
    let weights = weights.iter().find_map(|file| fs::read(checkpoint.join(file)).ok()).unwrap();
    let mut files = BTreeSet::new();
    list(&path, &path, &mut files);
    Trace {
        first_completions: first.map(|text| text.lines().map(completion).collect()),
        metrics: read(RunFolder::METRICS).lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        evaluations: read(RunFolder::EVALUATIONS),
        weights,
        files,
        counts: run.counts(),
    }
}

fn list(root: &Path, dir: &Path, files: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}

/// Rewards of a few completions under settings.
fn rewards(layers: &[Layer]) -> Vec<Option<f64>> {
    let sum = resolve(layers).unwrap().config.reward_sum().unwrap();
    let completions = [
        ("<think>\na b c a b c a b\n</think>\n<answer>\n4\n</answer>", 18),
        ("<think>hm</think> the answer is 4", 30),
        ("####4", 45),
        ("####5 and a a a a a a", 33),
        ("\\boxed{4} after some words", 12),
    ];
    let judge = |(completion, num_tokens): (&str, usize)| {
        sum.score(&RewardInput::new("2+2=", completion, "4").with_num_tokens(num_tokens)).unwrap().total
    };
    // Answers in words: in other case, with other spaces, punctuation and articles.
    let worded = ["North Pole", "north Pole", "North  Pole", "North, Pole", "the North Pole"].map(|completion| {
        sum.score(&RewardInput::new("Where?", completion, "North Pole").with_num_tokens(9)).unwrap().total
    });
    // A decimal against a fraction.
    let rounded = ["####0.333333", "####0.33"]
        .map(|completion| sum.score(&RewardInput::new("1/3=", completion, "1/3").with_num_tokens(9)).unwrap().total);
    // A gold answer that cannot be read.
    let unreadable = sum.score(&RewardInput::new("?", "####4", "\\frac{1}{").with_num_tokens(9)).unwrap().total;
    completions.map(judge).into_iter().chain(worded).chain(rounded).chain([unreadable]).collect()
}

/// Why a run does not start.
fn refusal(layers: &[Layer]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let run = Run::create(&resolve(layers).unwrap(), &dir.path().join("run"));
    run.err().map_or_else(|| "it starts".into(), |error| error.to_string())
}

/// Some problems, each of them twice.
fn problems_twice() -> tempfile::NamedTempFile {
    let problem = |i: u64| {
        let (a, b, c) = (1 + i % 30, 1 + i * 7 % 29, 1 + i * 11 % 23);
        format!("{{\"question\": \"{a}+{b}+{c}=\", \"answer\": \"{}\"}}\n", a + b + c)
    };
    let lines: String = (0..40).map(problem).collect();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), lines.repeat(2)).unwrap();
    file
}

#[test]
fn every_key_has_the_effect_that_its_row_says() {
    let data = problems_twice();
    let mut jobs: HashMap<Vec<String>, Vec<Layer>> = HashMap::new();
    let name = |layers: &[Layer]| -> Vec<String> { layers.iter().map(|layer| format!("{layer:?}")).collect() };
    for (key, context, one, other, effect) in ROWS {
        for value in [one, other] {
            let is_refused = *effect == Products && value == other && !Compute::Bf16.is_supported();
            if *effect != Reward && !is_refused {
                let layers = settings(data.path(), context, key, value);
                jobs.insert(name(&layers), layers);
            }
        }
    }
    let traces: HashMap<Vec<String>, Trace> =
        jobs.into_par_iter().map(|(name, layers)| (name, trace(&layers))).collect();
    let mut wrong = Vec::new();
    for (key, context, one, other, effect) in ROWS {
        let (one, other) = (settings(data.path(), context, key, one), settings(data.path(), context, key, other));
        let holds = if *effect == Reward {
            let (a, b) = (rewards(&one), rewards(&other));
            a != b && a == rewards(&one)
        } else if *effect == Products && !Compute::Bf16.is_supported() {
            refusal(&other).contains("model.compute is \"bf16\", expected \"f32\" on this CPU")
        } else {
            let (a, b) = (&traces[&name(&one)], &traces[&name(&other)]);
            let same_start = a.first_completions == b.first_completions;
            let same_training = a.weights == b.weights && a.metrics == b.metrics;
            let same_evaluations = a.evaluations == b.evaluations;
            match effect {
                Products => a.weights != b.weights,
                Rollout => !same_start && a.weights != b.weights,
                Draws => ["dynamic_sampling/rounds", "dynamic_sampling/generated"]
                    .iter()
                    .any(|name| a.metrics[0][name] != b.metrics[0][name]),
                Account => same_start && a.weights == b.weights && a.metrics != b.metrics,
                Update => same_start && a.weights != b.weights,
                Evaluation => same_training && !same_evaluations && a.files == b.files,
                Files => {
                    let common = a.metrics.len().min(b.metrics.len());
                    a.files != b.files && a.metrics[..common] == b.metrics[..common]
                }
                Counts => a.counts != b.counts,
                Nothing => same_start && same_evaluations && close(&a.metrics, &b.metrics),
                Reward => unreachable!(),
            }
        };
        if !holds {
            wrong.push(format!("{key}: no {effect:?} between {:?} and {:?}", one.last(), other.last()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Equal up to rounding: sums may be taken in another order.
fn close(a: &[serde_json::Value], b: &[serde_json::Value]) -> bool {
    let numbers = |metrics: &[serde_json::Value]| -> Vec<(String, f64)> {
        let objects = metrics.iter().filter_map(serde_json::Value::as_object).flatten();
        objects.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    a.len() == b.len()
        && a.iter().zip(&b).all(|((name, x), (other, y))| name == other && (x - y).abs() <= 0.02 * x.abs().max(1e-2))
}

#[test]
fn every_key_has_a_row() {
    let rows: BTreeSet<&str> = ROWS.iter().map(|row| row.0).chain(ELSEWHERE.iter().map(|row| row.0)).collect();
    let keys: Vec<String> = dapo_run::keys().iter().map(|key| key.path.clone()).collect();
    let missing: Vec<&String> = keys.iter().filter(|key| !rows.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let unknown: Vec<&&str> = rows.iter().filter(|row| !keys.iter().any(|key| key == *row)).collect();
    assert!(unknown.is_empty(), "rows for keys that do not exist: {unknown:?}");
}
