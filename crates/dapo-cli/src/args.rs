//! Arguments that subcommands share, and what they mean for the libraries.

use crate::fields::FieldArgs;
use crate::talk::Talk;
use anyhow::{Context, Result, anyhow, ensure};
use clap::builder::RangedU64ValueParser;
use dapo_data::{Fields, Problem, Prompt, PromptStyle, ReadOptions, encode_prompts};
use dapo_policy::{Decoder, GenerationConfig, Purpose, SamplingConfig, StopStrings, StopTokens, Tokenizer};
use dapo_reward::{Accuracy, Grader, Profile, TextOptions, VerifyConfig};
use dapo_run::{DeviceChoice, ModelSource, Placed, Trust, Unanswered, place};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Instant;

/// A count with a lower bound.
pub(crate) fn at_least(least: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least..)
}

/// A sampling temperature, by the policy's own rule.
fn temperature(text: &str) -> Result<f32> {
    let temperature = text.parse()?;
    SamplingConfig { temperature, ..SamplingConfig::default() }.validate()?;
    Ok(temperature)
}

fn top_p(text: &str) -> Result<f32> {
    let top_p = text.parse()?;
    SamplingConfig { top_p, ..SamplingConfig::default() }.validate()?;
    Ok(top_p)
}

fn min_p(text: &str) -> Result<f32> {
    let min_p = text.parse()?;
    SamplingConfig { min_p, ..SamplingConfig::default() }.validate()?;
    Ok(min_p)
}

fn repetition_penalty(text: &str) -> Result<f32> {
    let repetition_penalty = text.parse()?;
    SamplingConfig { repetition_penalty, ..SamplingConfig::default() }.validate()?;
    Ok(repetition_penalty)
}

/// What holds for sampling where no flag says otherwise.
#[derive(Clone, Copy)]
pub(crate) enum SamplingDefaults {
    /// The paper's evaluation: temperature 1.0 and top-p 0.7.
    OfPaper,
    /// What the model's `generation_config.json` says, and else temperature 0.7 and top-p 0.95.
    OfModel,
}

impl SamplingDefaults {
    fn sampling(self, policy: &Decoder, talk: Talk) -> SamplingConfig {
        match self {
            Self::OfPaper => SamplingConfig { temperature: 1.0, top_p: 0.7, ..SamplingConfig::default() },
            Self::OfModel => of_model(&policy.config().source.generation, !policy.is_on_device(), talk),
        }
    }
}

/// Sampling by a model's `generation_config.json`. Values that are out of range count for nothing, as does a repetition
/// penalty on a GPU, which has none.
fn of_model(fields: &Map<String, Value>, is_on_cpu: bool, talk: Talk) -> SamplingConfig {
    let mut sampling = SamplingConfig { temperature: 0.7, top_p: 0.95, ..SamplingConfig::default() };
    let mut take = |name: &str, changed: &dyn Fn(SamplingConfig, f64) -> SamplingConfig| {
        let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return };
        let with = value.as_f64().map(|number| changed(sampling, number));
        match with.filter(|sampling| sampling.validate().is_ok()) {
            Some(with) => sampling = with,
            None => talk.warning(format_args!("generation_config.json: {name} is {value}, which is not used")),
        }
    };
    take("temperature", &|sampling, number| SamplingConfig { temperature: number as f32, ..sampling });
    take("top_p", &|sampling, number| SamplingConfig { top_p: number as f32, ..sampling });
    take("top_k", &|sampling, number| SamplingConfig { top_k: (number >= 1.0).then_some(number as usize), ..sampling });
    take("min_p", &|sampling, number| SamplingConfig { min_p: number as f32, ..sampling });
    if is_on_cpu {
        take("repetition_penalty", &|sampling, number| SamplingConfig {
            repetition_penalty: number as f32,
            ..sampling
        });
    }
    if fields.get("do_sample") == Some(&Value::Bool(false)) {
        sampling.temperature = 0.0;
    }
    sampling
}

