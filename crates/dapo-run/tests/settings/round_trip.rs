//! Settings written and read again are the same settings.

use crate::Files;
use dapo_data::OnBadLine;
use dapo_external::{EnvConfig, OnError};
use dapo_loss::{
    AdvantageScale, Aggregation, Baseline, EmptySequences, ImportanceLevel, KlEstimator, Outside, PolicyLoss, RejectBy,
    RolloutCorrection, StdEstimator,
};
use dapo_policy::{Compute, LayerMemory, LoraTarget, WeightFormat};
use dapo_reward::{
    ExtractRule, FormatPattern, Grader, LengthUnit, OnAbstain, OverlongFilter, Profile, TextOptions, TurnTemplate,
    VerifyConfig,
};
use dapo_run::{Algorithm, GuardAction, Layer, RunConfig, Tracker, keys, recipes, resolve};
use dapo_sampler::{FilterMetric, GenBatch, OnExhausted, SurplusPolicy};
use dapo_trainer::{CriticConfig, CriticLayers, OnMastered, Schedule};
use proptest::prelude::*;
use serde::Serialize;
use std::fmt::{self, Write};
use std::rc::Rc;

/// Lines of a settings file, and what they set.
#[derive(Clone)]
struct Setting {
    lines: String,
    set: Rc<dyn Fn(&mut RunConfig)>,
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines)
    }
}

/// The keys that one option has in a file, and arbitrary values of it.
struct Choice {
    keys: Vec<&'static str>,
    values: BoxedStrategy<Setting>,
}

fn toml_of<T: Serialize>(value: &T) -> String {
    toml::Value::try_from(value).unwrap().to_string()
}

/// A number, text or list.
fn plain<T: Clone + fmt::Debug + Serialize + 'static>(
    key: &'static str,
    values: impl Strategy<Value = T> + 'static,
    set: fn(&mut RunConfig, T),
) -> Choice {
    let setting = move |value: T| {
        let lines = format!("{key} = {}\n", toml_of(&value));
        Setting { lines, set: Rc::new(move |config| set(config, value.clone())) }
    };
    Choice { keys: vec![key], values: values.prop_map(setting).boxed() }
}

/// A count, or what it is computed from.
fn either(
    count: &'static str,
    counts: impl Strategy<Value = u32> + 'static,
    set_count: fn(&mut RunConfig, u32),
    share: &'static str,
    set_share: fn(&mut RunConfig, f64),
) -> Choice {
    let (one, other) = (plain(count, counts, set_count), plain(share, number(), set_share));
    Choice { keys: vec![count, share], values: prop_oneof![one.values, other.values].boxed() }
}

/// One of some names.
fn one_of<T: Copy + fmt::Debug + 'static>(
    key: &'static str,
    names: &[(&'static str, T)],
    set: fn(&mut RunConfig, T),
) -> Choice {
    let setting = move |(name, value): (&'static str, T)| Setting {
        lines: format!("{key} = {name:?}\n"),
        set: Rc::new(move |config| set(config, value)),
    };
    Choice { keys: vec![key], values: prop::sample::select(names.to_vec()).prop_map(setting).boxed() }
}

fn guard_actions() -> [(&'static str, GuardAction); 3] {
    [("off", GuardAction::Off), ("warn", GuardAction::Warn), ("stop", GuardAction::Stop)]
}

fn count() -> impl Strategy<Value = usize> {
    prop_oneof![1..100_usize, (1..=u32::MAX).prop_map(|number| number as usize)]
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>().prop_filter("finite and not 0", |x| x.is_finite() && *x != 0.0), 1e-9..2.0]
}

fn single() -> impl Strategy<Value = f32> {
    prop_oneof![any::<f32>().prop_filter("finite and not 0", |x| x.is_finite() && *x != 0.0), 1e-9f32..2.0]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z/. ]{0,12}", Just("a\"b\\c\n\u{7}#=é".to_owned())]
        .prop_filter("not empty", |text| !text.is_empty())
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..4)
}

