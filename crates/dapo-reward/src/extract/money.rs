//! Dollar signs that stand before amounts of money, not around formulas.

use std::ops::Range;

/// The last amount of the last line of a text, or the equation between amounts that ends with it. Words behind it may say
/// what it is for.
pub(super) fn last(text: &str) -> Option<Range<usize>> {
    let end = text.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '!' | '*')).len();
    let line = text[..end].rfind('\n').map_or(0, |at| at + 1);
    let amount = line + text[line..end].rfind('$')?;
    let rest = &text[amount + 1..end];
    let digits = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ','))).unwrap_or(rest.len());
    let digits = rest[..digits].trim_end_matches(['.', ',']).len();
    let tail = &rest[digits..];
    if !rest.starts_with(|c: char| c.is_ascii_digit()) || !adds_nothing(tail) {
        return None;
    }
    let end = amount + 1 + digits;
    let in_chain = |c: char| {
        c.is_ascii_digit()
            || matches!(c, '$' | ',' | '.' | '+' | '-' | '−' | '*' | '×' | '÷' | '/' | '(' | ')' | '=' | ' ' | '%')
    };
    let before = &text[line..amount];
    if before.trim_end_matches(['*', ' ']).ends_with('=') {
        if before.ends_with('*') {
            return Some(amount..end);
        }
        let prose =
            before.rfind(|c| !in_chain(c)).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
        let chain = &before[prose..];
        // A dash or a full stop before the equation is no part of it.
        let start = chain.find(|c: char| c.is_ascii_digit() || matches!(c, '$' | '('));
        return Some(start.map_or(amount, |start| line + prose + start)..end);
    }
    let sentence = &before[before.rfind(". ").map_or(0, |at| at + 1)..];
    let is_only_amount = !(sentence.contains('$') || super::prose::is_hedged(sentence))
        && (tail.is_empty() || !sentence.contains(|c: char| c.is_ascii_digit()));
    is_only_amount.then_some(amount..end)
}

/// Whether the words behind an amount leave it as it is.
fn adds_nothing(tail: &str) -> bool {
    let words = tail.trim_start_matches(['*', ' ']);
    let spaced = words.is_empty() || words.len() < tail.len();
    let is_words = tail.chars().all(|c| c.is_alphabetic() || matches!(c, ' ' | '*' | '\'' | '’' | '-'));
    spaced && is_words && !super::prose::is_hedged(tail) && !super::prose::changes(words)
}

#[cfg(test)]
mod tests {
    use super::super::math::last_math;

    fn math(text: &str) -> Option<&str> {
        last_math(text).map(|span| &text[span])
    }

    #[test]
    fn an_equation_between_amounts_is_kept_whole() {
        assert_eq!(math("So $200,000 - $130,000 = $70,000"), Some("$200,000 - $130,000 = $70,000"));
        assert_eq!(math("- Total: 10 * $2,500 = $25,000\n- Sum: $5 + $25 = $30"), Some("$5 + $25 = $30"));
        assert_eq!(math("So $200,000 - $130,000 = **$70,000**."), Some("$70,000"));
        assert_eq!(math("It sells for $5 each and makes $18."), None);
        assert_eq!(math("The total cost is $29.00."), Some("$29.00"));
        assert_eq!(math("She makes $18 every day."), Some("$18"));
        assert_eq!(math("So he has **$45** left."), Some("$45"));
        assert_eq!(math("So he has $9 - $4 = $5 left."), Some("$9 - $4 = $5"));
    }

    #[test]
    fn amounts_that_are_hedged_or_not_at_the_end_are_no_answer() {
        for text in [
            "It costs $5 million.",
            "He pays $5 less.",
            "She pays $5 for 3 eggs.",
            "It is $5 or so.",
            "3 eggs cost $5 each.",
            "It was $5. She has 3 eggs.",
            "She pays $5 for it and gets $3 back.",
            "between $5 and $10",
            "It is $5 or $6",
            "not $5",
        ] {
            assert_eq!(math(text), None, "{text}");
        }
    }

    #[test]
    fn formulas_stay_formulas() {
        assert_eq!(math("we get $5 + 6 = 11$"), Some("5 + 6 = 11"));
        assert_eq!(math("we get $5$ and pay $6 for it"), Some("5"));
        assert_eq!(math("so $3 \\text{ apples}$"), Some("3 \\text{ apples}"));
        assert_eq!(math("so $2 \\pi r$."), Some("2 \\pi r"));
        assert_eq!(math("so $2 hours$."), Some("2 hours"));
    }
}