/// How completions are sampled for people and for evaluation.
#[derive(clap::Args)]
pub(crate) struct SamplingArgs {
    /// Maximum number of tokens per completion [default: 256, or half the model's context if that is less]
    #[arg(long, value_name = "TOKENS", value_parser = at_least(1))]
    max_tokens: Option<usize>,
    /// Sampling temperature; 0 always takes the most probable token [default: 1.0 in eval; in generate and chat the value in
    /// generation_config.json, or 0.7]
    #[arg(long, allow_negative_numbers = true, value_name = "T", value_parser = temperature)]
    temperature: Option<f32>,
    /// Sample from the smallest set of most probable tokens whose total probability reaches this; 1 keeps all [default: 0.7
    /// in eval; in generate and chat the value in generation_config.json, or 0.95]
    #[arg(long, allow_negative_numbers = true, value_name = "P", value_parser = top_p)]
    top_p: Option<f32>,
    /// Sample from the K most probable tokens; 0 keeps all [default: 0 in eval; in generate and chat the value in
    /// generation_config.json, or 0]
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Keep tokens with at least this share of the most probable one's probability; 0 keeps all [default: 0 in eval;
    /// in generate and chat the value in generation_config.json, or 0]
    #[arg(long, allow_negative_numbers = true, value_name = "P", value_parser = min_p)]
    min_p: Option<f32>,
    /// Divide positive logits of tokens already in the prompt or completion by this, and multiply other logits of such
    /// tokens by it; 1 changes none; CPU only [default: 1 in eval; in generate and chat the value in
    /// generation_config.json, or 1]
    #[arg(long, allow_negative_numbers = true, value_name = "X", value_parser = repetition_penalty)]
    repetition_penalty: Option<f32>,
    /// End a completion with the token that completes this text; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    stop: Vec<String>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    pub(crate) fn generation(
        &self,
        (policy, tokenizer): (&Decoder, &Tokenizer),
        purpose: Purpose,
        defaults: SamplingDefaults,
        talk: Talk,
    ) -> Result<GenerationConfig> {
        let defaults = defaults.sampling(policy, talk);
        let stop = StopTokens::of(policy.config(), tokenizer);
        warn_if_none(&stop, talk);
        Ok(GenerationConfig {
            max_new_tokens: max_tokens(self.max_tokens, policy)?,
            sampling: SamplingConfig {
                temperature: self.temperature.unwrap_or(defaults.temperature),
                top_p: self.top_p.unwrap_or(defaults.top_p),
                top_k: self.top_k.map_or(defaults.top_k, |k| (k > 0).then_some(k)),
                min_p: self.min_p.unwrap_or(defaults.min_p),
                repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            },
            stop_strings: StopStrings::new(&self.stop, tokenizer).context("--stop")?,
            seed: self.seed,
            purpose,
            ..GenerationConfig::new(stop)
        })
    }
}

/// Says that completions cannot end by themselves, where they cannot.
pub(crate) fn warn_if_none(stop: &StopTokens, talk: Talk) {
    if stop.is_empty() {
        talk.warning(
            "the model has no end token: neither config.json, generation_config.json, tokenizer_config.json nor \
             special_tokens_map.json names one, so every completion runs to its length limit",
        );
    }
}

/// Says which characters of a prompt the model does not see, as its tokenizer has no token for them.
pub(crate) fn warn_of_unknown(tokenizer: &Tokenizer, prompt: &str, talk: Talk) -> Result<()> {
    const SHOWN: usize = 8;
    let unknown = tokenizer.unknown_chars(prompt)?;
    let shown: Vec<String> = unknown.iter().take(SHOWN).map(|c| format!("{:?}", c.to_string())).collect();
    let more = match unknown.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if !unknown.is_empty() {
        talk.warning(format_args!(
            "the model's tokenizer has no token for these characters of the prompt, so the model does not see them: {}{more}",
            shown.join(", ")
        ));
    }
    Ok(())
}

/// Tokens of a completion at most: as asked, else 256 or half the model's context.
pub(crate) fn max_tokens(asked: Option<usize>, policy: &Decoder) -> Result<usize> {
    let context = policy.config().max_position_embeddings;
    let tokens = asked.unwrap_or_else(|| (context / 2).min(256));
    ensure!(tokens < context, "--max-tokens is {tokens}, expected less than the model's context of {context} tokens");
    Ok(tokens)
}

