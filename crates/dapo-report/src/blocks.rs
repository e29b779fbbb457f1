//! The completions of a step as a compressed block, within the page's limits.

use crate::log::{Row, rows};
use crate::report_error::ReportError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, write::ZlibEncoder};
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// How much of the completions a page holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Most completions a step.
    pub per_step: Option<usize>,
    /// Bytes of the page that are left for blocks.
    pub bytes: Option<usize>,
    /// Files that share them.
    pub files: usize,
}

/// The completions of a step.
#[derive(Debug, Serialize)]
pub(crate) struct Block {
    pub step: u64,
    /// How many the page holds.
    pub shown: usize,
    /// How many the file holds.
    pub total: usize,
    /// The JSON array of pairs of a line's number, from 1, and the line, of those shown;
    /// compressed with zlib, in Base64.
    #[serde(skip)]
    pub data: String,
}

/// The block of a completions file. Where not all completions fit, those with the log-probs of their tokens are shown, and
/// others that are spread evenly over the file.
///
/// # Errors
/// When a block cannot be compressed.
pub(crate) fn block(
    file: &Path,
    name: &str,
    step: u64,
    text: &[u8],
    budget: &mut Budget,
) -> Result<(Block, Vec<String>), ReportError> {
    let (rows, damaged) = rows(text);
    let share = budget.bytes.map(|bytes| bytes / budget.files.max(1));
    let mut shown = budget.per_step.map_or(rows.len(), |most| most.min(rows.len()));
    let data = loop {
        let data = compressed(&rows, shown).map_err(ReportError::io(file))?;
        match share {
            _ if shown == 0 => break String::new(),
            // Fewer by what the size suggests, and by one at least.
            Some(share) if data.len() > share => shown = (shown * share / data.len()).min(shown - 1),
            _ => break data,
        }
    };
    budget.files = budget.files.saturating_sub(1);
    budget.bytes = budget.bytes.map(|bytes| bytes - data.len());
    Ok((Block { step, shown, total: rows.len(), data }, damaged.warnings(name)))
}

/// The places of the rows that are shown, in order: those with the log-probs of their tokens first. Where there is no room
/// for all of these or of the rest, they are spread evenly.
fn chosen(rows: &[(usize, Row)], shown: usize) -> Vec<usize> {
    let has_tokens = |place: &usize| rows[*place].1.contains_key("token_logprobs");
    let (logged, rest): (Vec<_>, Vec<_>) = (0..rows.len()).partition(has_tokens);
    let spread = |places: &[usize], most: usize| -> Vec<usize> {
        (0..most).map(|number| places[number * places.len() / most]).collect()
    };
    let first = shown.min(logged.len());
    let mut chosen = [spread(&logged, first), spread(&rest, shown - first)].concat();
    chosen.sort_unstable();
    chosen
}

fn compressed(rows: &[(usize, Row)], shown: usize) -> std::io::Result<String> {
    let chosen: Vec<_> = chosen(rows, shown).into_iter().map(|place| &rows[place]).collect();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&serde_json::to_vec(&chosen)?)?;
    Ok(STANDARD.encode(encoder.finish()?))
}
