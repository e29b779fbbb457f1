//! `dapo chat`: a conversation with a model.

use crate::args::{ModelArgs, SamplingArgs};
use crate::talk::Talk;
use crate::terminal::{RawArgs, Stdout, to_stderr};
use anyhow::{Context, Result, ensure};
use dapo_policy::{ChatOptions, FinishReason, Message, Policy, Purpose, Request};
use std::io::{self, BufRead, IsTerminal, Write};

/// Talk with a model.
///
/// Each line on stdin is a message; the model's answers go to stdout. `/new` starts a new conversation, `/quit` or the end of
/// input ends it.
#[derive(clap::Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    /// System message before the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    raw: RawArgs,
}

pub(crate) fn run(args: &Chat, talk: Talk) -> Result<()> {
    let (policy, tokenizer) = args.model.load(talk)?;
    ensure!(
        tokenizer.has_chat_template(),
        "{} has no chat template; `dapo generate` takes plain prompts",
        args.model.name
    );
    let mut generation = args.sampling.generation((&policy, &tokenizer), Purpose::Preview, talk)?;
    let asked = generation.max_new_tokens;
    let start = || args.system.iter().map(Message::system).collect::<Vec<_>>();
    let mut messages = start();
    let prompt = io::stdin().is_terminal().then_some("> ");
    // Every answer has random numbers of its own, so that asking again can be answered differently.
    for draw in 0.. {
        if let Some(prompt) = prompt {
            to_stderr(prompt);
        }
        let mut line = String::new();
        if io::stdin().lock().read_line(&mut line)? == 0 {
            break;
        }
        match line.trim() {
            "" => continue,
            "/quit" => break,
            "/new" => {
                messages = start();
                talk.note("a new conversation");
                continue;
            }
            text => messages.push(Message::user(text)),
        }
        let text = tokenizer.apply_chat_template(&messages, &ChatOptions::default())?;
        let prompt_ids = tokenizer.encode(&text, false)?;
        let room = policy.config().max_position_embeddings.saturating_sub(prompt_ids.len());
        if room == 0 {
            talk.warning("the conversation fills the model's context; /new starts another");
            messages.pop();
            continue;
        }
        generation.max_new_tokens = asked.min(room);
        let request = Request { prompt_ids, samples: 1, first_sample: 0, draw };
        let completions = policy.generate(&[request], &generation).with_context(|| args.model.generating())?;
        for completion in completions.iter().flatten() {
            let answer = tokenizer.decode(&completion.token_ids, true)?;
            let mut stdout = Stdout::with(args.raw);
            writeln!(stdout, "{answer}")?;
            stdout.flush()?;
            if completion.finish_reason == FinishReason::Length {
                talk.note(format_args!("(stopped after {} tokens, see --max-tokens)", generation.max_new_tokens));
            }
            messages.push(Message::assistant(answer));
        }
    }
    Ok(())
}