/// Problems, how they are put to the model, and how its answers are judged.
#[derive(clap::Args)]
pub(crate) struct ProblemArgs {
    /// Problems with answers: a .jsonl, .json or .csv file (with the feature parquet, also .parquet), or a folder of them.
    /// Known columns include question/answer, problem/answer, problem/solution, prompt/answer, input/target,
    /// prompt/reward_model.ground_truth, prompt/solution, prompt/label and messages/solution; name other columns with
    /// --field.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    fields: FieldArgs,
    /// System message before each question.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Text added to each question.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    suffix: String,
    /// Where a completion states its answer: auto, boxed, answer-line, hash, answer-tag, answer-is, last-math, choice,
    /// last-number or whole.
    #[arg(long, value_name = "PROFILE", default_value = "auto")]
    extract: Profile,
    /// How answers are judged. --extract applies only to `math`; the other graders find the answer themselves.
    #[arg(long, value_name = "GRADER", default_value = "math")]
    grader: GraderName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum GraderName {
    /// Mathematical equivalence.
    Math,
    /// The same text, ignoring case, the amount of white space, punctuation and articles; for JSON, ignoring the order of
    /// keys.
    Text,
    /// The same choice: a letter from A to J, or a label.
    Choice,
    /// DAPO's published string rule, on the last `Answer:` line.
    Dapo,
}

impl ProblemArgs {
    /// The judge of answers.
    pub(crate) fn accuracy(&self) -> Accuracy {
        let grader = match self.grader {
            GraderName::Math => Grader::Math(VerifyConfig { profile: self.extract.clone(), ..VerifyConfig::default() }),
            GraderName::Text => Grader::Text(TextOptions::default()),
            GraderName::Choice => Grader::Choice,
            GraderName::Dapo => Grader::Dapo,
        };
        Accuracy { grader, ..Accuracy::default() }
    }

    /// The problems of the file, whose columns `settings` may name. Placeholders for a missing answer are left out, unless
    /// the grader takes words.
    pub(crate) fn read(
        &self,
        settings: Fields,
        grader: &Grader,
        needs_answer: bool,
        talk: Talk,
    ) -> Result<Vec<Problem>> {
        let has_words = matches!(grader, Grader::Text(_) | Grader::Choice);
        let options = ReadOptions { leave_out_placeholders: !has_words, needs_answer, ..ReadOptions::default() };
        let reading = self.fields.read(&self.data, settings, self.system.is_some(), &options, talk)?;
        if reading.left_out.total() > 0 {
            talk.note(format_args!("{}: left out {}", self.data.display(), reading.left_out));
        }
        Ok(reading.problems)
    }

    /// The problems as prompts, and how many were left out as too long.
    pub(crate) fn encode(
        &self,
        problems: &[Problem],
        (policy, tokenizer): (&Decoder, &Tokenizer),
        max_tokens: usize,
        talk: Talk,
    ) -> Result<(Vec<Prompt>, usize)> {
        let style = PromptStyle { system: self.system.clone(), suffix: self.suffix.clone(), ..PromptStyle::default() };
        let context = policy.config().max_position_embeddings;
        let limit = context.saturating_sub(max_tokens);
        let (prompts, too_long) = encode_prompts(problems, tokenizer, &style, limit)?;
        let why = || {
            format!(
                "longer than {limit} tokens: the model's context is {context}, of which --max-tokens takes {max_tokens}"
            )
        };
        ensure!(!prompts.is_empty(), "{}: every problem is {}", self.data.display(), why());
        if too_long > 0 {
            talk.warning(format_args!("{too_long} of {} problems left out, {}", problems.len(), why()));
        }
        Ok((prompts, too_long))
    }
}

/// Says that problems have no answer, where a reward may miss it: a warning where one takes it.
pub(crate) fn say_unanswered(found: &Unanswered, remedy: &str, talk: Talk) {
    if found.takers.is_empty() {
        talk.note(format_args!("{found}: {remedy}"));
    } else {
        talk.warning(format_args!("{found}: {remedy}"));
    }
}

/// Which model, and where it computes.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// A Hugging Face folder, an adapter folder (PEFT), a GGUF file, a run folder (its last checkpoint), a checkpoint, or
    /// builtin:tiny; with the feature hub, also a hub id such as Qwen/Qwen3-0.6B.
    #[arg(long = "model", value_name = "PATH")]
    pub(crate) name: String,
    /// Where the model computes: auto (the first GPU if this build supports GPUs and that one can run the model, otherwise
    /// the CPU), cpu, cuda or cuda:n.
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    device: DeviceChoice,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What is accepted without a hash.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct TrustArgs {
    /// Accept a run's checkpoint that has no manifest, without a check of its files.
    #[arg(long)]
    trust_unverified: bool,
}

impl TrustArgs {
    pub(crate) fn trust(self) -> Trust {
        if self.trust_unverified { Trust::Unverified } else { Trust::Verified }
    }
}

fn device(text: &str) -> Result<DeviceChoice> {
    text.parse().map_err(|_| anyhow!("expected auto, cpu, cuda or cuda:n"))
}

impl ModelArgs {
    /// What was being done when generation fails.
    pub(crate) fn generating(&self) -> String {
        format!("{}: generation failed", self.name)
    }

