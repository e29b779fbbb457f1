//! What somebody says between a model's turns, as the model reads it.

use crate::error::TrainerError;
use crate::prompt::Prompt;
use dapo_policy::{ChatOptions, Message, Tokenizer};
use dapo_reward::{Said, TurnTemplate};
use serde_json::{Value, json};
use std::sync::Arc;

/// Stands for what the model said where a template is to show one turn by itself.
const ANY_TURN: &str = "x8Kq2Turn7Zw";

/// Turns what is said into tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speech<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) template: TurnTemplate,
}

/// A conversation as far as its template has rendered it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rendered {
    /// From the prompt to where the model's next turn begins; empty before the first turn has ended.
    text: String,
}

impl Speech<'_> {
    fn has_template(&self) -> bool {
        self.template != TurnTemplate::Raw && self.tokenizer.has_chat_template()
    }

    /// Adds what is said before the first turn to a prompt.
    ///
    /// # Errors
    /// When the template or the tokenizer fails, and for tools that no template shows.
    pub(crate) fn begin(&self, prompt: &mut Prompt, said: &[Said], tools: &[Value]) -> Result<(), TrainerError> {
        if !tools.is_empty() && !self.has_template() {
            let found = format!("{} tools", tools.len());
            let expected = "none: without a chat template the model is not shown them";
            return Err(TrainerError::setting("what env.reset gives", &found, expected));
        }
        if said.is_empty() && tools.is_empty() {
            return Ok(());
        }
        let new = said.iter().map(|said| json!({"role": said.role, "content": said.content}));
        prompt.messages = prompt.messages.iter().cloned().chain(new).collect();
        if self.has_template() {
            let options = ChatOptions { tools: tools.to_vec(), ..ChatOptions::clone(&prompt.chat) };
            prompt.chat = Arc::new(options);
            prompt.text = self.tokenizer.apply_chat_template(&messages(prompt), &prompt.chat)?;
            prompt.token_ids = self.tokenizer.encode(&prompt.text, false)?;
        } else {
            let text = contents(said);
            prompt.token_ids.extend(self.tokenizer.encode(&text, false)?);
            prompt.text += &text;
        }
        Ok(())
    }

    /// The tokens that follow the last turn of a history: what is said then, up to where the model's next turn begins. The turn
    /// ended with the token `last`.
    ///
    /// # Errors
    /// When the template or the tokenizer fails, or the template shows earlier turns otherwise than they were.
    pub(crate) fn after_turn(
        &self,
        prompt: &Prompt,
        rendered: &mut Rendered,
        history: &[Said],
        said: &[Said],
        last: Option<u32>,
    ) -> Result<Vec<u32>, TrainerError> {
        if !self.has_template() {
            return Ok(self.tokenizer.encode(&contents(said), false)?);
        }
        let rest = match self.template {
            TurnTemplate::Turns => self.rest_of_any_turn(prompt, said)?,
            TurnTemplate::Exact | TurnTemplate::Raw => self.rest_of_turn(prompt, rendered, history, said)?,
        };
        let mut token_ids = self.tokenizer.encode(&rest, false)?;
        // The end of the turn that the model has generated itself.
        if last.is_some_and(|last| self.tokenizer.stop_token_ids().contains(&last) && token_ids.first() == Some(&last))
        {
            token_ids.remove(0);
        }
        Ok(token_ids)
    }

    /// What the template has behind the last turn of the whole conversation.
    fn rest_of_turn(
        &self,
        prompt: &Prompt,
        rendered: &mut Rendered,
        history: &[Said],
        said: &[Said],
    ) -> Result<String, TrainerError> {
        let mut conversation = messages(prompt);
        conversation.extend(history.iter().chain(said).map(|said| Message::new(&said.role, &said.content)));
        let text = self.tokenizer.apply_chat_template(&conversation, &prompt.chat)?;
        let before = if rendered.text.is_empty() { &prompt.text } else { &rendered.text };
        let turn = history.last().map_or("", |turn| turn.content.as_str());
        // Space around a turn that a template leaves out changes no token of those that are there.
        let forms = [turn, turn.trim_end(), turn.trim_start(), turn.trim()];
        let rest = text.strip_prefix(before.as_str()).and_then(|after| {
            let mut rests = forms.iter().filter_map(|turn| after.strip_prefix(turn));
            rests.next().map(str::to_owned)
        });
        let Some(rest) = rest else {
            let same = text.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
            let from = (0..=same).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let shown: String = text[from..].chars().take(80).collect();
            let found = format!("exact, and the chat template shows an earlier turn as {shown:?}");
            let expected = "a template that shows every turn as it was generated; env.template = \"turns\" keeps the turns as \
                            they were, \"raw\" uses no template";
            return Err(TrainerError::setting("env.template", &found, expected));
        };
        rendered.text = text;
        Ok(rest)
    }

    /// What the template has behind a turn of the model that is the only one.
    fn rest_of_any_turn(&self, prompt: &Prompt, said: &[Said]) -> Result<String, TrainerError> {
        let mut conversation = messages(prompt);
        conversation.push(Message::assistant(ANY_TURN));
        conversation.extend(said.iter().map(|said| Message::new(&said.role, &said.content)));
        let text = self.tokenizer.apply_chat_template(&conversation, &prompt.chat)?;
        let rest = text.split_once(ANY_TURN).map(|(_, rest)| rest.to_owned());
        rest.ok_or_else(|| {
            let found = "turns, and the chat template does not show what the model said";
            TrainerError::setting("env.template", &found, "a template that does, or env.template = \"raw\"")
        })
    }
}

fn contents(said: &[Said]) -> String {
    said.iter().map(|said| said.content.as_str()).collect()
}

/// The conversation that a prompt was rendered from.
fn messages(prompt: &Prompt) -> Vec<Message> {
    let text = |message: &Value, field: &str| message.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    prompt.messages.iter().map(|message| Message::new(text(message, "role"), text(message, "content"))).collect()
}