fn policy_loss() -> Choice {
    let clips = || (prop::option::of(single()), prop::option::of(single()));
    let losses = prop::sample::select(vec!["dapo", "ppo", "gspo", "cispo", "sapo", "gmpo"]);
    let values = (losses, clips(), prop::option::of(single()), clips(), any::<bool>());
    let setting = |(name, (low, high), c, (positive, negative), alone): (&'static str, _, _, _, bool)| {
        let mut loss: PolicyLoss = name.parse().unwrap();
        let mut lines = format!("loss.policy_loss.name = {name:?}\n");
        let mut put = |field: &str, value: Option<f32>, place: &mut f32| {
            if let Some(value) = value {
                writeln!(lines, "loss.policy_loss.{field} = {}", toml_of(&value)).unwrap();
                *place = value;
            }
        };
        match &mut loss {
            _ if alone => {}
            PolicyLoss::Sapo { tau_positive, tau_negative } => {
                put("tau_positive", positive, tau_positive);
                put("tau_negative", negative, tau_negative);
            }
            PolicyLoss::Ppo { clip, dual_clip } => {
                put("clip.low", low, &mut clip.low);
                put("clip.high", high, &mut clip.high);
                put("dual_clip", c, &mut 0.0);
                *dual_clip = c;
            }
            PolicyLoss::Gspo { clip } | PolicyLoss::Cispo { clip } | PolicyLoss::Gmpo { clip } => {
                put("clip.low", low, &mut clip.low);
                put("clip.high", high, &mut clip.high);
            }
            other => panic!("{other}"),
        }
        let lines = if alone { format!("loss.policy_loss = {name:?}\n") } else { lines };
        let set = move |config: &mut RunConfig| {
            config.loss.policy_loss = loss;
            config.loss.aggregation = loss.usual_aggregation();
        };
        Setting { lines, set: Rc::new(set) }
    };
    let fields = ["name", "clip.low", "clip.high", "dual_clip", "tau_positive", "tau_negative"];
    Choice { keys: below("loss.policy_loss", &fields), values: values.prop_map(setting).boxed() }
}

fn aggregation() -> Choice {
    let names =
        ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm", "local-token-mean"];
    let setting = |(name, max_len): (&'static str, Option<usize>)| {
        let mut lines = format!("loss.aggregation = {name:?}\n");
        if let Some(max_len) = max_len.filter(|_| name == "seq-mean-token-sum-norm") {
            lines = format!("loss.aggregation = {{ name = {name:?}, max_len = {max_len} }}\n");
        }
        let aggregation = Aggregation::from_name(name, max_len.unwrap_or(0)).unwrap();
        Setting { lines, set: Rc::new(move |config| config.loss.aggregation = aggregation) }
    };
    let values = (prop::sample::select(names.to_vec()), prop::option::of(count()));
    Choice { keys: below("loss.aggregation", &["name", "max_len"]), values: values.prop_map(setting).boxed() }
}

fn grader() -> Choice {
    let rules = [
        ("boxed", ExtractRule::Boxed),
        ("answer-line", ExtractRule::AnswerLine),
        ("hash", ExtractRule::Hash),
        ("answer-tag", ExtractRule::AnswerTag),
        ("answer-is", ExtractRule::AnswerIs),
        ("last-math", ExtractRule::LastMath),
        ("choice", ExtractRule::Choice),
        ("last-number", ExtractRule::LastNumber),
        ("whole", ExtractRule::Whole),
    ];
    let math = (prop::collection::vec(prop::sample::select(rules.to_vec()), 1..4), prop::option::of(count()))
        .prop_flat_map(|(rules, window)| (Just(rules), Just(window), any::<bool>(), any::<u32>()))
        .prop_map(|(rules, window, after_think, precision)| {
            let (names, rules): (Vec<&str>, Vec<ExtractRule>) = rules.into_iter().unzip();
            let window_line = window.map_or(String::new(), |window| format!("window = {window}, "));
            let profile = format!("{{ rules = {names:?}, {window_line}after_think = {after_think} }}");
            let line = format!("{{ name = \"math\", precision = {precision}, profile = {profile} }}");
            (line, Grader::Math(VerifyConfig { profile: Profile { rules, window, after_think }, precision }))
        });
    let text = any::<[bool; 4]>().prop_map(|[case, whitespace, punctuation, articles]| {
        let line = format!(
            "{{ name = \"text\", ignore_case = {case}, ignore_whitespace = {whitespace}, \
             ignore_punctuation = {punctuation}, ignore_articles = {articles} }}"
        );
        let options = TextOptions {
            ignore_case: case,
            ignore_whitespace: whitespace,
            ignore_punctuation: punctuation,
            ignore_articles: articles,
        };
        (line, Grader::Text(options))
    });
    let names = vec![
        ("\"math\"".to_owned(), Grader::default()),
        ("\"text\"".to_owned(), Grader::Text(TextOptions::default())),
        ("\"choice\"".to_owned(), Grader::Choice),
        ("\"dapo\"".to_owned(), Grader::Dapo),
        ("\"strict-box\"".to_owned(), Grader::StrictBox),
        ("\"dapo-or-box\"".to_owned(), Grader::DapoOrBox),
    ];
    let setting = |(line, grader): (String, Grader)| Setting {
        lines: format!("rewards.accuracy.grader = {line}\n"),
        set: Rc::new(move |config| config.rewards.accuracy.as_mut().unwrap().reward.grader = grader.clone()),
    };
    let fields = [
        "name",
        "precision",
        "profile.rules",
        "profile.window",
        "profile.after_think",
        "ignore_case",
        "ignore_whitespace",
        "ignore_punctuation",
        "ignore_articles",
    ];
    let values = prop_oneof![math, text, prop::sample::select(names)].prop_map(setting).boxed();
    Choice { keys: below("rewards.accuracy.grader", &fields), values }
}

