//! What somebody says between a model's turns, as the model reads it.

use crate::error::TrainerError;
use dapo_data::Prompt;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CHATML: &str = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
                          {{ CONTENT }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

    /// A tokenizer of characters, with a chat template that shows a message's content so.
    fn tokenizer(content: Option<&str>) -> Tokenizer {
        let dir = tempfile::tempdir().unwrap();
        let special = ["<unk>", "<|im_start|>", "<|im_end|>"];
        let characters = (' '..='~').chain(['\n']).map(String::from);
        let vocab: serde_json::Map<String, Value> = special
            .iter()
            .map(|token| (*token).to_owned())
            .chain(characters)
            .enumerate()
            .map(|(id, token)| (token, id.into()))
            .collect();
        let added = special.iter().enumerate().map(|(id, token)| {
            json!({"id": id, "content": token, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false})
        });
        let split = json!({"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated", "invert": false});
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": null, "pre_tokenizer": split, "post_processor": null, "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        let mut config = json!({"eos_token": "<|im_end|>"});
        if let Some(content) = content {
            config["chat_template"] = CHATML.replace("CONTENT", content).into();
        }
        fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        Tokenizer::from_folder(dir.path()).unwrap()
    }

    fn prompt(tokenizer: &Tokenizer) -> Prompt {
        let problem = dapo_data::Problem::new("p", vec![Message::user("1+1?")], "2");
        dapo_data::encode_prompts(&[problem], tokenizer, &dapo_data::PromptStyle::default(), 100).unwrap().0.remove(0)
    }

    /// The tokens of a conversation of these turns, each ended by the end token or cut off, with a tool between them.
    fn played(speech: &Speech<'_>, turns: &[(&str, bool)]) -> Result<Vec<u32>, TrainerError> {
        let (prompt, mut rendered, mut history) = (prompt(speech.tokenizer), Rendered::default(), Vec::new());
        let mut ids = prompt.token_ids.clone();
        for (text, has_end) in turns {
            let end = if *has_end { "<|im_end|>" } else { "" };
            let turn = speech.tokenizer.encode(&format!("{text}{end}"), false)?;
            ids.extend(&turn);
            history.push(Said::new("assistant", *text));
            let said = [Said::new("tool", "two")];
            ids.extend(speech.after_turn(&prompt, &mut rendered, &history, &said, turn.last().copied())?);
            history.extend(said);
        }
        Ok(ids)
    }

    const TALK: &str = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n";
    const TOOL: &str = "<|im_end|>\n<|im_start|>tool\ntwo<|im_end|>\n<|im_start|>assistant\n";

    #[test]
    fn what_is_appended_makes_the_tokens_of_the_whole_conversation() {
        let tokenizer = tokenizer(Some("m.content"));
        for template in [TurnTemplate::Exact, TurnTemplate::Turns] {
            let speech = Speech { tokenizer: &tokenizer, template };
            // A turn that was cut off is ended by what is appended.
            for ends in [[true, true], [false, true], [false, false]] {
                let ids = played(&speech, &[("a b", ends[0]), ("c", ends[1])]).unwrap();
                let whole = format!("{TALK}a b{TOOL}c{TOOL}");
                assert_eq!(ids, tokenizer.encode(&whole, false).unwrap(), "{template:?} {ends:?}");
            }
        }
    }

    #[test]
    fn space_that_a_template_leaves_out_stays_where_it_was_generated() {
        let tokenizer = tokenizer(Some("m.content | trim"));
        let speech = Speech { tokenizer: &tokenizer, template: TurnTemplate::Exact };
        let ids = played(&speech, &[(" a \n", true), ("", true), ("b", true)]).unwrap();
        let whole = format!("{TALK} a \n{TOOL}{TOOL}b{TOOL}");
        assert_eq!(ids, tokenizer.encode(&whole, false).unwrap());
    }

    #[test]
    fn a_template_that_changes_earlier_turns_is_an_error_unless_turns_are_kept() {
        let tokenizer = tokenizer(Some("m.content.split('</think>')[-1]"));
        let speech = |template| Speech { tokenizer: &tokenizer, template };
        let turns = [("hm</think>a", true)];
        let error = played(&speech(TurnTemplate::Exact), &turns).unwrap_err().to_string();
        assert!(
            error.starts_with("env.template is exact, and the chat template shows an earlier turn as \"a<|im_end|>"),
            "{error}"
        );
        assert!(error.contains("env.template = \"turns\" keeps the turns"), "{error}");
        let kept = played(&speech(TurnTemplate::Turns), &turns).unwrap();
        assert_eq!(kept, tokenizer.encode(&format!("{TALK}hm</think>a{TOOL}"), false).unwrap());
        // Turns without thoughts are shown as they are.
        assert!(played(&speech(TurnTemplate::Exact), &[("a", true)]).is_ok());
    }

    #[test]
    fn a_template_that_changes_what_was_before_is_an_error_too() {
        // Earlier turns of the model are left out once there is a later one.
        let tokenizer = tokenizer(Some("m.content if loop.index > loop.length - 2 else '.'"));
        let speech = Speech { tokenizer: &tokenizer, template: TurnTemplate::Exact };
        assert!(played(&speech, &[("a", true)]).is_err());
    }

    #[test]
    fn without_a_template_contents_are_appended_as_they_are() {
        for (tokenizer, template) in
            [(tokenizer(None), TurnTemplate::Exact), (tokenizer(Some("m.content")), TurnTemplate::Raw)]
        {
            let speech = Speech { tokenizer: &tokenizer, template };
            let ids = played(&speech, &[("a", true), ("b", false)]).unwrap();
            let whole = format!("{}a<|im_end|>twobtwo", prompt(&tokenizer).text);
            assert_eq!(ids, tokenizer.encode(&whole, false).unwrap());
        }
    }

    #[test]
    fn what_is_said_first_belongs_to_the_prompt() {
        let tokenizer = tokenizer(Some("m.content"));
        let speech = Speech { tokenizer: &tokenizer, template: TurnTemplate::Exact };
        let mut begun = prompt(&tokenizer);
        speech.begin(&mut begun, &[Said::new("system", "go")], &[json!({"name": "f"})]).unwrap();
        let text = "[{\"name\": \"f\"}]<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>system\ngo<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!((begun.text.as_str(), begun.messages.len()), (text, 2));
        assert_eq!(begun.token_ids, tokenizer.encode(text, false).unwrap());
        // The tools are shown in what follows, too.
        let (mut rendered, history) = (Rendered::default(), [Said::new("assistant", "a")]);
        let rest = speech.after_turn(&begun, &mut rendered, &history, &[Said::new("tool", "two")], None).unwrap();
        assert_eq!(rest, tokenizer.encode(TOOL, false).unwrap());
        let plain = self::tokenizer(None);
        let speech = Speech { tokenizer: &plain, template: TurnTemplate::Exact };
        let mut begun = prompt(&plain);
        speech.begin(&mut begun, &[Said::new("user", "!"), Said::new("user", "?")], &[]).unwrap();
        assert_eq!(begun.text, "1+1?!?");
        let error = speech.begin(&mut begun, &[], &[json!({})]).unwrap_err().to_string();
        assert!(error.starts_with("what env.reset gives is 1 tools, expected none"), "{error}");
    }
}
