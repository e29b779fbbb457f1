//! `dapo chat`: a conversation with a model.

use crate::args::{ModelArgs, SamplingArgs, SamplingDefaults};
use crate::interrupt::Interrupt;
use crate::line_input::{LineInput, Typed};
use crate::stream::{Streamed, stream};
use crate::talk::Talk;
use crate::terminal::{RawArgs, Stdout};
use anyhow::{Context, Result, ensure};
use dapo_policy::{
    ChatOptions, Completion, Decoder, FinishReason, GenerationConfig, Message, Policy, Purpose, Request, Tokenizer,
};
use std::io::{self, IsTerminal, Write};

/// Talk with a model.
///
/// Each line on stdin is a message; the model's completions go to stdout, on a terminal as they are generated. `/help`
/// lists the commands. If stdin and stdout are terminals, Ctrl-C ends the completion, not the program. On a terminal,
/// lines can be edited, and are kept in `$XDG_STATE_HOME/dapo/chat-history` (by default
/// `~/.local/state/dapo/chat-history`) unless --no-history is given.
///
/// Sampling parameters come from the flags, otherwise from the model's generation_config.json, where `"do_sample": false`
/// means temperature 0. If neither sets the temperature, it is 0.7; if neither sets top-p, it is 0.95.
#[derive(clap::Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    model: ModelArgs,
    /// System message before the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Keep no history of what is typed.
    #[arg(long)]
    no_history: bool,
    #[command(flatten)]
    raw: RawArgs,
}

const HELP: &str = "\
/system TEXT  set the system message, or none, and start a new conversation
/reset        start a new conversation (also /new)
/exit         end (also /quit, Ctrl-D)
/help         this list
//...          a message that begins with /
Ctrl-C ends a completion; its text so far stays in the conversation.";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Message(&'a str),
    System(&'a str),
    Reset,
    Exit,
    Help,
    Unknown(&'a str),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return if line.is_empty() { Self::Nothing } else { Self::Message(line) };
        };
        if command.starts_with('/') {
            return Self::Message(command);
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match name {
            "system" => Self::System(rest.trim()),
            "reset" | "new" => Self::Reset,
            "exit" | "quit" => Self::Exit,
            "help" => Self::Help,
            _ => Self::Unknown(name),
        }
    }
}

pub(crate) fn run(args: &Chat, talk: Talk) -> Result<()> {
    let (policy, tokenizer) = args.model.load(talk)?;
    ensure!(
        tokenizer.has_chat_template(),
        "{} has no chat template; `dapo generate` takes plain prompts",
        args.model.name
    );
    let defaults = SamplingDefaults::OfModel;
    let generation = args.sampling.generation((&policy, &tokenizer), Purpose::Preview, defaults, talk)?;
    let mut input = LineInput::of_stdin(!args.no_history);
    let streams = io::stdout().is_terminal();
    let interrupt = if input.is_terminal() && streams { Interrupt::catch()? } else { Interrupt::off() };
    if input.is_terminal() {
        talk.note("/help lists the commands, /exit ends");
    }
    let mut system = args.system.clone();
    let mut messages: Vec<Message> = system.iter().map(Message::system).collect();
    let chat = Conversation { args, policy: &policy, tokenizer: &tokenizer, generation, interrupt };
    // Every answer has random numbers of its own, so that asking again can be answered differently.
    for draw in 0.. {
        let line = match input.next()? {
            Typed::Line(line) => line,
            Typed::Nothing => continue,
            Typed::End => break,
        };
        match Line::parse(&line) {
            Line::Nothing => {}
            Line::Exit => break,
            Line::Help => talk.note(HELP),
            Line::Unknown(name) => {
                talk.warning(format_args!("there is no command /{name}; /help lists them, and //{name} is a message"));
            }
            Line::Reset => {
                messages = system.iter().map(Message::system).collect();
                talk.note("a new conversation");
            }
            Line::System(text) => {
                system = (!text.is_empty()).then(|| text.to_owned());
                messages = system.iter().map(Message::system).collect();
                let what = if system.is_some() { "with this system message" } else { "without a system message" };
                talk.note(format_args!("a new conversation {what}"));
            }
            Line::Message(text) => {
                messages.push(Message::user(text));
                match chat.answer(&messages, draw, talk)? {
                    Some(answer) => messages.push(Message::assistant(answer)),
                    None => drop(messages.pop()),
                }
            }
        }
    }
    Ok(())
}

/// What all answers have in common.
struct Conversation<'a> {
    args: &'a Chat,
    policy: &'a Decoder,
    tokenizer: &'a Tokenizer,
    generation: GenerationConfig,
    interrupt: Interrupt,
}

impl Conversation<'_> {
    /// Prints the answer to the last message; `None` where there is no room for one.
    fn answer(&self, messages: &[Message], draw: u64, talk: Talk) -> Result<Option<String>> {
        let text = self.tokenizer.apply_chat_template(messages, &ChatOptions::default())?;
        let prompt_ids = self.tokenizer.encode(&text, false)?;
        let room = self.policy.config().max_position_embeddings.saturating_sub(prompt_ids.len());
        if room == 0 {
            talk.warning("the conversation fills the model's context; /reset starts another");
            return Ok(None);
        }
        let max_new_tokens = self.generation.max_new_tokens.min(room);
        let generation = GenerationConfig { max_new_tokens, ..self.generation.clone() };
        let request = Request { prompt_ids, samples: 1, first_sample: 0, draw };
        let generating = || self.args.model.generating();
        if io::stdout().is_terminal() {
            let model = (self.policy, self.tokenizer);
            // One that came between two answers is over.
            self.interrupt.take();
            let Streamed { text, completion } =
                stream(model, &request, &generation, self.args.raw, &self.interrupt).with_context(generating)?;
            match completion {
                Some(completion) => say_if_cut(&completion, talk),
                None => talk.note("(ended by Ctrl-C)"),
            }
            self.interrupt.take();
            return Ok(Some(text));
        }
        let completions = self.policy.generate(&[request], &generation).with_context(generating)?;
        let Some(completion) = completions.into_iter().flatten().next() else { return Ok(None) };
        let answer = self.tokenizer.decode(&completion.token_ids, true)?;
        let mut stdout = Stdout::with(self.args.raw);
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
        say_if_cut(&completion, talk);
        Ok(Some(answer))
    }
}

/// Says that a completion ended at its limit.
pub(crate) fn say_if_cut(completion: &Completion, talk: Talk) {
    if completion.finish_reason == FinishReason::Length {
        talk.note(format_args!("(stopped after {} tokens, see --max-tokens)", completion.token_ids.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        for (line, expected) in [
            (" \n", Line::Nothing),
            (" what is 1+1? \n", Line::Message("what is 1+1?")),
            ("//usr is a folder", Line::Message("/usr is a folder")),
            ("/system be brief \n", Line::System("be brief")),
            ("/system", Line::System("")),
            ("/reset", Line::Reset),
            ("/new", Line::Reset),
            ("/exit", Line::Exit),
            ("/quit\n", Line::Exit),
            ("/help", Line::Help),
            ("/halp me", Line::Unknown("halp")),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