fn below(table: &str, fields: &[&str]) -> Vec<&'static str> {
    let known = |field: &&str| {
        let path = format!("{table}.{field}");
        keys().iter().find(|key| key.path == path).unwrap_or_else(|| panic!("{path}")).path.as_str()
    };
    fields.iter().map(known).collect()
}

/// Every option of every library, and every one of a run.
#[rustfmt::skip]
#[allow(clippy::too_many_lines)]
fn choices() -> Vec<Choice> {
    let targets = LoraTarget::ALL.map(|target| (target.name(), target));
    vec![
        plain("seed", any::<u32>(), |c, v| c.seed = v.into()),
        plain("model.path", text(), |c, v| c.model.path = v),
        plain("model.revision", text(), |c, v| c.model.revision = v),
        plain("model.device", text(), |c, v| c.model.device = v),
        one_of("model.weights", &[("f32", WeightFormat::F32), ("bf16", WeightFormat::Bf16)], |c, v| c.model.weights = v),
        one_of("model.compute", &[("f32", Compute::F32), ("bf16", Compute::Bf16)], |c, v| c.model.compute = v),
        plain("lora.rank", count(), |c, v| c.lora.get_or_insert_default().rank = v),
        plain("lora.rslora", any::<bool>(), |c, v| c.lora.get_or_insert_default().rslora = v),
        plain("lora.alpha", number(), |c, v| c.lora.get_or_insert_default().alpha = v),
        Choice {
            keys: vec!["lora.targets"],
            values: prop::sample::subsequence(targets.to_vec(), 0..=7).prop_map(|chosen| {
                let (names, targets): (Vec<&str>, Vec<LoraTarget>) = chosen.into_iter().unzip();
                let set = move |c: &mut RunConfig| c.lora.get_or_insert_default().targets.clone_from(&targets);
                Setting { lines: format!("lora.targets = {names:?}\n"), set: Rc::new(set) }
            }).boxed(),
        },
        plain("data.train", texts(), |c, v| c.data.train = v),
        plain("data.validation", texts(), |c, v| c.data.validation = v),
        plain("data.validation_split", number(), |c, v| c.data.validation_split = v),
        plain("data.limit", count(), |c, v| c.data.limit = Some(v)),
        plain("data.deduplicate", any::<bool>(), |c, v| c.data.deduplicate = v),
        plain("data.max_prompt_tokens", count(), |c, v| c.data.max_prompt_tokens = v),
        one_of("data.on_bad_line", &[("error", OnBadLine::Error), ("skip", OnBadLine::Skip)],
            |c, v| c.data.on_bad_line = v),
        plain("data.fields.prompt", text(), |c, v| c.data.fields.prompt = Some(v)),
        plain("data.fields.answer", text(), |c, v| c.data.fields.answer = Some(v)),
        plain("data.fields.system", text(), |c, v| c.data.fields.system = Some(v)),
        plain("data.fields.choices", text(), |c, v| c.data.fields.choices = Some(v)),
        plain("data.system", text(), |c, v| c.data.style.system = Some(v)),
        plain("data.suffix", text(), |c, v| c.data.style.suffix = v),
        plain("data.enable_thinking", any::<bool>(), |c, v| c.data.style.enable_thinking = Some(v)),
        plain("rollout.group_size", count(), |c, v| c.rollout.group_size = v),
        plain("rollout.max_new_tokens", count(), |c, v| c.rollout.max_new_tokens = v),
        plain("rollout.temperature", single(), |c, v| c.rollout.sampling.temperature = v),
        plain("rollout.top_p", single(), |c, v| c.rollout.sampling.top_p = v),
        plain("rollout.top_k", count(), |c, v| c.rollout.sampling.top_k = Some(v)),
        plain("rollout.min_p", single(), |c, v| c.rollout.sampling.min_p = v),
        plain("rollout.repetition_penalty", single(), |c, v| c.rollout.sampling.repetition_penalty = v),
        plain("rollout.stop", texts(), |c, v| c.rollout.stop = v),
        plain("rollout.ignore_eos", any::<bool>(), |c, v| c.rollout.ignore_eos = v),
        plain("rollout.cache_mib", count(), |c, v| c.rollout.cache_mib = Some(v)),
        plain("rollout.keep_activations_mib", count(), |c, v| c.rollout.keep_activations_mib = Some(v)),
        plain("rollout.draft_tokens", count(), |c, v| c.rollout.draft_tokens = v),
        plain("sampler.dynamic", any::<bool>(), |c, v| c.sampler.enabled = v),
        plain("sampler.metric", prop_oneof![text(), Just("score".into())], |c, v| {
            c.sampler.metric = match v.as_str() {
                "score" => FilterMetric::Score,
                _ => FilterMetric::Component(v),
            };
        }),
        plain("sampler.tolerance", number(), |c, v| c.sampler.tolerance = v),
        plain("sampler.correct_above", number(), |c, v| c.sampler.correct_above = v),
        plain("sampler.train_batch", count(), |c, v| c.sampler.train_batch = v),
        plain("sampler.gen_batch", count(), |c, v| c.sampler.gen_batch = GenBatch::Fixed(v)),
        plain("sampler.gen_batch_min", count(), |c, v| c.sampler.gen_batch_min = v),
        plain("sampler.gen_batch_max", count(), |c, v| c.sampler.gen_batch_max = Some(v)),
        plain("sampler.max_gen_rounds", any::<u32>(), |c, v| c.sampler.max_gen_rounds = v),
        one_of("sampler.surplus", &[("carry", SurplusPolicy::Carry), ("discard", SurplusPolicy::Discard)],
            |c, v| c.sampler.surplus = v),
        plain("sampler.max_age", any::<u32>(), |c, v| c.sampler.max_age = v),
        one_of("sampler.on_exhausted", &[("error", OnExhausted::Error), ("train-short", OnExhausted::TrainShort),
            ("keep-zero-std", OnExhausted::KeepZeroStd)], |c, v| c.sampler.on_exhausted = v),
        plain("sampler.per_prompt.increment", count(),
            |c, v| c.sampler.per_prompt.get_or_insert_default().increment = v),
        plain("sampler.per_prompt.max_samples", count(),
            |c, v| c.sampler.per_prompt.get_or_insert_default().max_samples = v),
        plain("rewards.kl_coef", single(), |c, v| c.rewards.kl_coef = v),
        plain("rewards.correct", text(), |c, v| c.rewards.correct = Some(v)),
        plain("rewards.accuracy.weight", number(), |c, v| c.rewards.accuracy.as_mut().unwrap().weight = v),
        one_of("rewards.accuracy.on_abstain", &[("drop", OnAbstain::Drop), ("ignore", OnAbstain::Ignore)],
            |c, v| c.rewards.accuracy.as_mut().unwrap().on_abstain = v),
        one_of("rewards.length.on_abstain", &[("drop", OnAbstain::Drop), ("ignore", OnAbstain::Ignore)],
            |c, v| c.rewards.length.get_or_insert_default().on_abstain = v),
        plain("rewards.accuracy.correct", number(), |c, v| c.rewards.accuracy.as_mut().unwrap().reward.correct = v),
        plain("rewards.accuracy.incorrect", number(), |c, v| c.rewards.accuracy.as_mut().unwrap().reward.incorrect = v),
        grader(),
        plain("rewards.format.weight", number(), |c, v| c.rewards.format.get_or_insert_default().weight = v),
        one_of("rewards.format.pattern", &[("think-answer", FormatPattern::ThinkAnswer), ("think", FormatPattern::Think)],
            |c, v| c.rewards.format.get_or_insert_default().reward.pattern = v),
        plain("rewards.tag_count.weight", number(), |c, v| c.rewards.tag_count.get_or_insert_default().weight = v),
        plain("rewards.soft_overlong.weight", number(), |c, v| c.rewards.soft_overlong.get_or_insert_default().weight = v),
        plain("rewards.soft_overlong.max_len", count(),
            |c, v| c.rewards.soft_overlong.get_or_insert_default().reward.max_len = Some(v)),
        plain("rewards.soft_overlong.cache_len", count(),
            |c, v| c.rewards.soft_overlong.get_or_insert_default().reward.cache_len = Some(v)),
        plain("rewards.soft_overlong.penalty_factor", number(),
            |c, v| c.rewards.soft_overlong.get_or_insert_default().reward.penalty_factor = v),
        plain("rewards.soft_overlong.floor", any::<bool>(),
            |c, v| c.rewards.soft_overlong.get_or_insert_default().reward.floor = v),
        plain("rewards.proportional_overlong.weight", number(),
            |c, v| c.rewards.proportional_overlong.get_or_insert_default().weight = v),
        plain("rewards.proportional_overlong.threshold", count(),
            |c, v| c.rewards.proportional_overlong.get_or_insert_default().reward.threshold = Some(v)),
        plain("rewards.proportional_overlong.factor", number(),
            |c, v| c.rewards.proportional_overlong.get_or_insert_default().reward.factor = v),
        plain("rewards.repetition.weight", number(), |c, v| c.rewards.repetition.get_or_insert_default().weight = v),
        plain("rewards.repetition.ngram_size", count(),
            |c, v| c.rewards.repetition.get_or_insert_default().reward.ngram_size = v),
        plain("rewards.repetition.max_penalty", number(),
            |c, v| c.rewards.repetition.get_or_insert_default().reward.max_penalty = v),
        plain("rewards.length.weight", number(), |c, v| c.rewards.length.get_or_insert_default().weight = v),
        plain("rewards.length.min_incorrect", number(), |c, v| c.rewards.length.get_or_insert_default().reward.min_incorrect = v),
        plain("rewards.length.max_incorrect", number(), |c, v| c.rewards.length.get_or_insert_default().reward.max_incorrect = v),
        plain("rewards.length.min_correct", number(),
            |c, v| c.rewards.length.get_or_insert_default().reward.min_correct = v),
        plain("rewards.length.max_correct", number(),
            |c, v| c.rewards.length.get_or_insert_default().reward.max_correct = v),
        plain("rewards.length.max_len", count(), |c, v| c.rewards.length.get_or_insert_default().reward.max_len = v),
        one_of("rewards.length.unit", &[("characters", LengthUnit::Characters), ("tokens", LengthUnit::Tokens)],
            |c, v| c.rewards.length.get_or_insert_default().reward.unit = v),
        env_ways(),
        plain("env.weight", number(), |c, v| env(c).weight = v),
        one_of("env.on_abstain", &[("drop", OnAbstain::Drop), ("ignore", OnAbstain::Ignore)], |c, v| env(c).on_abstain = v),
        plain("env.max_turns", count(), |c, v| env(c).max_turns = v),
        plain("env.max_turn_tokens", count(), |c, v| env(c).max_turn_tokens = Some(v)),
        plain("env.max_context_tokens", count(), |c, v| env(c).max_context_tokens = v),
        one_of("env.template", &[("exact", TurnTemplate::Exact), ("turns", TurnTemplate::Turns), ("raw", TurnTemplate::Raw)],
            |c, v| env(c).template = v),
        plain("env.timeout_s", number(), |c, v| env(c).timeout_s = v),
        one_of("env.on_error", &[("stop", OnError::Stop), ("abstain", OnError::Abstain)], |c, v| env(c).on_error = v),
        plain("env.workers", count(), |c, v| env(c).workers = v),
        plain("env.python_bin", text(), |c, v| env(c).python_bin = v),
        plain("env.api_key_env", text(), |c, v| env(c).api_key_env = Some(v)),
        plain("env.deadline_s", number(), |c, v| env(c).deadline_s = v),
        plain("env.retries", count(), |c, v| env(c).retries = v),
        plain("env.backoff_s", number(), |c, v| env(c).backoff_s = v),
        one_of("overlong.filter", &[("off", OverlongFilter::Off), ("mask", OverlongFilter::Mask),
            ("drop", OverlongFilter::Drop)], |c, v| c.overlong.filter = v),
        one_of("advantage.baseline", &[("mean", Baseline::Mean), ("leave-one-out", Baseline::LeaveOneOut)],
            |c, v| c.advantage.baseline = v),
        one_of("advantage.scale", &[("group", AdvantageScale::Group), ("batch", AdvantageScale::Batch),
            ("whiten", AdvantageScale::Whiten), ("none", AdvantageScale::None)], |c, v| c.advantage.scale = v),
        one_of("advantage.std", &[("sample", StdEstimator::Sample), ("population", StdEstimator::Population)],
            |c, v| c.advantage.std = v),
        plain("advantage.eps", number(), |c, v| c.advantage.eps = v),
        policy_loss(),
        aggregation(),
        one_of("loss.empty_sequences", &[("exclude", EmptySequences::Exclude), ("count", EmptySequences::Count)],
            |c, v| c.loss.empty_sequences = v),
        plain("loss.kl.coef", single(), |c, v| c.loss.kl.coef = v),
        one_of("loss.kl.estimator", &[("k1", KlEstimator::K1), ("k2", KlEstimator::K2), ("k3", KlEstimator::K3),
            ("abs", KlEstimator::Abs), ("k1+", KlEstimator::K1Plus), ("k3+", KlEstimator::K3Plus)],
            |c, v| c.loss.kl.estimator = v),
        plain("loss.kl.times_ratio", any::<bool>(), |c, v| c.loss.kl.times_ratio = v),
        plain("loss.entropy_coef", single(), |c, v| c.loss.entropy_coef = v),
        plain("loss.top_entropy_quantile", number(), |c, v| c.loss.top_entropy_quantile = v),
        one_of("loss.rollout_correction.level", &[("token", ImportanceLevel::Token),
            ("sequence", ImportanceLevel::Sequence), ("off", ImportanceLevel::Off)], |c, v| correction(c).level = v),
        one_of("loss.rollout_correction.outside", &[("truncate", Outside::Truncate), ("mask", Outside::Mask)],
            |c, v| correction(c).outside = v),
        plain("loss.rollout_correction.low", single(), |c, v| correction(c).low = v),
        plain("loss.rollout_correction.high", single(), |c, v| correction(c).high = v),
        one_of("loss.rollout_correction.reject.by", &[("product", RejectBy::Product),
            ("geometric-mean", RejectBy::GeometricMean)],
            |c, v| correction(c).reject.get_or_insert_default().by = v),
        plain("loss.rollout_correction.reject.low", single(),
            |c, v| correction(c).reject.get_or_insert_default().low = Some(v)),
        plain("loss.rollout_correction.reject.high", single(),
            |c, v| correction(c).reject.get_or_insert_default().high = Some(v)),
        plain("reference_sync.every", count(), |c, v| c.reference_sync.every = Some(v as u64)),
        plain("reference_sync.mixup", number(), |c, v| c.reference_sync.mixup = v),
        plain("optimizer.lr", number(), |c, v| c.optimizer.lr = v),
        either("optimizer.warmup_steps", any::<u32>(), |c, v| c.optimizer.warmup_steps = v.into(),
            "optimizer.warmup_ratio", |c, v| c.optimizer.warmup_ratio = Some(v)),
        one_of("optimizer.schedule", &[("constant", Schedule::Constant), ("linear", Schedule::Linear),
            ("cosine", Schedule::Cosine)], |c, v| c.optimizer.schedule = v),
        plain("optimizer.decay_steps", any::<u32>(), |c, v| c.optimizer.decay_steps = Some(v.into())),
        plain("optimizer.min_lr_ratio", number(), |c, v| c.optimizer.min_lr_ratio = v),
        plain("optimizer.beta1", number(), |c, v| c.optimizer.beta1 = v),
        plain("optimizer.beta2", number(), |c, v| c.optimizer.beta2 = v),
        plain("optimizer.eps", number(), |c, v| c.optimizer.eps = v),
        plain("optimizer.weight_decay", number(), |c, v| c.optimizer.weight_decay = v),
        plain("optimizer.max_grad_norm", number(), |c, v| c.optimizer.max_grad_norm = v),
        one_of("critic.layers", &[("own", CriticLayers::Own), ("shared", CriticLayers::Shared)],
            |c, v| critic(c).layers = v),
        plain("critic.gamma", number(), |c, v| critic(c).gamma = v),
        plain("critic.lambda", number(), |c, v| critic(c).lambda = v),
        plain("critic.clip", single(), |c, v| critic(c).clip = v),
        plain("critic.coef", number(), |c, v| critic(c).coef = v),
        plain("critic.whiten", any::<bool>(), |c, v| critic(c).whiten = v),
        plain("critic.warmup_steps", any::<u32>(), |c, v| critic(c).warmup_steps = v.into()),
        plain("critic.optimizer.lr", number(), |c, v| critic(c).optimizer.lr = v),
        either("critic.optimizer.warmup_steps", any::<u32>(), |c, v| critic(c).optimizer.warmup_steps = v.into(),
            "critic.optimizer.warmup_ratio", |c, v| critic(c).optimizer.warmup_ratio = Some(v)),
        one_of("critic.optimizer.schedule", &[("constant", Schedule::Constant), ("linear", Schedule::Linear),
            ("cosine", Schedule::Cosine)], |c, v| critic(c).optimizer.schedule = v),
        plain("critic.optimizer.decay_steps", any::<u32>(), |c, v| critic(c).optimizer.decay_steps = Some(v.into())),
        plain("critic.optimizer.min_lr_ratio", number(), |c, v| critic(c).optimizer.min_lr_ratio = v),
        plain("critic.optimizer.beta1", number(), |c, v| critic(c).optimizer.beta1 = v),
        plain("critic.optimizer.beta2", number(), |c, v| critic(c).optimizer.beta2 = v),
        plain("critic.optimizer.eps", number(), |c, v| critic(c).optimizer.eps = v),
        plain("critic.optimizer.weight_decay", number(), |c, v| critic(c).optimizer.weight_decay = v),
        plain("critic.optimizer.max_grad_norm", number(), |c, v| critic(c).optimizer.max_grad_norm = v),
        either("train.steps", any::<u32>(), |c, v| c.train.steps = v.into(), "train.passes", |c, v| c.train.passes = Some(v)),
        plain("train.updates_per_batch", count(), |c, v| c.train.updates_per_batch = v),
        plain("train.mini_batches", count(), |c, v| c.train.mini_batches = v),
        plain("train.min_mini_batch", number(), |c, v| c.train.min_mini_batch = Some(v)),
        plain("train.micro_batch_tokens", count(), |c, v| c.train.micro_batch_tokens = v),
        plain("train.shards", (0..20u32).prop_map(|power| 1_usize << power), |c, v| c.train.shards = v),
        one_of("train.layer_memory", &[("keep", LayerMemory::Keep), ("recompute", LayerMemory::Recompute)],
            |c, v| c.train.layer_memory = v),
        one_of("train.on_mastered", &[("stop", OnMastered::Stop), ("skip", OnMastered::Skip),
            ("error", OnMastered::Error)], |c, v| c.train.on_mastered = v),
        plain("eval.every", count(), |c, v| c.eval.every = Some(v as u64)),
        plain("eval.at_start", any::<bool>(), |c, v| c.eval.at_start = v),
        plain("eval.samples", count(), |c, v| c.eval.samples = v),
        plain("eval.temperature", single(), |c, v| c.eval.temperature = v),
        plain("eval.top_p", single(), |c, v| c.eval.top_p = v),
        plain("eval.top_k", count(), |c, v| c.eval.top_k = Some(v)),
        plain("eval.min_p", single(), |c, v| c.eval.min_p = v),
        plain("eval.repetition_penalty", single(), |c, v| c.eval.repetition_penalty = v),
        plain("eval.stop", texts(), |c, v| c.eval.stop = Some(v)),
        plain("eval.max_new_tokens", count(), |c, v| c.eval.max_new_tokens = Some(v)),
        plain("eval.limit", count(), |c, v| c.eval.limit = Some(v)),
        one_of("guards.kl", &guard_actions(), |c, v| c.guards.kl = v),
        plain("guards.max_kl", number(), |c, v| c.guards.max_kl = v),
        one_of("guards.ratio", &guard_actions(), |c, v| c.guards.ratio = v),
        plain("guards.max_clipped", number(), |c, v| c.guards.max_clipped = v),
        one_of("guards.entropy", &guard_actions(), |c, v| c.guards.entropy = v),
        plain("guards.min_entropy", number(), |c, v| c.guards.min_entropy = v),
        one_of("guards.rewards", &guard_actions(), |c, v| c.guards.rewards = v),
        one_of("guards.truncation", &guard_actions(), |c, v| c.guards.truncation = v),
        one_of("guards.accuracy", &guard_actions(), |c, v| c.guards.accuracy = v),
        plain("guards.min_accuracy_share", number(), |c, v| c.guards.min_accuracy_share = v),
        plain("guards.steps", any::<u32>(), |c, v| c.guards.steps = v.into()),
        plain("output.checkpoint_every", any::<u32>(), |c, v| c.output.checkpoint_every = v.into()),
        plain("output.keep_checkpoints", count(), |c, v| c.output.keep_checkpoints = v),
        plain("output.checkpoint_minutes", number(), |c, v| c.output.checkpoint_minutes = Some(v)),
        plain("output.completions", any::<bool>(), |c, v| c.output.completions = v),
        Choice {
            keys: vec!["output.trackers"],
            values: prop::sample::subsequence(vec![("tensorboard", Tracker::Tensorboard), ("csv", Tracker::Csv)], 0..=2)
                .prop_map(|chosen| {
                    let (names, trackers): (Vec<&str>, Vec<Tracker>) = chosen.into_iter().unzip();
                    let set = move |c: &mut RunConfig| c.output.trackers.clone_from(&trackers);
                    Setting { lines: format!("output.trackers = {names:?}\n"), set: Rc::new(set) }
                }).boxed(),
        },
        plain("output.keep_best", text(), |c, v| c.output.keep_best = Some(v)),
        plain("output.token_logprobs", count(), |c, v| c.output.token_logprobs = v),
        plain("dist.timeout_s", number(), |c, v| c.dist.timeout_s = v),
    ]
}

