//! Boxes or formulas joined into one list.

/// What stands between two parts of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// Nothing but a comma.
    Comma,
    /// "and", "or", a semicolon.
    Word,
}

/// Longest gap that is looked at, in bytes.
pub(super) const LONGEST_GAP: usize = 64;

/// Whether nothing but `,`, `;`, "and", "or" and labels such as `x =` stand in a gap.
pub(super) fn joint(gap: &str) -> Option<Joint> {
    if gap.len() > LONGEST_GAP {
        return None;
    }
    let mut rest = gap;
    let mut found = None;
    while let Some(c) = rest.chars().next() {
        if let Some(word) =
            ["\\text{and}", "\\text{ and }", "\\text{or}", "\\text{ or }"].iter().find(|word| rest.starts_with(**word))
        {
            found = Some(Joint::Word);
            rest = &rest[word.len()..];
        } else if let Some(skip) = ["\\(", "\\)", "\\[", "\\]", "\\quad", "\\qquad", "\\,", "\\;", "\\ "]
            .iter()
            .find(|skip| rest.starts_with(**skip))
        {
            rest = &rest[skip.len()..];
        } else if matches!(c, ';' | '；' | '和' | '或' | '及' | '&') {
            found = Some(Joint::Word);
            rest = &rest[c.len_utf8()..];
        } else if matches!(c, ',' | '，' | '、') {
            found = found.or(Some(Joint::Comma));
            rest = &rest[c.len_utf8()..];
        } else if c.is_whitespace() || matches!(c, '$' | '*') {
            rest = &rest[c.len_utf8()..];
        } else if c.is_ascii_alphabetic() {
            let word = &rest[..rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len())];
            if ["and", "or"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
                found = Some(Joint::Word);
                rest = &rest[word.len()..];
            } else {
                rest = &rest[label(rest)?..];
            }
        } else {
            return None;
        }
    }
    found
}

/// The length of a label that `text` begins with: `x =`, `x_1 =`, `x_{1} =`.
fn label(text: &str) -> Option<usize> {
    let name = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '}')))?;
    let after = text[name..].trim_start().strip_prefix('=')?;
    (name <= 6).then_some(text.len() - after.len())
}

/// The label at the end of `text`, with the delimiter before it, if there is one.
pub(super) fn label_before(text: &str) -> usize {
    let bare = text.trim_end();
    let Some(name) = bare.strip_suffix('=') else { return 0 };
    let name = name.trim_end();
    let start = name
        .char_indices()
        .rev()
        .take_while(|(_, c)| c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '}'))
        .last()
        .map_or(name.len(), |(at, _)| at);
    let length = name.len() - start;
    if (1..=6).contains(&length) && name[start..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        text.len() - start
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_separators_and_labels_join() {
        assert_eq!(joint(", "), Some(Joint::Comma));
        assert_eq!(joint("$, $"), Some(Joint::Comma));
        assert_eq!(joint(" and "), Some(Joint::Word));
        assert_eq!(joint(", or "), Some(Joint::Word));
        assert_eq!(joint("$ and $x_2 = "), Some(Joint::Word));
        assert_eq!(joint("; y="), Some(Joint::Word));
        for gap in ["", " ", "\n", " then ", ", so ", " = ", ". ", " and not ", " + "] {
            assert_eq!(joint(gap), None, "{gap:?}");
        }
    }

    #[test]
    fn labels_before_a_box_are_measured() {
        assert_eq!(label_before("so x = "), 4);
        assert_eq!(label_before("x_{1}="), 6);
        assert_eq!(label_before("3 = "), 0);
        assert_eq!(label_before("é="), 0);
        assert_eq!(label_before(""), 0);
    }
}
