//! An announcement within what was announced.

use std::ops::Range;

use super::announce::{self, Manner};
use super::boxed;

/// The content of an announcement within what was announced.
pub(super) fn announced_within(piece: &str) -> Option<Range<usize>> {
    /// Longest piece that is looked into, in bytes.
    const LONGEST: usize = 4_096;
    // Letters of "answer" and "boxed" that are rare elsewhere.
    let may_announce = |byte: u8| matches!(byte, b'w' | b'W' | b'x') || !byte.is_ascii();
    if piece.len() > LONGEST || !piece.bytes().any(may_announce) {
        return None;
    }
    if let Some(found) = boxed::last(piece) {
        return Some(found.content);
    }
    let line = announce::last(piece, 0, Manner::Line);
    let sentence = announce::last(piece, line.as_ref().map_or(0, |line| line.start), Manner::Sentence);
    let content = sentence.or(line)?.content;
    Some(without_stray_braces(piece, content))
}

/// Braces that open before the content and close at either end of it are no part of it: `\text{The answer is } 72`.
fn without_stray_braces(piece: &str, content: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (content.start, content.end);
    let mut open = 0_usize;
    for byte in piece[..start].bytes() {
        match byte {
            b'{' => open += 1,
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    let mut closed = 0;
    for _ in 0..open {
        let rest = piece[start..end].trim_start();
        let Some(rest) = rest.strip_prefix('}') else { break };
        start = end - rest.len();
        closed += 1;
    }
    for _ in closed..open {
        let rest = piece[start..end].trim_end();
        let Some(rest) = rest.strip_suffix('}') else { break };
        end = start + rest.len();
    }
    start..end
}