    /// Loads the model onto its device.
    pub(crate) fn load(&self, talk: Talk) -> Result<(Decoder, Tokenizer)> {
        let (mut policy, tokenizer) = load(&self.name, self.trust, talk)?;
        let placed = place(&mut policy, self.device)?;
        say_where(&placed, talk);
        Ok((policy, tokenizer))
    }
}

/// Loads a model on the cpu and says so.
pub(crate) fn load(name: &str, trust: TrustArgs, talk: Talk) -> Result<(Decoder, Tokenizer)> {
    let started = Instant::now();
    let (policy, tokenizer) = ModelSource::find_with(name, "main", trust.trust())?.load()?;
    let (millions, seconds) = (policy.num_parameters() as f64 / 1e6, started.elapsed().as_secs_f64());
    talk.detail(format_args!("{name}: {millions:.2} M parameters, loaded in {seconds:.1} s"));
    Ok((policy, tokenizer))
}

/// Says where a model computes; aloud where a GPU might have been expected.
pub(crate) fn say_where(placed: &Placed, talk: Talk) {
    match &placed.fallback {
        Some(why) => talk.warning(format_args!("computing on the cpu: {why}")),
        None => talk.detail(format_args!("computing on {placed}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    fn of(json: &serde_json::Value, is_on_cpu: bool) -> SamplingConfig {
        of_model(json.as_object().unwrap(), is_on_cpu, Talk::new(crate::talk::TalkArgs::parse_quiet()))
    }

    #[derive(Parser)]
    struct Quiet {
        #[command(flatten)]
        talk: crate::talk::TalkArgs,
    }

    impl crate::talk::TalkArgs {
        fn parse_quiet() -> Self {
            Quiet::parse_from(["dapo", "--quiet"]).talk
        }
    }

    #[test]
    fn a_models_own_sampling_comes_before_the_defaults() {
        let usual = SamplingConfig { temperature: 0.7, top_p: 0.95, ..SamplingConfig::default() };
        assert_eq!(of(&serde_json::json!({}), true), usual);
        let own = serde_json::json!({
            "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.5, "max_length": 9,
        });
        let expected =
            SamplingConfig { temperature: 0.6, top_k: Some(20), top_p: 0.8, repetition_penalty: 1.5, ..usual };
        assert_eq!(of(&own, true), expected);
        assert_eq!(of(&own, false), SamplingConfig { repetition_penalty: 1.0, ..expected });
        assert_eq!(of(&serde_json::json!({"top_k": 0, "min_p": 0.25}), true), SamplingConfig { min_p: 0.25, ..usual });
        assert_eq!(of(&serde_json::json!({"do_sample": false}), true).temperature, 0.0);
        let bad = serde_json::json!({"temperature": -1, "top_p": 7, "min_p": "x", "repetition_penalty": null});
        assert_eq!(of(&bad, true), usual);
    }
}
