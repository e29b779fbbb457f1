//! What a template may make of texts and lists: a bound on memory and time that no operation gets round.
//!
//! Steps are bounded by the engine's fuel. One step can still double a text or walk through a long list. So every
//! operation is charged, in bytes, for what it reads and makes: beforehand where it makes more than it reads.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use std::cell::Cell;

/// Bytes that a template may make and read in any case.
const BASE: u64 = 1 << 28;
/// Bytes that it may make and read in addition, for each byte of the conversation and the tools.
const PER_BYTE: u64 = 256;
/// What an element of a list or an entry of a map counts for, in bytes.
const NODE: u64 = 16;
/// Lists and maps within one another. JSON of the tools has at most 128 levels.
const DEPTH: usize = 160;

thread_local! {
    /// What the template that this thread renders has left.
    static LEFT: Cell<u64> = const { Cell::new(0) };
}

/// Gives the template that this thread renders next its budget, for a number of bytes of input.
pub(super) fn start(input: usize) {
    LEFT.set(BASE.saturating_add(PER_BYTE.saturating_mul(input as u64)));
}

/// Takes bytes from the budget.
pub(super) fn spend(bytes: usize) -> Result<(), Error> {
    match LEFT.get().checked_sub(bytes as u64) {
        Some(left) => {
            LEFT.set(left);
            Ok(())
        }
        None => Err(invalid("it makes too much text, or lists that are too long".into())),
    }
}

/// Takes the length of a text, or of a list without its elements' own.
pub(super) fn spend_length(value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        return spend(text.len());
    }
    match (value.kind(), value.len()) {
        (ValueKind::Seq | ValueKind::Iterable | ValueKind::Map, Some(length)) => spend(length.saturating_mul(16)),
        (ValueKind::Iterable, None) => value.try_iter()?.try_for_each(|_| spend(16)),
        _ => Ok(()),
    }
}

/// Takes what a list holds, its texts only where `texts` says so, and refuses what is nested too deeply.
pub(super) fn spend_whole(value: &Value, texts: bool) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => spend(text.len()),
        None => walk(value, texts, DEPTH),
    }
}

fn walk(value: &Value, texts: bool, depth: usize) -> Result<(), Error> {
    spend(NODE as usize)?;
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return if texts { spend(value.as_str().map_or(0, str::len)) } else { Ok(()) };
    }
    if depth == 0 {
        return Err(invalid(format!("a list or map is nested more than {DEPTH} levels deep")));
    }
    let is_map = value.kind() == ValueKind::Map;
    for item in value.try_iter()? {
        if is_map {
            walk(&value.get_item(&item)?, texts, depth - 1)?;
        }
        walk(&item, texts, depth - 1)?;
    }
    Ok(())
}

/// A value that is not computed anew whenever it is read: such values could be stacked without end.
pub(super) fn settled(value: Value) -> Result<Value, Error> {
    spend_length(&value)?;
    if value.kind() == ValueKind::Iterable { Ok(value.try_iter()?.collect()) } else { Ok(value) }
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
