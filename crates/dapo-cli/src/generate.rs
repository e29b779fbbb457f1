//! `dapo generate`: completions of one prompt.

use crate::args::{ModelArgs, SamplingArgs, SamplingDefaults, at_least, warn_of_unknown};
use crate::chat::say_if_cut;
use crate::interrupt::Interrupt;
use crate::stream::stream;
use crate::talk::Talk;
use crate::terminal::{RawArgs, Stdout};
use anyhow::{Context, Result, bail, ensure};
use dapo_data::{Problem, PromptStyle, encode_prompts};
use dapo_policy::{FinishReason, Message, Policy, Purpose, Request};
use std::io::{self, IsTerminal, Write};

/// Print a model's completions of a prompt.
///
/// The prompt is rendered with the model's chat template. A model without a template gets the prompt as it is; with
/// --system, the system message and a line break come before the prompt. On a terminal a single completion is shown
/// while it is generated.
///
/// Sampling parameters come from the flags, otherwise from the model's generation_config.json, where `"do_sample": false`
/// means temperature 0. If neither sets the temperature, it is 0.7; if neither sets top-p, it is 0.95.
#[derive(clap::Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is asked; `-` reads it from stdin.
    prompt: String,
    /// System message before the prompt.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Number of completions.
    #[arg(long, value_name = "K", default_value = "1", value_parser = at_least(1))]
    samples: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print each completion as a JSON object {text, tokens, finish_reason} on a line of its own.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    raw: RawArgs,
}

pub(crate) fn run(args: &Generate, talk: Talk) -> Result<()> {
    let question = match args.prompt.as_str() {
        "-" => io::read_to_string(io::stdin()).context("the prompt on stdin")?,
        prompt => prompt.to_owned(),
    };
    ensure!(!question.is_empty(), "the prompt is empty, expected at least one token");
    let (policy, tokenizer) = args.model.load(talk)?;
    let generation =
        args.sampling.generation((&policy, &tokenizer), Purpose::Preview, SamplingDefaults::OfModel, talk)?;
    let system = args.system.as_deref().unwrap_or_default();
    warn_of_unknown(&tokenizer, &format!("{system}{question}"), talk)?;
    let problem = Problem::new("", vec![Message::user(question)], "");
    let style = PromptStyle { system: args.system.clone(), ..PromptStyle::default() };
    let (prompts, _) = encode_prompts(&[problem], &tokenizer, &style, usize::MAX)?;
    let Some(prompt) = prompts.into_iter().next() else { bail!("the prompt has no tokens") };
    talk.detail(format_args!("prompt of {} tokens: {}", prompt.token_ids.len(), prompt.text));

    let request = Request { prompt_ids: prompt.token_ids, samples: args.samples, first_sample: 0, draw: 0 };
    if args.samples == 1 && !args.json && io::stdout().is_terminal() {
        let off = Interrupt::off();
        let streamed = stream((&policy, &tokenizer), &request, &generation, args.raw, &off);
        if let Some(completion) = streamed.with_context(|| args.model.generating())?.completion {
            say_if_cut(&completion, talk);
        }
        return Ok(());
    }
    let completions = policy.generate(&[request], &generation).with_context(|| args.model.generating())?;
    let mut stdout = Stdout::with(args.raw);
    for (i, completion) in completions.iter().flatten().enumerate() {
        let text = tokenizer.decode(&completion.token_ids, true)?;
        let tokens = completion.token_ids.len();
        let finish_reason = match completion.finish_reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        if args.json {
            let object = serde_json::json!({ "text": text, "tokens": tokens, "finish_reason": finish_reason });
            writeln!(stdout, "{object}")?;
        } else {
            if args.samples > 1 {
                talk.note(format_args!("completion {} of {}, {tokens} tokens:", i + 1, args.samples));
            }
            writeln!(stdout, "{text}")?;
            stdout.flush()?;
        }
        say_if_cut(completion, talk);
    }
    Ok(())
}
