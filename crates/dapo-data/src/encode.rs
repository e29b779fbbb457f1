//! Problems as the policy sees them.

use crate::error::DataError;
use crate::problem::Problem;
use crate::prompt::Prompt;
use dapo_policy::{ChatOptions, Message, Tokenizer};
use serde_json::json;
use std::sync::Arc;

/// What is put around a problem's question.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptStyle {
    /// System message before each question.
    pub system: Option<String>,
    /// Text added to the end of each question.
    pub suffix: String,
    /// For chat templates that know it: whether the model is to think first.
    pub enable_thinking: Option<bool>,
}

/// Renders problems with the model's chat template, or as plain text where it has none, and encodes them. Prompts
/// longer than `max_tokens` are left out; the second value says how many.
///
/// # Errors
/// When a template or the tokenizer fails, and for a prompt without any token, which no completion can follow.
pub fn encode_prompts(
    problems: &[Problem],
    tokenizer: &Tokenizer,
    style: &PromptStyle,
    max_tokens: usize,
) -> Result<(Vec<Prompt>, usize), DataError> {
    let mut prompts = Vec::with_capacity(problems.len());
    let chat = Arc::new(ChatOptions {
        add_generation_prompt: true,
        enable_thinking: style.enable_thinking,
        ..ChatOptions::default()
    });
    for problem in problems {
        let mut messages = problem.messages.clone();
        if let Some(last) = messages.iter_mut().rfind(|m| m.role == "user") {
            last.content.push_str(&style.suffix);
        }
        if let Some(system) = &style.system {
            messages.insert(0, Message::system(system));
        }
        let (text, special) = if tokenizer.has_chat_template() {
            (tokenizer.apply_chat_template(&messages, &chat)?, false)
        } else {
            let contents: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            (contents.join("\n"), true)
        };
        let token_ids = tokenizer.encode(&text, special)?;
        if token_ids.is_empty() {
            let field = format!("the prompt of problem {}", problem.id);
            return Err(DataError::setting(&field, &format!("{text:?}, no token"), "at least one token"));
        }
        if token_ids.len() <= max_tokens {
            prompts.push(Prompt {
                id: problem.id.clone(),
                text,
                token_ids,
                answer: problem.answer.clone(),
                alternatives: problem.alternatives.clone(),
                messages: messages.iter().map(|m| json!({"role": m.role, "content": m.content})).collect(),
                columns: problem.columns.clone(),
                chat: Arc::clone(&chat),
                begun: None,
            });
        }
    }
    let too_long = problems.len() - prompts.len();
    Ok((prompts, too_long))
}
