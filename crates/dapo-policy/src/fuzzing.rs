//! Ways into parsers that the public interface reaches through whole models alone, for the fuzz targets in `fuzz/`. No
//! part of the public interface.

use crate::chat::{ChatOptions, ChatTemplate, Message};
use crate::error::PolicyError;

/// What a chat template makes of messages.
///
/// # Errors
/// As of a model's template.
pub fn rendered(template: &str, messages: &[Message], options: &ChatOptions) -> Result<String, PolicyError> {
    let special_tokens = [("eos_token".to_owned(), "<|end|>".to_owned())].into();
    ChatTemplate::new(template, None).render(messages, options, &special_tokens)
}
