//! The program in a completion.

/// The last complete code block of a Markdown text that has one of the tags; without one, the last without a tag.
///
/// A block begins with a line of three or more backticks or tildes and its tag, the first word behind them in any case.
/// It ends with a line of at least as many and nothing else. A block that is not closed is none. Lines lose as many
/// blanks at their beginning as the block's first line has. With no tags given, any block will do.
///
/// # Example
/// ````
/// use dapo_code::last_block;
///
/// let text = "First:\n```python\nprint(1)\n```\nThen:\n```Python\nprint(2)\n```\nIt prints:\n```\n2\n```\n";
/// assert_eq!(last_block(text, &["python", "py"]).as_deref(), Some("print(2)\n"));
/// assert_eq!(last_block(text, &["rust"]).as_deref(), Some("2\n"));
/// assert_eq!(last_block("```python\nprint(1)", &["python"]), None);
/// ````
pub fn last_block(text: &str, tags: &[&str]) -> Option<String> {
    let (mut tagged, mut untagged) = (None, None);
    // Of each mark the least length that no later line closes: no line is looked for twice.
    let mut unclosed = [usize::MAX; 2];
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = Fence::opening(line) else { continue };
        let unclosed = &mut unclosed[usize::from(fence.mark == '~')];
        if fence.length >= *unclosed {
            continue;
        }
        let rest = lines.clone();
        let mut block = String::new();
        let is_closed = lines.by_ref().any(|line| {
            let is_end = fence.is_closed_by(line);
            if !is_end {
                block.push_str(unindented(line, fence.indent));
                block.push('\n');
            }
            is_end
        });
        if !is_closed {
            // What follows an open block is looked at again: its text may hold whole blocks of another fence.
            lines = rest;
            *unclosed = fence.length;
            continue;
        }
        if tags.is_empty() || tags.iter().any(|tag| tag.eq_ignore_ascii_case(fence.tag)) {
            tagged = Some(block);
        } else if fence.tag.is_empty() {
            untagged = Some(block);
        }
    }
    tagged.or(untagged)
}

/// The line that begins a block.
struct Fence<'a> {
    indent: usize,
    mark: char,
    length: usize,
    tag: &'a str,
}

impl<'a> Fence<'a> {
    fn opening(line: &'a str) -> Option<Self> {
        let trimmed = line.trim_start_matches([' ', '\t']);
        let mark = trimmed.chars().next().filter(|mark| ['`', '~'].contains(mark))?;
        let info = trimmed.trim_start_matches(mark);
        let length = trimmed.len() - info.len();
        // Backticks behind three backticks are code within a line.
        if length < 3 || (mark == '`' && info.contains('`')) {
            return None;
        }
        let tag = info.split_whitespace().next().unwrap_or_default();
        let tag = tag.split(['{', ',', ':']).find(|part| !part.is_empty()).unwrap_or_default();
        Some(Self { indent: line.len() - trimmed.len(), mark, length, tag: tag.trim_matches(['.', '}']) })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let line = line.trim();
        line.len() >= self.length && line.chars().all(|mark| mark == self.mark)
    }
}

/// The line without up to `indent` blanks at its beginning.
fn unindented(line: &str, indent: usize) -> &str {
    let blanks = line.bytes().take(indent).take_while(|byte| [b' ', b'\t'].contains(byte)).count();
    &line[blanks..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PYTHON: &[&str] = &["python", "py", "python3"];

    fn python(text: &str) -> Option<String> {
        last_block(text, PYTHON)
    }

    #[test]
    fn the_last_complete_block_of_the_language_is_the_program() {
        let text = "```python\na\n```\n```py\nb\n```\n```text\nc\n```\n```\nd\n```\n```python\ne";
        assert_eq!(python(text).as_deref(), Some("b\n"));
        assert_eq!(last_block(text, &[]).as_deref(), Some("d\n"));
    }

    #[test]
    fn a_block_without_a_tag_will_do_and_one_of_another_language_will_not() {
        assert_eq!(python("```\na\n```\n").as_deref(), Some("a\n"));
        assert_eq!(python("```rust\na\n```\n"), None);
        assert_eq!(python("no block"), None);
        assert_eq!(python("say ```a``` in a line"), None);
    }

    #[test]
    fn fences_may_be_longer_of_tildes_and_indented() {
        assert_eq!(python("````python\n```\nx\n````").as_deref(), Some("```\nx\n"));
        assert_eq!(python("~~~ Python title=a\nx\n~~~~\n").as_deref(), Some("x\n"));
        let listed = "1. So:\n   ```python\n   if x:\n       y\n   ```\n";
        assert_eq!(python(listed).as_deref(), Some("if x:\n    y\n"));
        assert_eq!(python("```{.python}\nx\n```\r\n").as_deref(), Some("x\n"));
        assert_eq!(python("```python\n```\n").as_deref(), Some(""));
    }

    #[test]
    fn an_open_block_hides_no_whole_one() {
        assert_eq!(python("````\n```python\nx\n```\n").as_deref(), Some("x\n"));
    }

    #[test]
    fn many_open_blocks_take_little_time() {
        let text = (4..400).rev().map(|length| "`".repeat(length) + "a\n").collect::<String>();
        assert_eq!(python(&format!("{text}{}", "```a\n".repeat(200_000))), None);
    }

    proptest! {
        #[test]
        fn any_text_has_a_program_or_none(text in "[`~ a\n{}:.]{0,60}") {
            let _ = python(&text);
        }

        #[test]
        fn a_program_comes_back_as_it_was(lines in prop::collection::vec("[a-z ():=]{0,12}", 0..6), before in "[a-z \n]{0,20}") {
            let program = lines.iter().map(|line| line.clone() + "\n").collect::<String>();
            let text = format!("{before}\n```python\n{program}```\nDone.");
            prop_assert_eq!(python(&text), Some(program));
        }
    }
}