fn critic(config: &mut RunConfig) -> &mut CriticConfig {
    config.critic.get_or_insert_default()
}

fn correction(config: &mut RunConfig) -> &mut RolloutCorrection {
    config.loss.rollout_correction.get_or_insert_default()
}

/// An environment's table.
fn env(config: &mut RunConfig) -> &mut EnvConfig {
    config.env.get_or_insert_default()
}

/// Where an environment is; relative paths of a file begin in its folder.
fn env_ways() -> Choice {
    let command = prop::collection::vec(text(), 1..4).prop_map(|command| {
        let lines = format!("env.command = {}\nenv.dir = \"/a\"\n", toml_of(&command));
        let set = move |c: &mut RunConfig| {
            env(c).command = Some(command.clone());
            env(c).dir = Some("/a".into());
        };
        Setting { lines, set: Rc::new(set) }
    });
    let url = text().prop_map(|url| {
        let lines = format!("env.url = {}\n", toml_of(&url));
        Setting { lines, set: Rc::new(move |c| env(c).url = Some(url.clone())) }
    });
    let python = text().prop_map(|python| {
        let lines = format!("env.python = {}\nenv.dir = \"/b\"\n", toml_of(&python));
        let set = move |c: &mut RunConfig| {
            env(c).python = Some(python.clone());
            env(c).dir = Some("/b".into());
        };
        Setting { lines, set: Rc::new(set) }
    });
    let keys = vec!["env.command", "env.url", "env.python", "env.dir"];
    Choice { keys, values: prop_oneof![command, url, python].boxed() }
}

/// A settings file in which every option is set or not, and what it says.
fn settings() -> impl Strategy<Value = (String, RunConfig)> {
    let settings: Vec<_> = choices().into_iter().map(|choice| prop::option::of(choice.values)).collect();
    settings.prop_map(|settings| {
        let (mut text, mut config) = (String::new(), RunConfig::default());
        for Setting { lines, set } in settings.into_iter().flatten() {
            text += &lines;
            set(&mut config);
        }
        // An environment rewards alone, unless accuracy is set.
        if config.env.is_some() && !text.contains("rewards.accuracy") {
            config.rewards.accuracy = None;
        }
        (text, config)
    })
}

#[test]
fn every_key_is_an_option_that_can_be_set() {
    let mut known: Vec<&str> = choices().into_iter().flat_map(|choice| choice.keys).collect();
    // It decides what all others begin with; see below.
    known.push("algorithm");
    let mut all: Vec<&str> = keys().iter().map(|key| key.path.as_str()).collect();
    known.sort_unstable();
    all.sort_unstable();
    assert_eq!(known, all);
}

fn read(files: &Files, text: &str) -> RunConfig {
    resolve(&[Layer::File(files.write("a.toml", text))]).unwrap().config
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_option_is_set_from_a_file_and_survives_writing((text, config) in settings()) {
        let files = Files::new();
        let from_file = resolve(&[Layer::File(files.write("a.toml", &text))]).unwrap();
        prop_assert_eq!(&from_file.config, &config);
        prop_assert_eq!(from_file.warnings(), &[] as &[String]);
        let text = config.to_toml().unwrap();
        let back = read(&files, &text);
        prop_assert_eq!(&back, &config);
        prop_assert_eq!(back.to_toml().unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn settings_over_an_algorithm_survive_writing(
        (text, _) in settings(),
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
        unset in prop::sample::subsequence(vec!["critic", "rewards.soft_overlong"], 0..=2),
    ) {
        let files = Files::new();
        let mut layers = vec![Layer::File(files.write("a.toml", &format!("algorithm = {:?}\n{text}", algorithm.name())))];
        layers.extend(unset.iter().map(|table| Layer::Override(format!("{table}=none"))));
        let config = resolve(&layers).unwrap().config;
        prop_assert_eq!(config.algorithm, Some(algorithm));
        prop_assert!(!unset.contains(&"critic") || config.critic.is_none());
        let text = config.to_toml().unwrap();
        let back = read(&files, &text);
        prop_assert_eq!(&back, &config);
        prop_assert_eq!(back.to_toml().unwrap(), text);
    }
}

#[test]
fn extreme_numbers_survive() {
    let mut config = RunConfig { seed: u64::MAX, ..RunConfig::default() };
    config.optimizer.max_grad_norm = f64::INFINITY;
    config.optimizer.eps = f64::MIN_POSITIVE;
    config.optimizer.lr = 0.1 + 0.2;
    config.rollout.sampling.temperature = f32::MIN_POSITIVE;
    config.rollout.sampling.top_p = 1.0 - f32::EPSILON;
    config.loss.kl.coef = -0.0;
    assert_eq!(read(&Files::new(), &config.to_toml().unwrap()), config);
}

#[test]
fn a_written_file_names_every_key_once_in_the_order_of_the_list() {
    for recipe in recipes() {
        let config = resolve(&[Layer::Recipe(recipe.name.into())]).unwrap().config;
        let text = config.to_toml().unwrap();
        let mut table = String::new();
        let mut found = Vec::new();
        // Tables under names of one's own come last.
        let own = config.rewards.own.0.keys().next().map_or("", String::as_str);
        let text = text.split(&format!("\n[rewards.{own}]\n")).next().unwrap();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                table = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((name, _)) = line.split_once(" = ") {
                found.push(format!("{table}{name}"));
            } else if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set"))
                && !name.starts_with('[')
            {
                found.push(format!("{table}{name}"));
            }
        }
        let absent = |path: &str| {
            let mut tables = path.match_indices('.').map(|(end, _)| &path[..end]);
            tables.any(|table| text.contains(&format!("# [{table}] is not set")))
        };
        let expected: Vec<&str> = keys().iter().map(|key| key.path.as_str()).filter(|path| !absent(path)).collect();
        assert_eq!(found, expected, "{}", recipe.name);
    }
}
